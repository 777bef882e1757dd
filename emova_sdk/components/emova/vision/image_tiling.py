"""Pictures to the pixels EMOVA's vision towers read, bit for bit as the checkpoints were trained; nothing here needs torch.

Four ways (`image_aspect_ratio`): `native_anyres` keeps the picture's shape and cuts it into patches (Qwen2-ViT), `anyres`
tiles it, `pad` pastes it on a square of the mean colour, `square` leaves the shape to the resize and crop of the tower.
Resizing is Pillow's bicubic on 8-bit pixels throughout; the arithmetic after it is in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil, floor, sqrt

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from emova_sdk.errors import InputError
from emova_sdk.models.anyres import Size, best_size, fitted_size, merged_shape

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


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
        InputError: the longer side is over 200 times the shorter one.
    """
    if height < factor or width < factor:
        if height < width:
            height, width = factor, round(width / height * factor)
        else:
            height, width = round(height / width * factor), factor
    elif max(height, width) / min(height, width) > 200:
        raise InputError(f"a picture of {width}x{height} pixels has an aspect ratio over 200", "crop it")
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > max_pixels:
        shrink = sqrt(height * width / max_pixels)
        rows, columns = (floor(side / shrink / factor) * factor for side in (height, width))
    elif rows * columns < min_pixels:
        grow = sqrt(min_pixels / (height * width))
        rows, columns = (ceil(side * grow / factor) * factor for side in (height, width))
    return max(rows, factor), max(columns, factor)


@dataclass(eq=False, repr=False)  # transformers has its own of both
class ImageTiler:
    """Resizes pictures and splits them into the tiles or patches that a tower reads.

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

    image_aspect_ratio: str = "native_anyres"
    image_mean: Sequence[float] = CLIP_MEAN
    image_std: Sequence[float] = CLIP_STD
    rescale_factor: float = 1 / 255
    size: Mapping[str, int] | None = None
    crop_size: int | None = None
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 4096 * 28 * 28
    image_grid_pinpoints: Sequence[Sequence[int]] | None = None
    mm_patch_merge_type: str = "flat"
    pooled: Sequence[int] | None = None

    @property
    def native(self) -> bool:
        """Whether pictures keep their shape."""
        return self.image_aspect_ratio == "native_anyres"

    @property
    def side(self) -> int:
        """Side of a tile, in pixels (not for native resolution)."""
        size = self.size or {}
        return self.crop_size or size.get("height") or size["shortest_edge"]

    @property
    def tile_grid(self) -> Size:
        """Rows and columns of features of one tile (not for native resolution)."""
        rows, columns = self.pooled or (0, 0)
        return rows, columns

    def tiles(self, picture: PIL.Image.Image) -> NDArray[np.float32]:
        """(tiles, 3, side, side) of an RGB picture."""
        return np.stack([self._tile(tile) for tile in self._views(picture)])

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

    def patches(self, picture: PIL.Image.Image) -> tuple[NDArray[np.float32], tuple[int, int, int]]:
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


TILER_SETTINGS = tuple(field.name for field in fields(ImageTiler))


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
