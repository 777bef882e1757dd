"""EMOVA's vocoder: speech units and a style vector to 22 050 Hz speech."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emova_sdk.components.base import Space, Stream, Vocoder
from emova_sdk.components.emova.model_files import LoadsOnce, pick_device
from emova_sdk.components.emova.speech.speech_checkpoint import SpeechCheckpoint, read_tensors
from emova_sdk.components.emova.speech.speech_graphs import vocoder_graphs
from emova_sdk.components.emova.speech.speech_tokenizer import RELEASED, Dtype, unit_space
from emova_sdk.components.emova.speech.vocoder_sampling import Sampling
from emova_sdk.components.emova.speech.weights import load_vits
from emova_sdk.components.emova.trials import vocoder_trials
from emova_sdk.components.graph import Graph
from emova_sdk.components.trials import Trial
from emova_sdk.errors import InputError, LoadError
from emova_sdk.models.vits import Vits, VitsConfig, frames_of
from emova_sdk.types import Audio, SpeechChunk, SpeechUnits

Vectors = NDArray[np.float32]


def vits_config(values: dict[str, Any], *, path: str) -> tuple[VitsConfig, Space]:
    """Read the network's shape and the space of its units from a ``config.json``.

    Understood: a flat one, the ``u2s`` part of a joint one, the original's with ``data`` and ``model`` parts, and the hub
    repository's, which names no shape and means the released one.

    Raises:
        LoadError: If the file describes something else.
    """
    own = {name: values[name] for name in ("s2u", "fsq_levels") if name in values}
    if "u2s" in values:
        described = dict(values["u2s"])
    elif "data" in values and "model" in values:
        known = VitsConfig.__dataclass_fields__
        described = {name: value for part in ("data", "model") for name, value in values[part].items() if name in known}
    else:
        described = {name: value for name, value in values.items() if name not in own} if "inter_channels" in values else {}
        if values and not described and not any(name.startswith(("s2u_", "u2s_")) for name in values):
            raise LoadError(f"the config of `{path}` describes no vocoder", "pass the folder of one", path=path)
    try:
        config = VitsConfig.from_dict(described)
    except TypeError as error:
        raise LoadError(f"the config of `{path}` is not understood: {error}", "download it again", path=path) from error
    levels = own.get("fsq_levels") or own.get("s2u", {}).get("fsq_levels") or [8, 8, 8, 8]
    space = unit_space(levels)
    return config, space if space.size == config.n_units else Space(f"emova-units-{config.n_units}", config.n_units)


class EmovaVocoder(LoadsOnce[Vits], Vocoder):
    """Units to speech with EMOVA's VITS.

    Encoder, durations and flow see a phrase as a whole; the waveform generator, which does nearly all the work, sees 13
    frames (0.15 s) on each side, so the first piece of sound is ready long before the last, and the pieces together
    equal the whole. A style vector of zeros (or None for all) is the network's unconditional voice.

    Args:
        model: A folder, a weights file or a hub id. A folder holds ``model.safetensors``, ``weights.safetensors`` or the
            released ``G_*.pth``; its ``config.json`` may be missing, which means the released network.
        revision: Commit, tag or branch of a hub id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        dtype: Arithmetic of the waveform generator. ``bfloat16`` is faster where the hardware has it. Durations do not
            depend on it.
        seed: Of the noise, so that equal input gives equal speech; None draws anew each time.
        length_scale: Multiplies every duration.
        noise_scale: Of the sound's noise.
        noise_scale_duration: Of the noise in the durations.
        phrase_units: Speak after this many units without waiting for the end of the stream; None waits, as the network
            was trained. Applies to `synthesize` as well, so that both say the same.
        first_frames: Length of the first piece of a stream, in frames; each piece is twice as long as the one before.
        chunk_frames: Longest piece, in frames; bounds the memory.

    Raises:
        LoadError: If the config is missing or describes something else.
    """

    def __init__(
        self,
        model: str = RELEASED,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: Dtype = "float32",
        seed: int | None = 0,
        length_scale: float = 1.0,
        noise_scale: float = 0.667,
        noise_scale_duration: float = 0.8,
        phrase_units: int | None = None,
        first_frames: int = 8,
        chunk_frames: int = 256,
    ) -> None:
        super().__init__()
        if min(first_frames, chunk_frames, phrase_units or 1) < 1:
            raise InputError("pieces have at least one frame and phrases one unit", "use positive numbers")
        self.sampling = Sampling(seed, length_scale, noise_scale, noise_scale_duration)
        self._checkpoint = SpeechCheckpoint(model, revision=revision)
        self.config, self.units = vits_config(self._checkpoint.config(), path=model)
        self.style = Space("emova-style", self.config.gin_channels)
        self.sample_rate = self.config.sampling_rate
        self._device, self._dtype = device, getattr(torch, dtype)
        self.phrase_units, self.first_frames, self.chunk_frames = phrase_units, first_frames, chunk_frames

    def _read(self) -> Vits:
        path = self._checkpoint.weights(["model.safetensors", "weights.safetensors", "G_*.pth"])
        net = Vits(self.config)
        load_vits(net, read_tensors(path, part="decoder."), path=path)
        net.generator.to(self._dtype)
        return net.requires_grad_(requires_grad=False).eval().to(pick_device(self._device))

    def graphs(self) -> list[Graph]:
        """Three graphs, ``prior``, ``latents`` and ``generator``, so that streaming survives an export.

        They always take a style: the unconditional voice is not in them.
        """
        return vocoder_graphs(self.net, self.units, self.style)

    def trials(self) -> list[Trial]:
        """Speech without noise."""
        return vocoder_trials(self.units, self.style)

    def synthesize(
        self, units: Sequence[SpeechUnits], styles: Vectors | None, *, sampling: Sampling | None = None
    ) -> list[Audio]:
        """Speak each sequence in the style of its row.

        Args:
            units: Repeats collapsed. An empty sequence is silence of no length.
            styles: float32 (sequences, ``style.size``), a row of zeros being the unconditional voice; None for all.
            sampling: Seed and scales of this call instead of the component's.

        Raises:
            InputError: If a unit is outside the code book, or the styles have another shape.
        """
        rows = np.zeros((len(units), self.style.size), np.float32) if styles is None else styles
        if rows.shape != (len(units), self.style.size):
            raise InputError(
                f"styles have shape {rows.shape}, not ({len(units)}, {self.style.size})", "pass one row for each sequence"
            )
        spoken: list[Audio] = []
        for sequence, row in zip(units, rows, strict=True):
            _require_known(sequence, self.units)
            speaker = _Speaker(self, row, sampling or self.sampling, first=self.chunk_frames)
            pieces = [chunk.audio for phrase in self._phrases(sequence) for chunk in speaker.speak(phrase)]
            spoken.append(Audio.concat(pieces, sample_rate=self.sample_rate))
        return spoken

    def stream(self, style: Vectors | None, *, sampling: Sampling | None = None) -> VocoderStream:
        """Speak units as they come in one style, float32 (``style.size``,); the pieces together are the whole.

        Raises:
            InputError: If the style has another shape.
        """
        row = np.zeros(self.style.size, np.float32) if style is None else style
        if row.shape != (self.style.size,):
            raise InputError(f"the style has shape {row.shape}, not ({self.style.size},)", "pass one vector")
        return VocoderStream(self, _Speaker(self, row, sampling or self.sampling, first=self.first_frames))

    def _phrases(self, units: SpeechUnits) -> list[SpeechUnits]:
        size = self.phrase_units or max(len(units), 1)
        return [SpeechUnits(units.ids[at : at + size]) for at in range(0, len(units), size)]


def _require_known(units: SpeechUnits, space: Space) -> None:
    if len(units) and int(units.ids.max()) >= space.size:
        raise InputError(f"unit `{int(units.ids.max())}` is outside {space}", "use the speech tokenizer the vocoder belongs to")


class VocoderStream(Stream[SpeechUnits, SpeechChunk]):
    """Speech as units come in. Spoken when `phrase_units` are there, or at the end."""

    def __init__(self, vocoder: EmovaVocoder, speaker: _Speaker) -> None:
        self._vocoder, self._speaker = vocoder, speaker
        self._waiting = np.zeros(0, np.int64)

    def push(self, chunk: SpeechUnits) -> list[SpeechChunk]:
        """Take the next units; return the speech of every phrase that is complete."""
        _require_known(chunk, self._vocoder.units)
        self._waiting = np.concatenate([self._waiting, chunk.ids])
        spoken: list[SpeechChunk] = []
        size = self._vocoder.phrase_units
        while size and len(self._waiting) >= size:
            phrase, self._waiting = SpeechUnits(self._waiting[:size]), self._waiting[size:]
            spoken.extend(self._speaker.speak(phrase))
        return spoken

    def finish(self) -> list[SpeechChunk]:
        """Speak the rest."""
        return list(self.drain())

    def drain(self) -> Generator[SpeechChunk, None, None]:
        """Speak the rest, handing out each piece as soon as it is made."""
        rest, self._waiting = SpeechUnits(self._waiting), np.zeros(0, np.int64)
        if len(rest):
            yield from self._speaker.speak(rest)


class _Speaker:
    """One voice with its noise: speaks phrase after phrase, in pieces that grow from `first` frames."""

    def __init__(self, vocoder: EmovaVocoder, style: Vectors, sampling: Sampling, *, first: int) -> None:
        if style.dtype != np.float32 or not np.isfinite(style).all():
            raise InputError("a style vector is not finite float32", "use the vectors of the style module")
        self._vocoder, self._sampling, self._first = vocoder, sampling, first
        self._style = torch.from_numpy(style.copy())[None, :, None] if style.any() else None
        self._noise = torch.Generator()
        if sampling.seed is None:
            self._noise.seed()
        else:
            self._noise.manual_seed(sampling.seed)

    def speak(self, units: SpeechUnits) -> Generator[SpeechChunk, None, None]:
        """Speak one phrase of at least one unit, piece by piece."""
        net = self._vocoder.net
        device = net.unit_encoder.emb.weight.device
        style = None if self._style is None else self._style.to(device)
        durations, prior = self._prior(net, torch.from_numpy(units.ids).to(device), style)
        ends = durations.cumsum(0).cpu().numpy()
        latents = _Latents(net, prior, style)
        spoken = 0
        for start, stop in _pieces(prior.shape[-1], self._first, self._vocoder.chunk_frames):
            samples = _generate(net, latents, start, stop, style)
            done = int(np.searchsorted(ends, stop, side="right"))
            yield SpeechChunk(Audio(samples, self._vocoder.sample_rate), done - spoken)
            spoken = done

    @torch.inference_mode()
    def _prior(self, net: Vits, units: Tensor, style: Tensor | None) -> tuple[Tensor, Tensor]:
        """Durations (units,) and latents of the prior (1, channels, frames)."""
        scales = self._sampling
        encoded = net.encode(units[None], torch.tensor([len(units)], device=units.device))
        noise = self._draw((1, 2, len(units)), units.device)
        logs = net.log_durations(encoded, noise, style, noise_scale=scales.noise_scale_duration)
        durations = frames_of(logs, encoded.mask, length_scale=scales.length_scale)
        frames = max(1, int(durations.sum()))
        noise = self._draw((1, net.config.inter_channels, frames), units.device)
        return durations[0], net.spread(encoded, durations, noise, noise_scale=scales.noise_scale)[0]

    def _draw(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        # On the CPU whatever the device, so that a seed means the same voice everywhere.
        return torch.randn(shape, generator=self._noise).to(device)


class _Latents:
    """The flow over one phrase, made as far as it is needed: it sees only 32 frames on each side."""

    def __init__(self, net: Vits, prior: Tensor, style: Tensor | None) -> None:
        self._net, self._prior, self._style = net, prior, style
        self._done = prior[..., :0]

    def upto(self, stop: int) -> Tensor:
        """Latents (1, channels, at least `stop`)."""
        start, total = self._done.shape[-1], self._prior.shape[-1]
        if start < min(stop, total):
            # What a piece needs, and ahead of it twice what is there: late pieces do not wait, and little is made twice.
            stop = min(max(stop, 3 * start), total)
            begin, end = max(0, start - self._net.flow.context_frames), min(total, stop + self._net.flow.context_frames)
            part = self._prior[..., begin:end]
            latents = self._net.flow.reverse(part, torch.ones_like(part[:, :1]), self._style)
            self._done = torch.cat([self._done, latents[..., start - begin : stop - begin]], -1)
        return self._done


@torch.inference_mode()
def _generate(net: Vits, latents: _Latents, start: int, stop: int, style: Tensor | None) -> NDArray[np.float32]:
    """Samples of the frames from `start` to `stop`."""
    context, dtype = net.generator.context_frames, net.generator.conv_pre.weight.dtype
    begin = max(0, start - context)
    part = latents.upto(stop + context)[..., begin : stop + context].to(dtype)
    wave = net.generator(part, None if style is None else style.to(dtype))[0, 0].float()
    step = net.config.samples_per_frame
    return wave[(start - begin) * step : (stop - begin) * step].cpu().numpy()


def _pieces(total: int, first: int, largest: int) -> Generator[tuple[int, int], None, None]:
    """Cut `total` frames into pieces that double in length from `first` to `largest`."""
    start, size = 0, min(first, largest)
    while start < total:
        yield start, min(start + size, total)
        start, size = start + size, min(2 * size, largest)
