"""Splitting long sounds for a speech tokenizer: windows of equal length with context, cut on the grid of the units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import InputError

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A part of a clip: its samples, how many of them the network takes for valid, and which of its units count."""

    samples: Samples
    length: int
    first: int = 0
    count: int | None = None


class Windowing:
    """How clips are split.

    Args:
        window_s: Longest sound encoded in one piece, in seconds.
        context_s: What a window sees of its neighbours, in seconds.
        samples_per_unit: Grid of the cuts.
        unit_rate: Units per second.

    Raises:
        InputError: If the lengths are out of range.
    """

    def __init__(self, window_s: float, context_s: float, *, samples_per_unit: int, unit_rate: float) -> None:
        if context_s < 0 or window_s <= 2 * context_s:
            raise InputError(f"`window_s={window_s}`, `context_s={context_s}` is out of range", "window_s > 2 context_s >= 0")
        self._step = samples_per_unit
        self._longest, self._context = max(1, int(window_s * unit_rate)), int(context_s * unit_rate)

    def split(self, samples: Samples) -> Iterator[Window]:
        """Windows that cover a clip; none for an empty one."""
        total = -(-len(samples) // self._step)
        parts = 1 if total <= self._longest else -(-total // (self._longest - 2 * self._context))
        for first, last in pairwise([total * part // parts for part in range(parts + 1)]):
            begin, end = max(0, first - self._context), min(total, last + self._context)
            part = samples[begin * self._step : end * self._step]
            if first < last:
                yield Window(part, len(part), first - begin, last - first)


def padded(samples: Samples, length: int) -> Samples:
    """Append silence up to a length."""
    return np.pad(samples, (0, max(0, length - len(samples))))
