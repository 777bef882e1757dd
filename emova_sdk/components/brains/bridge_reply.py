"""Reading a brain's answer while it is written: a JSON object with emotion, pitch and text, or plain text after all.

However the answer is written, only what it says is told: no brace, key, fence, thought or call is ever read aloud.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, cast

import regex

from emova_sdk.components.brains.labelled_text import (
    TEXT_KEYS,
    canonical,
    field_of,
    labelled,
    may_be_labelled,
    one_of,
    style_key,
)
from emova_sdk.components.brains.spoken_text import SpokenText
from emova_sdk.components.brains.text_tool_calls import text_tool_calls
from emova_sdk.components.partial_json import QUOTES, PartialJSONParser, Wait
from emova_sdk.errors import EmptyAnswerError
from emova_sdk.types import EMOTIONS, PITCHES, LLMEvent, Metadata, Style, StyleChosen, TextDelta, ToolCall

REPLY_SCHEMA: dict[str, object] = {
    "title": "spoken_answer",
    "type": "object",
    "properties": {
        "emotion": {"type": "string", "enum": list(EMOTIONS), "description": "How it is said."},
        "pitch": {"type": "string", "enum": list(PITCHES)},
        "text": {"type": "string", "description": "What is said."},
    },
    "required": ["emotion", "pitch", "text"],
    "additionalProperties": False,
}
"""What a brain is asked for. Emotion and pitch come first, so that speech can begin while the text is still being written."""

_CALL_KEYS = frozenset({"tool call", "tool calls", "function call", "function calls"})
_SILENT_KEYS = frozenset({
    "name", "tool", "function", "type", "id", "action", "arguments", "parameters", "args", "role", "language", "lang",
    "speed", "volume", "intensity", "confidence", "title", "description", "thought", "thoughts", "thinking", "reasoning",
    "analysis", "reflection", "plan", "status", "error", "style", "voice", "speaker", "user",
})  # fmt: skip
"""Keys that never hold what is said."""
_MARKS_ALONE = re.compile(r"[\s\[\]{}\"'“”`:,]*")
"""What nobody can say: the remains of a form that was begun and never filled."""
_FRAGMENTS = (
    (re.compile(r"\s*[\"“](?:emotion|pitch|text)[\"”]\s*:"), "{"),
    (re.compile(r"\s*(?:emotion|pitch)[\"”]\s*:"), '{"'),
    (re.compile(r"\s*\w{1,20}[\"”]\s*,\s*[\"“](?:pitch|text)[\"”]\s*:"), '{"emotion": "'),
    (re.compile(r"[^{]*[\"”]\s*\}[\s}\]`]*\Z"), '{"text": "'),
)
"""Objects without their beginning, as if it had been written already; and what is missing."""
_TAIL_CHARACTERS = '"”}]` \n\t'
_FENCE = regex.compile(r"(?:`{3,}|~{3,})[\w+.-]*\s*")
_STRINGS = regex.compile(r"\[\s*[\"'“]")
_QUOTED_OBJECT = regex.compile(r"[\"'“]\s*[\\\"]*\{\s*\\")
_WORDS = regex.compile(r"[\"'“][^{\[\\]")
"""A string that is no object in a string."""
_BARE_KEY = regex.compile(r"(\w{1,80})\s*[:：]")
_PLAIN = regex.compile(r"[^`~\[{\"'“]+")
_START = 40
"""Characters in which an answer shows whether it names emotion or pitch."""


class BrainReply:
    """An answer's text to events: `StyleChosen` (if there is one) before the first `TextDelta`, calls at the end.

    Args:
        tools: Names of the tools that may be called.
        may_think: Whether the answer may begin with thoughts that no tag opens; see `SpokenText`.
        may_remark: Whether plain text is held back, because an object may follow it: then it was a remark.

    Attributes:
        plain: Whether the answer held no object.
        empty: Whether nothing was said and no tool was called.
    """

    def __init__(self, tools: Collection[str] = (), *, may_think: bool = False, may_remark: bool = False) -> None:
        self._tools = tools
        self._written = SpokenText(tools, holds=may_think)
        self._said = SpokenText(tools)
        self._may_remark = True if may_remark else None  # not known yet
        self._events: list[LLMEvent] = []
        self._reader = PartialJSONParser()
        self._values: dict[str, str] = {}
        self._remark = ""
        self._calls: list[ToolCall] = []
        self._styled = False
        self._unsayable = ""
        self._told: list[str] = []
        self._streams = False
        self._compliant = True
        self.plain = True
        self.empty = True
        self._steps = self._run()

    @property
    def unopened_thoughts(self) -> bool:
        """Whether the answer began with thoughts that no tag opened."""
        return self._written.unopened

    def push(self, text: str) -> list[LLMEvent]:
        """Take the next characters; return what is certain."""
        known = self._written.unopened
        self._reader.feed(self._written.push(text))
        if self._written.unopened and not known:
            self._remark = ""
        return self._advance()

    def drop(self) -> None:
        """Forget what was held back: it was thought."""
        self._remark = ""
        self._written.drop()

    def finish(self) -> list[LLMEvent]:
        """Declare the answer complete; return the rest, and as `Metadata` whether it was not as asked for.

        Raises:
            BackendError: If a tool call was written that cannot be made.
        """
        rest, calls = self._written.finish()
        self._reader.feed(rest)
        self._reader.end()
        next(self._steps, None)
        text, inner = self._said.finish()
        self._tell(text)
        calls += self._calls
        if not self._compliant and not (calls or inner):
            self._events.append(Metadata({"brain": "the answer was not of the form asked for; it was spoken as it is"}))
        self._events += [*calls, *inner]
        events = self._advance()
        self.empty = self.empty and not (calls or inner)
        return events

    def _advance(self) -> list[LLMEvent]:
        next(self._steps, None)
        events, self._events = self._events, []
        joined: list[LLMEvent] = []
        for event in events:
            if isinstance(event, TextDelta) and joined and isinstance(joined[-1], TextDelta):
                joined[-1] = TextDelta(joined[-1].text + event.text)
            else:
                joined.append(event)
        return joined

    # --- the answer as a whole ---

    def _run(self) -> Wait[None]:
        reader = self._reader
        reader.skip((yield from reader.blank()))
        while char := (yield from reader.peek()):
            begins = self.empty and not self._remark.strip()
            if char in "`~" and (fence := (yield from reader.match(_FENCE))):
                reader.skip(len(fence[0]))
            elif char in "[{" and (yield from self._object_begins(char)):
                yield from self._object()
            elif begins and char == "[" and (yield from reader.match(_STRINGS)):
                sentences = yield from self._value()
                self._keep("text", sentences)
                self._end_object()
            elif begins and char in QUOTES and (yield from reader.match(_QUOTED_OBJECT)):
                yield from self._quoted_object()
            else:
                self._plain(reader.run(_PLAIN) or reader.skip(1))
        self._end_plain()

    def _object_begins(self, char: str) -> Wait[bool]:
        """Whether an object with a key stands here, perhaps in a list; skip its bracket if so, and an empty one wholly."""
        reader, ahead = self._reader, 1
        at = yield from reader.blank(ahead)
        if char == "[":
            if (yield from reader.peek(at)) != "{":
                return False
            ahead, at = at + 1, (yield from reader.blank(at + 1))
        if (yield from reader.peek(at)) == "}":
            reader.skip(ahead)
            return True
        word = yield from reader.match(_BARE_KEY, at)
        reader.bare_keys = reader.bare_keys or (word is not None and bool(field_of(word[1])))
        if (yield from reader.key(at)) is None:
            return False
        reader.skip(ahead)
        return True

    def _quoted_object(self) -> Wait[None]:
        self._values, self._unsayable = {"text": ""}, ""
        yield from self._reader.string(self._join)
        self._end_object()
        self.plain = self.empty

    def _join(self, text: str) -> None:
        self._values["text"] += text

    def _plain(self, text: str) -> None:
        if not self.plain:  # a remark behind an object, or the comma between two
            return
        self._remark += text
        if self._may_remark is None and len(self._remark) >= _START:
            self._may_remark = may_be_labelled(self._remark[:_START])
        if self._may_remark is False:
            sure = len(self._remark.rstrip(_TAIL_CHARACTERS))
            self._tell(self._remark[:sure])
            self._remark = self._remark[sure:]

    def _end_plain(self) -> None:
        """Say what was held back and is no remark."""
        text, self._remark = self._remark, ""
        if not self.plain or not (text.strip() or not self.empty):
            return
        self._compliant = False
        if not self.empty:  # all but its last characters is said, which may be the rest of an object
            self._tell("" if "}" in text else text)
            return
        missing = next((missing for pattern, missing in _FRAGMENTS if pattern.match(text)), None)
        if missing is not None:
            self._tell(self._read_inner(missing + text.strip()))
            return
        values = labelled(text)
        if values is None:
            self._tell(text)
        else:
            self._values = values
            self._end_object()

    def _read_inner(self, text: str) -> str:
        """Read a text as an answer of its own; return what it says."""
        inner = BrainReply(self._tools)
        events = [*inner.push(text), *inner.finish()]
        self._styled = self._styled or any(isinstance(event, StyleChosen) for event in events)
        self._events += [event for event in events if isinstance(event, StyleChosen | ToolCall)]
        self.empty = self.empty and inner.empty
        return "".join(event.text for event in events if isinstance(event, TextDelta))

    # --- an object ---

    def _object(self) -> Wait[None]:
        """Read the fields of the object whose brace is skipped; the text of a second one is said as well."""
        self._values, self._streams, self._unsayable = {}, False, ""
        yield from self._members()
        self._end_object()
        if self._told or not self.empty:
            self.plain, self._remark = False, ""

    def _members(self) -> Wait[None]:
        reader = self._reader
        while True:
            yield from reader.gap()
            if (yield from reader.peek()) in {"", "}"}:
                reader.skip(1)
                return
            key = yield from reader.key()
            if key is not None:
                yield from reader.take_key()
                yield from reader.gap()
                yield from self._field(canonical(key))
            else:  # a comma, or what belongs nowhere
                reader.skip(1)

    def _field(self, key: str) -> Wait[None]:
        may_stream = key.endswith("text") and not self._told and "emotion" in self._values
        if may_stream and (yield from self._reader.match(_WORDS)):
            self._choose_style()
            self._streams = True
            yield from self._reader.string(self._say)
        else:
            value = yield from self._value()
            self._keep(key, value)

    def _value(self) -> Wait[Any]:
        try:
            return (yield from self._reader.value())
        except ValueError as error:
            raise EmptyAnswerError(
                f"in the model's answer, {error}", "try again, or use a model that keeps to the form"
            ) from error

    def _keep(self, key: str, value: Any) -> None:
        """Keep the value of a field; the fields of objects inside it belong to the object around it."""
        kind = style_key(key)
        if key in _CALL_KEYS and isinstance(value, dict | list):
            self._calls += text_tool_calls(json.dumps(value), self._tools)[0]
        elif kind or not _SILENT_KEYS & set(key.split()):
            inside: list[Any] = value if isinstance(value, list) else [value]
            for one in inside:
                for inner, its_value in one.items() if isinstance(one, dict) else ():
                    self._keep(canonical(inner), its_value)
            words = [one for one in inside if isinstance(one, str)] if isinstance(value, list) else [value]
            self._values.setdefault(kind or key, " ".join(str(one) for one in words if isinstance(one, str | int | float)))

    def _end_object(self) -> None:
        """Say what the object says, if that was not possible while it was written."""
        if self._streams:
            return
        text = _text_in(self._values)
        if text.lstrip(' \n"')[:1] == "{":  # an object inside a string
            text = self._read_inner(text)
        self._choose_style()
        self._compliant = self._compliant and "text" in self._values
        if text.strip() and text.strip() not in "".join(self._told):
            self._say(("\n" if self._told else "") + text)

    def _say(self, text: str) -> None:
        self._told.append(text)
        self._tell(self._said.push(text))

    def _tell(self, text: str) -> None:
        if self.empty and _MARKS_ALONE.fullmatch(text):
            self._unsayable += text
            return
        text, self._unsayable = (self._unsayable + text).lstrip() if self.empty else text, ""
        if text:
            self.empty = False
            self._events.append(TextDelta(text))

    def _choose_style(self) -> None:
        """Tell the style, if the brain named one; what is no emotion is neutral."""
        if not {"emotion", "pitch"} & self._values.keys():
            self._compliant = False
            return
        if self._styled:
            return
        self._styled = True
        emotion = one_of(self._values.get("emotion", ""), EMOTIONS, "neutral")
        pitch = one_of(self._values.get("pitch", ""), PITCHES, "normal")
        self._events.append(StyleChosen(Style(emotion=cast("Any", emotion), pitch=cast("Any", pitch))))


def _text_in(values: dict[str, str]) -> str:
    """Return what an object says: the value of the likeliest key, or the only one that may be it."""
    for last in TEXT_KEYS:
        for key, value in values.items():
            if key.split()[-1:] == [last] and value.strip():
                return value
    others = [value for key, value in values.items() if key not in {"emotion", "pitch"}]
    return others[0] if len(others) == 1 and " " in others[0].strip() else ""
