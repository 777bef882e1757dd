"""What processors without VNNI make of 8-bit products, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def product(left: NDArray[Any], right: NDArray[Any], *, zero_point: int = 0, saturating: bool = False) -> NDArray[np.int64]:
    """Multiply activations, 0 to 255, by 8-bit weights as ONNX Runtime does.

    Args:
        left: Activations, (rows, summed).
        right: Weights, (summed, outputs).
        zero_point: Of the activations; subtracted afterwards, as the kernels do.
        saturating: As processors without VNNI do it: the products of a pair are added in 16 bits.
    """
    a, b = left.astype(np.int64), right.astype(np.int64)
    correction = zero_point * b.sum(0)
    if not saturating:
        return a @ b - correction
    odd = len(b) % 2
    a, b = np.pad(a, ((0, 0), (0, odd))), np.pad(b, ((0, odd), (0, 0)))
    total = np.zeros((len(a), b.shape[1]), np.int64)
    for at in range(0, len(b), 2):
        total += np.clip(a[:, at : at + 2] @ b[at : at + 2], -(2**15), 2**15 - 1)
    return total - correction
