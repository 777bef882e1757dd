"""EMOVA's vision encoder from an export, without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from emova_sdk.components.base import Space, VisionEncoder
from emova_sdk.components.emova.vision.feature_cache import FeatureCache
from emova_sdk.components.emova.vision.picture_pixels import PictureCutter
from emova_sdk.components.runtimes.export_folder import ExportFolder
from emova_sdk.errors import InputError, LoadError
from emova_sdk.models.anyres import best_size, merge_index
from emova_sdk.types import Image, VisionFeatures

Floats = NDArray[np.float32]


class ExportedVision(VisionEncoder):
    """Pictures to rows of embeddings (NumPy arrays) by an exported tower and projector.

    Args:
        exported: An export with the graph ``vision``.
        cache: Pictures whose features are kept.

    Raises:
        LoadError: If the export does not say what it must.
    """

    def __init__(self, exported: ExportFolder, *, cache: int = 16) -> None:
        exported.choose("vision")
        self.exported = exported
        self.features = Space(exported.text("features"), exported.number("features_size"))
        path = exported.assets / "pictures.json"
        try:
            told = json.loads(path.read_text("utf-8"))
            self._cutter = PictureCutter(**told["settings"])
            self._newline = None if told["newline"] is None else np.array(told["newline"], np.float32)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LoadError(f"`{path}` does not say how pictures are cut: {error}", "export again", path=str(path)) from error
        self._kept = FeatureCache(cache)

    def load(self) -> None:
        """Open the graph. Safe to call again and from several threads."""
        self.exported.open("vision")

    def close(self) -> None:
        """Free the graph and the kept features."""
        self.exported.close()
        self._kept.clear()

    def encode(self, images: Sequence[Image]) -> list[VisionFeatures]:
        """Encode each picture.

        Raises:
            InputError: If a picture is over 200 times as long as wide.
            LoadError: See `load`.
        """
        return [self._kept.get(image, self._encode) for image in images]

    def _encode(self, image: Image) -> VisionFeatures:
        picture = PIL.Image.fromarray(image.pixels)
        try:
            return self._native(picture) if self._cutter.native else self._tiled(picture)
        except ValueError as error:
            raise InputError(f"the picture cannot be read: {error}", "crop it") from error

    def _native(self, picture: PIL.Image.Image) -> VisionFeatures:
        pixels, grid = self._cutter.patches(picture)
        rows = self.exported.run("vision", pixels=pixels, grids=np.array([grid], np.int64))["rows"]
        merge = self._cutter.merge_size
        return VisionFeatures(rows, (grid[1] // merge, grid[2] // merge))

    def _tiled(self, picture: PIL.Image.Image) -> VisionFeatures:
        cutter = self._cutter
        rows = self.exported.run("vision", pixels=cutter.tiles(picture))["rows"]
        pooled = (cutter.pooled or [0, 0])[0], (cutter.pooled or [0, 0])[1]
        if cutter.image_aspect_ratio != "anyres":
            return VisionFeatures(rows[0], pooled)
        canvas = best_size(picture.size, cutter.image_grid_pinpoints or [])
        index = merge_index(
            (rows.shape[0], rows.shape[1]),
            picture.size,
            canvas,
            tile=cutter.side,
            pooled=pooled,
            merge=cutter.mm_patch_merge_type,
            newline=self._newline is not None,
        )
        flat: Floats = rows.reshape(-1, rows.shape[-1])
        flat = flat if self._newline is None else np.concatenate([flat, self._newline[None]])
        return VisionFeatures(flat[index], pooled)
