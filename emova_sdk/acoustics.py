"""Speech analysis in NumPy: frames, spectra, mel bands and the pitch of 16 kHz speech, every 10 ms."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from emova_sdk.types import Audio

Float = NDArray[np.float32]

SAMPLE_RATE, HOP = 16_000, 160
FRAME_S = HOP / SAMPLE_RATE
LOWEST, HIGHEST = 60.0, 450.0
"""Range of the pitch tracker, Hz."""
PERIODIC = 0.6
"""Least strength of periodicity of a frame that is voiced."""
_PITCH_WINDOW, _PITCH_FFT = 960, 1280
"""The transform is as long as the window and the longest lag: what wraps around is not looked at."""

_BLOCK = 64
"""Frames at a time: what a block takes stays in the cache, and is not asked of the system anew for each sound."""


def mel_edges(bands: int, top: float) -> Float:
    """Edges of triangular mel bands (HTK's scale) from 0 to `top` Hz, of shape (bands + 2,), in Hz."""
    mel = np.linspace(0, 1127 * np.log1p(top / 700), bands + 2, dtype=np.float32)
    return 700 * np.expm1(mel / 1127)


def triangles(hertz: NDArray[np.floating], edges: NDArray[np.floating]) -> NDArray[np.floating]:
    """Triangular filters of height 1 over a grid of frequencies, (frequencies, edges - 2)."""
    rise = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rise, fall), 0)


def mel_bank(bands: int, bins: int, sample_rate: int) -> Float:
    """Triangular mel filters over a linear grid of `bins` frequencies, float32 of shape (bins, bands)."""
    hertz = np.linspace(0, sample_rate / 2, bins, dtype=np.float32)
    return triangles(hertz, mel_edges(bands, sample_rate / 2)).astype(np.float32)


@cache
def hann(size: int) -> Float:
    """Periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def frames_of(samples: Float, size: int) -> list[Float]:
    """Pieces of `size` samples centred every 10 ms, (samples // 160 + 1, size), a block at a time."""
    padded = np.pad(samples, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::HOP]
    return [frames[start : start + _BLOCK] for start in range(0, len(frames), _BLOCK)]


def power(frames: Float, size: int) -> Float:
    """Power spectrum of windowed frames, (frames, size // 2 + 1)."""
    spectrum = np.fft.rfft(frames, size)
    return np.square(spectrum.real) + np.square(spectrum.imag)


def pitch_track(samples: Float) -> tuple[Float, Float]:
    """Track the pitch by normalised autocorrelation (Boersma, IFA Proceedings 1993), every 10 ms.

    Args:
        samples: (samples,) at 16 kHz.

    Returns:
        Pitch in Hz, median-smoothed, meaningful where voiced, and the strength of periodicity in [0, 1], each of shape
        (samples // 160 + 1,), the frames of nano's log-mel.
    """
    first, last = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    correlation = np.concatenate([_autocorrelation(frames, last + 1) for frames in frames_of(samples, _PITCH_WINDOW)])
    lags = (correlation / np.maximum(correlation[:, :1], 1e-7) * _window_loss(last + 1))[:, first - 1 :]
    middle = lags[:, 1:-1]
    peaks = np.where((middle >= lags[:, :-2]) & (middle >= lags[:, 2:]), middle, np.float32(0))
    # The shortest period that is nearly as good as the best one: a multiple of the period correlates as well.
    place = (peaks >= np.float32(0.88) * peaks.max(1, keepdims=True)).argmax(1)
    rows = np.arange(len(lags))
    left, peak, right = (lags[rows, place + shift] for shift in (0, 1, 2))
    offset = np.float32(0.5) * (left - right) / np.minimum(left - 2 * peak + right, np.float32(-1e-6))
    pitch = SAMPLE_RATE / (place + first + np.clip(offset, -0.5, 0.5)).astype(np.float32)
    loud = correlation[:, 0] > 1e-4 * max(float(correlation[:, 0].max()), 1e-4)
    smooth = np.sort(np.lib.stride_tricks.sliding_window_view(np.pad(pitch, 2, mode="edge"), 5), axis=1)[:, 2]
    return smooth.astype(np.float32), np.clip(peak * loud, 0, 1).astype(np.float32)


def _autocorrelation(frames: Float, lags: int) -> NDArray[np.floating]:
    """Of the windowed frames without their means, (frames, lags)."""
    moving = (frames - frames.mean(1, keepdims=True)) * hann(_PITCH_WINDOW)
    return np.fft.irfft(power(moving, _PITCH_FFT), _PITCH_FFT)[:, :lags]


@cache
def _window_loss(lags: int) -> Float:
    """By how much the window weakens each lag, (lags,)."""
    ideal = np.fft.irfft(power(hann(_PITCH_WINDOW)[None], _PITCH_FFT), _PITCH_FFT)[0, :lags]
    return ideal[0] / np.maximum(ideal, np.float32(1e-3))


def voiced_pitch(audio: Audio) -> Float:
    """Pitch of a sound of any rate in Hz every 10 ms, 0 where nothing is voiced, float32 of shape (frames,)."""
    pitch, strength = pitch_track(audio.resample(SAMPLE_RATE).samples)
    return np.where(strength > PERIODIC, pitch, np.float32(0))
