"""EMOVA's speech tokenizer: 16 kHz speech to 25 units per second, repeats collapsed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emova_sdk.components.base import Space, SpeechTokenizer
from emova_sdk.components.emova.model_files import LoadsOnce, pick_device
from emova_sdk.components.emova.speech.phones import PHONES
from emova_sdk.components.emova.speech.speech_checkpoint import SpeechCheckpoint, read_tensors
from emova_sdk.components.emova.speech.speech_graphs import tokenizer_graph
from emova_sdk.components.emova.speech.weights import load_spiral
from emova_sdk.components.emova.speech.windows import Samples, Window, Windowing, padded
from emova_sdk.components.emova.trials import tokenizer_trials
from emova_sdk.components.graph import Graph
from emova_sdk.components.trials import Trial
from emova_sdk.errors import BackendError, InputError, LoadError
from emova_sdk.models.spiral import SpiralConfig, SpiralTokenizer
from emova_sdk.types import Audio, SpeechUnits

RELEASED = "Emova-ollm/emova_speech_tokenizer_hf"
"""Hub id of the released speech tokenizer, vocoder and style table."""

Dtype = Literal["float32", "bfloat16", "float16"]

# The original's way with long sounds, kept behind `reference`: from here on it cuts into pieces of the second length.
_REFERENCE_LONG_S, _REFERENCE_PIECE_S = 60, 100


def spiral_config(values: dict[str, Any], *, path: str) -> SpiralConfig:
    """Read the network's shape from a ``config.json``: its own, the ``s2u`` part of a joint one, else the released shape.

    Raises:
        LoadError: If the file describes something else.
    """
    described = values.get("s2u", values if "stages" in values else {})
    if values and not described and not any(name.startswith(("s2u_", "u2s_")) for name in values):
        raise LoadError(f"the config of `{path}` describes no speech tokenizer", "pass the folder of one", path=path)
    try:
        return SpiralConfig.from_dict(described)
    except TypeError as error:
        raise LoadError(f"the config of `{path}` is not understood: {error}", "download it again", path=path) from error


def unit_space(levels: Sequence[int]) -> Space:
    """The space of FSQ units with these levels: ``emova-fsq-8888`` of 4096 for the released ones."""
    name = ("" if max(levels) < 10 else "-").join(str(level) for level in levels)
    return Space(f"emova-fsq-{name}", int(np.prod(levels)))


class EmovaSpeechTokenizer(LoadsOnce[SpiralTokenizer], SpeechTokenizer):
    """Speech to discrete units with EMOVA's SPIRAL encoder and FSQ code book.

    The encoder sees an utterance as a whole (its features are normalised over it, its attention is full), so `stream`
    collects the sound and encodes it in `finish`: by definition equal to `encode`. Sounds longer than `window_s` are
    encoded in windows of equal length that overlap by `context_s`, cut on the grid of the units; no junk units appear
    at the seams. Set `reference` to reproduce the original implementation's windowing.

    Args:
        model: A folder, a weights file or a hub id. A folder holds ``model.safetensors``, ``weights.safetensors`` or the
            released ``.ckpt``; its ``config.json`` may be missing, which means the released network.
        revision: Commit, tag or branch of a hub id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        dtype: Arithmetic of the encoder. ``bfloat16`` is faster where the hardware has it and changes a few units.
        reduced: Collapse runs of equal units, as the language model and the vocoder were trained on.
        phones: Also load the CTC phone head, for `phones`.
        batch_size: Windows encoded at once. More than 1 pays on a GPU.
        window_s: Longest sound encoded in one piece, in seconds.
        context_s: What a window sees of its neighbours, in seconds.
        reference: Do exactly what the original code does: items of a batch zero-padded before the features (their last
            frame sees the padding), sounds over 60 s cut every 100 s without masks, their padding kept as units.

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
        reduced: bool = True,
        phones: bool = False,
        batch_size: int = 1,
        window_s: float = 60.0,
        context_s: float = 1.0,
        reference: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"`batch_size={batch_size}` is out of range", "batch_size >= 1")
        self._checkpoint = SpeechCheckpoint(model, revision=revision)
        self.config = spiral_config(self._checkpoint.config(), path=model)
        self.units = unit_space(self.config.fsq_levels)
        self.sample_rate = self.config.sample_rate
        self.unit_rate = self.config.sample_rate / self.config.samples_per_unit
        self._device, self._dtype = device, getattr(torch, dtype)
        self._reduced, self._phones, self._batch_size, self._reference = reduced, phones, batch_size, reference
        self._windowing = Windowing(
            window_s, context_s, samples_per_unit=self.config.samples_per_unit, unit_rate=self.unit_rate
        )

    def _read(self) -> SpiralTokenizer:
        path = self._checkpoint.weights(["model.safetensors", "weights.safetensors", "*.ckpt"])
        net = SpiralTokenizer(self.config)
        if not self._phones:
            net.phones = None
        load_spiral(net, read_tensors(path, part="encoder."), path=path)
        net.encoder.to(self._dtype)
        return net.requires_grad_(requires_grad=False).eval().to(pick_device(self._device))

    def graphs(self) -> list[Graph]:
        """One graph, ``tokenizer``: waveforms and their lengths to units, the front end included."""
        return [tokenizer_graph(self.net, self.units)]

    def trials(self) -> list[Trial]:
        """Units that are heard in sounds."""
        return tokenizer_trials(self.sample_rate)

    def encode(self, clips: Sequence[Audio]) -> list[SpeechUnits]:
        """Encode each clip. An empty clip has no units; one below 257 samples is padded with silence to that length.

        Raises:
            InputError: If a clip has another rate than `sample_rate`.
        """
        ids = self._encode(clips)
        units = [SpeechUnits.of(row) for row in ids]
        return [row.reduced() for row in units] if self._reduced else units

    @torch.inference_mode()
    def phones(self, clips: Sequence[Audio]) -> list[tuple[str, ...]]:
        """Say which phones the units of each clip stand for, by greedy CTC decoding.

        Raises:
            InputError: If a clip has another rate than `sample_rate`.
            BackendError: If the component was made without ``phones=True``.
        """
        net = self.net
        if net.phones is None:
            raise BackendError("the phone head is not loaded", "make the speech tokenizer with `phones=True`")
        found: list[tuple[str, ...]] = []
        for ids in self._encode(clips):
            codes = net.quantizer.ids_to_codes(torch.from_numpy(ids).to(net.pre_quant.weight.device))[None]
            logits = net.phones(codes, torch.tensor([len(ids)], device=codes.device)) if len(ids) else codes
            best = [label for label, _ in groupby(logits[0].argmax(-1).tolist())] if len(ids) else []
            found.append(tuple(self._phone(label) for label in best if label != net.phones.blank))
        return found

    def _phone(self, label: int) -> str:
        known = self.config.ctc_decoder is not None and self.config.ctc_decoder.n_phones == len(PHONES)
        return PHONES[label] if known else str(label)

    @torch.inference_mode()
    def _encode(self, clips: Sequence[Audio]) -> list[NDArray[np.int64]]:
        """Unreduced ids of each clip."""
        for clip in clips:
            self.check_rate(clip)
        windows = [(index, window) for index, clip in enumerate(clips) for window in self._windows(clip.samples)]
        # Neighbours in length are batched, so that little is padded.
        order = sorted(range(len(windows)), key=lambda at: len(windows[at][1].samples))
        ids: dict[int, NDArray[np.int64]] = {}
        for start in range(0, len(order), self._batch_size):
            group = order[start : start + self._batch_size]
            ids.update(zip(group, self._run([windows[at][1] for at in group]), strict=True))
        pieces: list[list[NDArray[np.int64]]] = [[np.zeros(0, np.int64)] for _ in clips]
        for at, (index, _) in enumerate(windows):
            pieces[index].append(ids[at])
        return [np.concatenate(parts) for parts in pieces]

    def _windows(self, samples: Samples) -> Iterable[Window]:
        """Split a clip into what is encoded at once."""
        if not self._reference or not len(samples):
            return self._windowing.split(samples)
        if len(samples) <= _REFERENCE_LONG_S * self.sample_rate:
            return [Window(samples, len(samples), count=-(-len(samples) // self.config.samples_per_unit))]
        size = _REFERENCE_PIECE_S * self.sample_rate
        # Each piece is given the length of the whole, and the units of its padding are kept.
        return [Window(samples[at : at + size], len(samples)) for at in range(0, len(samples), size)]

    def _run(self, windows: Sequence[Window]) -> list[NDArray[np.int64]]:
        """Encode a few windows at once and keep the units that count."""
        net = self.net
        device = net.pre_quant.weight.device
        features, frames = self._features(net, windows, device)
        ids, _ = net(features, frames)
        rows = ids.cpu().numpy()
        return [row[window.first :][: window.count] for row, window in zip(rows, windows, strict=True)]

    def _features(self, net: SpiralTokenizer, windows: Sequence[Window], device: torch.device) -> tuple[Tensor, Tensor]:
        """Features (batch, mels, frames) and valid frames; each window by itself, unless the original's way is asked for."""
        sounds = [padded(window.samples, net.log_mel.shortest) for window in windows]
        lengths = [window.length for window in windows]
        if self._reference:
            longest = max(len(sound) for sound in sounds)
            audio = torch.from_numpy(np.stack([padded(sound, longest) for sound in sounds])).to(device)
            return net.log_mel(audio, torch.tensor(lengths, device=device))
        single = [
            net.log_mel(torch.from_numpy(sound)[None].to(device), torch.tensor([length], device=device))
            for sound, length in zip(sounds, lengths, strict=True)
        ]
        longest = max(features.shape[-1] for features, _ in single)
        equal = [torch.nn.functional.pad(features, (0, longest - features.shape[-1])) for features, _ in single]
        return torch.cat(equal), torch.cat([valid for _, valid in single])
