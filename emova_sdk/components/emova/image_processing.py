"""Pictures to the pixels EMOVA's vision towers read, bit for bit as the checkpoints were trained.

Four ways (`image_aspect_ratio`): `native_anyres` keeps the picture's shape and cuts it into patches (Qwen2-ViT), `anyres`
tiles it, `pad` pastes it on a square of the mean colour, `square` leaves the shape to the resize and crop of the tower.
Resizing is Pillow's bicubic on 8-bit pixels throughout; the arithmetic after it is in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, sqrt
from typing import Any, ClassVar, cast

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from transformers import AutoImageProcessor
from transformers.image_processing_base import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import make_flat_list_of_images

from emova_sdk.components.emova.configuration import EmovaConfig
from emova_sdk.models.anyres import Size, best_size, fitted_size, merged_shape
from emova_sdk.models.projector import pooled_shape

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_STATISTICS = {"InternVisionTower": _IMAGENET, "SigLipVisionTower": _HALF}


def native_size(height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int) -> Size:
    """Size a picture is resized to for a native-resolution tower.

    Sides become multiples of `factor` with an area between the limits. Sides shorter than `factor` are stretched first, as
    the published code does; where that code would return a side of 0, the side is `factor` (as in transformers).

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        factor: side of a merged patch, in pixels.
        min_pixels: least area.
        max_pixels: largest area.

    Returns:
        (height, width) in pixels.

    Raises:
        ValueError: the longer side is over 200 times the shorter one.
    """
    if height < factor or width < factor:
        if height < width:
            height, width = factor, round(width / height * factor)
        else:
            height, width = round(height / width * factor), factor
    elif max(height, width) / min(height, width) > 200:
        raise ValueError(f"aspect ratio over 200: {width}x{height} pixels")
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > max_pixels:
        shrink = sqrt(height * width / max_pixels)
        rows, columns = (floor(side / shrink / factor) * factor for side in (height, width))
    elif rows * columns < min_pixels:
        grow = sqrt(min_pixels / (height * width))
        rows, columns = (ceil(side * grow / factor) * factor for side in (height, width))
    return max(rows, factor), max(columns, factor)


class EmovaImageProcessor(BaseImageProcessor):
    """Pictures to `pixel_values` and what goes with them.

    Args:
        image_aspect_ratio: `native_anyres`, `anyres`, `pad` or `square`.
        image_mean: mean of each channel, in [0, 1].
        image_std: standard deviation of each channel.
        rescale_factor: what 8-bit values are multiplied with.
        size: `{"shortest_edge": s}` keeps the shape and crops, `{"height": h, "width": w}` does not.
        crop_size: side of the centre crop.
        patch_size: side of a patch, in pixels.
        temporal_patch_size: frames of a patch; a picture is repeated that often.
        merge_size: patches on a side that the tower merges.
        min_pixels: least area (native resolution).
        max_pixels: largest area (native resolution).
        image_grid_pinpoints: canvas sizes [width, height] of `anyres`.
        mm_patch_merge_type: how tiles are put together, which decides the number of tokens.
        pooled: rows and columns of features of one tile.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values", "image_grid_thw", "image_sizes"]

    def __init__(
        self,
        *,
        image_aspect_ratio: str = "native_anyres",
        image_mean: Sequence[float] = CLIP_MEAN,
        image_std: Sequence[float] = CLIP_STD,
        rescale_factor: float = 1 / 255,
        size: Mapping[str, int] | None = None,
        crop_size: int | None = None,
        patch_size: int = 14,
        temporal_patch_size: int = 2,
        merge_size: int = 2,
        min_pixels: int = 4 * 28 * 28,
        max_pixels: int = 4096 * 28 * 28,
        image_grid_pinpoints: Sequence[Sequence[int]] | None = None,
        mm_patch_merge_type: str = "flat",
        pooled: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_aspect_ratio = image_aspect_ratio
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self.rescale_factor = rescale_factor
        self.size = dict(size) if size else None
        self.crop_size = crop_size
        self.patch_size, self.temporal_patch_size, self.merge_size = patch_size, temporal_patch_size, merge_size
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        self.image_grid_pinpoints = [list(point) for point in image_grid_pinpoints] if image_grid_pinpoints else None
        self.mm_patch_merge_type = mm_patch_merge_type
        self.pooled = list(pooled) if pooled else None

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

    @property
    def side(self) -> int:
        """Side of a tile, in pixels (not for native resolution)."""
        size = self.size or {}
        return self.crop_size or size.get("height") or size["shortest_edge"]

    def preprocess(  # pyright: ignore[reportIncompatibleMethodOverride] - no further positional arguments
        self,
        images: Any,
        *,
        return_tensors: str | None = "pt",
        **kwargs: Any,  # noqa: ARG002
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
        if self.image_aspect_ratio == "native_anyres":
            patches, grids = zip(*(self._patches(picture) for picture in pictures), strict=True)
            data = {"pixel_values": np.concatenate(patches), "image_grid_thw": np.array(grids, dtype=np.int64)}
            return BatchFeature(data=data, tensor_type=return_tensors)
        tiles = [np.stack([self._tile(tile) for tile in self._views(picture)]) for picture in pictures]
        sizes = np.array([(picture.height, picture.width) for picture in pictures], dtype=np.int64)
        data = {"pixel_values": np.concatenate(tiles), "image_sizes": sizes}
        return BatchFeature(data=data, tensor_type=return_tensors)

    def tokens_of(self, features: Mapping[str, Any]) -> list[int]:
        """How many rows of features each prepared picture becomes.

        Args:
            features: what `preprocess` returned.
        """
        if self.image_aspect_ratio == "native_anyres":
            grids = torch.as_tensor(features["image_grid_thw"])
            return (grids.prod(-1) // self.merge_size**2).tolist()
        sizes = torch.as_tensor(features["image_sizes"]).tolist()
        rows, columns = cast("list[int]", self.pooled)
        if self.image_aspect_ratio != "anyres":
            return [rows * columns] * len(sizes)
        return [self._tiled_tokens((width, height), (rows, columns)) for height, width in sizes]

    def _tiled_tokens(self, picture: Size, pooled: Size) -> int:
        canvas = best_size(picture, self.image_grid_pinpoints or [])
        return merged_shape(picture, canvas, tile=self.side, pooled=pooled, merge=self.mm_patch_merge_type)[0]

    def _views(self, picture: PIL.Image.Image) -> list[PIL.Image.Image]:
        if self.image_aspect_ratio == "pad":
            return [_on_square(picture, tuple(int(255 * value) for value in self.image_mean))]
        if self.image_aspect_ratio != "anyres":
            return [picture]
        canvas_size = best_size(picture.size, self.image_grid_pinpoints or [])
        fitted = picture.resize(fitted_size(picture.size, canvas_size), PIL.Image.Resampling.BICUBIC)
        canvas = PIL.Image.new("RGB", canvas_size, (0, 0, 0))
        canvas.paste(fitted, ((canvas_size[0] - fitted.width) // 2, (canvas_size[1] - fitted.height) // 2))
        side = self.side
        corners = [(x, y) for y in range(0, canvas_size[1], side) for x in range(0, canvas_size[0], side)]
        tiles = [canvas.crop((x, y, x + side, y + side)) for x, y in corners]
        return [picture.resize((side, side), PIL.Image.Resampling.BICUBIC), *tiles]

    def _tile(self, picture: PIL.Image.Image) -> NDArray[np.float32]:
        size = self.size or {}
        if "shortest_edge" in size:
            picture = picture.resize(_shortest(picture.size, size["shortest_edge"]), PIL.Image.Resampling.BICUBIC)
        else:
            picture = picture.resize((size["width"], size["height"]), PIL.Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)
        if self.crop_size is not None:
            pixels = _centre(pixels, self.crop_size)
        return self._normalise(pixels).transpose(2, 0, 1)

    def _normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        scaled = (pixels.astype(np.float64) * self.rescale_factor).astype(np.float32)
        return (scaled - np.asarray(self.image_mean, np.float32)) / np.asarray(self.image_std, np.float32)

    def _patches(self, picture: PIL.Image.Image) -> tuple[NDArray[np.float32], tuple[int, int, int]]:
        """Patches in the order (row block, column block, row, column), each flattened as (channel, frame, row, column)."""
        patch, merge, frames = self.patch_size, self.merge_size, self.temporal_patch_size
        height, width = native_size(
            picture.height, picture.width, factor=patch * merge, min_pixels=self.min_pixels, max_pixels=self.max_pixels
        )
        picture = picture.resize((width, height), PIL.Image.Resampling.BICUBIC)
        pixels = self._normalise(np.asarray(picture)).transpose(2, 0, 1)
        rows, columns = height // patch, width // patch
        blocks = pixels.reshape(3, rows // merge, merge, patch, columns // merge, merge, patch)
        blocks = blocks.transpose(1, 4, 2, 5, 0, 3, 6)[..., None, :, :]
        repeated = np.broadcast_to(blocks, (*blocks.shape[:5], frames, patch, patch))
        return repeated.reshape(rows * columns, -1), (1, rows, columns)


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


def _on_square(picture: PIL.Image.Image, colour: tuple[int, ...]) -> PIL.Image.Image:
    side = max(picture.size)
    if picture.size == (side, side):
        return picture
    square = PIL.Image.new("RGB", (side, side), colour)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def _shortest(size: Size, edge: int) -> Size:
    short, long = min(size), max(size)
    new_long = int(edge * long / short)
    return (edge, new_long) if size[0] <= size[1] else (new_long, edge)


def _centre(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if height < side or width < side:
        rows, columns = max(height, side), max(width, side)
        canvas = np.zeros((rows, columns, 3), dtype=np.uint8)
        top, left = ceil((rows - height) / 2), ceil((columns - width) / 2)
        canvas[top : top + height, left : left + width] = pixels
        pixels, height, width = canvas, rows, columns
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


AutoImageProcessor.register(EmovaConfig, image_processor_classes={"pil": EmovaImageProcessor}, exist_ok=True)
