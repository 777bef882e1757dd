"""Checkpoints of EMOVA's speech networks: a local file, a local folder, or a repository of the Hugging Face hub.

Nothing here runs code from a file: safetensors, or pickles through torch's restricted loader with every foreign class
replaced by an inert stand-in.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from emova_sdk.components.emova.model_files import fetch, is_hub_id, read_json, require_weights
from emova_sdk.errors import LoadError


class SpeechCheckpoint:
    """A place that holds a config and weights.

    Args:
        model: A weights file, a folder, or a hub id such as ``Emova-ollm/emova_speech_tokenizer_hf``.
        revision: Commit, tag or branch of a hub id.

    Raises:
        LoadError: If `model` looks like a path and does not exist.
    """

    def __init__(self, model: str, *, revision: str | None = None) -> None:
        self.model, self.revision = model, revision
        self._path = Path(model).expanduser()
        self._local = self._path.exists()
        if not self._local and not is_hub_id(model):
            raise LoadError(f"`{model}` does not exist", "pass a folder, a weights file or a hub id `owner/name`", path=model)

    def config(self) -> dict[str, Any]:
        """Read ``config.json``; an empty mapping where there is none.

        Raises:
            LoadError: If it is not a JSON object.
        """
        path = self.find(["config.json"])
        return {} if path is None else read_json(path)

    def weights(self, patterns: Sequence[str]) -> Path:
        """Return the weights file: `model` itself, or the first file that matches one of the patterns.

        Raises:
            LoadError: If there is none.
        """
        if self._path.is_file():
            return self._path
        path = self.find(patterns)
        if path is None:
            names = ", ".join(f"`{pattern}`" for pattern in patterns)
            raise LoadError(f"`{self.model}` holds none of {names}", "download the missing file", path=self.model)
        return path

    def find(self, patterns: Sequence[str]) -> Path | None:
        """Return the first file that matches, by order of the patterns and then by name; None where nothing does."""
        if self._local:
            folder = self._path if self._path.is_dir() else self._path.parent
        else:
            folder = fetch(self.model, patterns, revision=self.revision)
        search = folder.glob if self._local else folder.rglob
        for pattern in patterns:
            if found := sorted(path for path in search(pattern) if path.is_file()):
                return found[0]
        return None


def read_tensors(path: Path, *, part: str = "") -> dict[str, Tensor]:
    """Read the tensors of a checkpoint.

    Reads safetensors; a Lightning ``.ckpt`` (dict with ``state_dict``); a ``G_*.pth`` (dict with ``model``); a bare dict
    of tensors.

    Args:
        path: The file.
        part: Of a file that holds speech tokenizer, vocoder and styles together, only the names that start with this.

    Raises:
        LoadError: If the file is missing, truncated, a Git LFS pointer, or holds something else.
    """
    require_weights(path)
    return _read_safetensors(path, part) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path, part: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            joint = any(name.startswith("decoder.enc_p.") for name in names)
            return {name: file.get_tensor(name) for name in names if not joint or name.startswith(part)}
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(path, error) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        # A Lightning checkpoint also pickles its hyper-parameters, of classes that are not installed here.
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_inert(name), name) for name in foreign]):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, error) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise LoadError(f"`{path}` holds no dict of tensors", "pass a checkpoint of the model", path=str(path))
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _broken(path: Path, error: Exception) -> LoadError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return LoadError(f"`{path}` is truncated or not a checkpoint: {reason}", "download it again", path=str(path))


class _Inert(dict[Any, Any]):
    """Stands in for an object of a foreign class: takes whatever a pickle hands it and does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass

    def __hash__(self) -> int:  # type: ignore[override] - its base says that there is no hash
        return id(self)


def _inert(name: str) -> type[_Inert]:
    return type(name.rpartition(".")[2], (_Inert,), {})
