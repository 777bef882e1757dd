"""EMOVA's styles: one vector for each of 126 ways of speaking, and one for any recording."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from emova_sdk.components.base import Space
from emova_sdk.components.emova.model_files import pick_device, require_weights
from emova_sdk.components.emova.speech.speech_checkpoint import SpeechCheckpoint, read_tensors
from emova_sdk.components.emova.speech.speech_graphs import style_graph
from emova_sdk.components.emova.speech.speech_tokenizer import RELEASED
from emova_sdk.components.emova.speech.style_vectors import StyleVectors
from emova_sdk.components.emova.speech.vocoder import vits_config
from emova_sdk.components.emova.speech.weights import load_style_encoder, strip_prefix
from emova_sdk.components.graph import Graph
from emova_sdk.errors import InputError, LoadError
from emova_sdk.models.style_encoder import Spectrogram, StyleEncoder
from emova_sdk.types import EMOTIONS, PITCHES, SPEEDS, Audio, Style

Vectors = NDArray[np.float32]

CONDITIONS: tuple[str, ...] = tuple(
    Style(speaker, emotion, pitch, speed).condition
    for speaker, emotion, speed, pitch in product(("female", "male"), sorted(EMOTIONS), sorted(SPEEDS), sorted(PITCHES))
)
"""The 126 released styles in the order of their rows: speaker, emotion, speed, pitch, each alphabetical."""

_SUFFIX = "_centroid_style_embedding.npy"
_INDEX = "condition2style_centroid.txt"


class EmovaStyle(StyleVectors):
    """The released style vectors, the voice of any recording, and everything between two of them.

    Speaker, emotion, pitch and speed are realised by nothing but the choice of the vector. The vectors come from the
    combined checkpoint (``style_embedding.weight``) or from a folder of the original's ``.npy`` files.

    Args:
        model: A folder, a weights file or a hub id, as for the vocoder; gives the table and the style encoder.
        revision: Commit, tag or branch of a hub id.
        centroids: Folder of ``*_centroid_style_embedding.npy`` files, in place of the table of `model`.
        device: Where the style encoder runs: ``auto``, ``cpu``, ``cuda``, ...

    Raises:
        LoadError: If the config or the folder is missing or describes something else.
    """

    def __init__(
        self, model: str = RELEASED, *, revision: str | None = None, centroids: str | None = None, device: str = "auto"
    ) -> None:
        self._checkpoint = SpeechCheckpoint(model, revision=revision)
        values = self._checkpoint.config()
        self.config, _ = vits_config(values, path=model)
        self.style = Space("emova-style", self.config.gin_channels)
        self._device = device
        self._files = None if centroids is None else _centroid_files(Path(centroids).expanduser())
        self._rows = _rows(values) if self._files is None else {}
        super().__init__(tuple(self._rows if self._files is None else self._files))
        self._encoder: _Ear | None = None

    def load(self) -> None:
        """Bring the style vectors into memory. Safe to call again and from several threads.

        Raises:
            LoadError: Naming the file or tensor that is missing, broken or does not match.
        """
        with self._lock:
            if self._table is None:
                if self._files is not None:
                    self._table = {name: _read_centroid(path, self.style.size) for name, path in self._files.items()}
                else:
                    self._table = self._read_table()

    def close(self) -> None:
        """Free the vectors and the style encoder; added voices stay."""
        with self._lock:
            self._table = self._encoder = None

    def graphs(self) -> list[Graph]:
        """One graph, ``style_encoder``: recordings to style vectors. The table of styles needs none."""
        ear = self._ear()
        return [style_graph(ear.spectrogram, ear.style_encoder, sample_rate=self.config.sampling_rate)]

    def assets(self) -> Mapping[str, Path | str | bytes]:
        """The table of styles and the names of its rows."""
        self.load()
        table = self._table or {}
        rows = BytesIO()
        np.save(rows, np.stack([table[name] for name in self._names]), allow_pickle=False)
        return {"styles.npy": rows.getvalue(), "styles.json": json.dumps(self._names) + "\n"}

    def embed_recordings(self, clips: Sequence[Audio]) -> Vectors:
        """Return the style vector of each recording, of any rate: float32 (clips, ``style.size``), each of length 1.

        Raises:
            InputError: If a recording is shorter than one frame.
            LoadError: If the weights of the style encoder are missing, broken or do not match.
        """
        ear = self._ear()
        rate, shortest = self.config.sampling_rate, ear.spectrogram.shortest
        rows: list[Vectors] = []
        for clip in clips:
            samples = clip.resample(rate).samples
            if len(samples) < shortest:
                raise InputError(
                    f"a recording of {clip.duration_s:.3f} s is too short to hear a style in it", "record a few seconds"
                )
            rows.append(ear(samples))
        return np.stack(rows) if rows else np.zeros((0, self.style.size), np.float32)

    def _read_table(self) -> dict[str, Vectors]:
        path = self._checkpoint.weights(["model.safetensors", "weights.safetensors"])
        table = read_tensors(path, part="style_embedding.").get("style_embedding.weight")
        if table is None:
            raise LoadError(
                f"`{path}` lacks the tensor `style_embedding.weight`",
                "pass the folder of the `.npy` files as `centroids`",
                path=str(path),
                tensor="style_embedding.weight",
            )
        if table.dim() != 2 or table.shape[1] != self.style.size or table.shape[0] <= max(self._rows.values()):
            raise LoadError(
                f"tensor `style_embedding.weight` of `{path}` has shape {tuple(table.shape)}, "
                f"not ({len(self._rows)}, {self.style.size})",
                "check that the file and its config.json belong together",
                path=str(path),
                tensor="style_embedding.weight",
            )
        vectors = table.float().numpy()
        return {name: vectors[row].copy() for name, row in self._rows.items()}

    def _ear(self) -> _Ear:
        with self._lock:
            if self._encoder is None:
                path = self._checkpoint.weights(["model.safetensors", "weights.safetensors", "G_*.pth"])
                ear = _Ear(self.config)
                tensors, _ = strip_prefix(read_tensors(path, part="decoder."), "decoder.", "decoder.enc_p.")
                load_style_encoder(ear, tensors, path=path)
                self._encoder = ear.requires_grad_(requires_grad=False).eval().to(pick_device(self._device))
            return self._encoder


class _Ear(nn.Module):
    """Spectrogram and style encoder."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(
            filter_length=config.filter_length, hop_length=config.hop_length, win_length=config.win_length
        )
        self.style_encoder = StyleEncoder(config.bins, config.hidden_channels, config.gin_channels)

    @torch.inference_mode()
    def forward(self, samples: NDArray[np.float32]) -> Vectors:
        """float32 (samples,) to a vector of length 1, float32 (size,)."""
        device = self.style_encoder.fc.weight.device
        spectrogram = self.spectrogram(torch.from_numpy(samples)[None].to(device))
        lengths = torch.tensor([spectrogram.shape[-1]], device=device)
        return self.style_encoder(spectrogram, lengths)[0].cpu().numpy()


def interpolate(first: Vectors, second: Vectors, weight: float) -> Vectors:
    """Mix two style vectors: `weight` 0 gives the first, 1 the second, float32 (size,).

    The direction is mixed linearly and the length kept between theirs, since the network never saw short vectors.

    Raises:
        InputError: If the shapes differ, the weight is outside [0, 1], or the vectors are opposite.
    """
    if first.shape != second.shape or first.ndim != 1 or not 0 <= weight <= 1:
        raise InputError(
            f"cannot mix vectors of shapes {first.shape} and {second.shape} with weight `{weight}`",
            "pass two vectors of one size and a weight from 0 to 1",
        )
    mixed = (1 - weight) * first.astype(np.float64) + weight * second.astype(np.float64)
    length = (1 - weight) * np.linalg.norm(first) + weight * np.linalg.norm(second)
    norm = np.linalg.norm(mixed)
    if norm < 1e-6 * max(float(length), 1e-12):
        raise InputError("the two styles are opposite, so nothing lies between them", "choose another weight or style")
    return np.asarray(mixed * (length / norm), np.float32)


def _read_centroid(path: Path, size: int) -> Vectors:
    """Read one of the original's style files: a ``.npy`` header of 128 bytes and `size` float32 values, nothing else."""
    require_weights(path)
    content = path.read_bytes()
    expected = 128 + 4 * size
    if len(content) != expected:
        raise LoadError(f"`{path}` has {len(content)} bytes, not {expected}", "download it again", path=str(path))
    try:
        values: Any = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise LoadError(f"`{path}` is not a NumPy file: {error}", "download it again", path=str(path)) from error
    if values.dtype != np.float32 or values.size != size or not np.isfinite(values).all():
        raise LoadError(f"`{path}` does not hold {size} finite float32 values", "download it again", path=str(path))
    return values.reshape(size)


def _centroid_files(folder: Path) -> dict[str, Path]:
    """Condition to file, by the index file where there is one, else by the names of the files."""
    index = folder / _INDEX
    if index.is_file():
        # The paths in it are relative to the original's package folder; only their names count here.
        lines = index.read_text(encoding="utf-8").splitlines()[1:]
        pairs = [line.split("|", 1) for line in lines if "|" in line]
        files = {condition.strip(): folder / Path(path.strip()).name for condition, path in pairs}
    else:
        files = {path.name.removesuffix(_SUFFIX): path for path in sorted(folder.glob(f"*{_SUFFIX}"))}
    if not files:
        raise LoadError(f"`{folder}` holds no `*{_SUFFIX}` files", "pass the folder of the style centroids", path=str(folder))
    return {name: files[name] for name in files if _require_condition(name, folder)}


def _rows(values: Mapping[str, Any]) -> dict[str, int]:
    """Condition to row of the table, from the config where it says so."""
    named: Any = values.get("u2s_style2idx")
    if named is None:
        return {name: row for row, name in enumerate(CONDITIONS)}
    if not isinstance(named, dict) or not named or not all(type(row) is int and row >= 0 for row in named.values()):
        raise LoadError("`u2s_style2idx` of the config is not a table of rows", "download the config again")
    return {str(name): row for name, row in sorted(named.items(), key=lambda item: item[1]) if _require_condition(name, None)}


def _require_condition(name: str, folder: Path | None) -> bool:
    if not re.fullmatch(r"gender-[^_]+_emotion-[^_]+_speed-[^_]+_pitch-[^_]+", name):
        where = "the config" if folder is None else f"`{folder}`"
        raise LoadError(f"{where} names a style `{name}`, which is none", "names look like " + CONDITIONS[41])
    return True
