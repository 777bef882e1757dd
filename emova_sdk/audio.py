"""Sound files, PCM16 and sample rates: plain functions on NumPy arrays.

A signal here is a float32 array of shape ``(samples,)``, mono, nominally in [-1, 1]. Files are read and written by
libsndfile (``soundfile``), rates are changed by the band-limited resampler of ``soxr``.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

Samples = NDArray[np.float32]

__all__ = [
    "Resampler",
    "Samples",
    "decode_pcm16",
    "downmix",
    "encode_pcm16",
    "read",
    "resample",
    "write",
    "write_atomically",
]

WRITABLE = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16")}
_BLOCK_FRAMES = 1 << 18


def read(
    source: str | Path | bytes | BinaryIO, *, mix: bool = True, max_duration_s: float | None = None
) -> tuple[Samples, int]:
    """Read a WAV, FLAC, OGG or MP3 file as mono float32.

    Args:
        source: A path, the bytes of a file, or an open binary file.
        mix: Whether several channels are averaged to one; otherwise such a file is refused.
        max_duration_s: Longest sound accepted, in seconds; checked before the samples are read.

    Returns:
        The samples, float32 of shape (samples,), and their rate in Hz.

    Raises:
        InputError: If the file is missing, empty, truncated, too long or not a sound file.
    """
    import soundfile as sf

    name = f"`{source}`" if isinstance(source, str | Path) else "the given audio data"
    if isinstance(source, str | Path):
        _require_content(Path(source))
    elif isinstance(source, bytes) and not source:
        raise InputError(f"{name} is empty", "pass the bytes of a WAV, FLAC, OGG or MP3 file")
    opened: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with sf.SoundFile(opened) as file:
            rate, frames, channels = int(file.samplerate), int(file.frames), int(file.channels)
            _require_length(name, frames / rate, max_duration_s)
            if channels > 1 and not mix:
                raise InputError(f"{name} has {channels} channels, and one is needed", "pass `mix=True` to average them")
            blocks = _read_blocks(file, name=name, limit=None if max_duration_s is None else int(max_duration_s * rate))
    except (sf.LibsndfileError, OSError, TypeError) as error:
        raise InputError(f"{name} cannot be read as sound: {error}", "use a WAV, FLAC, OGG or MP3 file") from error
    samples = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
    _require_whole(source, name, frames, len(samples))
    return downmix(samples), rate


def _require_content(path: Path) -> None:
    if not path.exists():
        raise InputError(f"`{path}` does not exist", "check the path of the audio file")
    if path.is_dir():
        raise InputError(f"`{path}` is a folder, not an audio file", "name a file in it")
    if path.stat().st_size == 0:
        raise InputError(f"`{path}` is empty (0 bytes)", "record or copy the file again")


def _require_length(name: str, duration_s: float, limit_s: float | None) -> None:
    if limit_s is not None and duration_s > limit_s:
        raise InputError(
            f"{name} lasts {duration_s:.0f} s, and the limit is {limit_s:g} s",
            "cut it, or raise `max_audio_s` in the config's [limits] table",
        )


def _read_blocks(file: Any, *, name: str, limit: int | None) -> list[Samples]:
    """Read block by block, so that a header that lies about the length cannot exhaust the memory."""
    blocks: list[Samples] = []
    total = 0
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        total += len(block)
        if limit is not None and total > limit:
            _require_length(name, total / file.samplerate, limit / file.samplerate)
        blocks.append(block)
    return blocks


def _require_whole(source: str | Path | bytes | BinaryIO, name: str, promised: int, found: int) -> None:
    # libsndfile reports a cut-off WAV with the frames that are there, so the RIFF header is asked as well
    truncated = found < promised
    if isinstance(source, str | Path | bytes):
        head, size = _head(source)
        if head[:4] == b"RIFF" and len(head) >= 44:
            truncated = truncated or _riff_promises_more(head, size)
    if truncated:
        raise InputError(f"{name} is truncated: its header promises more samples than it holds", "copy the file again")


def _head(source: str | Path | bytes) -> tuple[bytes, int]:
    if isinstance(source, bytes):
        return source[:4096], len(source)
    with Path(source).open("rb") as file:
        return file.read(4096), Path(source).stat().st_size


def _riff_promises_more(head: bytes, size: int) -> bool:
    """Whether the ``data`` chunk claims more bytes than follow; 0xFFFFFFFF and 0 mean a streamed file of unknown size."""
    at = 12
    while at + 8 <= len(head):
        chunk, length = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if chunk == b"data":
            return 0 < length < 0xFFFFFFF0 and at + 8 + length > size
        at += 8 + length + (length & 1)
    return False


def downmix(samples: NDArray[Any]) -> Samples:
    """Average channels: (samples, channels) or (samples,) to float32 (samples,)."""
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    return np.ascontiguousarray(mono, dtype=np.float32)


def write(path: str | Path, samples: Samples, sample_rate: int, *, float32: bool = False) -> None:
    """Write mono samples as a WAV or FLAC file, under a temporary name first.

    Args:
        path: Where to; the suffix ``.wav`` or ``.flac`` decides the format.
        samples: float32 of shape (samples,); values outside [-1, 1] are clipped unless ``float32`` is set.
        sample_rate: In Hz.
        float32: Store 32-bit floats (WAV only), without loss, instead of PCM16.

    Raises:
        InputError: If the suffix is neither, or the folder does not exist.
    """
    import soundfile as sf

    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise InputError(f"`{path.name}` does not end in .wav or .flac", "choose one of these suffixes for the output")
    container, subtype = WRITABLE[path.suffix.lower()]
    if float32 and container != "WAV":
        raise InputError("32-bit float samples are written to .wav only", "use the suffix .wav")
    data = samples if float32 else encode_pcm16(samples)

    def write_to(file: BinaryIO) -> None:
        sf.write(file, data, sample_rate, format=container, subtype="FLOAT" if float32 else subtype)

    write_atomically(path, write_to)


def write_atomically(path: str | Path, write_to: Callable[[BinaryIO], object]) -> None:
    """Let ``write_to`` fill a temporary file beside ``path``, then rename it: a reader never sees half a file.

    Raises:
        InputError: If the folder of ``path`` does not exist or cannot be written to.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write to the folder `{path.parent}`: {error.strerror}", "create it, or choose another"
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            write_to(file)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def encode_pcm16(samples: Samples) -> NDArray[np.int16]:
    """float32 in [-1, 1] to int16: clipped, times 32767, rounded to nearest."""
    return np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)


def decode_pcm16(pcm: bytes | NDArray[np.int16]) -> Samples:
    """Little-endian int16 (bytes or array) to float32: divided by 32768.

    Raises:
        InputError: If the number of bytes is odd.
    """
    if isinstance(pcm, bytes) and len(pcm) % 2:
        raise InputError(f"PCM16 data has an odd number of bytes ({len(pcm)})", "pass whole 2-byte samples")
    values = np.frombuffer(pcm, dtype="<i2") if isinstance(pcm, bytes) else pcm
    return (values.astype(np.float32) / 32768.0).astype(np.float32)


def resample(samples: Samples, sample_rate: int, target_rate: int) -> Samples:
    """Change the rate of a whole signal, band-limited; float32 in, float32 out, rates in Hz."""
    import soxr

    if sample_rate == target_rate or not len(samples):
        return samples
    return np.ascontiguousarray(soxr.resample(samples, sample_rate, target_rate, quality="HQ"), dtype=np.float32)


class Resampler:
    """Changes the rate of a signal that comes in chunks: the chunks together equal the whole.

    Args:
        sample_rate: Rate of what is pushed, in Hz.
        target_rate: Rate of what comes out, in Hz.
    """

    def __init__(self, sample_rate: int, target_rate: int) -> None:
        import soxr

        self._same = sample_rate == target_rate
        self._stream: Any = (
            None if self._same else soxr.ResampleStream(sample_rate, target_rate, 1, dtype="float32", quality="HQ")
        )

    def push(self, samples: Samples) -> Samples:
        """Take the next chunk, float32 (samples,); return what is ready, possibly nothing."""
        return samples if self._same else np.asarray(self._stream.resample_chunk(samples, last=False), np.float32)

    def finish(self) -> Samples:
        """Return the rest. The resampler is spent after this."""
        empty = np.zeros(0, np.float32)
        return empty if self._same else np.asarray(self._stream.resample_chunk(empty, last=True), np.float32)
