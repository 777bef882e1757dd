"""Events: what an answer is made of while it is written, and the tools a model may call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from emova_sdk.arguments import checked_fields
from emova_sdk.errors import InputError
from emova_sdk.types.signals import Audio, SpeechUnits
from emova_sdk.types.style import PerceivedStyle, Style
from emova_sdk.types.text import well_formed


def json_object(value: Mapping[str, Any]) -> dict[str, Any]:
    """Keep only what JSON can hold, now rather than when the history is saved."""
    try:
        return cast("dict[str, Any]", json.loads(well_formed(json.dumps(dict(value), allow_nan=False, ensure_ascii=False))))
    except (TypeError, ValueError) as error:
        raise InputError(f"a value cannot be kept as JSON: {error}", "use strings, finite numbers, lists and dicts") from error


UNCLEAR = "[unclear speech]"
"""What stands in a history, and is told to models, in the place of words that were not understood."""


@checked_fields
@dataclass(frozen=True)
class Transcript:
    """What the user said.

    Attributes:
        text: The words; empty if they were not recognised with enough confidence, or nobody spoke.
        confidence: Confidence in [0, 1]; None if the component gives none.
        guess: The closest words if they were not recognised: to be shown as a guess, never to be answered.
    """

    kind: ClassVar[str] = "transcript"
    text: str
    confidence: float | None = None
    guess: str = ""

    @property
    def words(self) -> str:
        """The words, or `UNCLEAR` in their place."""
        return self.text or UNCLEAR

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", well_formed(self.text))


@dataclass(frozen=True)
class UserStyle:
    """How the user said it."""

    kind: ClassVar[str] = "user_style"
    perceived: PerceivedStyle


@dataclass(frozen=True)
class StyleChosen:
    """The style of the answer: ``requested`` by the caller or the model, and ``style`` as it is spoken."""

    kind: ClassVar[str] = "style_chosen"
    style: Style
    requested: Style | None = None


@dataclass(frozen=True)
class TextDelta:
    """The next piece of the answer's text."""

    kind: ClassVar[str] = "text_delta"
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", well_formed(self.text))


@dataclass(frozen=True)
class UnitsDelta:
    """The next speech units of the answer; from the language model to the vocoder, not seen by callers of a session."""

    kind: ClassVar[str] = "units_delta"
    units: SpeechUnits


@dataclass(frozen=True)
class UnitsEnd:
    """The model has written all units of its answer; from a pipeline, not seen by callers of a session."""

    kind: ClassVar[str] = "units_end"


@dataclass(frozen=True)
class AudioDelta:
    """The next piece of the answer's audio; ``units`` more of the answer's speech units are complete with it."""

    kind: ClassVar[str] = "audio_delta"
    audio: Audio
    units: int = 0


@checked_fields
@dataclass(frozen=True)
class ToolCall:
    """The model calls a tool: ``arguments`` is a JSON object."""

    kind: ClassVar[str] = "tool_call"
    id: str
    name: str
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", well_formed(self.id))
        object.__setattr__(self, "name", well_formed(self.name))
        object.__setattr__(self, "arguments", json_object(self.arguments))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"id": self.id, "name": self.name, "arguments": dict(self.arguments)}


@checked_fields
@dataclass(frozen=True)
class ToolResult:
    """The result of the call ``id``; ``failed`` if ``content`` is an error message."""

    kind: ClassVar[str] = "tool_result"
    id: str
    name: str
    content: str
    failed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", well_formed(self.id))
        object.__setattr__(self, "name", well_formed(self.name))
        object.__setattr__(self, "content", well_formed(self.content))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {"id": self.id, "name": self.name, "content": self.content, "failed": self.failed}


@dataclass(frozen=True)
class Metadata:
    """Facts for the turn's record that no other event has, e.g. ``{"speech_path": "text_to_units"}``."""

    kind: ClassVar[str] = "metadata"
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", json_object(self.values))


@checked_fields
@dataclass(frozen=True)
class ToolSpec:
    """A tool as a model sees it: ``parameters`` is the JSON Schema of its arguments object."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", self.name):
            raise InputError(f"tool name `{self.name}` is not of letters, digits, _ and -", "rename the tool")
        object.__setattr__(self, "description", well_formed(self.description))
        object.__setattr__(self, "parameters", json_object(self.parameters))


LLMEvent = Transcript | UserStyle | StyleChosen | TextDelta | UnitsDelta | ToolCall | Metadata
Event = Transcript | UserStyle | StyleChosen | TextDelta | AudioDelta | ToolCall | ToolResult
SpokenEvent = LLMEvent | UnitsEnd | AudioDelta
