"""EMOVA's speech tokenizer and vocoder from an export, without torch: windows, noise and streaming around the graphs."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import Space, SpeechTokenizer, Stream, Vocoder
from emova_sdk.components.emova.speech.vocoder_sampling import Sampling
from emova_sdk.components.emova.speech.windows import Windowing, padded
from emova_sdk.components.runtimes.export_folder import ExportFolder
from emova_sdk.errors import InputError
from emova_sdk.types import Audio, SpeechChunk, SpeechUnits

Floats = NDArray[np.float32]
_VOCODER_GRAPHS = ("prior", "latents", "generator")


class ExportedSpeechTokenizer(SpeechTokenizer):
    """Speech to units by an exported EMOVA tokenizer.

    Args:
        exported: An export with the graph ``tokenizer``.
        reduced: Collapse runs of equal units.
        window_s: Longest sound encoded in one piece, in seconds; longer ones are split as by the original component.
        context_s: What a window sees of its neighbours, in seconds.

    Raises:
        LoadError: If the export does not say what it must.
        InputError: If the windows are out of range.
    """

    def __init__(self, exported: ExportFolder, *, reduced: bool = True, window_s: float = 60.0, context_s: float = 1.0) -> None:
        exported.choose("tokenizer")
        self.exported = exported
        self.units = Space(exported.text("units"), exported.number("units_size"))
        self.sample_rate = exported.number("sample_rate")
        step, self._shortest = exported.number("samples_per_unit"), exported.number("shortest")
        self.unit_rate = self.sample_rate / step
        self._reduced = reduced
        self._windowing = Windowing(window_s, context_s, samples_per_unit=step, unit_rate=self.unit_rate)

    def load(self) -> None:
        """Open the graph. Safe to call again and from several threads."""
        self.exported.open("tokenizer")

    def close(self) -> None:
        """Free the graph."""
        self.exported.close()

    def encode(self, clips: Sequence[Audio]) -> list[SpeechUnits]:
        """Encode each clip. An empty clip has no units.

        Raises:
            InputError: If a clip has another rate than `sample_rate`.
        """
        for clip in clips:
            self.check_rate(clip)
        found = [SpeechUnits.of(np.concatenate([np.zeros(0, np.int64), *self._encode(clip.samples)])) for clip in clips]
        return [units.reduced() for units in found] if self._reduced else found

    def _encode(self, samples: Floats) -> Iterator[NDArray[np.int64]]:
        """Units of each window."""
        for window in self._windowing.split(samples):
            sound = padded(window.samples, self._shortest)
            ids = self.exported.run("tokenizer", audio=sound[None], lengths=np.array([window.length]))["units"][0]
            yield ids[window.first :][: window.count]


class ExportedVocoder(Vocoder):
    """Units to speech by an exported EMOVA vocoder, streaming as the original does.

    The noise is NumPy's: a seed gives the same speech every time, but not that of the torch component. The unconditional
    voice (a style of zeros) is not in an export.

    Args:
        exported: An export with the graphs ``prior``, ``latents`` and ``generator``.
        seed: Of the noise; None draws anew each time.
        length_scale: Multiplies every duration.
        noise_scale: Of the sound's noise.
        noise_scale_duration: Of the noise in the durations.
        first_frames: Length of the first piece of a stream, in frames; each piece is twice as long as the one before.
        chunk_frames: Longest piece, in frames.

    Raises:
        LoadError: If the export does not say what it must.
        InputError: If a scale or a length is out of range.
    """

    def __init__(
        self,
        exported: ExportFolder,
        *,
        seed: int | None = 0,
        length_scale: float = 1.0,
        noise_scale: float = 0.667,
        noise_scale_duration: float = 0.8,
        first_frames: int = 8,
        chunk_frames: int = 256,
    ) -> None:
        if min(first_frames, chunk_frames) < 1:
            raise InputError("pieces have at least one frame", "use positive numbers")
        for name in _VOCODER_GRAPHS:
            exported.choose(name)
        self.exported = exported
        self.units = Space(exported.text("units"), exported.number("units_size"))
        self.style = Space(exported.text("style"), exported.number("style_size"))
        self.sample_rate = exported.number("sample_rate")
        self.samples_per_frame, self.channels = exported.number("samples_per_frame"), exported.number("channels")
        self.flow_context = exported.number("flow_context")
        self.generator_context = exported.number("generator_context")
        self.sampling = Sampling(seed, length_scale, noise_scale, noise_scale_duration)
        self.first_frames, self.chunk_frames = first_frames, chunk_frames

    def load(self) -> None:
        """Open the graphs. Safe to call again and from several threads."""
        self.exported.open(*_VOCODER_GRAPHS)

    def close(self) -> None:
        """Free the graphs."""
        self.exported.close()

    def synthesize(self, units: Sequence[SpeechUnits], styles: Floats, *, sampling: Sampling | None = None) -> list[Audio]:
        """Speak each sequence in the style of its row.

        Args:
            units: Repeats collapsed.
            styles: float32 (sequences, ``style.size``).
            sampling: Seed and scales of this call instead of the component's.

        Raises:
            InputError: If a unit is outside the code book, or a style is of another shape or zero.
        """
        if styles.shape != (len(units), self.style.size):
            raise InputError(
                f"styles have shape {styles.shape}, not ({len(units)}, {self.style.size})", "pass one row for each sequence"
            )
        spoken: list[Audio] = []
        for sequence, row in zip(units, styles, strict=True):
            stream = _VoiceStream(self, row, sampling or self.sampling, first=self.chunk_frames)
            chunks = [*stream.push(sequence), *stream.finish()]
            spoken.append(Audio.concat([chunk.audio for chunk in chunks], sample_rate=self.sample_rate))
        return spoken

    def stream(self, style: Floats) -> Stream[SpeechUnits, SpeechChunk]:
        """Speak units in one style, float32 (``style.size``,); the pieces together are the whole.

        Raises:
            InputError: If the style is of another shape or zero.
        """
        if style.shape != (self.style.size,):
            raise InputError(f"the style has shape {style.shape}, not ({self.style.size},)", "pass one vector")
        return _VoiceStream(self, style, self.sampling, first=self.first_frames)


class _VoiceStream(Stream[SpeechUnits, SpeechChunk]):
    """Collects the units of a phrase, and speaks them in pieces that grow."""

    def __init__(self, vocoder: ExportedVocoder, style: Floats, sampling: Sampling, *, first: int) -> None:
        if style.dtype != np.float32 or not np.isfinite(style).all() or not style.any():
            raise InputError("a style vector is not finite float32, or zero", "use the vectors of the style module")
        self._vocoder, self._style, self._sampling, self._first = vocoder, style[None].copy(), sampling, first
        self._waiting = np.zeros(0, np.int64)
        self._rng = np.random.default_rng(sampling.seed)

    def push(self, chunk: SpeechUnits) -> list[SpeechChunk]:
        """Take the next units; they are spoken at the end."""
        space = self._vocoder.units
        if len(chunk) and int(chunk.ids.max()) >= space.size:
            message = f"unit `{int(chunk.ids.max())}` is outside {space}"
            raise InputError(message, "use the speech tokenizer the vocoder belongs to")
        self._waiting = np.concatenate([self._waiting, chunk.ids])
        return []

    def finish(self) -> list[SpeechChunk]:
        """Speak."""
        return list(self.drain())

    def drain(self) -> Generator[SpeechChunk, None, None]:
        """Speak, handing out each piece as soon as it is made."""
        units, self._waiting = self._waiting, np.zeros(0, np.int64)
        if not len(units):
            return
        vocoder, prior = self._vocoder, self._prior(units)
        ends = prior["durations"][0].cumsum()
        total, context, step = int(ends[-1]), vocoder.generator_context, vocoder.samples_per_frame
        latents, spoken, start, size = np.zeros((1, vocoder.channels, 0), np.float32), 0, 0, self._first
        while start < total:
            stop = min(start + min(size, vocoder.chunk_frames), total)
            if latents.shape[-1] < min(stop + context, total):
                latents = self._latents(prior, total if start else min(stop + context, total))
            begin = max(0, start - context)
            part = np.ascontiguousarray(latents[..., begin : stop + context])
            wave = vocoder.exported.run("generator", latents=part, style=self._style)["audio"][0]
            done = int(np.searchsorted(ends, stop, side="right"))
            audio = Audio(wave[(start - begin) * step : (stop - begin) * step].copy(), vocoder.sample_rate)
            yield SpeechChunk(audio, done - spoken)
            spoken, start, size = done, stop, 2 * size

    def _prior(self, units: NDArray[np.int64]) -> dict[str, Any]:
        """Durations and prior of the units, and the noise of their frames."""
        vocoder, count = self._vocoder, len(units)
        found = vocoder.exported.run(
            "prior",
            units=units[None],
            lengths=np.array([count]),
            style=self._style,
            noise=self._rng.standard_normal((1, 2, count), np.float32),
            noise_scale=np.array([self._sampling.noise_scale_duration], np.float32),
            length_scale=np.array([self._sampling.length_scale], np.float32),
        )
        frames = int(found["durations"].sum())
        return found | {"noise": self._rng.standard_normal((1, vocoder.channels, frames), np.float32)}

    def _latents(self, prior: dict[str, Any], stop: int) -> Floats:
        """The first `stop` latents: the flow sees a few frames more, and no others."""
        noise = np.ascontiguousarray(prior["noise"][..., : stop + self._vocoder.flow_context])
        scale = np.array([self._sampling.noise_scale], np.float32)
        inputs = prior | {"noise": noise, "style": self._style, "noise_scale": scale}
        return self._vocoder.exported.run("latents", **inputs)["latents"][..., :stop]
