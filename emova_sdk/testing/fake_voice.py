"""How `FakeVocoder` speaks, as harmonic tones, and how `FakeStyleModule` hears these in any sound."""

from __future__ import annotations

import time
from typing import cast

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import Space, Stream
from emova_sdk.errors import InputError
from emova_sdk.types import (
    EMOTIONS,
    PITCHES,
    SPEEDS,
    Audio,
    Emotion,
    PerceivedStyle,
    Pitch,
    SpeechChunk,
    SpeechUnits,
    Speed,
    Style,
)

UNITS = Space("fake-units", 64)
STYLE = Space("fake-style", 11)
SPEAKERS = ("female", "male")

_LEVEL_DB = {
    "angry": -9.0,
    "surprised": -12.5,
    "happy": -16.0,
    "neutral": -19.5,
    "disgusted": -23.0,
    "fearful": -26.5,
    "sad": -30.0,
}
_BASE_HZ = {"female": 220.0, "male": 110.0}
_PITCH_FACTOR = {"low": 0.8, "normal": 1.0, "high": 1.25}
_UNVOICED: tuple[str, Pitch] = ("female", "normal")
_UNIT_S: dict[Speed, float] = {"slow": 0.050, "normal": 0.040, "fast": 0.032}


def level_db(samples: NDArray[np.float32]) -> float:
    """Root mean square in dB relative to 1."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10.0 * float(np.log10(max(power, 1e-12)))


def perceive_tones(clip: Audio) -> PerceivedStyle:
    """Hear emotion, speaker, pitch and speed in a sound."""
    level = level_db(clip.samples)
    emotion, emotion_miss = min(((name, abs(db - level)) for name, db in _LEVEL_DB.items()), key=lambda pair: pair[1])
    hertz = _fundamental_hz(clip)
    voices: list[tuple[str, Pitch]] = [(speaker, pitch) for speaker in SPEAKERS for pitch in PITCHES]
    # octaves between what was heard and each voice
    distance = {
        voice: abs(float(np.log2(max(hertz, 1.0) / (_BASE_HZ[voice[0]] * _PITCH_FACTOR[voice[1]])))) for voice in voices
    }
    speaker, pitch = min(voices, key=distance.__getitem__) if hertz else _UNVOICED
    speed, certainty = _beat(clip)
    scores = {
        "emotion": float(np.exp(-emotion_miss / 10)),
        "pitch": float(np.exp(-4 * distance[speaker, pitch])) if hertz else 0.0,
        "speed": certainty,
    }
    return PerceivedStyle(Style(speaker, cast("Emotion", emotion), pitch, speed), scores)


def _fundamental_hz(clip: Audio) -> float:
    """Find the strongest period between 70 and 350 Hz in the middle half second, by autocorrelation; 0 without one."""
    middle, half = len(clip.samples) // 2, clip.sample_rate // 4
    part = clip.samples[max(0, middle - half) : middle + half].astype(np.float64)
    shortest, longest = clip.sample_rate // 350, clip.sample_rate // 70
    if len(part) < 3 * longest or level_db(part.astype(np.float32)) < -60:
        return 0.0
    spectrum = np.fft.rfft(part - part.mean(), 2 * len(part))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 2]
    lags = np.arange(shortest, longest + 1)
    # divided by the overlap, so that every lag has the same chance; the shortest lag of nearly equal ones is the period
    strength = correlation[lags] / (len(part) - lags)
    best = int(lags[int(np.argmax(strength >= 0.9 * strength.max()))])
    while best < longest and correlation[best + 1] / (len(part) - best - 1) > correlation[best] / (len(part) - best):
        best += 1
    return clip.sample_rate / best if strength.max() > 0 else 0.0


def _beat(clip: Audio) -> tuple[Speed, float]:
    """Find which of the three unit rates beats strongest in the envelope, and how clearly."""
    window = clip.sample_rate // 500
    count = len(clip.samples) // window
    if count < 250:  # half a second tells nothing of tempo
        return "normal", 0.0
    envelope = np.abs(clip.samples[: count * window].astype(np.float64)).reshape(count, window).mean(axis=1)
    phases = np.exp(-2j * np.pi * np.outer([1 / _UNIT_S[speed] for speed in SPEEDS], np.arange(count) / 500))
    power = np.abs(phases @ (envelope - envelope.mean())) ** 2
    total = float(power.sum())
    return (SPEEDS[int(power.argmax())], float(power.max() / total)) if total > 0 else ("normal", 0.0)


class ToneStream(Stream[SpeechUnits, SpeechChunk]):
    """Speaks units as tones, the last of them once it is known to be the last."""

    def __init__(self, style: NDArray[np.float32], sample_rate: int, delay_s: float) -> None:
        speaker = SPEAKERS[int(style[:2].argmax())]
        pitch, speed = PITCHES[_third(style[9])], SPEEDS[_third(style[10])]
        self._hertz = _BASE_HZ[speaker] * _PITCH_FACTOR[pitch]
        self._length = round(_UNIT_S[speed] * sample_rate)
        self._level = 10 ** (_LEVEL_DB[EMOTIONS[int(style[2:9].argmax())]] / 20)
        self._rate, self._delay_s = sample_rate, delay_s
        self._waiting: list[int] = []
        self._spoken = 0

    def push(self, chunk: SpeechUnits) -> list[SpeechChunk]:
        require_in_space(chunk)
        ready = [*self._waiting, *chunk.ids.tolist()]
        self._waiting = ready[-1:]
        return self._speak(ready[:-1])

    def finish(self) -> list[SpeechChunk]:
        last, self._waiting = self._waiting, []
        return self._speak(last, final=True)

    def _speak(self, units: list[int], *, final: bool = False) -> list[SpeechChunk]:
        if not units:
            return []
        tones = [self._tone(unit, fade_out=final) for unit in units]
        return [SpeechChunk(Audio(np.concatenate(tones), self._rate), len(units))]

    def _tone(self, unit: int, *, fade_out: bool) -> NDArray[np.float32]:
        if self._delay_s:
            time.sleep(self._delay_s)
        start, self._spoken = self._spoken, self._spoken + self._length
        if unit == 0:
            return np.zeros(self._length, np.float32)
        harmonics = [1, 2, *(bit + 3 for bit in range(6) if unit >> bit & 1)]
        times = np.arange(start, start + self._length)[:, None] / self._rate
        tone = np.sin(2 * np.pi * self._hertz * np.array(harmonics) * times).sum(axis=1)
        tone *= self._level * np.sqrt(2 / len(harmonics))
        return (tone * self._envelope(fade_out=fade_out)).astype(np.float32)

    def _envelope(self, *, fade_out: bool) -> NDArray[np.float64]:
        """Dip between units, which makes their rate heard, and fade out at the end."""
        place = (np.arange(self._length) + 0.5) / self._length
        dip = 1.0 - 0.3 * np.cos(2 * np.pi * place)
        dip /= np.sqrt(np.mean(dip**2))
        return dip * (1.0 - place) if fade_out else dip


def _third(value: float) -> int:
    """Map -1, 0, 1 to 0, 1, 2."""
    return int(np.clip(round(float(value)), -1, 1)) + 1


def require_in_space(units: SpeechUnits) -> None:
    """Refuse units of another space."""
    if len(units) and int(units.ids.max()) >= UNITS.size:
        raise InputError(f"unit `{int(units.ids.max())}` is not of {UNITS}", "use units of one family of components")
