"""The sounds and pictures of a chat history: files in a folder of its own, or FLAC within the messages."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from emova_sdk.errors import BackendError, InputError
from emova_sdk.files import write_atomically
from emova_sdk.langchain.messages import stored_file
from emova_sdk.types import Audio

__all__ = ["MessageMedia", "compact"]

_SUFFIX = {
    "audio/wav": ".wav", "audio/x-wav": ".wav", "audio/mp3": ".mp3", "audio/mpeg": ".mp3", "audio/flac": ".flac",
    "audio/ogg": ".ogg", "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif",
}  # fmt: skip


class MessageMedia:
    """Files of the messages of one session of one database.

    Args:
        folder: What ``file_id`` counts from; histories may share it.
        own: Name of the folder in it that is this session's alone.
    """

    def __init__(self, folder: Path, own: str) -> None:
        self.folder = folder
        self._own = own

    def keep(self, block: Any) -> Any:
        """Move what a block holds to a file of this history, and name the file in its place."""
        kept = _media_block(block)
        if kept is None:
            return block
        if isinstance(kept.get("base64"), str):
            data = _decoded(kept.pop("base64"))
            suffix = _SUFFIX.get(str(kept.get("mime_type", "")).partition(";")[0].lower(), ".bin")
        else:
            try:  # a file of another history is copied, since that history may be forgotten
                path = stored_file(str(kept.get("file_id", "")), self.folder)
                data, suffix = path.read_bytes(), path.suffix
            except (InputError, OSError):
                return block
        return {**kept, "file_id": self._written(data, suffix)}

    def forget(self) -> None:
        """Remove the files of this history, and no others."""
        shutil.rmtree(self.folder / self._own, ignore_errors=True)

    def _written(self, data: bytes, suffix: str) -> str:
        name = f"{self._own}/{hashlib.sha256(data).hexdigest()[:32]}{suffix}"
        path = self.folder / name
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, data)
        except OSError as error:
            raise BackendError(f"`{path}` cannot be written: {error.strerror}", "check the media folder") from error
        return name


def compact(block: Any) -> Any:
    """Write the sound of a block as FLAC: of 16 bits where they hold it without loss, else of 24."""
    import soundfile as sf

    kept = _media_block(block)
    if kept is None or kept.get("mime_type") not in {"audio/wav", "audio/x-wav"} or not isinstance(kept.get("base64"), str):
        return block
    audio = Audio.open(_decoded(kept["base64"]))
    if float(np.max(np.abs(audio.samples), initial=0.0)) > 1.0:
        return block  # FLAC cannot hold it
    exact = np.array_equal(audio.samples, np.round(audio.samples * 32768.0) / 32768.0)
    file = io.BytesIO()
    sf.write(file, audio.samples, audio.sample_rate, format="FLAC", subtype="PCM_16" if exact else "PCM_24")
    return {**kept, "base64": base64.b64encode(file.getvalue()).decode(), "mime_type": "audio/flac"}


def _media_block(block: Any) -> dict[str, Any] | None:
    if not isinstance(block, Mapping):
        return None
    kept = dict(cast("Mapping[str, Any]", block))
    return kept if kept.get("type") in {"audio", "image"} else None


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"a message does not hold base64: {error}", "encode the file's bytes") from error
