"""Signals: sound, pictures, speech units and vision features."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emova_sdk import audio as sound
from emova_sdk.arguments import checked, checked_except
from emova_sdk.errors import InputError
from emova_sdk.files import EXAMPLES, FileSource, searchable, write_atomically


@dataclass(frozen=True, eq=False)
class Audio:
    """Mono audio.

    Attributes:
        samples: float32 of shape (samples,), nominally in [-1, 1]; may be empty.
        sample_rate: In Hz, 1,000 to 384,000.

    Raises:
        InputError: If dtype, shape, range or rate is wrong, or a sample is NaN or infinite.
    """

    samples: NDArray[np.float32]
    sample_rate: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample_rate", sound.require_signal(self.samples, self.sample_rate))

    @classmethod
    @checked_except("source")
    def open(cls, source: FileSource, *, max_duration_s: float | None = None) -> Audio:
        """Read a WAV, FLAC, OGG or MP3 file; several channels are mixed to one.

        Args:
            source: A path, the bytes of a file, or a file opened in binary mode, which may be a pipe.
            max_duration_s: Longest audio accepted, in seconds.

        Raises:
            InputError: If it is missing, empty, truncated, longer than ``max_duration_s`` or not an audio file.
        """
        return cls(*sound.read(source, max_duration_s=max_duration_s))

    @classmethod
    def example(cls, name: Literal["question", "happy", "sad"] = "question") -> Audio:
        """Return a spoken sentence from the package: a question about `Image.example`, or something happy or sad."""
        if str(name) not in {"question", "happy", "sad"}:
            raise InputError(f"there is no example `{name}`", "choose one of question, happy, sad")
        return cls.open(EXAMPLES / f"{name}.flac")

    @classmethod
    def from_pcm16(cls, pcm: sound.PCM16, sample_rate: int) -> Audio:
        """Make an `Audio` from 16-bit samples: raw little-endian bytes, or an array of int16.

        Raises:
            InputError: If they have another type, e.g. float, or an odd number of bytes.
        """
        return cls(sound.decode_pcm16(pcm), sample_rate)

    @classmethod
    @checked
    def silence(cls, duration_s: float, sample_rate: int) -> Audio:
        """Return ``duration_s`` seconds of zeros."""
        if not 0.0 <= duration_s < math.inf:
            raise InputError(f"`{duration_s}` is no length in seconds", "pass 0 or more")
        return cls(np.zeros(round(duration_s * sound.require_rate(sample_rate)), np.float32), sample_rate)

    @classmethod
    @checked
    def concat(cls, parts: Sequence[Audio], *, sample_rate: int | None = None) -> Audio:
        """Concatenate audio of one sample rate; ``sample_rate`` is needed only if ``parts`` may be empty.

        Raises:
            InputError: If the rates differ, or ``parts`` is empty and no rate is given.
        """
        rates = {part.sample_rate for part in parts} | ({sample_rate} if sample_rate else set())
        if len(rates) != 1:
            raise InputError(f"cannot join sounds of the rates {sorted(rates)}", "resample them to one rate first")
        joined = np.concatenate([part.samples for part in parts]) if parts else np.zeros(0, np.float32)
        return cls(joined, rates.pop())

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    @checked
    def save(self, path: str | Path) -> Path:
        """Write a PCM16 ``.wav`` or ``.flac`` file (temporary name first, then renamed) and return its path."""
        sound.write(path, self.samples, self.sample_rate)
        return Path(path)

    def to_pcm16(self) -> bytes:
        """Return little-endian 16-bit samples."""
        return sound.encode_pcm16(self.samples).astype("<i2").tobytes()

    def resample(self, sample_rate: int) -> Audio:
        """Resample to another rate in Hz, band-limited."""
        rate = sound.require_rate(sample_rate)
        return self if rate == self.sample_rate else Audio(sound.resample(self.samples, self.sample_rate, rate), rate)

    @checked
    def cut(self, start_s: float, end_s: float) -> Audio:
        """Return the part between two times in seconds, clipped to the audio's length."""
        if math.isnan(start_s) or math.isnan(end_s):
            raise InputError(f"there is no sound from `{start_s}` to `{end_s}` seconds", "pass two times in seconds")
        begin, end = (round(min(max(0.0, t), self.duration_s) * self.sample_rate) for t in (start_s, end_s))
        return Audio(self.samples[begin:end], self.sample_rate)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Audio) and self.sample_rate == other.sample_rate and np.array_equal(self.samples, other.samples)
        )

    __hash__ = None  # type: ignore[assignment] - how Python says that there is no hash

    def __repr__(self) -> str:
        return f"Audio({self.duration_s:.2f} s, {self.sample_rate} Hz)"


MAX_IMAGE_PIXELS = 64_000_000
"""Most pixels of a picture, unless a caller allows more."""


@dataclass(frozen=True, eq=False)
class Image:
    """An image.

    Attributes:
        pixels: uint8 of shape (height, width, 3), RGB.
    """

    pixels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
            found = getattr(pixels, "dtype", type(pixels).__name__)
            raise InputError(f"image pixels are {found}, not a uint8 array", "scale to 0..255 and convert to uint8")
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise InputError(f"image has shape {pixels.shape}, not (height, width, 3)", "convert it to RGB")

    @classmethod
    @checked_except("source")
    def open(cls, source: FileSource, *, max_pixels: int = MAX_IMAGE_PIXELS, min_side: int = 2) -> Image:
        """Read a PNG, JPEG, WebP, GIF or BMP file as RGB, turned upright by its EXIF orientation.

        Args:
            source: A path, the bytes of a file, or a file opened in binary mode, which may be a pipe.
            max_pixels: Most pixels accepted (width x height); checked before the image is decoded.
            min_side: Shortest side accepted, in pixels.

        Raises:
            InputError: If it is missing, empty, truncated, too small, too large or not an image.
        """
        pixels = _read_picture(source, max_pixels=max_pixels, min_side=min_side)
        return cls(pixels)

    @classmethod
    def example(cls) -> Image:
        """Return an image from the package: a few coloured shapes."""
        return cls.open(EXAMPLES / "scene.png")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @checked
    def save(self, path: str | Path) -> Path:
        """Write a PNG file (temporary name first, then renamed) and return its path."""
        from PIL import Image as Pillow

        picture = Pillow.fromarray(self.pixels)
        return write_atomically(path, lambda file: picture.save(file, format="PNG"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and np.array_equal(self.pixels, other.pixels)

    __hash__ = None  # type: ignore[assignment] - how Python says that there is no hash

    def __repr__(self) -> str:
        return f"Image({self.size[0]}x{self.size[1]})"


def _read_picture(source: FileSource, *, max_pixels: int, min_side: int) -> NDArray[np.uint8]:
    import warnings

    from PIL import Image as Pillow
    from PIL import ImageOps, UnidentifiedImageError

    name = f"`{source}`" if isinstance(source, str | Path) else "the given picture"
    with searchable(source, "picture") as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # our own limit is checked below
                picture = Pillow.open(file)
            _require_size(name, picture.size, max_pixels=max_pixels, min_side=min_side)
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(_as_rgb(upright, name), dtype=np.uint8)
        except InputError:
            raise
        except UnidentifiedImageError as error:
            raise InputError(f"{name} is not a picture that can be read", "use PNG, JPEG, WebP, GIF or BMP") from error
        except Pillow.DecompressionBombError as error:
            raise InputError(f"{name} is far larger than the limit of {max_pixels} pixels", "shrink it") from error
        except Exception as error:  # decoders of broken files raise whatever they stumble over: struct.error, KeyError, ...
            hint = "the file may be truncated: copy it again"
            raise InputError(f"{name} cannot be read as a picture: {error}", hint) from error


def _as_rgb(picture: Any, name: str) -> Any:
    """Return a picture as RGB: white shows through what is transparent, and greys of 16 bits become 8, not white."""
    from PIL import Image as Pillow

    if picture.mode.startswith("I;16") or picture.mode in {"I", "F"}:
        grey = np.asarray(picture)
        lowest, highest = grey.min(), grey.max()
        unit = picture.mode == "F" and 0 < highest <= 1
        if not np.isfinite(grey).all() or lowest < 0 or highest > 65535 or unit:
            raise InputError(f"{name} has greys that are neither of 8 nor of 16 bits", "save it as an 8-bit picture")
        scale = 257 if picture.mode.startswith("I;16") or highest > 255 else 1
        return Pillow.fromarray(np.rint(grey / scale).astype(np.uint8)).convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        return Pillow.alpha_composite(Pillow.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return picture.convert("RGB")


def _require_size(name: str, size: tuple[int, int], *, max_pixels: int, min_side: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise InputError(
            f"{name} has {width}x{height} pixels, and the limit is {max_pixels} in all",
            "shrink it, or raise `max_image_pixels` in the config's [limits] table",
        )
    if min(width, height) < min_side:
        raise InputError(f"{name} has {width}x{height} pixels, too few to see anything", f"use at least {min_side}x{min_side}")


_UNIT = re.compile(r"<\|speech_(\d{1,9})\|>")


@dataclass(frozen=True, eq=False)
class SpeechUnits:
    """Discrete speech units: int64 ``ids`` of shape (units,), none negative; the `Space` says what an id means."""

    ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        ids = self.ids
        if not isinstance(ids, np.ndarray) or ids.dtype != np.int64 or ids.ndim != 1:
            raise InputError("unit ids are not an int64 array of shape (units,)", "use `SpeechUnits.of([...])`")
        if len(ids) and int(ids.min()) < 0:
            raise InputError(f"unit id `{int(ids.min())}` is negative", "unit ids count from 0")

    @classmethod
    def of(cls, ids: Any) -> SpeechUnits:
        """Make units from any sequence of integers."""
        return cls(np.asarray(ids, dtype=np.int64).reshape(-1))

    @classmethod
    def parse(cls, text: str) -> SpeechUnits:
        """Read ``<|speech_7|><|speech_12|>``; white space between units is allowed.

        Raises:
            InputError: If the text contains anything else.
        """
        rest = _UNIT.sub("", text).strip()
        if rest:
            raise InputError(f"`{rest[:40]}` is not a speech unit", "units look like <|speech_7|><|speech_12|>")
        return cls.of([int(match) for match in _UNIT.findall(text)])

    def to_text(self) -> str:
        """Return ``<|speech_7|><|speech_12|>``, the form of units in a language model's text."""
        return "".join(f"<|speech_{unit}|>" for unit in self.ids.tolist())

    def reduced(self) -> SpeechUnits:
        """Return the units with runs of equal ids collapsed to one."""
        keep = np.ones(len(self.ids), dtype=bool)
        keep[1:] = self.ids[1:] != self.ids[:-1]
        return SpeechUnits(self.ids[keep])

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpeechUnits) and np.array_equal(self.ids, other.ids)

    __hash__ = None  # type: ignore[assignment] - how Python says that there is no hash

    def __repr__(self) -> str:
        return f"SpeechUnits({len(self)} units)"


@dataclass(frozen=True, eq=False)
class VisionFeatures:
    """An image as a language model reads it.

    Attributes:
        embeddings: Floats of shape (tokens, dim): a torch tensor, or a NumPy array from a component without torch.
        grid: Rows and columns of the tokens, before any extra tokens a model adds.
    """

    embeddings: Any
    grid: tuple[int, int]

    def __post_init__(self) -> None:
        shape = tuple(getattr(self.embeddings, "shape", ()))
        if len(shape) != 2 or 0 in shape:
            raise InputError(f"vision features have shape {shape}, not (tokens, dim)", "return one matrix for each image")

    def __len__(self) -> int:
        return int(self.embeddings.shape[0])


@dataclass(frozen=True)
class SpeechChunk:
    """A chunk of speech from a vocoder's stream.

    Attributes:
        audio: The audio; may be empty.
        units: How many more of the pushed units are complete with this chunk, by the vocoder's own durations.
    """

    audio: Audio
    units: int
