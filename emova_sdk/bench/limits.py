"""What this machine can do, measured: the limit that no candidate passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from emova_sdk.packages import installed

_SIDE = 1024
_LARGE = 2**26
_CACHED = 16e6
"""Weights of fewer bytes stay in the processor's caches, from which they are read faster than from memory."""


@dataclass(frozen=True)
class MachineLimits:
    """Speeds of the machine, in float32.

    Attributes:
        gflop_s: Matrix products of 1024 x 1024, in 1e9 operations a second (a multiply-add is two).
        gb_s: A matrix-vector product of 268 MB, in 1e9 bytes read a second.
    """

    gflop_s: float
    gb_s: float


@dataclass(frozen=True)
class Cost:
    """What a run has to compute and read at least.

    Attributes:
        flop: Operations; a multiply-add is two.
        weight_bytes: Bytes of weights, each of which is read once.
    """

    flop: float
    weight_bytes: float

    def least_s(self, limits: MachineLimits, *, weight_bytes: float | None = None) -> float:
        """The time it takes a machine that computes and reads at its limits, and both at once (the roofline model).

        Weights that fit into caches cost no reading. ``weight_bytes`` replaces their size, for weights of fewer bits.
        """
        stored = self.weight_bytes if weight_bytes is None else weight_bytes
        return max(self.flop / (limits.gflop_s * 1e9), (stored if stored > _CACHED else 0.0) / (limits.gb_s * 1e9))


def measure_limits() -> MachineLimits:
    """Measure this machine; best of several runs. With torch's threads, or where that is not installed with NumPy's."""
    kind: Any = import_module("numpy" if installed("torch") is None else "torch")
    left = kind.ones((_SIDE, _SIDE), dtype=kind.float32)
    product = _best(lambda: left @ left, 15)
    matrix, vector = kind.ones((_LARGE // 4096, 4096), dtype=kind.float32), kind.ones(4096, dtype=kind.float32)
    read = _best(lambda: matrix @ vector, 7)
    return MachineLimits(2 * _SIDE**3 / product / 1e9, 4 * _LARGE / read / 1e9)


def _best(work: Callable[[], object], runs: int) -> float:
    times: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
