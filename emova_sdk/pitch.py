"""A small pitch tracker, for pictures of conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from emova_sdk.types import Audio

RATE = 24_000
"""Everything is brought to this rate: at a low one, the period of a high voice falls between two samples."""
FRAME_S = 0.01
WINDOW_S = 0.04
LOWEST_HZ, HIGHEST_HZ = 65.0, 450.0
PERIODIC = 0.6
"""Least correlation of a voiced frame with itself one period later."""
SILENT_DB = -35.0
"""Frames so far under the loudest are not voiced."""


def pitch_track(audio: Audio) -> NDArray[np.float32]:
    """Return the pitch in Hz every 10 ms, 0 where nothing is voiced, float32 of shape (frames,).

    The lag of the highest normalised autocorrelation (Boersma, IFA Proceedings 17, 1993), refined by a parabola and
    smoothed by a median over 50 ms.
    """
    audio, rate = audio.resample(RATE), RATE
    window, hop = round(WINDOW_S * rate), round(FRAME_S * rate)
    if len(audio.samples) < window:
        return np.zeros(0, np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio.samples, window)[::hop].astype(np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    shape = np.hanning(window)
    correlation = _autocorrelation(frames * shape) / np.maximum(_autocorrelation(shape[None]), 1e-9)
    energy = np.mean(np.square(frames), axis=1)
    shortest, longest = int(rate / HIGHEST_HZ), min(int(rate / LOWEST_HZ), round(0.75 * window))
    strength = correlation[:, shortest:longest] / np.maximum(correlation[:, :1], 1e-12)
    # of nearly equal peaks the shortest lag is the period, not a multiple of it
    best = np.argmax(strength - 0.1 * np.linspace(0, 1, strength.shape[1]), axis=1)
    lags = shortest + best + _parabola(strength, best)
    voiced = (np.take_along_axis(strength, best[:, None], 1)[:, 0] > PERIODIC) & (
        energy > energy.max() * 10 ** (SILENT_DB / 10)
    )
    return _smoothed(np.where(voiced, rate / lags, 0.0))


def _autocorrelation(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    size = 2 ** int(np.ceil(np.log2(2 * frames.shape[1])))
    return np.fft.irfft(np.square(np.abs(np.fft.rfft(frames, size))), size)[:, : frames.shape[1]]


def _parabola(strength: NDArray[np.float64], best: NDArray[np.intp]) -> NDArray[np.float64]:
    """How far the true peak lies from the sampled one, in samples."""
    inner = np.clip(best, 1, strength.shape[1] - 2)
    left, mid, right = (np.take_along_axis(strength, (inner + step)[:, None], 1)[:, 0] for step in (-1, 0, 1))
    bend = left - 2 * mid + right
    return np.where((inner == best) & (bend < 0), 0.5 * (left - right) / np.minimum(bend, -1e-9), 0.0)


def _smoothed(track: NDArray[np.float64]) -> NDArray[np.float32]:
    """Median over five frames; what stands alone is not voiced."""
    padded = np.pad(track, 2)
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1).astype(np.float32)
