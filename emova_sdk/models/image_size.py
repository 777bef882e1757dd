"""How large a picture enters the vision tower: the published size rules, as pure functions of integers.

Two families exist. *Native* resolution (Qwen2-ViT) keeps the aspect ratio and rounds both sides to multiples of a factor
(:func:`smart_resize`). *Any-resolution tiling* (CLIP, SigLIP, InternViT) fits the picture into a grid of square tiles
(:func:`candidate_grids`, :func:`best_resolution`, :func:`fit_within`) and later crops the features of the padding
(:func:`unpadded_shape`). Sizes are pixels unless a name says tokens; every pair says its order.
"""

from __future__ import annotations

import math

from emova_sdk.errors import InputError

__all__ = [
    "anyres_tokens",
    "best_resolution",
    "candidate_grids",
    "fit_within",
    "smart_resize",
    "unpadded_shape",
]

MAX_ASPECT_RATIO = 200
DEFAULT_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3), (4, 1), (1, 4))


def smart_resize(height: int, width: int, *, factor: int = 28, min_pixels: int = 3136, max_pixels: int = 3_211_264) -> tuple[int, int]:
    """Rounds a picture's size to multiples of ``factor`` within a pixel budget.

    The rule of the released checkpoints, which is Qwen2-VL's with one addition: a picture with a side below ``factor``
    is enlarged instead of refused. Where the published code returns a side of 0 pixels (very long strips), this one
    returns ``factor``.

    Args:
        height: Rows of the picture, at least 1.
        width: Columns of the picture, at least 1.
        factor: Patch size times merge size.
        min_pixels: Fewest pixels after resizing, approximately.
        max_pixels: Most pixels after resizing, approximately.

    Returns:
        ``(height, width)``, both positive multiples of ``factor``.

    Raises:
        InputError: A side is below 1, or the aspect ratio exceeds 200.
    """
    if height < 1 or width < 1:
        raise InputError(f"a picture of `{width}x{height}` pixels is empty", "pass a picture with at least one pixel")
    if height < factor or width < factor:
        height, width = _enlarge(height, width, factor)
    elif max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise InputError(
            f"a picture of `{width}x{height}` pixels is more than {MAX_ASPECT_RATIO} times as long as wide",
            "crop the picture",
        )
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > max_pixels:
        scale = math.sqrt(height * width / max_pixels)
        rows, columns = (math.floor(side / scale / factor) * factor for side in (height, width))
    elif rows * columns < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * scale / factor) * factor for side in (height, width))
    return max(rows, factor), max(columns, factor)


def _enlarge(height: int, width: int, factor: int) -> tuple[int, int]:
    """Scales the shorter side up to ``factor`` pixels (a square counts as narrow)."""
    if height < width:
        return factor, round(width / height * factor)
    return round(height / width * factor), factor


def candidate_grids(max_tiles: int | None = None) -> list[tuple[int, int]]:
    """Lists the tile grids a picture may be cut into, in the order that settles ties.

    Checkpoints trained with tiling store their own list; use that one where it exists. For ``max_tiles`` the order is the
    iteration order of a CPython set filled by rising tile count, because that is how the published recipe got it.

    Args:
        max_tiles: Most tiles in a grid; None for the seven default grids.

    Returns:
        ``(columns, rows)`` pairs without ``(1, 1)``.
    """
    if max_tiles is None:
        return list(DEFAULT_GRIDS)
    grids: set[tuple[int, int]] = set()
    for tiles in range(1, max_tiles + 1):
        grids.update((x, y) for x in range(1, tiles + 1) for y in range(1, tiles + 1) if x * y <= max_tiles)
    return [grid for grid in grids if grid != (1, 1)]


def best_resolution(size: tuple[int, int], candidates: list[tuple[int, int]]) -> tuple[int, int]:
    """Picks the canvas that shows most of a picture and wastes least.

    Args:
        size: ``(width, height)`` of the picture.
        candidates: ``(width, height)`` of each canvas; the first of equals wins.

    Returns:
        One of ``candidates``.

    Raises:
        InputError: There is no candidate.
    """
    if not candidates:
        raise InputError("there is no resolution to choose from", "pass at least one candidate")
    width, height = size

    def merit(canvas: tuple[int, int]) -> tuple[int, int]:
        scale = min(canvas[0] / width, canvas[1] / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        return effective, effective - canvas[0] * canvas[1]

    return max(candidates, key=merit)  # max keeps the first of equals


def fit_within(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Scales a picture to touch a canvas from inside, keeping its aspect ratio.

    Args:
        size: ``(width, height)`` of the picture.
        canvas: ``(width, height)`` to fit into.

    Returns:
        ``(width, height)`` of the scaled picture; the free side is rounded up and never exceeds the canvas.
    """
    width, height = size
    x_scale, y_scale = canvas[0] / width, canvas[1] / height
    if x_scale < y_scale:
        return canvas[0], min(math.ceil(height * x_scale), canvas[1])
    return min(math.ceil(width * y_scale), canvas[0]), canvas[1]


def unpadded_shape(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Says what is left of a feature map once the rows or columns that show only padding are cropped.

    Args:
        size: ``(width, height)`` of the original picture.
        grid: ``(rows, columns)`` of the padded map, in tokens.

    Returns:
        ``(rows, columns)`` in tokens; the crop is symmetric, so the parity of the cropped side is kept.
    """
    (width, height), (rows, columns) = size, grid
    if width / height > columns / rows:
        kept = int(height * (columns / width))
        return rows - 2 * ((rows - kept) // 2), columns
    kept = int(width * (rows / height))
    return rows, columns - 2 * ((columns - kept) // 2)


def anyres_tokens(size: tuple[int, int], tiles: tuple[int, int], side: int) -> int:
    """Counts the tokens of a tiled picture merged with unpadding and newlines.

    Args:
        size: ``(width, height)`` of the original picture.
        tiles: ``(columns, rows)`` of the tile grid.
        side: Tokens along one side of a tile.

    Returns:
        The overview tile, the unpadded map, and one newline token per row of it.
    """
    rows, columns = unpadded_shape(size, (tiles[1] * side, tiles[0] * side))
    return side * side + rows * (columns + 1)
