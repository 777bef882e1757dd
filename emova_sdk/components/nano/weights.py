"""Where nano's files are, and the `config.json` of its parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emova_sdk.errors import LoadError

PRESET = Path(__file__).parents[2] / "presets" / "nano"
"""Where the shipped weights are."""


def read_config(folder: Path, *, kind: str) -> dict[str, Any]:
    """Read `config.json` of a part.

    Args:
        folder: Where it lies.
        kind: What its `kind` must say, e.g. `nano-vocoder`.

    Raises:
        LoadError: If it is missing or of another kind.
    """
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"`{path}` cannot be read: {error}", "train or install emova-nano again", path=str(path)) from error
    if config.get("kind") != kind:
        raise LoadError(
            f"`{path}` is the config of a `{config.get('kind')}`, not of a `{kind}`", "pass its folder", path=str(path)
        )
    return config
