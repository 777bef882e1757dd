"""What the nano models hear and spread, in NumPy: log-mel bands, the pitch, the manner of an utterance; units over frames.

The same as `nano_recipe.networks.features` and `.style`, which training uses on batches: a test compares them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.nano.manner import manner
from emova_sdk.components.nano.shapes import BANDS, FFT, HOP, SAMPLE_RATE, VOICED, WINDOW

Float = NDArray[np.float32]

LOWEST, HIGHEST = 60.0, 450.0
"""Range of the pitch tracker, Hz."""
_PITCH_WINDOW, _PITCH_FFT = 960, 1280
"""The transform is as long as the window and the longest lag: what wraps around is not looked at."""

_BLOCK = 64
"""Frames at a time: what a block takes stays in the cache, and is not asked of the system anew for each sound."""


def mel_edges(bands: int, top: float) -> Float:
    """Edges of triangular mel bands from 0 to `top` Hz, of shape (bands + 2,), in Hz."""
    mel = np.linspace(0, 1127 * np.log1p(top / 700), bands + 2, dtype=np.float32)
    return 700 * np.expm1(mel / 1127)


@cache
def _mel_bank() -> Float:
    """Triangular filters, (257, 80)."""
    hertz = np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1, dtype=np.float32)[:, None]
    edges = mel_edges(BANDS, SAMPLE_RATE / 2)
    rise = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rise, fall), 0).astype(np.float32)


@cache
def _hann(size: int) -> Float:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def _frames(samples: Float, size: int) -> list[Float]:
    """Pieces of `size` samples centred every 10 ms, (samples // 160 + 1, size), a block at a time."""
    padded = np.pad(samples, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::HOP]
    return [frames[start : start + _BLOCK] for start in range(0, len(frames), _BLOCK)]


def at_level(samples: Float) -> Float:
    """Scale sound so that it peaks between 0.3 and 0.7, the level of the training data; sound in between is left as it is."""
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-6)
    return samples * np.float32(min(max(peak, 0.3), 0.7) / peak)


def log_mel(samples: Float) -> Float:
    """Samples at 16 kHz to natural-log energies (samples // 160 + 1, 80) of 25 ms Hann windows centred every 10 ms."""
    window = np.pad(_hann(WINDOW), (FFT - WINDOW) // 2)
    power = np.concatenate([_power(frames * window, FFT) @ _mel_bank() for frames in _frames(samples, FFT)])
    return np.log(power + np.float32(1e-5))


def _power(frames: Float, size: int) -> Float:
    spectrum = np.fft.rfft(frames, size)
    return np.square(spectrum.real) + np.square(spectrum.imag)


def pitch_track(samples: Float) -> tuple[Float, Float]:
    """Track the pitch by normalised autocorrelation (Boersma, IFA Proceedings 1993), every 10 ms.

    Args:
        samples: (samples,) at 16 kHz.

    Returns:
        Pitch in Hz, median-smoothed, meaningful where voiced, and the strength of periodicity in [0, 1], each of shape
        (samples // 160 + 1,), the frames of `log_mel`.
    """
    first, last = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    correlation = np.concatenate([_autocorrelation(frames, last + 1) for frames in _frames(samples, _PITCH_WINDOW)])
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
    moving = (frames - frames.mean(1, keepdims=True)) * _hann(_PITCH_WINDOW)
    return np.fft.irfft(_power(moving, _PITCH_FFT), _PITCH_FFT)[:, :lags]


@cache
def _window_loss(lags: int) -> Float:
    """By how much the window weakens each lag, (lags,)."""
    ideal = np.fft.irfft(_power(_hann(_PITCH_WINDOW)[None], _PITCH_FFT), _PITCH_FFT)[0, :lags]
    return ideal[0] / np.maximum(ideal, np.float32(1e-3))


def style_input(mel: Float, pitch: Float, strength: Float) -> tuple[Float, Float]:
    """Per-frame and whole-utterance inputs of the network that hears styles.

    Args:
        mel: Log-mel (frames, 80).
        pitch: Hz (frames,).
        strength: Periodicity in [0, 1] (frames,).

    Returns:
        (frames, 82): the spectrum relative to its mean level, log pitch relative to its median, strength; and
        (8,): median, quartile range, decile range, slope, movement and roughness of log pitch, voiced share, spread of level.
    """
    voiced = strength > VOICED
    log_pitch = np.log(np.maximum(pitch, 40))
    known = log_pitch[voiced] if int(voiced.sum()) >= 5 else log_pitch
    marks = np.quantile(known, [0.05, 0.25, 0.5, 0.75, 0.95])
    relative = np.where(voiced, log_pitch - marks[2], 0)
    steps = np.where(voiced[1:] & voiced[:-1], np.diff(log_pitch), 0)
    third = max(1, len(known) // 3)
    energy = mel.mean(1)
    moved = float(np.abs(steps).mean())
    rough = float(np.abs(np.diff(steps)).mean()) - moved if len(steps) > 1 else float(steps.sum())
    whole = [
        (marks[2] - 5.0) * 2, (marks[3] - marks[1]) * 5, (marks[4] - marks[0]) * 3,
        (known[-third:].mean() - known[:third].mean()) * 5,
        moved * 50, rough * 50, voiced.mean() * 2, energy.std(ddof=1) * 0.3,
    ]  # fmt: skip
    frames = np.concatenate([(mel - energy.mean()) * 0.3, relative[:, None] * 5, strength[:, None] * 2], 1)
    return frames.astype(np.float32), np.array(whole, np.float32)


def perception_input(mel: Float, pitch: Float, strength: Float) -> tuple[Float, Float]:
    """Return the frames of `style_input`, and its statistics followed by those of `manner`: (frames, 82) and (73,)."""
    frames, whole = style_input(mel, pitch, strength)
    return frames, np.concatenate([whole, manner(mel, pitch, strength)])


PLACES = 4
"""Numbers that `expand` adds to a state."""


def expand(states: Float, durations: NDArray[np.int64]) -> Float:
    """Repeat each state for its duration, with its place.

    Args:
        states: (units, width).
        durations: (units,), each at least 1.

    Returns:
        (frames, width + 4): the state, the frame's share of the way through the unit and the rest, the log of the unit's
        duration, and the log of the frames since its start.
    """
    owner = np.repeat(np.arange(len(durations)), durations)
    length = durations[owner].astype(np.float32)
    since = (np.arange(len(owner)) - (durations.cumsum() - durations)[owner]).astype(np.float32)
    share = (since + np.float32(0.5)) / length
    place = np.stack([share, 1 - share, np.log1p(length), np.log1p(since)], 1)
    return np.concatenate([states[owner], place], 1)
