"""How large a picture enters a tower of native resolution (Qwen2-ViT): the published rule, as a pure function of integers.

The rule for towers of fixed size, which tile the picture, is in `emova_sdk.models.anyres`.
"""

from __future__ import annotations

import math

from emova_sdk.errors import InputError

__all__ = ["smart_resize"]

MAX_ASPECT_RATIO = 200


def smart_resize(
    height: int, width: int, *, factor: int = 28, min_pixels: int = 3136, max_pixels: int = 3_211_264
) -> tuple[int, int]:
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
