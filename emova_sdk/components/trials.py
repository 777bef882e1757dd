"""End-to-end trials: a component and its export get the same inputs, and their outputs are compared.

Graphs may agree number by number and the speech be silence all the same. A component offers its trials by the method
`Component.trials`; exporters run them on every export, and so does ``emova export verify``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import EmovaError
from emova_sdk.types import Audio

_AGREEMENT = {"fp32": 0.99, "fp16": 0.97, "int8": 0.9, "int4": 0.75}
"""Least share of equal units, tokens, words or labels, by precision."""
_COSINE = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.99, "int4": 0.95}
_MEL_DISTANCE = {"fp32": 0.02, "fp16": 0.15, "int8": 0.5, "int4": 0.8}
"""Largest mean difference of log-mel spectra, in nepers."""
_LEVEL, _CLIPPED = 0.5, 1e-3
_RATE, _BANDS = 16_000, 60
_SHIFT = 15
"""Frames of 10 ms by which one sound may be ahead of the other."""


@dataclass(frozen=True)
class Measure:
    """A figure by which two outcomes are compared.

    Attributes:
        name: E.g. ``units agreeing``.
        value: What was found.
        limits: What is allowed, by precision; in other precisions it is not judged.
        cases: How many outcomes, or labels, it was measured on.
        least: Whether a limit is the least value that is allowed; otherwise it is the largest.
    """

    name: str
    value: float
    limits: Mapping[str, float]
    cases: int
    least: bool = True


@dataclass(frozen=True)
class Trial:
    """A piece of work that a component and its export do.

    Attributes:
        name: E.g. ``speech, sad``; unique within the component.
        run: Does the work with either of them.
        judge: Compares the outcome of the original with that of the export.
    """

    name: str
    run: Callable[[Any], Any]
    judge: Callable[[Any, Any], Sequence[Measure]]


@dataclass(frozen=True)
class TrialResult:
    """A measure of a trial, judged for a precision.

    Attributes:
        trial: Its name.
        measure: E.g. ``mel distance``.
        value: What was found.
        allowed: What was allowed, e.g. ``<= 0.5``.
        passed: Whether it was kept to.
        cases: How many outcomes, or labels, it was measured on.
    """

    trial: str
    measure: str
    value: float
    allowed: str
    passed: bool
    cases: int

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def run_trials(trials: Iterable[Trial], original: Any, exported: Any, *, precision: str) -> list[TrialResult]:
    """Let a component and its export do the same work.

    Args:
        trials: Those of the component.
        original: The component.
        exported: The component that runs its export.
        precision: The lowest of the export's graphs; what is allowed depends on it.
    """
    results: list[TrialResult] = []
    for trial in trials:
        expected = trial.run(original)
        try:
            found = trial.run(exported)
        except EmovaError as error:  # e.g. sound that is not finite
            results.append(TrialResult(trial.name, f"runs ({error.message})", 0.0, ">= 1", passed=False, cases=1))
        else:
            results += results_of(trial, expected, found, precision=precision)
    return results


def results_of(trial: Trial, expected: Any, found: Any, *, precision: str) -> list[TrialResult]:
    """Judge two outcomes of a trial."""
    results: list[TrialResult] = []
    for one in trial.judge(expected, found):
        if precision in one.limits:
            limit, sign = one.limits[precision], ">=" if one.least else "<="
            passed = one.value >= limit if one.least else one.value <= limit
            results.append(TrialResult(trial.name, one.name, one.value, f"{sign} {limit:g}", passed, one.cases))
    return results


# --- judges ---


def sequences_agree(
    name: str, expected: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]], *, limits: Mapping[str, float] = _AGREEMENT
) -> list[Measure]:
    """Share of sequences (of units, tokens, words or labels) that is common to both, 0 to 1."""
    pairs = zip(expected, found, strict=True)
    shares = [SequenceMatcher(None, list(left), list(right), autojunk=False).ratio() for left, right in pairs]
    return [Measure(name, float(np.mean(shares)), limits, len(shares))]


def vectors_agree(name: str, expected: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> list[Measure]:
    """Least cosine between vectors, or between matrices as a whole; -1 where shapes differ."""
    cosines = [_cosine(left, right) for left, right in zip(expected, found, strict=True)]
    return [Measure(name, min(cosines), _COSINE, len(cosines))]


def _cosine(left: NDArray[Any], right: NDArray[Any]) -> float:
    if left.shape != right.shape or not np.isfinite(right).all():
        return -1.0
    a, b = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(not a.any() and not b.any())


def sounds_agree(expected: Sequence[Audio], found: Sequence[Audio]) -> list[Measure]:
    """Mel distance, level relative to the originals', and clipping that is new."""
    before, after = (np.concatenate([sound.samples for sound in sounds]) for sounds in (expected, found))
    distance = float(np.mean([_distance(*pair) for pair in zip(expected, found, strict=True)]))
    level = _level(after) / max(_level(before), 1e-9)
    clipped = max(0.0, _clipped(after) - _clipped(before))
    return [
        Measure("mel distance", distance, _MEL_DISTANCE, len(found), least=False),
        Measure("level", level, dict.fromkeys(_MEL_DISTANCE, _LEVEL), len(found)),
        Measure("clipped", clipped, dict.fromkeys(_MEL_DISTANCE, _CLIPPED), len(found), least=False),
    ]


def _level(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0


def _clipped(samples: NDArray[np.float32]) -> float:
    return float(np.mean(np.abs(samples) >= 0.999)) if len(samples) else 0.0


def _distance(left: Audio, right: Audio) -> float:
    """Mean difference of log-mel spectra along the best alignment: a duration may differ by a frame and nobody hears it."""
    first, second = _log_mel(left), _log_mel(right)
    apart = np.abs(first[:, None] - second[None]).mean(2)
    band = abs(len(first) - len(second)) + _SHIFT
    cost = np.full((len(first) + 1, len(second) + 1), np.inf)
    cost[0, 0] = 0
    for row in range(len(first)):
        for column in range(max(0, row - band), min(len(second), row + band + 1)):
            before = min(cost[row, column], cost[row, column + 1], cost[row + 1, column])
            cost[row + 1, column + 1] = before + apart[row, column]
    return float(cost[-1, -1]) / max(len(first), len(second), 1)


def _log_mel(sound: Audio) -> NDArray[np.float32]:
    """Natural-log energies (frames, bands) of 32 ms windows every 10 ms, in bands of equal width on the mel scale."""
    samples = np.pad(sound.resample(_RATE).samples, 256)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[:: _RATE // 100] * np.hanning(512).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames)))
    highest = 2595 * np.log10(1 + _RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, _BANDS + 1)[:-1] / 2595) - 1)
    return np.log(np.add.reduceat(power, (edges / _RATE * 512).astype(int), axis=1) + 1e-5).astype(np.float32)


# --- something to work on ---


def speech_like(seconds: float, rate: int, *, seed: int) -> Audio:
    """Make a sound with a gliding voice, syllables, pauses and breath."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 60 * seed + 30 * np.sin(2 * np.pi * 1.7 * times)) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 12) if k * (210 + 60 * seed) < rate / 2)
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * times), 0, None)
    return Audio((0.2 * syllables * voice + 0.01 * rng.standard_normal(len(times))).astype(np.float32), rate)
