"""Files of a model, in a folder or a repository of the Hugging Face hub: found, looked at, and loaded once."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import nn

from emova_sdk.errors import BackendError, LoadError

Network = TypeVar("Network", bound=nn.Module)

_LFS_HEAD = b"version https://git-lfs.github.com/spec/"


def pick_device(device: str) -> torch.device:
    """``auto`` is a GPU where there is one, else the CPU; anything else is torch's own name of a device."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def is_hub_id(model: str) -> bool:
    """Whether a text looks like `owner/name` rather than a path."""
    parts = model.split("/")
    return len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)


def fetch(model: str, patterns: Sequence[str], *, revision: str | None) -> Path:
    """The folder with a hub repository's files that match; fetched once and kept.

    Raises:
        LoadError: they are not on this machine and cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"`{model}` is not on this machine and cannot be fetched from the hub: {reason}"
        hint = "check the id, the revision, your access and the network, unset `HF_HUB_OFFLINE`, or pass a local folder"
        raise LoadError(message, hint, path=model) from error


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; `LoadError` where there is none."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LoadError(f"`{file}` is missing", "give the folder of a whole checkpoint", path=str(file)) from error
    except (ValueError, OSError) as error:
        raise LoadError(f"`{file}` is not a JSON file: {error}", "download it again", path=str(file)) from error
    if not isinstance(content, dict):
        raise LoadError(f"`{file}` does not hold a JSON object", "download it again", path=str(file))
    return cast("dict[str, Any]", content)


def require_weights(file: Path) -> None:
    """Raise `LoadError` where a file cannot be opened or is a Git LFS pointer in place of the file itself."""
    try:
        with file.open("rb") as stream:
            head = stream.read(len(_LFS_HEAD))
    except FileNotFoundError as error:
        raise LoadError(f"`{file}` is missing", "fetch the whole checkpoint", path=str(file)) from error
    except OSError as error:
        raise LoadError(f"`{file}` cannot be read: {error.strerror}", "check the path", path=str(file)) from error
    if head == _LFS_HEAD:
        hint = "run `git lfs pull` in its folder, or download it from the hub"
        raise LoadError(f"`{file}` is a Git LFS pointer, not the file itself", hint, path=str(file))


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
        """Free the weights. Safe to call again."""
        with self._lock:
            self._net = None

    @property
    def net(self) -> Network:
        """The network itself, loaded on first use."""
        self.load()
        if (net := self._net) is None:
            raise BackendError("the network was closed by another thread while it was used", "load it again")
        return net
