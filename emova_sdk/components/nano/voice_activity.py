"""Voice activity: where in a sound somebody speaks, told from offsets, noise, hum, clicks, tones and music.

Speech stands out from the floor around it, is voiced for a good part, and does not keep still: the pitch of a voice is never
quite constant, its timbre changes with every phone, its level rises and falls (Ramirez et al., "Voice Activity Detection:
Fundamentals and Speech Recognition System Robustness", 2007). A stretch of sound counts as speech if all of that holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from emova_sdk.acoustics import pitch_track
from emova_sdk.components.nano.features import log_mel
from emova_sdk.components.nano.shapes import HOP, SAMPLE_RATE, VOICED

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

MARGIN_S = 0.12
"""Kept before and after speech; longer pauses within it are cut to twice that."""

_SHORTEST_S = 0.1
_LOUDEST_FLOOR = 1e-4
"""Sounds that never leave this level are silence."""
_DRIFT = SAMPLE_RATE // 20
"""Samples over which a sound's mean is taken away: constant offsets and drifts below about 10 Hz."""
_SPEECH_BANDS = slice(5, 60)
"""Mel bands of about 150 to 4,000 Hz: over the hum of mains, under most hiss."""
_ABOVE_FLOOR, _BELOW_TOP, _FAINTEST = 6.0, 25.0, 45.0
"""Decibels: speech is over the floor by so much; its loud parts are within 25 dB of the loudest, its faint ones within 45."""
_BREAK_S = 1.2
"""Stretches further apart are judged each by itself."""
_STEP = 8
"""Frames between which changes of timbre are measured."""
_LOUD = 12.0
"""Decibels below the top within which timbre is looked at: fainter frames change with the floor they sink into."""
_HIGHEST = 430.0
"""Hz; the pitch tracker's edge is at 450, where anything without a pitch gathers."""


@dataclass(frozen=True)
class _Track:
    """A sound every 10 ms: its level in dB, timbre (frames, 16), pitch in Hz and whether it is voiced."""

    level: Float
    timbre: Float
    pitch: Float
    voiced: Mask


def without_drift(samples: Float) -> Float:
    """Take away a constant offset and what moves more slowly than any voice."""
    window = min(_DRIFT, len(samples))
    padded = np.pad(samples.astype(np.float64), (window // 2, window - window // 2), mode="edge")
    sums = np.concatenate([[0.0], padded.cumsum()])
    mean = (sums[window:] - sums[:-window])[: len(samples)] / window
    return (samples - mean).astype(np.float32)


def speech_in(samples: Float) -> Float:
    """Return what is spoken in a sound, its drift and long pauses removed; empty where nobody speaks.

    Args:
        samples: float32 (samples,) at 16 kHz, of any level.

    Returns:
        float32 (samples,), at the level it had.
    """
    return _speech_in(samples.astype(np.float32, copy=False).tobytes()).copy()


@lru_cache(maxsize=2)  # a tokenizer and a style module listen to the same sound, one after the other
def _speech_in(data: bytes) -> Float:
    samples = np.frombuffer(data, np.float32)
    sound = without_drift(samples) if len(samples) >= _SHORTEST_S * SAMPLE_RATE else samples[:0]
    loudest = float(np.abs(sound).max(initial=0.0))
    if loudest < _LOUDEST_FLOOR:
        return samples[:0]
    track = _track(sound * np.float32(0.5 / loudest))
    loud = _standing_out(track.level, _BELOW_TOP)
    spoken = np.zeros_like(loud)
    for first, last in _stretches(loud, gap=round(_BREAK_S * SAMPLE_RATE / HOP)):
        spoken[first:last] = _is_speech(track, loud, slice(first, last))
    if not spoken.any():
        return samples[:0]
    kept = _widened(spoken & _standing_out(track.level, _FAINTEST), round(MARGIN_S * SAMPLE_RATE / HOP))
    return sound[np.repeat(kept, HOP)[: len(sound)]]


def _track(sound: Float) -> _Track:
    mel = log_mel(sound)
    power = np.exp(mel[:, _SPEECH_BANDS]).sum(1)
    groups = mel.reshape(len(mel), 16, 5).mean(2)
    pitch, strength = pitch_track(sound)
    timbre = _smooth((groups - groups.mean(1, keepdims=True)).astype(np.float32))
    return _Track(_smooth(10 * np.log10(power)[:, None])[:, 0], timbre, pitch, strength > VOICED)


def _smooth(values: Float) -> Float:
    """Mean of five frames, (frames, n)."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0).mean(-1)


def _standing_out(level: Float, below_top: float) -> Mask:
    floor, top = np.quantile(level, [0.1, 0.98])
    return level > max(top - below_top, min(floor + _ABOVE_FLOOR, top - 3.0))


def _stretches(mask: Mask, *, gap: int) -> list[tuple[int, int]]:
    """First and last frame (exclusive) of runs, those less than ``gap`` apart joined."""
    at = np.flatnonzero(mask)
    if not len(at):
        return []
    cuts = np.flatnonzero(np.diff(at) > gap)
    return [(int(one[0]), int(one[-1]) + 1) for one in np.split(at, cuts + 1)]


def _widened(mask: Mask, frames: int) -> Mask:
    counts = np.concatenate([[0], np.pad(mask, frames).cumsum()])
    return (counts[2 * frames + 1 :] - counts[: -2 * frames - 1]) > 0


def _is_speech(track: _Track, loud: Mask, span: slice) -> bool:
    """Judge a stretch; the limits lie between speech 15 dB over noise and the sounds that come nearest to it."""
    here = np.zeros_like(loud)
    here[span] = loud[span]
    voiced = here & track.voiced & (track.pitch < _HIGHEST)
    if voiced.sum() < 15 or voiced.sum() < 0.4 * here.sum():
        return False
    around = track.level[max(0, span.start - 10) : span.stop + 10]
    low, high = np.quantile(around, [0.05, 0.95])
    pairs = voiced[1:] & voiced[:-1]
    median, ninth = np.quantile(np.abs(np.diff(np.log(track.pitch)))[pairs], [0.5, 0.9]) if pairs.any() else (0.0, 0.0)
    moves = 0.0007 <= median <= 0.03 and ninth <= 0.065
    beats = high - low >= 10.0 and float(track.level[here].std()) >= 2.5
    return moves and beats and _timbre_changes(track, voiced)


def _timbre_changes(track: _Track, voiced: Mask) -> bool:
    full = voiced & (track.level > track.level[voiced].max() - _LOUD)
    both = full[_STEP:] & full[:-_STEP]
    change = np.abs(track.timbre[_STEP:] - track.timbre[:-_STEP]).mean(1)[both]
    return len(change) > 0 and float(change.mean()) >= 0.3 and float(track.timbre[full].std(0).mean()) >= 0.3
