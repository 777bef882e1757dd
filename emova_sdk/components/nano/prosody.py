"""Style as a dozen numbers, and what they do to a voice's pitch track and spectrum.

A neutral voice is described frame by frame (every 10 ms) by its fundamental frequency, its spectral envelope and its
aperiodicity. A `Prosody` says how to change them: analytic, bounded, and the same for the training data, whose
frames come from an analysis of speech, and for the vocoder, whose frames come from a network. A learned style decoder
averages away exactly what carries emotion (range, jitter, tilt): measured, 59 % against 73 % recognised emotions.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

FRAME_RATE = 100
"""Frames per second of every description of a voice in this package."""

FINAL_FRAMES = 30
"""Length of the closing pitch movement: so many frames ahead must be known before a frame is final."""

_NOISE: Float = np.random.default_rng(20409).standard_normal((2, 4093)).astype(np.float32)


@dataclass(frozen=True)
class Prosody:
    """Changes to a neutral voice. The defaults change nothing.

    Attributes:
        shift: Semitones added to the pitch.
        range: Factor on pitch excursions about the speaker's median.
        lilt: Semitones of a slow (2.2 Hz) up and down of the pitch.
        decline: Semitones per second of pitch change over the first two seconds.
        final: Semitones reached at the end of the closing movement.
        rate: Factor on the speaking rate.
        gain: Decibels on the level.
        tilt: Decibels per octave on the spectrum, about 1 kHz.
        breath: Share of the voiced sound turned into breath noise, 0 to 1.
        jitter: Relative frame-to-frame roughness of the pitch.
        shimmer: Decibels of frame-to-frame roughness of the level.
        formant: Factor on formant frequencies (a shorter vocal tract is above 1).
    """

    shift: float = 0.0
    range: float = 1.0
    lilt: float = 0.0
    decline: float = 0.0
    final: float = 0.0
    rate: float = 1.0
    gain: float = 0.0
    tilt: float = 0.0
    breath: float = 0.0
    jitter: float = 0.0
    shimmer: float = 0.0
    formant: float = 1.0

    def to_vector(self) -> Float:
        """The numbers in the order of the fields, float32 of shape (12,)."""
        return np.array([getattr(self, field.name) for field in fields(self)], np.float32)

    @classmethod
    def from_vector(cls, vector: NDArray[np.floating]) -> "Prosody":
        """Inverse of `to_vector`; reads the first 12 numbers."""
        return cls(*(float(value) for value in vector[: len(fields(cls))]))

    def scaled(self, strength: float) -> "Prosody":
        """The same manner, `strength` times as strong (1 is as given, 0 is neutral)."""
        neutral = Prosody()
        return Prosody(
            *(getattr(neutral, f.name) + strength * (getattr(self, f.name) - getattr(neutral, f.name)) for f in fields(self))
        )

    def then(self, other: "Prosody") -> "Prosody":
        """Both changes: factors multiply, amounts add."""
        factors = {"range", "rate", "formant"}
        return Prosody(
            *(
                getattr(self, f.name) * getattr(other, f.name)
                if f.name in factors
                else getattr(self, f.name) + getattr(other, f.name)
                for f in fields(self)
            )
        )


EMOTIONS: dict[str, Prosody] = {
    "neutral": Prosody(),
    "happy": Prosody(
        shift=1.2, range=1.7, lilt=1.3, final=2.0, rate=1.1, gain=1.5, tilt=2.0, formant=1.035
    ),
    "sad": Prosody(
        shift=-1.5, range=0.45, decline=-0.8, final=-1.5, rate=0.83, gain=-4.0, tilt=-2.5, breath=0.25, formant=0.99
    ),
    "angry": Prosody(
        shift=0.5, range=1.35, decline=-0.7, final=-3.0, rate=1.06, gain=5.0, tilt=3.5, jitter=0.035, shimmer=2.0,
        formant=0.98,
    ),
}  # fmt: skip
PITCHES: dict[str, Prosody] = {"low": Prosody(shift=-3.5), "normal": Prosody(), "high": Prosody(shift=3.5)}
SPEEDS: dict[str, Prosody] = {"slow": Prosody(rate=0.74), "normal": Prosody(), "fast": Prosody(rate=1.36)}
SPEAKERS: dict[str, Prosody] = {"female": Prosody(shift=9.0, formant=1.15), "male": Prosody()}
"""The two speakers, as changes to the one neutral voice, a man's: hers is a shorter vocal tract and a higher pitch."""


def prosody_for(emotion: str, pitch: str, speed: str, *, strength: float = 1.0) -> Prosody:
    """The manner of a style; `strength` scales the emotion only."""
    return EMOTIONS[emotion].scaled(strength).then(PITCHES[pitch]).then(SPEEDS[speed])


def shape_pitch(
    f0: Float, prosody: Prosody, *, median: float, start: int = 0, to_end: Float | None = None, seed: int = 0
) -> Float:
    """Apply a manner to a pitch track.

    Args:
        f0: Hz per frame, 0 where unvoiced, float32 of shape (frames,).
        prosody: The manner.
        median: The speaker's neutral median pitch, Hz.
        start: Index of the first frame within the utterance (what came before has been shaped already).
        to_end: Frames left to the end of the utterance per frame, inf where it is further than `FINAL_FRAMES`.
            By default the last frame given is the last of the utterance.
        seed: Which stretch of the fixed noise table the jitter comes from.

    Returns:
        Hz per frame, 0 where unvoiced, kept within 50 to 500 Hz.
    """
    frames = np.arange(start, start + len(f0), dtype=np.float32)
    ahead = np.arange(len(f0), 0, -1, dtype=np.float32) if to_end is None else to_end
    seconds = frames / FRAME_RATE
    semitones = prosody.shift + prosody.lilt * np.sin(2 * np.pi * 2.2 * seconds)
    semitones = semitones + prosody.decline * (np.minimum(seconds, 2.0) - 0.7)
    semitones = semitones + prosody.final * np.clip(1 - ahead / FINAL_FRAMES, 0, 1)
    noise = _NOISE[0][(np.arange(start, start + len(f0)) + seed) % _NOISE.shape[1]]
    excursion = np.log(np.maximum(f0, 1.0) / median) * prosody.range
    shaped = median * np.exp(excursion + semitones * np.log(2) / 12 + prosody.jitter * noise)
    return np.where(f0 > 0, np.clip(shaped, 50, 500), 0).astype(np.float32)


def shape_spectrum(
    log_power: Float, aperiodicity: Float, prosody: Prosody, *, sample_rate: int, start: int = 0, seed: int = 0
) -> tuple[Float, Float]:
    """Apply a manner to envelopes on a linear frequency grid from 0 to half the sample rate.

    Args:
        log_power: Natural log of the power envelope, float32 of shape (frames, bins).
        aperiodicity: Noise share of the amplitude, 0 to 1, same shape.
        prosody: The manner.
        sample_rate: Hz.
        start: Index of the first frame within the utterance.
        seed: Which stretch of the fixed noise table the shimmer comes from.

    Returns:
        The two arrays, shaped.
    """
    frames, bins = log_power.shape
    hertz = np.linspace(0, sample_rate / 2, bins, dtype=np.float32)
    if prosody.formant != 1.0:
        log_power = warp_frequency(log_power, prosody.formant)
    decibels = prosody.gain + np.clip(prosody.tilt * np.log2(np.maximum(hertz, 200) / 1000), -12, 12)
    noise = _NOISE[1][(np.arange(start, start + frames) + seed) % _NOISE.shape[1]]
    shaped = log_power + (decibels[None] + prosody.shimmer * noise[:, None]) * (np.log(10) / 10)
    weight = prosody.breath * np.clip(hertz / 3000, 0.2, 1.0)
    return shaped.astype(np.float32), (aperiodicity + weight * (1 - aperiodicity)).astype(np.float32)


def warp_frequency(values: Float, factor: float) -> Float:
    """Stretch (frames, bins) along frequency by `factor`; the last bin continues beyond the edge."""
    bins = values.shape[1]
    source = np.minimum(np.arange(bins, dtype=np.float32) / factor, bins - 1)
    low = np.floor(source).astype(np.int64)
    share = (source - low).astype(np.float32)
    return (values[:, low] * (1 - share) + values[:, np.minimum(low + 1, bins - 1)] * share).astype(np.float32)
