"""An answer of a chat model while it is given, and the message it becomes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk

from emova_sdk.langchain.messages import KEY, audio_block
from emova_sdk.langchain.records import tool_call
from emova_sdk.langchain.tokens import call_tokens, words_in
from emova_sdk.turn_builder import TurnBuilder
from emova_sdk.types import Audio, Message, PerceivedStyle, SpeechUnits, ToolCall, Turn

__all__ = ["AnswerMessage"]

_TOLD_ELSEWHERE = {"usage", "model", "finish_reason"}
"""Facts of the language core that LangChain has places of its own for."""


class AnswerMessage:
    """Gathers an answer's events.

    Args:
        model: Name of the model, where the language core tells none.

    Attributes:
        gathered: What is known so far.
    """

    def __init__(self, model: str) -> None:
        self.gathered = TurnBuilder((), None, time.perf_counter())
        self._model = model
        self._units_in = self._other_in = 0
        self._turn: Turn | None = None

    @property
    def perceived(self) -> PerceivedStyle | None:
        """How the user spoke."""
        return self.gathered.perceived

    def understood(self, messages: Sequence[Message], tokens: int) -> None:
        """Take note of what the language core reads, and how many tokens it counts."""
        parts = [part for message in messages for part in message.parts]
        self._units_in = sum(len(part) for part in parts if isinstance(part, SpeechUnits))
        self._other_in = tokens - self._units_in
        self.gathered.understood = time.perf_counter()

    @property
    def turn(self) -> Turn:
        """The answer as a turn, once it is complete."""
        self._turn = self._turn or self.gathered.finish(whole=True)
        return self._turn

    def message(self) -> AIMessage:
        """Return the whole answer, its sound in one block."""
        text, sound = self.turn.text, self.turn.audio
        content: Any = text
        if isinstance(sound, Audio):
            content = [*([{"type": "text", "text": text}] if text else []), audio_block(sound, self.turn.style)]
        return AIMessage(
            content=content,
            tool_calls=[tool_call(call) for call in self.turn.tool_calls],
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
        turn, heard, facts = self.turn, self.gathered.transcript, self.turn.metadata
        requested = turn.requested_style or turn.style
        told = {
            "transcript": heard.words if heard else None,
            "transcript_confidence": heard.confidence if heard else None,
            **({"transcript_guess": heard.guess} if heard and heard.guess else {}),
            "user_style": self.perceived.to_dict() if self.perceived else None,
            "style": turn.style.to_dict() if turn.style else None,
            "requested_style": requested.to_dict() if requested else None,
            "timings": turn.timings.to_dict() if turn.timings else None,
            "usage_counted_by": "model" if "usage" in facts else "words and units",
            "metadata": {key: value for key, value in facts.items() if key not in _TOLD_ELSEWHERE},
        }
        reason = facts.get("finish_reason") or ("tool_calls" if turn.tool_calls else "stop")
        return {"model_name": str(facts.get("model", self._model)), "finish_reason": reason, KEY: told}

    def usage(self) -> UsageMetadata:
        """Return tokens read and written, those of sound in the details.

        A core that counts its own tokens is believed; else words, units and rows of vision features are counted.
        """
        told, units_out = self.turn.metadata.get("usage", {}), self.gathered.written_units
        read = int(told.get("input_tokens", self._other_in)) + self._units_in
        words = words_in(self.turn.text) + sum(call_tokens(call) for call in self.turn.tool_calls)
        written = int(told.get("output_tokens", words)) + units_out
        return UsageMetadata(
            input_tokens=read,
            output_tokens=written,
            total_tokens=read + written,
            input_token_details=InputTokenDetails(audio=self._units_in),
            output_token_details=OutputTokenDetails(audio=units_out),
        )
