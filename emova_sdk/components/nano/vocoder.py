"""Vocoder of emova-nano: reduced units and a style to 16 kHz speech.

A network predicts durations and a neutral voice's features; speaker and style are applied to them (`prosody`), and sound is
made by harmonic and noise synthesis (`synthesis`). Units are worked on in blocks at fixed places with fixed neighbourhoods,
so that a stream gives the samples of the whole, whatever the chunks.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from emova_sdk.acoustics import mel_edges
from emova_sdk.components.base import Space, Stream, Vocoder
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.features import length_regulate
from emova_sdk.components.nano.graph_files import NanoPart
from emova_sdk.components.nano.prosody import FINAL_FRAMES, SPEAKERS, Float, Prosody, prosody_for, shape_pitch, shape_spectrum
from emova_sdk.components.nano.shapes import ENVELOPE, FRAME_REACH, UNIT_REACH
from emova_sdk.components.nano.style import STYLE, read_style_vector, style_vector
from emova_sdk.components.nano.synthesis import BINS, Synthesizer
from emova_sdk.components.nano.trials import vocoder_trials
from emova_sdk.components.nano.weights import read_config
from emova_sdk.components.trials import Trial
from emova_sdk.errors import InputError, LoadError
from emova_sdk.types import Audio, SpeechChunk, SpeechUnits

_FIRST, _BLOCK = 3, 8
"""Units in the first block, small for an early start, and in the others."""
_LONGEST_FRAMES = 40
_SHORTEST_FRAMES = 2
_MOVEMENT = 3
"""Frames on either side that an envelope's movement is measured against."""
_CONTEXT = FRAME_REACH + _MOVEMENT
"""Frames on either side that a frame depends on."""
_REACH = -(-_CONTEXT // _SHORTEST_FRAMES)
"""Units on either side whose frames matter: each lasts at least `_SHORTEST_FRAMES`."""
_AHEAD = max(FINAL_FRAMES, _CONTEXT)
"""Frames behind a block that must be known."""
_AROUND = 4
"""Bands on either side that an envelope is sharpened against."""
_CENTRES = np.array([32.0, 96, 192, 320, 448])
"""Places of the aperiodicity bands on the grid of frequencies."""


@dataclass(frozen=True)
class _VoiceSettings:
    """What the vocoder's config says beside the network.

    Attributes:
        median: Of the neutral pitch, Hz.
        expansion: Of the melody.
        sharpening: Of formants, see `full_envelope`.
        dynamics: Of the envelope's movement, see `moved`.
        gain: Of the level, nepers of power.
    """

    median: float
    expansion: float
    sharpening: float
    dynamics: float
    gain: float


class NanoUnitVocoder(NanoPart, Vocoder):
    """Speaks as two speakers, one voice through two vocal tracts, in any style of `NanoStyleModule`.

    Args:
        exported: The graphs of an export.
        path: Folder with `config.json`, graphs and weights; the shipped one when not given.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes one.
    """

    place, needs = "vocoder", ("units", "frames")
    style = STYLE

    def _configure(self) -> None:
        config = self._config = read_config(self.folder, kind="nano-vocoder")
        try:
            self.units = Space(str(config["units"]["name"]), int(config["units"]["size"]))
            self.sample_rate = int(config["sample_rate"])
            self.voice = _VoiceSettings(
                float(config["median"]),
                expansion=float(config["expansion"]),
                sharpening=float(config["sharpening"]),
                dynamics=float(config.get("dynamics", 0.0)),  # as before there was any
                gain=float(config["gain"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LoadError(f"`{self.folder}/config.json` lacks {error}", "train or install emova-nano again") from error

    def synthesize(self, units: Sequence[SpeechUnits], styles: NDArray[np.float32]) -> list[Audio]:
        """Speak each sequence in the style of its row; no units give no sound.

        Raises:
            InputError: If ids or styles are of another space, or there is not one style for each sequence.
        """
        if len(units) != len(styles):
            raise InputError(f"{len(units)} sequences came with {len(styles)} styles", "give one style for each sequence")
        return [self._speak(sequence, style) for sequence, style in zip(units, styles, strict=True)]

    def _speak(self, units: SpeechUnits, style: NDArray[np.float32]) -> Audio:
        stream = self.stream(style)
        chunks = [*stream.push(units), *stream.finish()]
        return Audio.concat([chunk.audio for chunk in chunks], sample_rate=self.sample_rate)

    def stream(self, style: NDArray[np.float32]) -> Stream[SpeechUnits, SpeechChunk]:
        """Speak units as they come, about half a second behind; the chunks together are the whole, to the bit."""
        if np.shape(style) != (STYLE.size,):
            raise InputError(
                f"a style of shape {np.shape(style)} is not of {STYLE}", "use the vectors of `NanoStyleModule.embed`"
            )
        self.load()
        return _SpeakingStream(self, style)

    def _graphs(self) -> list[Graph]:
        """The network in two parts, between which states are repeated for their durations."""
        from emova_sdk.components.nano.graphs import vocoder_graphs

        facts = {"space": self.units.name, "sample_rate": str(self.sample_rate)}
        width: int = self._config["network"]["width"]
        return vocoder_graphs(self.folder, codes=self.units.size, width=width, metadata=facts)

    def trials(self) -> list[Trial]:
        """Speech of both speakers in several emotions."""
        emotions = ("neutral", "happy", "sad", "angry")
        rows = {name: [style_vector(one, prosody_for(name, "normal", "normal")) for one in SPEAKERS] for name in emotions}
        return vocoder_trials(self.units, {name: np.stack(vectors) for name, vectors in rows.items()})


class _SpeakingStream(Stream[SpeechUnits, SpeechChunk]):
    """Works on a block of units once the units after it that matter are known."""

    def __init__(self, vocoder: NanoUnitVocoder, style: NDArray[np.float32]) -> None:
        self._vocoder = vocoder
        speaker, manner = read_style_vector(style)
        self._prosody = manner.then(SPEAKERS[speaker])
        self._synthesizer = Synthesizer(sample_rate=vocoder.sample_rate)
        self._ids: list[int] = []
        self._states: list[Float] = []
        self._durations: list[int] = []
        """Frames of the units whose surroundings are known; as many as there are states."""
        self._spoken = 0
        self._frames = 0

    def push(self, chunk: SpeechUnits) -> list[SpeechChunk]:
        size = self._vocoder.units.size
        if len(chunk) and int(chunk.ids.max()) >= size:
            raise InputError(f"unit `{int(chunk.ids.max())}` is not of {self._vocoder.units}", f"ids are below {size}")
        self._ids += chunk.ids.tolist()
        return list(self._advance(ended=False))

    def finish(self) -> list[SpeechChunk]:
        return list(self.drain())

    def drain(self) -> Generator[SpeechChunk, None, None]:
        yield from self._advance(ended=True)
        if self._ids:
            yield SpeechChunk(Audio(self._synthesizer.finish(), self._vocoder.sample_rate), 0)

    def _advance(self, *, ended: bool) -> Generator[SpeechChunk, None, None]:
        while self._spoken < len(self._ids):
            last = self._spoken + (_BLOCK if self._spoken else _FIRST)
            self._measure(last, ended=ended)
            if not ended and not self._surroundings_known(last):
                return
            last = min(last, len(self._ids))
            sound = self._synthesizer.push(*self._features(last))
            yield SpeechChunk(Audio(sound, self._vocoder.sample_rate), last - self._spoken)
            self._frames += sum(self._durations[self._spoken : last])
            self._spoken = last

    def _surroundings_known(self, last: int) -> bool:
        """Whether the durations known reach as far behind the block as the network and the closing movement look."""
        ahead = sum(self._durations[last:])
        return len(self._ids) > last + _REACH + UNIT_REACH and ahead >= _AHEAD

    def _measure(self, last: int, *, ended: bool) -> None:
        """States and durations as far as the block up to `last` needs them, each once, in a window at a place of its own."""
        vocoder = self._vocoder
        while len(self._durations) < len(self._ids):
            first = len(self._durations)
            if first >= last + _REACH and sum(self._durations[last:]) >= _AHEAD:
                return
            end = first + _BLOCK
            if end + UNIT_REACH > len(self._ids) and not ended:
                return
            # The window's size must not depend on how much more is there.
            begin, stop = max(0, first - UNIT_REACH), min(len(self._ids), end + UNIT_REACH)
            found = vocoder.networks.run("units", units=np.array(self._ids[begin:stop]))
            kept = slice(first - begin, end - begin)
            frames = np.exp(found["log_durations"][kept]).astype(np.float64) / self._prosody.rate
            self._states.extend(found["states"][kept])
            self._durations += np.clip(np.rint(frames), _SHORTEST_FRAMES, _LONGEST_FRAMES).astype(int).tolist()

    def _features(self, last: int) -> tuple[Float, Float, Float]:
        """Shaped features of the frames of the units from the ones spoken up to `last`."""
        voice = self._vocoder.voice
        begin, stop = max(0, self._spoken - _REACH), min(len(self._ids), last + _REACH)
        spread = length_regulate(np.stack(self._states[begin:stop]), np.array(self._durations[begin:stop]))
        before = sum(self._durations[begin : self._spoken])
        count = sum(self._durations[self._spoken : last])
        edge = max(0, before - _CONTEXT)
        seen = np.ascontiguousarray(spread[edge : before + count + _CONTEXT])
        kept = slice(before - edge, before - edge + count)
        found = self._vocoder.networks.run("frames", spread=seen)
        pitch, voicing, aperiodicity = (found[name][kept] for name in ("pitch", "voicing", "aperiodicity"))
        envelope = moved(found["envelope"], voice.dynamics)[kept]
        f0 = np.where(voicing > 0, voice.median * np.exp(pitch * voice.expansion), 0).astype(np.float32)
        power = full_envelope(envelope, sharpening=voice.sharpening) + np.float32(voice.gain)
        return self._shaped(f0, power, full_aperiodicity(aperiodicity), last)

    def _shaped(self, f0: Float, power: Float, noise: Float, last: int) -> tuple[Float, Float, Float]:
        behind = sum(self._durations[last:])
        to_end = np.arange(len(f0), 0, -1, dtype=np.float32) + behind
        prosody: Prosody = self._prosody
        median = self._vocoder.voice.median
        shaped = shape_pitch(f0, prosody, median=median, start=self._frames, to_end=to_end)
        rate = self._vocoder.sample_rate
        return shaped, *shape_spectrum(power, noise, prosody, sample_rate=rate, start=self._frames)


def moved(envelope: Float, dynamics: float) -> Float:
    """Exaggerate how an envelope moves: what is more than the mean of the seven frames about it counts 1 + `dynamics` times.

    Regression slurs transitions, and those are what tells sounds apart: made of its own envelopes, averaged over 70 ms, the
    teacher's speech loses twice as many words (11.2 in place of 5.5 %).

    Args:
        envelope: Natural log power, (frames, bands).
        dynamics: How much.
    """
    if not dynamics:
        return envelope
    frames = len(envelope)
    total, count = np.zeros_like(envelope), np.zeros((frames, 1), np.float32)
    for shift in range(-_MOVEMENT, _MOVEMENT + 1):
        to, of = slice(max(0, -shift), frames - max(0, shift)), slice(max(0, shift), frames - max(0, -shift))
        if to.start < to.stop:
            total[to] += envelope[of]
            count[to] += 1
    return (envelope + dynamics * (envelope - total / count)).astype(np.float32)


def full_envelope(bands: Float, *, sharpening: float = 0.0) -> Float:
    """Mel-spaced log envelope (frames, 60) to a linear grid (frames, 513).

    Args:
        bands: The envelope.
        sharpening: Deepens the valleys and raises the peaks that regression has smoothed: what a band has more than the mean
            of the nine about it counts 1 + `sharpening` times.
    """
    return bands @ _envelope_grid(sharpening)


@cache
def _envelope_grid(sharpening: float) -> Float:
    """What each band gives to each frequency, (60, 513)."""
    points = mel_edges(ENVELOPE - 2, 8000.0) / 8000 * (BINS - 1)
    bands = np.eye(ENVELOPE)
    padded = np.pad(bands, ((0, 0), (_AROUND, _AROUND)), mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, 2 * _AROUND + 1, axis=1).mean(-1)
    return _spread(bands + sharpening * (bands - smooth), points)


def full_aperiodicity(bands: Float) -> Float:
    """Aperiodicity in 5 bands to a linear grid (frames, 513)."""
    return bands @ _aperiodicity_grid()


@cache
def _aperiodicity_grid() -> Float:
    """What each band gives to each frequency, (5, 513)."""
    return _spread(np.eye(len(_CENTRES)), _CENTRES)


def _spread(bands: NDArray[np.float64], points: NDArray[np.floating]) -> Float:
    """Bands (rows, bands) at points along the grid to the whole grid (rows, 513), linearly in between."""
    place = np.interp(np.arange(BINS), points, np.arange(len(points)))
    low = np.minimum(place.astype(np.int64), len(points) - 2)
    share = place - low
    return (bands[:, low] * (1 - share) + bands[:, low + 1] * share).astype(np.float32)
