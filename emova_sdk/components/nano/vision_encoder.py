"""Vision encoder of emova-nano: any image, resized to 64 x 64, as 4 x 4 features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import Space, VisionEncoder
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.graph_files import NanoPart
from emova_sdk.components.nano.language import IMAGE_TOKENS
from emova_sdk.errors import LoadError
from emova_sdk.types import Image, VisionFeatures

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


class NanoVisionEncoder(NanoPart, VisionEncoder):
    """Sees drawn scenes: up to five circles, squares, triangles and stars in six colours.

    Args:
        exported: The graph of an export.
        path: Folder with ``config.json``, graph and weights; the shipped one when not given.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes one.
    """

    place, needs = "vision_encoder", ("vision",)

    def _configure(self) -> None:
        self._config = _read_config(self.folder)
        self.features = Space(self._config["space"], int(self._config["width"]))

    def encode(self, images: Sequence[Image]) -> list[VisionFeatures]:
        """Encode each picture to 16 rows of 128, cell by cell in reading order."""
        found: list[VisionFeatures] = []
        for image in images:  # one by one: a picture's features must not depend on its neighbours, to the last bit
            pixels = np.ascontiguousarray(shrink(image).transpose(2, 0, 1)[None]).astype(np.float32) / 255
            found.append(VisionFeatures(self.networks.run("vision", pixels=pixels)["features"][0], (4, 4)))
        return found

    def _graphs(self) -> list[Graph]:
        """The tower: float pixels (pictures, 3, 64, 64) in [0, 1] to features (pictures, 16, 128)."""
        from emova_sdk.components.nano.graphs import vision_graphs

        return vision_graphs(self.folder, metadata={"space": self.features.name, "tokens": str(IMAGE_TOKENS)})


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        return {"space": str(config["space"]), **{name: config[name] for name in ("width", "layers", "heads", "channels")}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"`{path}` is not the config of a nano vision encoder: {error}", "train or install it again") from error
