"""The mouth of emova-nano: reduced units and a style to 16 kHz speech.

A network predicts durations and a neutral voice's features; the style's prosody is applied to them (`prosody`), and sound is
made by harmonic and noise synthesis (`synthesis`). Units are worked on in blocks at fixed places with fixed neighbourhoods,
so that a stream gives the samples of the whole, whatever the chunks.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import Space, Stream, Vocoder
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.nano.prosody import FINAL_FRAMES, Float, Prosody, shape_pitch, shape_spectrum
from emova_sdk.components.nano.style import STYLE, read_style_vector
from emova_sdk.components.nano.synthesis import BINS, Synthesizer
from emova_sdk.components.nano.weights import PRESET, load_weights, read_config
from emova_sdk.errors import InputError, LoadError
from emova_sdk.types import Audio, SpeechChunk, SpeechUnits

if TYPE_CHECKING:
    from torch import Tensor

    from emova_sdk.models.nano_vocoder import NanoVocoder

_FIRST, _BLOCK = 3, 8
"""Units in the first block, small for an early start, and in the others."""
_LONGEST_FRAMES = 40
_SHORTEST_FRAMES = 2


@dataclass(frozen=True)
class _Voice:
    """What the vocoder's config says beside the network: medians (Hz), pitch expansion, formant sharpening, gain (nepers)."""

    medians: tuple[float, ...]
    expansion: float
    sharpening: float
    gain: float


class NanoUnitVocoder(Vocoder):
    """Speaks with two voices in any style of `NanoStyleModule`.

    Args:
        path: Folder with `config.json` and `model.safetensors`; the shipped one when not given.
    """

    style = STYLE

    def __init__(self, *, path: str | None = None) -> None:
        self._folder = Path(path) if path else PRESET / "vocoder"
        config = self._config = read_config(self._folder, kind="nano-vocoder")
        try:
            self.units = Space(str(config["units"]["name"]), int(config["units"]["size"]))
            self.sample_rate = int(config["sample_rate"])
            self.voice = _Voice(
                tuple(config["medians"]), float(config["expansion"]), float(config["sharpening"]), float(config["gain"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LoadError(f"`{self._folder}/config.json` lacks {error}", "train or install emova-nano again") from error
        self._network: NanoVocoder | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Bring the weights into memory."""
        from emova_sdk.models.nano_vocoder import NanoVocoder

        with self._lock:
            if self._network is None:
                shape: dict[str, int] = self._config["network"]
                network = NanoVocoder(units=self.units.size, width=shape["width"], frame_width=shape["frame_width"])
                load_weights(network, self._folder)
                self._network = network

    def close(self) -> None:
        """Free the weights."""
        with self._lock:
            self._network = None

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

    def network(self) -> NanoVocoder:
        """The loaded network."""
        self.load()
        network = self._network
        if network is None:
            raise LoadError("the vocoder was closed while it was used", "keep it open until the call returns")
        return network

    def graphs(self) -> list[Graph]:
        """The network in two parts; between them states are repeated for their durations, see `nano_blocks.expand`."""
        import torch

        from emova_sdk.models.nano_vocoder import FramePart, UnitPart

        network, chance = self.network(), torch.Generator().manual_seed(0)
        ids = torch.randint(0, self.units.size, (1, 12), generator=chance)
        spread = torch.randn(1, 60, network.to_frames.in_features, generator=chance)
        facts = {"units": str(self.units), "sample_rate": str(self.sample_rate)}
        return [
            Graph(
                "nano_vocoder_units", UnitPart(network), {"ids": ids, "speaker": torch.tensor([0])},
                ("states", "log_durations"), {"ids": {1: Axis("units", 2, 24, 512)}}, metadata=facts,
            ),
            Graph(
                "nano_vocoder_frames", FramePart(network), {"spread": spread},
                ("pitch", "voicing", "envelope", "aperiodicity"), {"spread": {1: Axis("frames", 4, 120, 4096)}}, metadata=facts,
            ),
        ]  # fmt: skip


class _SpeakingStream(Stream[SpeechUnits, SpeechChunk]):
    """Works on a block of units once the units after it that matter are known."""

    def __init__(self, vocoder: NanoUnitVocoder, style: NDArray[np.float32]) -> None:
        self._vocoder = vocoder
        self._speaker, self._prosody = read_style_vector(style)
        self._synthesizer = Synthesizer(sample_rate=vocoder.sample_rate)
        self._ids: list[int] = []
        self._durations: list[int] = []
        """Frames of the units whose surroundings are known."""
        self._spoken = 0
        self._frames = 0

    def push(self, chunk: SpeechUnits) -> list[SpeechChunk]:
        size = self._vocoder.units.size
        if len(chunk) and int(chunk.ids.max()) >= size:
            raise InputError(f"unit `{int(chunk.ids.max())}` is not of {self._vocoder.units}", f"ids are below {size}")
        self._ids += chunk.ids.tolist()
        return self._advance(ended=False)

    def finish(self) -> list[SpeechChunk]:
        chunks = self._advance(ended=True)
        if self._ids:
            chunks.append(SpeechChunk(Audio(self._synthesizer.finish(), self._vocoder.sample_rate), 0))
        return chunks

    def _advance(self, *, ended: bool) -> list[SpeechChunk]:
        chunks: list[SpeechChunk] = []
        while self._spoken < len(self._ids):
            last = self._spoken + (_BLOCK if self._spoken else _FIRST)
            self._measure(ended=ended)
            if not ended and not self._surroundings_known(last):
                break
            last = min(last, len(self._ids))
            sound = self._synthesizer.push(*self._features(last))
            chunks.append(SpeechChunk(Audio(sound, self._vocoder.sample_rate), last - self._spoken))
            self._frames += sum(self._durations[self._spoken : last])
            self._spoken = last
        return chunks

    def _surroundings_known(self, last: int) -> bool:
        """Whether the durations known reach as far behind the block as the network and the closing movement look."""
        from emova_sdk.models.nano_vocoder import FRAME_REACH, UNIT_REACH

        ahead = sum(self._durations[last:])
        return len(self._ids) > last + _reach() + UNIT_REACH and ahead >= max(FINAL_FRAMES, FRAME_REACH)

    def _measure(self, *, ended: bool) -> None:
        """Durations of the units with enough neighbours, each computed once in a window at a place of its own."""
        import torch

        from emova_sdk.models.nano_vocoder import UNIT_REACH

        network = self._vocoder.network()
        while len(self._durations) < len(self._ids):
            first = len(self._durations)
            last = first + _BLOCK
            if last + UNIT_REACH > len(self._ids) and not ended:
                return
            # The window's size must not depend on how much more is there.
            begin, end = max(0, first - UNIT_REACH), min(len(self._ids), last + UNIT_REACH)
            with torch.inference_mode():
                ids, speaker = self._inputs(begin, end)
                found = network.states(ids, speaker)[1][0, first - begin : last - begin]
            frames = torch.exp(found).double().numpy() / self._prosody.rate
            self._durations += np.clip(np.rint(frames), _SHORTEST_FRAMES, _LONGEST_FRAMES).astype(int).tolist()

    def _inputs(self, begin: int, end: int) -> tuple[Tensor, Tensor]:
        import torch

        return torch.tensor([self._ids[begin:end]]), torch.tensor([self._speaker])

    def _features(self, last: int) -> tuple[Float, Float, Float]:
        """Shaped features of the frames of the units from the ones spoken up to `last`."""
        import torch

        from emova_sdk.models.nano_vocoder import UNIT_REACH

        network, voice = self._vocoder.network(), self._vocoder.voice
        inner = max(0, self._spoken - _reach()), min(len(self._ids), last + _reach())
        outer = max(0, inner[0] - UNIT_REACH), min(len(self._ids), inner[1] + UNIT_REACH)
        with torch.inference_mode():
            states = network.states(*self._inputs(*outer))[0][:, inner[0] - outer[0] : inner[1] - outer[0]]
            durations = torch.tensor([self._durations[inner[0] : inner[1]]])
            heard = network.frames(states, durations)[0]
        before = sum(self._durations[inner[0] : self._spoken])
        kept = slice(before, before + sum(self._durations[self._spoken : last]))
        pitch = heard.pitch[0, kept].numpy() * voice.expansion
        voiced = heard.voicing[0, kept].numpy() > 0
        f0 = np.where(voiced, voice.medians[self._speaker] * np.exp(pitch), 0).astype(np.float32)
        power = full_envelope(sharpened(heard.envelope[0, kept].numpy(), voice.sharpening)) + np.float32(voice.gain)
        noise = full_aperiodicity(heard.aperiodicity[0, kept].numpy())
        return self._shaped(f0, power, noise, last)

    def _shaped(self, f0: Float, power: Float, noise: Float, last: int) -> tuple[Float, Float, Float]:
        behind = sum(self._durations[last:])
        to_end = np.arange(len(f0), 0, -1, dtype=np.float32) + behind
        prosody: Prosody = self._prosody
        median = self._vocoder.voice.medians[self._speaker]
        shaped = shape_pitch(f0, prosody, median=median, start=self._frames, to_end=to_end)
        rate = self._vocoder.sample_rate
        return shaped, *shape_spectrum(power, noise, prosody, sample_rate=rate, start=self._frames)


def _reach() -> int:
    """Units on either side whose frames matter: each lasts at least `_SHORTEST_FRAMES`."""
    from emova_sdk.models.nano_vocoder import FRAME_REACH

    return -(-FRAME_REACH // _SHORTEST_FRAMES)


def sharpened(envelope: Float, amount: float) -> Float:
    """Deepen the valleys and raise the peaks that regression has smoothed: detail over a wide mean, times 1 + `amount`."""
    width = 9
    padded = np.pad(envelope, ((0, 0), (width // 2, width // 2)), mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1).mean(-1)
    return (envelope + amount * (envelope - smooth)).astype(np.float32)


def full_envelope(bands: Float) -> Float:
    """Mel-spaced log envelope (frames, 60) to a linear grid (frames, 513)."""
    low, share = _envelope_grid()
    return (bands[:, low] * (1 - share) + bands[:, low + 1] * share).astype(np.float32)


def _envelope_grid() -> tuple[NDArray[np.int64], Float]:
    from emova_sdk.models.nano_features import mel_edges
    from emova_sdk.models.nano_vocoder import ENVELOPE

    points = (mel_edges(ENVELOPE - 2, 8000.0) / 8000 * (BINS - 1)).numpy()
    place = np.interp(np.arange(BINS), points, np.arange(ENVELOPE))
    low = np.minimum(place.astype(np.int64), ENVELOPE - 2)
    return low, (place - low).astype(np.float32)


def full_aperiodicity(bands: Float) -> Float:
    """Aperiodicity in 5 bands to a linear grid (frames, 513)."""
    centres = np.array([32.0, 96, 192, 320, 448])
    place = np.interp(np.arange(BINS), centres, np.arange(len(centres)))
    low = np.minimum(place.astype(np.int64), len(centres) - 2)
    share = (place - low).astype(np.float32)
    return (bands[:, low] * (1 - share) + bands[:, low + 1] * share).astype(np.float32)
