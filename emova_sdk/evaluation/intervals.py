"""95 % intervals of shares and rates."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

_Z = 1.959964
"""Quantile 0.975 of the normal distribution."""


def wilson(share: float, n: int) -> tuple[float, float]:
    """Interval of a share of ``n`` cases (Wilson, 1927): it has width where all cases are equal, too."""
    center = share + _Z**2 / (2 * n)
    reach = _Z * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low, high = (max(0.0, center - reach) / (1 + _Z**2 / n), (center + reach) / (1 + _Z**2 / n))
    return min(low, share), max(min(high, 1.0), share)


def interval(errors: Sequence[float], sizes: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Interval of sum(errors) / sum(sizes) by bootstrap over utterances; `wilson` where every draw is the same."""
    rng = np.random.default_rng(seed)
    top, bottom = np.asarray(errors, float), np.asarray(sizes, float)
    picks = rng.integers(0, len(top), (1000, len(top)))
    rates = top[picks].sum(1) / np.maximum(bottom[picks].sum(1), 1e-9)
    if rates.min() == rates.max():
        low, high = wilson(min(float(rates[0]), 1.0), len(top))
        return low, max(high, float(rates[0]))
    return float(np.quantile(rates, 0.025)), float(np.quantile(rates, 0.975))
