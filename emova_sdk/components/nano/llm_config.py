"""The config of nano's language model, and what holds for all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emova_sdk.components.nano.language import Language
from emova_sdk.errors import LoadError

FEATURES = 128
"""Dimensions of a vision feature."""
LONGEST = 1024
"""Most tokens of a sequence."""


def read_config(folder: Path) -> tuple[Language, dict[str, int], dict[str, Any]]:
    """Read tokens, sizes and other facts.

    Raises:
        LoadError: If the file is missing or broken.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        language = Language(tuple(config.pop("words")), int(config.pop("units")))
        return language, dict(config.pop("sizes")), config
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"`{path}` is not the config of a nano language model: {error}", "train or install it again") from error
