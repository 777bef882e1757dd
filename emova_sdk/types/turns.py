"""Messages a language model reads, and the turns a history keeps."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from uuid import uuid4

from emova_sdk import audio as sound
from emova_sdk.arguments import checked_fields
from emova_sdk.errors import InputError
from emova_sdk.types.events import ToolCall, ToolResult, json_object
from emova_sdk.types.signals import Audio, Image, SpeechUnits, VisionFeatures
from emova_sdk.types.style import PerceivedStyle, Style, require_one_of
from emova_sdk.types.text import well_formed

Role = Literal["system", "user", "assistant", "tool"]
Part = str | Image | Audio | SpeechUnits | VisionFeatures | ToolCall | ToolResult


@dataclass(frozen=True)
class Message:
    """One message of a conversation, as a language model reads it.

    Attributes:
        role: The speaker.
        parts: Text, images, audio, units, features, tool calls and results, in order.
        style: How it was said, if known.
        interrupted: Whether the speaker was interrupted (an assistant's message then holds only what was heard).
    """

    role: Role
    parts: tuple[Part, ...]
    style: Style | PerceivedStyle | None = None
    interrupted: bool = False

    def __post_init__(self) -> None:
        require_one_of("role", self.role, get_args(Role))
        if not isinstance(self.parts, tuple | list):
            raise InputError(f"the parts of a message are a {type(self.parts).__name__}", "pass a tuple of parts")
        for part in self.parts:
            if not isinstance(part, get_args(Part)):
                raise InputError(
                    f"a message cannot hold a {type(part).__name__}",
                    "use text, Audio, Image, SpeechUnits or VisionFeatures",
                )
        parts = tuple(well_formed(part) if isinstance(part, str) else part for part in self.parts)
        object.__setattr__(self, "parts", parts)

    @property
    def text(self) -> str:
        """All text parts, joined by newlines."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True)
class MediaRef:
    """Audio or an image stored outside a JSON record.

    Attributes:
        uri: A path relative to the record, or a URL (a ``data:`` URL contains it); empty if it was not stored.
        media_type: ``audio/wav`` or ``image/png``.
        sha256: Of its samples or pixels.
        duration_s: Length of audio in seconds, None for an image.
    """

    uri: str
    media_type: str
    sha256: str
    duration_s: float | None = None

    @classmethod
    def of(cls, media: Audio | Image, uri: str = "") -> MediaRef:
        """Describe a value that is (or is not) kept at ``uri``."""
        if isinstance(media, Audio):
            digest = hashlib.sha256(media.samples.tobytes() + str(media.sample_rate).encode())
            return cls(uri, "audio/wav", digest.hexdigest(), media.duration_s)
        digest = hashlib.sha256(media.pixels.tobytes() + str(media.pixels.shape).encode())
        return cls(uri, "image/png", digest.hexdigest())

    @classmethod
    def save(cls, media: Audio | Image, folder: str | Path) -> MediaRef:
        """Keep a value in ``folder`` without loss (float32 WAV, PNG), named by its content, and refer to it."""
        ref = cls.of(media)
        path = Path(folder) / f"{ref.sha256[:32]}{'.wav' if isinstance(media, Audio) else '.png'}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(media, Audio):
                sound.write(path, media.samples, media.sample_rate, float32=True)
            else:
                media.save(path)
        return cls(path.name, ref.media_type, ref.sha256, ref.duration_s)

    def load(self, folder: str | Path) -> Audio | Image:
        """Read the value back.

        Raises:
            InputError: If it was not kept, is gone, lies outside ``folder`` or is not what it was.
        """
        source = self._data() if self.inline else self._path(folder)
        media = (
            Audio.open(source) if self.media_type.startswith("audio/") else Image.open(source, max_pixels=1 << 31, min_side=1)
        )
        if MediaRef.of(media).sha256 != self.sha256:
            name = source.name if isinstance(source, Path) else self.sha256[:12]
            raise InputError(f"`{name}` is not what was saved: its content has changed", "restore the file from a copy")
        return media

    @property
    def inline(self) -> bool:
        """Whether the value itself is in ``uri``, as a ``data:`` URL."""
        return self.uri.startswith("data:")

    def inlined(self, folder: str | Path) -> MediaRef:
        """Return a reference that holds the value itself; one that was not kept stays as it is.

        Raises:
            InputError: If it is gone, or lies outside ``folder``.
        """
        if not self.uri or self.inline:
            return self
        path = self._path(folder)
        if not path.is_file():
            raise InputError(f"media `{self.uri}` is not in `{folder}` any more", "export without media")
        data = base64.b64encode(path.read_bytes()).decode()
        return replace(self, uri=f"data:{self.media_type};base64,{data}")

    def _data(self) -> bytes:
        try:
            return base64.b64decode(self.uri.partition(",")[2], validate=True)
        except ValueError as error:
            raise InputError(f"media `{self.sha256[:12]}` does not hold base64: {error}", "export it again") from error

    def _path(self, folder: str | Path) -> Path:
        path = (Path(folder) / self.uri).resolve()
        if not self.uri or not path.is_relative_to(Path(folder).resolve()):
            raise InputError(
                f"media `{self.uri or self.sha256[:12]}` was not kept in `{folder}`",
                "save sessions with a media folder",
            )
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"uri": self.uri, "media_type": self.media_type, "sha256": self.sha256, "duration_s": self.duration_s}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MediaRef:
        """Read what `to_dict` wrote."""
        return cls(str(data["uri"]), str(data["media_type"]), str(data["sha256"]), data.get("duration_s"))


@dataclass(frozen=True)
class Stage:
    """One step of an answer; times are seconds from the end of the user's input.

    Attributes:
        name: ``endpointing`` (the wait for the end of the user's turn), ``perceive``, ``hear``, ``see``, ``write`` (the
            language model answers, and is spoken meanwhile) or ``tool``.
        began_s: When it began.
        ended_s: When it ended.
        detail: What did it: the component, or the tool's name.
    """

    name: str
    began_s: float
    ended_s: float
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"name": self.name, "began_s": self.began_s, "ended_s": self.ended_s, "detail": self.detail}


@dataclass(frozen=True)
class Timings:
    """How long an answer took, in seconds from the end of the user's input; None for what did not happen.

    In a live session that is the true end of speech, so that every figure includes the silence that ended the turn.

    Attributes:
        understood_s: Until the input was encoded and the language model began.
        first_token_s: Until the first text or unit.
        first_audio_s: Until the first audio.
        total_s: Until the end.
        audio_s: Length of the answer's audio.
        endpointing_s: Until the end of the user's turn was detected (a live session).
        stages: The steps of the answer, ordered by when they ended.
    """

    understood_s: float | None = None
    first_token_s: float | None = None
    first_audio_s: float | None = None
    total_s: float | None = None
    audio_s: float = 0.0
    endpointing_s: float | None = None
    stages: tuple[Stage, ...] = ()

    @property
    def real_time_factor(self) -> float | None:
        """Processing time per second of audio, without waiting for the user; None without audio."""
        return (
            (self.total_s - (self.endpointing_s or 0.0)) / self.audio_s if self.total_s is not None and self.audio_s else None
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object, the real-time factor included."""
        return {
            "understood_s": self.understood_s,
            "first_token_s": self.first_token_s,
            "first_audio_s": self.first_audio_s,
            "total_s": self.total_s,
            "audio_s": self.audio_s,
            "real_time_factor": self.real_time_factor,
            "endpointing_s": self.endpointing_s,
            "stages": [stage.to_dict() for stage in self.stages],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Timings:
        """Read what `to_dict` wrote; older records tell of no wait and no stages."""
        times = {key: data[key] for key in ("understood_s", "first_token_s", "first_audio_s", "total_s", "audio_s")}
        stages = tuple(Stage(**stage) for stage in data.get("stages", ()))
        return cls(**times, endpointing_s=data.get("endpointing_s"), stages=stages)


class Segment(NamedTuple):
    """A piece of a turn as a language model reads it: a slice of one of the turn's fields.

    Attributes:
        kind: ``text`` (characters of `Turn.text`), ``units`` (of `Turn.units`), ``image`` (of `Turn.images`) or ``call`` (of
            `Turn.tool_calls`, asked for together).
        begin: Where it begins.
        end: Where it ends, exclusive.
    """

    kind: Literal["text", "units", "image", "call"]
    begin: int
    end: int


@checked_fields
@dataclass(frozen=True)
class Turn:
    """One side's turn: an entry of a session's history.

    Attributes:
        role: ``user`` or ``assistant``.
        text: What was said (the user's transcript, or the assistant's whole text).
        style: Style in which the answer was spoken (an assistant's turn).
        requested_style: Style that was requested, whether or not the vocoder could speak it.
        perceived: Style perceived in the speech (a user's turn).
        audio: The audio, or a reference to it.
        images: The images, or references to them.
        tool_calls: Tools called during the answer.
        tool_results: The results of those that ran, matched by ``id``.
        interrupted: Whether the answer was interrupted.
        heard_text: The part of ``text`` that was heard before an interruption; equal to ``text`` otherwise.
        timings: How long it took (an assistant's turn).
        metadata: Facts recorded by components; a JSON object.
        units: The speech units of the audio: encoded (a user's turn) or generated (an assistant's).
        unit_space: The `Space` of ``units``, e.g. ``emova-fsq-8888[4096]``; other models cannot read them.
        layout: In which order the pieces of the turn were said, so that a model can be told of it again exactly; empty where it
            is not known.
        id: Unique name of the turn.
    """

    role: Literal["user", "assistant"]
    text: str
    style: Style | None = None
    requested_style: Style | None = None
    perceived: PerceivedStyle | None = None
    audio: Audio | MediaRef | None = None
    images: tuple[Image | MediaRef, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    interrupted: bool = False
    heard_text: str | None = None
    timings: Timings | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    units: SpeechUnits | None = None
    unit_space: str = ""
    layout: tuple[Segment, ...] = ()
    id: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        require_one_of("role", self.role, ("user", "assistant"))
        object.__setattr__(self, "metadata", json_object(self.metadata))
        object.__setattr__(self, "text", well_formed(self.text))
        object.__setattr__(self, "heard_text", self.text if self.heard_text is None else well_formed(self.heard_text))

    def to_dict(self, media_folder: str | Path | None = None) -> dict[str, Any]:
        """Return a JSON object; audio and images become references, never data.

        Args:
            media_folder: Where to store audio and images; without it only their hash and length are recorded.
        """

        def ref(media: Audio | Image | MediaRef) -> dict[str, Any]:
            if isinstance(media, MediaRef):
                return media.to_dict()
            return (MediaRef.of(media) if media_folder is None else MediaRef.save(media, media_folder)).to_dict()

        return {
            "id": self.id,
            "role": self.role,
            "text": self.text,
            "style": self.style.to_dict() if self.style else None,
            "requested_style": self.requested_style.to_dict() if self.requested_style else None,
            "perceived": self.perceived.to_dict() if self.perceived else None,
            "audio": ref(self.audio) if self.audio is not None else None,
            "images": [ref(image) for image in self.images],
            "tool_calls": [call.to_dict() for call in self.tool_calls],
            "tool_results": [result.to_dict() for result in self.tool_results],
            "interrupted": self.interrupted,
            "heard_text": self.heard_text,
            "timings": self.timings.to_dict() if self.timings else None,
            "metadata": dict(self.metadata),
            "units": self.units.ids.tolist() if self.units is not None else None,
            "unit_space": self.unit_space,
            "layout": [list(segment) for segment in self.layout],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Turn:
        """Read what `to_dict` wrote; audio and images become `MediaRef`s. Older records have no units and no layout.

        Raises:
            InputError: If a key is missing or a value is not of its kind.
        """
        try:
            return cls(
                id=str(data["id"]),
                role=data["role"],
                text=str(data["text"]),
                style=Style.from_dict(data["style"]) if data["style"] else None,
                requested_style=Style.from_dict(data["requested_style"]) if data["requested_style"] else None,
                perceived=PerceivedStyle.from_dict(data["perceived"]) if data["perceived"] else None,
                audio=MediaRef.from_dict(data["audio"]) if data["audio"] else None,
                images=tuple(MediaRef.from_dict(image) for image in data["images"]),
                tool_calls=tuple(ToolCall(**call) for call in data["tool_calls"]),
                tool_results=tuple(ToolResult(**result) for result in data["tool_results"]),
                interrupted=bool(data["interrupted"]),
                heard_text=data["heard_text"],
                timings=Timings.from_dict(data["timings"]) if data["timings"] else None,
                metadata=data["metadata"],
                units=SpeechUnits.of(data["units"]) if data.get("units") is not None else None,
                unit_space=str(data.get("unit_space", "")),
                layout=tuple(_segment(*one) for one in data.get("layout", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"a saved turn cannot be read: {error!r}", "it may be cut off or of another version") from error


def _segment(kind: Any, begin: Any, end: Any) -> Segment:
    require_one_of("kind", kind, ("text", "units", "image", "call"))
    return Segment(kind, max(0, int(begin)), max(0, int(end)))
