"""The eyes of emova-nano: any picture, shrunk to 64 x 64, as 4 x 4 features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import Space, VisionEncoder
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.language import IMAGE_TOKENS
from emova_sdk.components.nano.networks import Networks, Run, in_torch
from emova_sdk.components.nano.weights import PRESET
from emova_sdk.errors import LoadError
from emova_sdk.types import Image, VisionFeatures

if TYPE_CHECKING:
    from emova_sdk.models.nano_vision import NanoVisionTower

SIDE = 64


def shrink(image: Image, side: int = SIDE) -> NDArray[np.uint8]:
    """Fit a picture into a square of ``side`` pixels, the rest filled with the colour of its border; uint8 (side, side, 3)."""
    from PIL import Image as Pillow

    width, height = image.size
    scale = side / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(
        Pillow.fromarray(image.pixels).resize(size, Pillow.Resampling.BOX if scale < 1 else Pillow.Resampling.BICUBIC)
    )
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = np.median(border, axis=0).astype(np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


class NanoVisionEncoder(VisionEncoder):
    """Sees drawn scenes: up to five circles, squares, triangles and stars in six colours.

    Args:
        path: Folder with ``config.json`` and ``model.safetensors``; the shipped one when not given.
    """

    def __init__(self, *, path: str | None = None) -> None:
        self._folder = Path(path) if path else PRESET / "vision_encoder"
        self._config = _read_config(self._folder)
        self.features = Space(self._config["space"], int(self._config["width"]))
        self._networks = Networks(self._open, what="vision encoder")

    def load(self) -> None:
        """Bring the weights into memory."""
        self._networks.load()

    def close(self) -> None:
        """Free the weights."""
        self._networks.close()

    def encode(self, images: Sequence[Image]) -> list[VisionFeatures]:
        """Encode each picture to 16 rows of 128, cell by cell in reading order."""
        found: list[VisionFeatures] = []
        for image in images:  # one by one: a picture's features must not depend on its neighbours, to the last bit
            pixels = np.ascontiguousarray(shrink(image).transpose(2, 0, 1)[None]).astype(np.float32) / 255
            found.append(VisionFeatures(self._embeddings(self._networks("vision", pixels)[0][0]), (4, 4)))
        return found

    def graphs(self) -> list[Graph]:
        """The tower: float pixels (pictures, 3, 64, 64) in [0, 1] to features (pictures, 16, 128)."""
        from emova_sdk.components.nano.graphs import vision_graphs

        facts = {"space": self.features.name, "tokens": str(IMAGE_TOKENS)}
        return vision_graphs(_read_tower(self._folder, self._config), metadata=facts)

    def assets(self) -> Mapping[str, Path]:
        """The config."""
        return {"config.json": self._folder / "config.json"}

    def _open(self) -> Mapping[str, Run]:
        return in_torch(self.graphs())

    def _embeddings(self, rows: NDArray[np.float32]) -> Any:
        import torch

        return torch.from_numpy(rows)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        return {"space": str(config["space"]), **{name: config[name] for name in ("width", "layers", "heads", "channels")}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"`{path}` is not the config of a nano vision encoder: {error}", "train or install it again") from error


def _read_tower(folder: Path, config: dict[str, Any]) -> NanoVisionTower:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from emova_sdk.models.nano_vision import NanoVisionTower

    tower = NanoVisionTower(
        width=config["width"], layers=config["layers"], heads=config["heads"], channels=tuple(config["channels"])
    )
    path = folder / "model.safetensors"
    try:
        weights = load_file(path)
        tower.load_state_dict({k.removeprefix("tower."): v.float() for k, v in weights.items() if k.startswith("tower.")})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise LoadError(f"`{path}` cannot be loaded: {error}", "train or install it again") from error
    return tower.eval().requires_grad_(False)
