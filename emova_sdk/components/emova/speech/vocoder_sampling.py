"""How a rendering of EMOVA's vocoder is drawn, in torch and from an export alike."""

from __future__ import annotations

from dataclasses import dataclass

from emova_sdk.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """How a rendering is drawn. Equal values give equal speech.

    Attributes:
        seed: Of the noise; None draws a new one each time.
        length_scale: Multiplies every duration: 0.8 is fast, 1.25 slow. A tempo that styles do not change.
        noise_scale: Of the sound's noise; 0 gives the mean.
        noise_scale_duration: Of the noise in the durations; 0 gives the plainest rhythm.
    """

    seed: int | None = 0
    length_scale: float = 1.0
    noise_scale: float = 0.667
    noise_scale_duration: float = 0.8

    def __post_init__(self) -> None:
        if not 0.1 <= self.length_scale <= 10 or min(self.noise_scale, self.noise_scale_duration) < 0:
            raise InputError(f"`{self}` is out of range", "0.1 <= length_scale <= 10, noise scales >= 0")
