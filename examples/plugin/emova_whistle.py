"""A vocoder in one file: each unit is a whistled note, gliding to the next.

Install it (`pip install ./examples/plugin`) and name it in a config:

    extends = "fake"
    [vocoder]
    type = "whistle"
    lowest_hz = 500
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emova_sdk import Audio, Space, SpeechUnits, Stream, Vocoder
from emova_sdk.errors import InputError
from emova_sdk.types import SpeechChunk

UNIT_S = 0.04


class WhistleVocoder(Vocoder):
    """Whistles units of the fake components, an octave and a half from the lowest note to the highest.

    Args:
        lowest_hz: Frequency of unit 0, in Hz.
        sample_rate: Rate it whistles at, in Hz.
    """

    units = Space("fake-units", 64)
    style = Space("fake-style", 11)

    def __init__(self, *, lowest_hz: float = 600.0, sample_rate: int = 16_000) -> None:
        if not 50 <= lowest_hz <= sample_rate / 8:
            raise InputError(f"a lowest note of {lowest_hz:g} Hz cannot be whistled", f"choose 50 to {sample_rate / 8:g} Hz")
        self.lowest_hz = lowest_hz
        self.sample_rate = sample_rate

    def synthesize(self, units: Sequence[SpeechUnits], styles: NDArray[np.float32]) -> list[Audio]:
        if styles.shape != (len(units), self.style.size):
            raise InputError(f"styles have shape {styles.shape}", f"pass ({len(units)}, {self.style.size})")
        whistled: list[Audio] = []
        for sequence, style in zip(units, styles, strict=True):
            stream = self.stream(style)
            parts = [chunk.audio for chunk in [*stream.push(sequence), *stream.finish()]]
            whistled.append(Audio.concat(parts, sample_rate=self.sample_rate))
        return whistled

    def stream(self, style: NDArray[np.float32]) -> Stream[SpeechUnits, SpeechChunk]:
        if style.shape != (self.style.size,):
            raise InputError(f"the style has shape {style.shape}", f"pass ({self.style.size},)")
        return _Whistle(self, style)


class _Whistle(Stream[SpeechUnits, SpeechChunk]):
    """The state between chunks: the phase, and the note the next one glides from."""

    def __init__(self, vocoder: WhistleVocoder, style: NDArray[np.float32]) -> None:
        self._vocoder = vocoder
        # any style is heard: it bends the pitch by up to a third of an octave, and the level
        self._bend = float(np.tanh(style @ np.linspace(0.05, 0.15, len(style))) / 3)
        self._level = 0.2 + 0.1 * float(np.tanh(style.sum()))
        self._phase = 0.0
        self._note: float | None = None

    def push(self, chunk: SpeechUnits) -> list[SpeechChunk]:
        if len(chunk) and int(chunk.ids.max()) >= self._vocoder.units.size:
            raise InputError(f"unit `{int(chunk.ids.max())}` is not of {self._vocoder.units}", "use units of that space")
        notes = [self._whistled(unit) for unit in chunk.ids.tolist()]
        return [SpeechChunk(Audio(np.concatenate(notes), self._vocoder.sample_rate), len(notes))] if notes else []

    def finish(self) -> list[SpeechChunk]:
        return []

    def _whistled(self, unit: int) -> NDArray[np.float32]:
        rate = self._vocoder.sample_rate
        note = self._vocoder.lowest_hz * 2 ** (1.5 * unit / self._vocoder.units.size + self._bend)
        hertz = np.linspace(self._note or note, note, round(UNIT_S * rate))
        phases = self._phase + 2 * np.pi * np.cumsum(hertz) / rate
        self._note, self._phase = note, float(phases[-1] % (2 * np.pi))
        return (self._level * np.sin(phases)).astype(np.float32)
