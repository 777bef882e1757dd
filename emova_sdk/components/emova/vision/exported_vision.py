"""EMOVA's vision encoder from an export, without torch."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from emova_sdk.components.base import Space
from emova_sdk.components.emova.vision.cached_vision import CachedVision
from emova_sdk.components.emova.vision.image_tiling import ImageTiler
from emova_sdk.components.runtimes.export_folder import ExportFolder
from emova_sdk.errors import LoadError
from emova_sdk.models.anyres import best_size, merge_index
from emova_sdk.types import VisionFeatures

Floats = NDArray[np.float32]


class ExportedVision(CachedVision):
    """Pictures to rows of embeddings (NumPy arrays) by an exported tower and projector.

    Args:
        exported: An export with the graph ``vision``.
        cache: Pictures whose features are kept.

    Raises:
        LoadError: If the export does not say what it must.
    """

    def __init__(self, exported: ExportFolder, *, cache: int = 16) -> None:
        super().__init__(cache)
        exported.choose("vision")
        self.exported = exported
        self.features = Space(exported.text("features"), exported.number("features_size"))
        path = exported.assets / "pictures.json"
        try:
            told = json.loads(path.read_text("utf-8"))
            self._tiler = ImageTiler(**told["settings"])
            self._newline = None if told["newline"] is None else np.array(told["newline"], np.float32)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LoadError(f"`{path}` does not say how pictures are cut: {error}", "export again", path=str(path)) from error

    def load(self) -> None:
        """Open the graph. Safe to call again and from several threads."""
        self.exported.open("vision")

    def close(self) -> None:
        """Free the graph and the kept features."""
        self.exported.close()
        super().close()

    def _compute(self, picture: PIL.Image.Image) -> VisionFeatures:
        return self._native(picture) if self._tiler.native else self._tiled(picture)

    def _native(self, picture: PIL.Image.Image) -> VisionFeatures:
        pixels, grid = self._tiler.patches(picture)
        rows = self.exported.run("vision", pixels=pixels, grids=np.array([grid], np.int64))["rows"]
        merge = self._tiler.merge_size
        return VisionFeatures(rows, (grid[1] // merge, grid[2] // merge))

    def _tiled(self, picture: PIL.Image.Image) -> VisionFeatures:
        tiler = self._tiler
        rows = self.exported.run("vision", pixels=tiler.tiles(picture))["rows"]
        pooled = tiler.tile_grid
        if tiler.image_aspect_ratio != "anyres":
            return VisionFeatures(rows[0], pooled)
        canvas = best_size(picture.size, tiler.image_grid_pinpoints or [])
        index = merge_index(
            (rows.shape[0], rows.shape[1]),
            picture.size,
            canvas,
            tile=tiler.side,
            pooled=pooled,
            merge=tiler.mm_patch_merge_type,
            newline=self._newline is not None,
        )
        flat: Floats = rows.reshape(-1, rows.shape[-1])
        flat = flat if self._newline is None else np.concatenate([flat, self._newline[None]])
        return VisionFeatures(flat[index], pooled)
