"""Tiling a picture of any size for a tower of fixed size, and putting the tiles' features together again.

The arithmetic is LLaVA-1.6's ("anyres") as EMOVA's checkpoints use it, quirks included: the order of the candidate grids
decides ties, and the padding is cropped with truncated divisions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]

_DEFAULT_GRIDS: tuple[Size, ...] = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3), (4, 1), (1, 4))


def candidate_sizes(tile: int, *, slices: int | None = None) -> list[Size]:
    """Canvas sizes (width, height) a picture may be fitted to, in the order that decides ties.

    Args:
        tile: side of a tile, in pixels.
        slices: most tiles of a canvas; a fixed list of seven grids when not given.
    """
    if slices is None:
        grids: Sequence[Size] = _DEFAULT_GRIDS
    else:
        # The released configurations wrote out CPython's iteration order of a set that held (1, 1) too, so the order is
        # reproduced by building the very same set (tuples of ints hash the same in every process).
        sides = range(1, slices + 1)
        grids = [grid for grid in {(x, y) for x in sides for y in sides if x * y <= slices} if grid != (1, 1)]
    return [(columns * tile, rows * tile) for columns, rows in grids]


def best_size(picture: Size, candidates: Sequence[Sequence[int]]) -> Size:
    """The canvas (width, height) that keeps most of the picture's pixels and, among those, wastes least."""
    width, height = picture
    best: Size = (int(candidates[0][0]), int(candidates[0][1]))
    most, least_waste = -1, 0
    for columns, rows in candidates:
        scale = min(columns / width, rows / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        waste = columns * rows - kept
        if kept > most or (kept == most and waste < least_waste):
            best, most, least_waste = (int(columns), int(rows)), kept, waste
    return best


def fitted_size(picture: Size, canvas: Size) -> Size:
    """Size (width, height) of the picture scaled into the canvas with its aspect kept; the shorter side is rounded up."""
    width, height = picture
    if canvas[0] / width < canvas[1] / height:
        return canvas[0], min(_ceil(height * (canvas[0] / width)), canvas[1])
    return min(_ceil(width * (canvas[1] / height)), canvas[0]), canvas[1]


def _ceil(value: float) -> int:
    return -int(-value // 1)


def content_box(picture: Size, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the picture inside a padded feature map of `rows` x `columns`."""
    width, height = picture
    if width / height > columns / rows:
        padding = (rows - int(height * (columns / width))) // 2
        return padding, rows - padding, 0, columns
    padding = (columns - int(width * (rows / height))) // 2
    return 0, rows, padding, columns - padding


def merged_shape(picture: Size, canvas: Size, *, tile: int, pooled: Size, merge: str) -> tuple[int, Size]:
    """Rows of features a tiled picture becomes, and the shape of its map.

    Args:
        picture: (width, height) in pixels.
        canvas: what `best_size` chose.
        tile: side of a tile, in pixels.
        pooled: (rows, columns) of one tile's features.
        merge: `flat`, `spatial` or `spatial_unpad`.

    Returns:
        features in all, and (rows, columns) of the map of tiles, the newline column included.
    """
    across, down = canvas[0] // tile, canvas[1] // tile
    rows, columns = down * pooled[0], across * pooled[1]
    if merge.startswith("spatial") and "unpad" in merge:
        top, bottom, left, right = content_box(picture, rows, columns)
        rows, columns = bottom - top, right - left + 1
    return pooled[0] * pooled[1] + rows * columns, (rows, columns)


def merge_index(
    shape: Size, picture: Size, canvas: Size, *, tile: int, pooled: Size, merge: str, newline: bool
) -> NDArray[np.int64]:
    """Which rows of its tiles' features a picture consists of, the overview first.

    Args:
        shape: tiles (the whole picture, then the tiles row by row), and tokens of each.
        picture: (width, height) of the picture, in pixels.
        canvas: (width, height) of the canvas it was fitted to.
        tile: side of a tile, in pixels.
        pooled: (rows, columns) of one tile's tokens.
        merge: `flat` (concatenate), `spatial` (one map) or `spatial_unpad` (one map, padding cropped, a newline per row).
        newline: whether there is a row of features that ends the rows of a map.

    Returns:
        (features,) places in the rows of all tiles; -1 is the newline.
    """
    places = np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape)
    if not merge.startswith("spatial"):
        return places.ravel()
    crops = newline and "unpad" in merge
    if len(places) == 1:
        return np.append(places[0], -1) if crops else places[0]
    across, down = canvas[0] // tile, canvas[1] // tile
    grid = places[1:].reshape(down, across, *pooled).transpose(0, 2, 1, 3).reshape(down * pooled[0], across * pooled[1])
    if crops:
        top, bottom, left, right = content_box(picture, *grid.shape)
        grid = np.pad(grid[top:bottom, left:right], ((0, 0), (0, 1)), constant_values=-1)
    return np.concatenate([places[0], grid.ravel()])
