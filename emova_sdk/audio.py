"""Sound files, PCM16 and sample rates: plain functions on NumPy arrays.

A signal here is a float32 array of shape ``(samples,)``, mono, nominally in [-1, 1]. Files are read and written by
libsndfile (``soundfile``), rates are changed by the band-limited resampler of ``soxr``.
"""

from __future__ import annotations

import io
import os
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emova_sdk.arguments import checked, checked_except
from emova_sdk.errors import InputError
from emova_sdk.files import FileSource, searchable, write_atomically

if TYPE_CHECKING:
    import mmap
    from array import array

Samples = NDArray[np.float32]
PCM16: TypeAlias = "bytes | bytearray | memoryview | mmap.mmap | array[int] | NDArray[np.int16]"


WRITABLE = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16")}
_BLOCK_FRAMES = 1 << 18
_STAND_IN = 0x7FFF0000
"""Lengths from here on (2 GiB) in a WAV header are no lengths: writers that do not know it put them there."""
_CANCELLED = 0.05
"""Least power of an average of channels, beside the loudest of them; channels that do not match at all leave half of it."""


@checked_except("source")
def read(source: FileSource, *, mix: bool = True, max_duration_s: float | None = None) -> tuple[Samples, int]:
    """Read a WAV, FLAC, OGG or MP3 file as mono float32.

    Args:
        source: A path, the bytes of a file (`bytes`, `bytearray`, `memoryview`, `mmap`), or an open binary file, which may
            be a pipe.
        mix: Whether several channels are mixed to one, see `downmix`; otherwise such a file is refused.
        max_duration_s: Longest sound accepted, in seconds; checked before the samples are read.

    Returns:
        The samples, float32 of shape (samples,), and their rate in Hz.

    Raises:
        InputError: If the file is missing, empty, truncated, too long or not a sound file.
    """
    import soundfile as sf

    name = f"`{source}`" if isinstance(source, str | Path) else "the given audio file"
    with searchable(source, "audio file") as opened:
        mended = _with_true_length(opened, name)
        try:
            with sf.SoundFile(mended) as file:
                rate, frames, channels = int(file.samplerate), int(file.frames), int(file.channels)
                _require_length(name, frames / rate, max_duration_s)
                if channels > 1 and not mix:
                    raise InputError(f"{name} has {channels} channels, and one is needed", "pass `mix=True` to mix them")
                limit = None if max_duration_s is None else int(max_duration_s * rate)
                blocks = _read_blocks(file, name=name, limit=limit)
        except (sf.SoundFileError, OSError, TypeError) as error:
            raise InputError(f"{name} cannot be read as sound: {error}", "use a WAV, FLAC, OGG or MP3 file") from error
    samples = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
    if len(samples) < frames:
        raise _truncated(name)
    return downmix(samples), rate


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


def _truncated(name: str) -> InputError:
    return InputError(f"{name} is truncated: its header promises more samples than it holds", "copy the file again")


# --- lengths in WAV headers ---


def _with_true_length(file: BinaryIO, name: str) -> BinaryIO:
    """Return a WAV file whose header does not know its length with one that does; anything else as it is.

    Who writes a WAV file to a pipe cannot go back to fill in its length, so a stand-in is left there: 0, 0x7FFFF000,
    0xFFFFFFFF and others (Microsoft's "Multimedia Programming Interface" has none for "unknown").
    """
    found = _data_chunk(file)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if found is None:
        return file
    start, declared, riff = found
    held = size - start
    if declared > held:  # libsndfile reads what is there, and does not tell a stand-in from a file that was cut off
        # some writers count their header in: a few bytes are no matter
        if max(declared, riff) < _STAND_IN and declared - held > start:
            raise _truncated(name)
        return file
    whole = riff == 0 or riff >= _STAND_IN or declared == 0
    if _holds_chunks(file, start + declared + (declared & 1), size if whole else min(size, riff + 8)):
        return file
    file.seek(0)
    content = bytearray(file.read())
    content[4:8] = (size - 8).to_bytes(4, "little")
    content[start - 4 : start] = held.to_bytes(4, "little")
    return io.BytesIO(content)


def _data_chunk(file: BinaryIO) -> tuple[int, int, int] | None:
    """Return where the samples of a WAV file begin, their declared number of bytes, and the length in the RIFF header."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    while len(chunk := file.read(8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            return file.tell(), length, int.from_bytes(head[4:8], "little")
        file.seek(length + (length & 1), os.SEEK_CUR)
    return None


def _holds_chunks(file: BinaryIO, at: int, end: int) -> bool:
    """Whether nothing but whole RIFF chunks lies between two places (one byte may be left over)."""
    while at + 1 < end:
        file.seek(at)
        chunk = file.read(8)
        length = int.from_bytes(chunk[4:], "little")
        if len(chunk) < 8 or not all(32 <= letter < 127 for letter in chunk[:4]) or at + 8 + length > end:
            file.seek(0)
            return False
        at += 8 + length + (length & 1)
    file.seek(0)
    return True


# --- channels ---


@checked
def downmix(samples: NDArray[Any]) -> Samples:
    """Mix channels to one: (samples, channels) or (samples,) to float32 (samples,).

    It is their average, or, where the channels cancel each other out (one of them has its polarity inverted), the loudest
    of them. A single channel stays bit for bit what it was.
    """
    if samples.ndim not in {1, 2}:
        raise InputError(f"audio has shape {samples.shape}, not (samples, channels)", "pass an array of one or two dimensions")
    if samples.ndim == 1 or samples.shape[1] == 1:
        return np.ascontiguousarray(samples.reshape(-1), dtype=np.float32)
    mono = samples.mean(axis=1)
    if len(samples):
        powers = samples.var(axis=0, dtype=np.float64)
        loudest = int(np.argmax(powers))
        if mono.var(dtype=np.float64) < _CANCELLED * powers[loudest]:
            mono = samples[:, loudest]
    return np.ascontiguousarray(mono, dtype=np.float32)


@checked
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
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise InputError(f"`{path.name}` does not end in .wav or .flac", "choose one of these suffixes for the output")
    content = encode(samples, sample_rate, suffix=path.suffix.lower(), float32=float32)
    write_atomically(path, content)


@checked
def encode(samples: Samples, sample_rate: int, *, suffix: str = ".wav", float32: bool = False) -> bytes:
    """Return the bytes of a WAV or FLAC file, see `write`."""
    import soundfile as sf

    if suffix not in WRITABLE:
        raise InputError(f"`{suffix}` is no format that sounds are written in", f"choose one of {', '.join(WRITABLE)}")
    _require_mono(samples)
    container, subtype = WRITABLE[suffix]
    if float32 and container != "WAV":
        raise InputError("32-bit float samples are written to .wav only", "use the suffix .wav")
    data = samples if float32 else encode_pcm16(samples)
    encoded = io.BytesIO()  # libsndfile hides the errors of a file that it writes itself
    sf.write(encoded, data, require_rate(sample_rate), format=container, subtype="FLOAT" if float32 else subtype)
    return encoded.getvalue()


@checked
def encode_pcm16(samples: Samples) -> NDArray[np.int16]:
    """float32 in [-1, 1] to int16: clipped, times 32767, rounded to nearest."""
    return np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)


def _require_mono(samples: Samples) -> None:
    if samples.ndim != 1:
        raise InputError(f"audio has shape {samples.shape}, not (samples,)", "mix its channels with `downmix`")


def require_rate(rate: object) -> int:
    """Return a sample rate as a plain integer, of NumPy's integers too.

    Raises:
        InputError: If it is no integer of 1,000 to 384,000 Hz.
    """
    try:
        found = 0 if isinstance(rate, bool) else index(rate)  # type: ignore[arg-type]  # the TypeError says so
    except TypeError:
        found = 0
    if not 1_000 <= found <= 384_000:
        raise InputError(f"sample rate `{rate}` is not an integer of 1000 to 384000 Hz", "pass the rate in Hz")
    return found


def require_signal(samples: object, sample_rate: object) -> int:
    """Check a signal; return its rate as a plain integer.

    Raises:
        InputError: If it is no float32 array of shape (samples,), not nominally in [-1, 1], or the rate is out of range.
    """
    require_unmasked(samples)
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32:
        found = getattr(samples, "dtype", type(samples).__name__)
        raise InputError(f"audio samples are {found}, not a float32 array", _samples_hint(samples))
    if samples.ndim != 1:
        raise InputError(f"audio has shape {samples.shape}, not (samples,)", _channels_hint(samples.shape))
    peak = float(np.max(np.abs(samples))) if len(samples) else 0.0
    if not np.isfinite(peak):
        raise InputError("audio holds NaN or infinite samples", "replace them before making an `Audio`")
    if peak > 32.0:
        raise InputError(f"audio peaks at {peak:.0f}, far outside [-1, 1]", "divide integer samples by 32768")
    return require_rate(sample_rate)


def _samples_hint(samples: Any) -> str:
    dtype = getattr(samples, "dtype", None)
    if dtype == np.int16:
        return "convert int16 with `Audio.from_pcm16`"
    if getattr(dtype, "kind", "") in "iu":
        return "divide by the largest value of that type, and convert with `.astype(np.float32)`"
    return "convert floats in [-1, 1] with `np.asarray(samples, np.float32)`, raw 16-bit bytes with `Audio.from_pcm16`"


def _channels_hint(shape: tuple[int, ...]) -> str:
    if len(shape) != 2:
        return "pass one channel"
    axis = 0 if shape[0] < shape[1] else 1
    return f"take one channel, or average them: `samples.mean(axis={axis})`"


def require_unmasked(samples: object) -> None:
    """Refuse masked arrays: what is hidden in them would be heard, or a whole sound taken for silence.

    Raises:
        InputError: If it is one.
    """
    if isinstance(samples, np.ma.MaskedArray):
        raise InputError("audio samples are a masked array", "fill it: `samples.filled(0)`")


def decode_pcm16(pcm: PCM16) -> Samples:
    """16-bit samples to float32: divided by 32768.

    Args:
        pcm: Raw bytes, little-endian, in any object that holds bytes (`bytes`, `bytearray`, `memoryview`, `mmap`), or 16-bit
            integers: a NumPy array of either byte order or an `array.array`.

    Raises:
        InputError: If it is anything else, e.g. floats, or the number of bytes is odd.
    """
    require_unmasked(pcm)
    if isinstance(pcm, np.ndarray):
        if pcm.dtype.kind != "i" or pcm.dtype.itemsize != 2:
            raise InputError(f"PCM16 samples are {pcm.dtype}, not int16", _pcm16_hint(pcm.dtype))
        return pcm.astype(np.float32) / np.float32(32768)
    try:
        view = memoryview(pcm)
    except TypeError as error:
        raise InputError(f"PCM16 samples are a {type(pcm).__name__}, not bytes", "pass bytes, or an int16 array") from error
    if view.format in {"h", "<h"}:
        return decode_pcm16(np.asarray(view))
    if view.format not in {"B", "b", "c"}:
        raise InputError(f"PCM16 samples have the format `{view.format}`, not bytes", "pass bytes, or an int16 array")
    if view.nbytes % 2:
        raise InputError(f"PCM16 data has an odd number of bytes ({view.nbytes})", "pass whole 2-byte samples")
    return decode_pcm16(np.frombuffer(view.tobytes(), dtype="<i2"))


def _pcm16_hint(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        return "for floats in [-1, 1] use `Audio(samples.astype(np.float32), sample_rate)`"
    return "for raw bytes call `.tobytes()`; scale integers of another width to 16 bits"


@checked
def resample(samples: Samples, sample_rate: int, target_rate: int) -> Samples:
    """Change the rate of a whole signal, band-limited; float32 in, float32 out, rates in Hz."""
    import soxr

    _require_mono(samples)
    if require_rate(sample_rate) == require_rate(target_rate) or not len(samples):
        return samples
    return np.ascontiguousarray(soxr.resample(samples, sample_rate, target_rate, quality="HQ"), dtype=np.float32)


class Resampler:
    """Changes the rate of a signal that comes in chunks: the chunks together equal the whole.

    Args:
        sample_rate: Rate of what is pushed, in Hz.
        target_rate: Rate of what comes out, in Hz.
    """

    @checked
    def __init__(self, sample_rate: int, target_rate: int) -> None:
        import soxr

        sample_rate, target_rate = require_rate(sample_rate), require_rate(target_rate)
        self._same = sample_rate == target_rate
        self._stream: Any = (
            None if self._same else soxr.ResampleStream(sample_rate, target_rate, 1, dtype="float32", quality="HQ")
        )

    @checked
    def push(self, samples: Samples) -> Samples:
        """Take the next chunk, float32 (samples,); return what is ready, possibly nothing."""
        _require_mono(samples)
        return samples if self._same else np.asarray(self._stream.resample_chunk(samples, last=False), np.float32)

    def finish(self) -> Samples:
        """Return the rest. The resampler is spent after this."""
        empty = np.zeros(0, np.float32)
        return empty if self._same else np.asarray(self._stream.resample_chunk(empty, last=True), np.float32)
