"""Files of nano's speech parts: a folder with `config.json` and `model.safetensors` (float16 on disk, float32 in memory)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emova_sdk.errors import LoadError

if TYPE_CHECKING:
    from torch import nn

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


def load_weights(module: nn.Module, folder: Path) -> None:
    """Fill a network from `model.safetensors`, and set it to inference.

    Raises:
        LoadError: If the file is missing, broken or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    try:
        tensors = load_file(path)
        module.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise LoadError(f"`{path}` cannot be loaded: {error}", "train or install emova-nano again", path=str(path)) from error
    module.eval().requires_grad_(False)


def save_weights(module: nn.Module, folder: Path, config: dict[str, Any]) -> None:
    """Write a network in float16 and its config, each under a temporary name first."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "model.safetensors.tmp"
    save_file({name: value.half().contiguous() for name, value in module.state_dict().items()}, part)
    part.replace(folder / "model.safetensors")
    draft = folder / "config.json.tmp"
    draft.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    draft.replace(folder / "config.json")
