"""Finding and reading checkpoint files: a local file, a local folder, or a repository of the Hugging Face hub.

Nothing here runs code from a file: safetensors, or pickles through torch's restricted loader with every foreign class
replaced by an inert stand-in.
"""

from __future__ import annotations

import fnmatch
import json
import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from emova_sdk.errors import BackendError, LoadError

Network = TypeVar("Network", bound=nn.Module)

_LFS_HEAD = b"version https://git-lfs.github.com/spec/"


class LoadsOnce(ABC, Generic[Network]):
    """A component with one network of a checkpoint, which is brought into memory on first use."""

    def __init__(self) -> None:
        self._net: Network | None = None
        self._lock = threading.Lock()

    @abstractmethod
    def _read(self) -> Network:
        """Build the network and fill it, on its device.

        Raises:
            LoadError: Naming the file or tensor that is missing, broken or does not match.
        """

    def load(self) -> None:
        """Bring the weights into memory. Safe to call again and from several threads.

        Raises:
            LoadError: Naming the file or tensor that is missing, broken or does not match.
        """
        with self._lock:
            if self._net is None:
                self._net = self._read()

    def close(self) -> None:
        """Free the weights."""
        with self._lock:
            self._net = None

    @property
    def net(self) -> Network:
        """The network itself, loaded on first use."""
        self.load()
        if (net := self._net) is None:
            raise BackendError("the network was closed by another thread while it was used", "load it again")
        return net


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
        if not self._local and not _is_hub_id(model):
            raise LoadError(f"`{model}` does not exist", "pass a folder, a weights file or a hub id `owner/name`", path=model)

    def config(self) -> dict[str, Any]:
        """Read ``config.json``; an empty mapping where there is none.

        Raises:
            LoadError: If it is not a JSON object.
        """
        path = self.find(["config.json"])
        if path is None:
            return {}
        try:
            values: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LoadError(f"`{path}` is not a JSON file: {error}", "download it again", path=str(path)) from error
        if not isinstance(values, dict):
            raise LoadError(f"`{path}` does not hold a JSON object", "download it again", path=str(path))
        return values

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
            for pattern in patterns:
                if found := sorted(path for path in folder.glob(pattern) if path.is_file()):
                    return found[0]
            return None
        return self._download(patterns)

    def _download(self, patterns: Sequence[str]) -> Path | None:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
        )

        try:
            folder = Path(snapshot_download(self.model, revision=self.revision, allow_patterns=list(patterns)))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
            raise LoadError(
                f"`{self.model}` is no local path and cannot be fetched from the hub: {str(error).splitlines()[0]}",
                "check the name and the network, or pass a local folder",
                path=self.model,
            ) from error
        for pattern in patterns:
            if found := sorted(path for path in folder.rglob("*") if fnmatch.fnmatch(path.name, pattern)):
                return found[0]
        return None


def _is_hub_id(model: str) -> bool:
    parts = model.split("/")
    return len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)


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
    _require_weights(path)
    return _read_safetensors(path, part) if path.suffix == ".safetensors" else _read_pickle(path)


def _require_weights(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS_HEAD))
    except OSError as error:
        raise LoadError(f"`{path}` cannot be read: {error.strerror}", "check the path", path=str(path)) from error
    if head == _LFS_HEAD:
        raise LoadError(f"`{path}` is a Git LFS pointer, not the file itself", "run `git lfs pull`", path=str(path))
    if not head:
        raise LoadError(f"`{path}` is empty", "download it again", path=str(path))


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
