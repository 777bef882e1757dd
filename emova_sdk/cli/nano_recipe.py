"""Finding the recipe of emova-nano, which is kept beside the package and left out of the wheel."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from emova_sdk.errors import MissingDependencyError


def require_nano_recipe() -> None:
    """Make `nano_recipe` importable: as an installed package, or from the checkout this package is run from.

    Raises:
        MissingDependencyError: If it is neither installed nor in a checkout.
    """
    if find_spec("nano_recipe") is not None:
        return
    folder = Path(__file__).parents[2] / "recipes" / "nano"
    if not folder.is_dir():
        message = "training and measuring emova-nano need its recipe, which is not part of the installed package"
        hint = "clone the repository and run `emova` from there, or `pip install` its folder recipes/nano"
        raise MissingDependencyError(message, hint, package="nano_recipe")
    sys.path.append(str(folder))
