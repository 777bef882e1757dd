"""The image processor of transformers for EMOVA: `ImageTiler` tiles, this class speaks transformers' language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
import PIL.Image
import torch
from transformers import AutoImageProcessor
from transformers.image_processing_base import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import make_flat_list_of_images

from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.vision.image_tiling import CLIP_MEAN, CLIP_STD, TILER_SETTINGS, ImageTiler
from emova_sdk.models.projector import pooled_shape

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_STATISTICS = {"InternVisionTower": _IMAGENET, "SigLipVisionTower": _HALF}


class EmovaImageProcessor(ImageTiler, BaseImageProcessor):
    """Pictures to `pixel_values` and what goes with them.

    Args:
        **settings: those of `ImageTiler`, and what transformers keeps beside them.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values", "image_grid_thw", "image_sizes"]

    def __init__(self, **settings: Any) -> None:
        own = {name: settings.pop(name) for name in TILER_SETTINGS if name in settings}
        BaseImageProcessor.__init__(self, **settings)
        ImageTiler.__init__(self, **own)

    @classmethod
    def from_config(cls, config: EmovaConfig, published: Mapping[str, Any] | None = None) -> EmovaImageProcessor:
        """The processor that fits a model.

        Args:
            config: of the model.
            published: settings of a published `preprocessor_config.json`, which win over the tower's usual ones.

        Raises:
            ValueError: the model has no vision tower.
        """
        vision: Any = config.vision_config
        if vision is None:
            raise ValueError("this model has no vision tower")
        given = dict(published or {})
        mean, std = _STATISTICS.get(vision.type, (CLIP_MEAN, CLIP_STD))
        options: dict[str, Any] = {
            "image_aspect_ratio": config.image_aspect_ratio,
            "image_mean": given.get("image_mean", mean),
            "image_std": given.get("image_std", std),
            "rescale_factor": given.get("rescale_factor", 1 / 255),
            "patch_size": vision.patch_size,
        }
        if vision.type == "Qwen2VisionTower":
            options |= _native_options(vision, given)
        else:
            options |= _tile_options(config, given)
        return cls(**options)

    def preprocess(  # pyright: ignore[reportIncompatibleMethodOverride] - no further positional arguments
        self,
        images: Any,
        *,
        return_tensors: str | None = "pt",
        **kwargs: Any,  # noqa: ARG002 - transformers passes more
    ) -> BatchFeature:
        """Prepare pictures.

        Args:
            images: a picture or a list: PIL, (height, width, 3) uint8 arrays, paths or addresses.
            return_tensors: type of the tensors.
            **kwargs: ignored.

        Returns:
            `pixel_values` and `image_grid_thw` (native resolution), or `pixel_values` (tiles of all pictures, 3, side,
            side) and `image_sizes` (pictures, 2) height and width.
        """
        fetched: Any = self.fetch_images(images)
        pictures = [_to_rgb(image) for image in cast("list[Any]", make_flat_list_of_images(fetched))]
        if self.native:
            patches, grids = zip(*(self.patches(picture) for picture in pictures), strict=True)
            data = {"pixel_values": np.concatenate(patches), "image_grid_thw": np.array(grids, dtype=np.int64)}
            return BatchFeature(data=data, tensor_type=return_tensors)
        tiles = [self.tiles(picture) for picture in pictures]
        sizes = np.array([(picture.height, picture.width) for picture in pictures], dtype=np.int64)
        data = {"pixel_values": np.concatenate(tiles), "image_sizes": sizes}
        return BatchFeature(data=data, tensor_type=return_tensors)

    def tokens_of(self, features: Mapping[str, Any]) -> list[int]:
        """How many rows of features each prepared picture becomes.

        Args:
            features: what `preprocess` returned.
        """
        if self.native:
            grids = torch.as_tensor(features["image_grid_thw"])
            return (grids.prod(-1) // self.merge_size**2).tolist()
        sizes = torch.as_tensor(features["image_sizes"]).tolist()
        rows, columns = self.tile_grid
        if self.image_aspect_ratio != "anyres":
            return [rows * columns] * len(sizes)
        return [self._tiled_tokens((width, height), (rows, columns)) for height, width in sizes]


def _native_options(vision: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    limits = {**(given.get("size") or {}), **given}
    low = vision.min_pixels or limits.get("min_pixels") or limits.get("shortest_edge")
    high = vision.max_pixels or limits.get("max_pixels") or limits.get("longest_edge")
    return {
        "temporal_patch_size": getattr(vision, "temporal_patch_size", None) or 2,
        "merge_size": getattr(vision, "spatial_merge_size", None) or 2,
        "min_pixels": low or 4 * 28 * 28,
        "max_pixels": high or 4096 * 28 * 28,
    }


def _tile_options(config: EmovaConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    vision: Any = config.vision_config
    side = int(vision.image_size)
    squash = vision.type == "SigLipVisionTower"
    crop = given.get("crop_size", side)
    crop = crop["height"] if isinstance(crop, Mapping) else crop
    size = {"height": side, "width": side} if squash else (given.get("size") or {"shortest_edge": side})
    return {
        "size": {"shortest_edge": size} if isinstance(size, int) else size,
        "crop_size": None if squash or not given.get("do_center_crop", True) else crop,
        "image_grid_pinpoints": config.image_grid_pinpoints,
        "mm_patch_merge_type": config.mm_patch_merge_type,
        "pooled": pooled_shape(config.mm_projector_config or {}, side // vision.patch_size),
    }


def _to_rgb(image: Any) -> PIL.Image.Image:
    if not isinstance(image, PIL.Image.Image):
        image = PIL.Image.fromarray(np.asarray(image))
    return image.convert("RGB")


AutoImageProcessor.register(EmovaConfig, image_processor_classes={"pil": EmovaImageProcessor}, exist_ok=True)
