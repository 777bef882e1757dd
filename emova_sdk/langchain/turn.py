"""What is known of one answer while a chat model gives it, and the message it becomes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk

from emova_sdk.langchain.messages import KEY, audio_block
from emova_sdk.langchain.records import tool_call
from emova_sdk.langchain.tokens import call_tokens, words_in
from emova_sdk.types import (
    Audio,
    AudioDelta,
    Message,
    Metadata,
    PerceivedStyle,
    SpeechUnits,
    SpokenEvent,
    Style,
    StyleChosen,
    TextDelta,
    Timings,
    ToolCall,
    Transcript,
    UnitsDelta,
    UnitsEnd,
    UserStyle,
)

__all__ = ["TurnRecord"]


@dataclass
class TurnRecord:
    """An answer while it is given.

    Attributes:
        model: Name of the model, where the language core tells none.
        perceived: How the user spoke.
    """

    model: str
    perceived: PerceivedStyle | None = None
    style: Style | None = None
    _requested: Style | None = None
    _transcript: Transcript | None = None
    _text: str = ""
    _audio: list[Audio] = field(default_factory=list[Audio])
    _calls: list[ToolCall] = field(default_factory=list[ToolCall])
    _facts: dict[str, Any] = field(default_factory=dict[str, Any])
    _units_in: int = 0
    _units_out: int = 0
    _other_in: int = 0
    _began: float = field(default_factory=time.perf_counter)
    _marks: dict[str, float] = field(default_factory=dict[str, float])

    def understood(self, messages: Sequence[Message], tokens: int) -> None:
        """Take note of what the language core reads, and how many tokens it counts."""
        parts = [part for message in messages for part in message.parts]
        self._units_in = sum(len(part) for part in parts if isinstance(part, SpeechUnits))
        self._other_in = tokens - self._units_in
        self._mark("understood_s")

    def note(self, event: SpokenEvent) -> None:
        """Take note of an event."""
        match event:
            case TextDelta():
                self._text += event.text
                self._mark("first_token_s")
            case UnitsDelta():
                self._units_out += len(event.units)
                self._mark("first_token_s")
            case AudioDelta():
                self._audio.append(event.audio)
                self._mark("first_audio_s")
            case Transcript():
                self._transcript = event
            case UserStyle():
                self.perceived = event.perceived
            case StyleChosen():
                self.style, self._requested = event.style, event.requested or event.style
            case ToolCall():
                self._calls.append(event)
            case Metadata():
                self._facts.update(event.values)
            case UnitsEnd():
                pass

    def finish(self) -> None:
        """Take note of the end."""
        self._mark("total_s")

    def _mark(self, name: str) -> None:
        self._marks.setdefault(name, time.perf_counter() - self._began)

    # --- what it becomes ---

    def message(self) -> AIMessage:
        """Return the whole answer, its sound in one block."""
        content: Any = self._text
        if self._audio:
            text = [{"type": "text", "text": self._text}] if self._text else []
            content = [*text, audio_block(Audio.concat(self._audio), self.style)]
        return AIMessage(
            content=content,
            tool_calls=[tool_call(call) for call in self._calls],
            response_metadata=self.metadata(),
            usage_metadata=self.usage(),
        )

    @staticmethod
    def call_chunk(call: ToolCall, index: int) -> ToolCallChunk:
        """Return a tool call as a stream carries it."""
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        return {"type": "tool_call_chunk", "id": call.id, "name": call.name, "args": arguments, "index": index}

    def metadata(self) -> dict[str, Any]:
        """Return what ``response_metadata`` holds: told once for each answer."""
        facts = {key: value for key, value in self._facts.items() if key not in {"usage", "model", "finish_reason"}}
        audio_s = sum(audio.duration_s for audio in self._audio)
        spoken = self.style if self._audio else None
        turn = {
            "transcript": self._transcript.words if self._transcript else None,
            "transcript_confidence": self._transcript.confidence if self._transcript else None,
            **({"transcript_guess": self._transcript.guess} if self._transcript and self._transcript.guess else {}),
            "user_style": self.perceived.to_dict() if self.perceived else None,
            "style": spoken.to_dict() if spoken else None,
            "requested_style": self._requested.to_dict() if spoken and self._requested else None,
            "timings": self._timings(audio_s).to_dict(),
            "usage_counted_by": "model" if "usage" in self._facts else "words and units",
            "metadata": facts,
        }
        reason = self._facts.get("finish_reason") or ("tool_calls" if self._calls else "stop")
        return {"model_name": str(self._facts.get("model", self.model)), "finish_reason": reason, KEY: turn}

    def _timings(self, audio_s: float) -> Timings:
        at = self._marks.get
        return Timings(at("understood_s"), at("first_token_s"), at("first_audio_s"), at("total_s"), audio_s)

    def usage(self) -> UsageMetadata:
        """Return tokens read and written, those of sound in the details.

        A core that counts its own tokens is believed; else words, units and rows of vision features are counted.
        """
        told = self._facts.get("usage", {})
        read = int(told.get("input_tokens", self._other_in)) + self._units_in
        words = words_in(self._text) + sum(call_tokens(call) for call in self._calls)
        written = int(told.get("output_tokens", words)) + self._units_out
        return UsageMetadata(
            input_tokens=read,
            output_tokens=written,
            total_tokens=read + written,
            input_token_details=InputTokenDetails(audio=self._units_in),
            output_token_details=OutputTokenDetails(audio=self._units_out),
        )
