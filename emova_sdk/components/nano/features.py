"""What the nano models hear and spread, in NumPy: log-mel bands, the pitch, the manner of an utterance; units over frames.

The same as `nano_recipe.networks.features` and `.style`, which training uses on batches: a test compares them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from emova_sdk.acoustics import frames_of, hann, mel_bank, power
from emova_sdk.components.nano.shapes import BANDS, FFT, SAMPLE_RATE, VOICED, WINDOW
from emova_sdk.components.nano.voice_statistics import voice_statistics

Float = NDArray[np.float32]

_mel_bank = cache(mel_bank)


def at_level(samples: Float) -> Float:
    """Scale sound so that it peaks between 0.3 and 0.7, the level of the training data; sound in between is left as it is."""
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-6)
    return samples * np.float32(min(max(peak, 0.3), 0.7) / peak)


def log_mel(samples: Float) -> Float:
    """Samples at 16 kHz to natural-log energies (samples // 160 + 1, 80) of 25 ms Hann windows centred every 10 ms."""
    window = np.pad(hann(WINDOW), (FFT - WINDOW) // 2)
    bank = _mel_bank(BANDS, FFT // 2 + 1, SAMPLE_RATE)
    energy = np.concatenate([power(frames * window, FFT) @ bank for frames in frames_of(samples, FFT)])
    return np.log(energy + np.float32(1e-5))


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
    """Return the frames of `style_input`, and its statistics followed by `voice_statistics`: (frames, 82) and (73,)."""
    frames, whole = style_input(mel, pitch, strength)
    return frames, np.concatenate([whole, voice_statistics(mel, pitch, strength)])


PLACES = 4
"""Numbers that `length_regulate` adds to a state."""


def length_regulate(states: Float, durations: NDArray[np.int64]) -> Float:
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
