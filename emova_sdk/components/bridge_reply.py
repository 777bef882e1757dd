"""Reading a brain's answer while it is written: a JSON object with emotion, pitch and text, or plain text after all.

However the answer is written, only what it says is told: no brace, key, fence, thought or call is ever read aloud.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, cast

from emova_sdk.components.emova.lenient_json import COMMAS, QUOTES, Reader, Wait
from emova_sdk.components.said import SaidText
from emova_sdk.components.written_calls import written_calls
from emova_sdk.errors import EmptyAnswerError
from emova_sdk.types import EMOTIONS, PITCHES, LLMEvent, Metadata, Style, StyleChosen, TextDelta, ToolCall

__all__ = ["REPLY_SCHEMA", "BrainReply"]

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

_TEXT_KEYS = (
    "text", "answer", "response", "reply", "content", "message", "speech", "say", "spoken", "output", "utterance", "sentence",
    "sentences", "result", "assistant",
)  # fmt: skip
"""Last words of the keys under which the text may stand, the likeliest first."""
_CALL_KEYS = frozenset({"tool call", "tool calls", "function call", "function calls"})
_STYLE_KEYS = {"emotion": "emotion", "mood": "emotion", "tone": "emotion", "feeling": "emotion", "pitch": "pitch"}
_SILENT_KEYS = frozenset({
    "name", "tool", "function", "type", "id", "action", "arguments", "parameters", "args", "role", "language", "lang",
    "speed", "volume", "intensity", "confidence", "title", "description", "thought", "thoughts", "thinking", "reasoning",
    "analysis", "reflection", "plan", "status", "error", "style", "voice", "speaker", "user",
})  # fmt: skip
"""Keys that never hold what is said."""
_SYNONYMS = {
    "joyful": "happy", "joy": "happy", "cheerful": "happy", "excited": "happy", "friendly": "happy", "warm": "happy",
    "happiness": "happy", "sadness": "sad", "empathetic": "sad", "sympathetic": "sad", "compassionate": "sad", "sorry": "sad",
    "anger": "angry", "annoyed": "angry", "surprise": "surprised", "fear": "fearful", "afraid": "fearful", "scared": "fearful",
    "worried": "fearful", "disgust": "disgusted", "calm": "neutral", "higher": "high", "raised": "high", "lower": "low",
    "deep": "low", "medium": "normal", "moderate": "normal", "mid": "normal", "neutral": "normal",
}  # fmt: skip
_DEEPEST = 32
"""How many objects and lists may stand inside each other; answers have three at most."""
_MARKS_ALONE = re.compile(r"[\s\[\]{}\"'“”`:,]*")
"""What nobody can say: the remains of a form that was begun and never filled."""
_LABEL = re.compile(r"[\s*_#>\"'-]*(\w+)[*_\"']*\s*[:=]\s*[*_]*\s*(.*)", re.DOTALL)
_ELEMENT = re.compile(r"<(\w+)>\s*(.*?)\s*</\1>", re.DOTALL)


class BrainReply:
    """An answer's text to events: `StyleChosen` (if there is one) before the first `TextDelta`, calls at the end.

    Args:
        tools: Names of the tools that may be called.
        may_think: Whether the answer may begin with thoughts that no tag opens; see `SaidText`.
        may_remark: Whether plain text is held back, because an object may follow it: then it was a remark.

    Attributes:
        plain: Whether the answer held no object.
        empty: Whether nothing was said and no tool was called.
    """

    def __init__(self, tools: Collection[str] = (), *, may_think: bool = False, may_remark: bool = False) -> None:
        self._tools = tools
        self._written = SaidText(tools, holds=may_think)
        self._said = SaidText(tools)
        self._may_remark = may_remark
        self._events: list[LLMEvent] = []
        self._reader = Reader(lambda _what, _text: None)
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
            if char in "`~" and (yield from self._fence(char)):
                continue
            if char in "[{" and (yield from self._object_begins(char)):
                yield from self._object()
                continue
            if char == "[" and not self._remark.strip() and (yield from self._strings_begin()):
                self._values["text"] = ""
                yield from self._value(self._join)
                self._end_object()
                continue
            if char in QUOTES and not self._remark.strip() and (yield from self._quoted_object_begins()):
                yield from self._quoted_object()
                continue
            self._plain(reader.skip(1))
        self._end_plain()

    def _fence(self, char: str) -> Wait[bool]:
        """Skip the mark of a code fence, and the name behind it."""
        for ahead in (1, 2):
            if (yield from self._reader.peek(ahead)) != char:
                return False
        while (yield from self._reader.peek()) == char:
            self._reader.skip(1)
        while (found := (yield from self._reader.peek())).isalnum() or found in {"_", "+", "-", "."}:
            self._reader.skip(1)
        self._reader.skip((yield from self._reader.blank()))
        return True

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
        word = yield from reader.bare_key(at)
        if word is not None and (_kind(word) or _canonical(word).split()[-1] in _TEXT_KEYS):
            reader.bare_keys = True
        if (yield from reader.key(at)) is None:
            return False
        reader.skip(ahead)
        return True

    def _strings_begin(self) -> Wait[bool]:
        """Whether the answer is a list of sentences."""
        at = yield from self._reader.blank(1)
        return self.empty and (yield from self._reader.peek(at)) in QUOTES

    def _quoted_object_begins(self) -> Wait[bool]:
        """Whether the answer is a string that holds an object, whose own quotes are escaped."""
        at = yield from self._reader.blank(1)
        while (yield from self._reader.peek(at)) in {"\\", '"'}:  # a string in a string
            at += 1
        if not self.empty or (yield from self._reader.peek(at)) != "{":
            return False
        return (yield from self._reader.peek((yield from self._reader.blank(at + 1)))) == "\\"

    def _quoted_object(self) -> Wait[None]:
        self._values, self._unsayable = {"text": ""}, ""
        yield from self._reader.string(self._join)
        self._end_object()
        self.plain = self.empty

    def _join(self, text: str) -> None:
        self._values["text"] += text

    def _plain(self, char: str) -> None:
        if not self.plain:  # a remark behind an object, or the comma between two
            return
        if self._may_remark:
            self._remark += char
        else:
            self._tell(self._said.push(char))

    def _end_plain(self) -> None:
        """Say what was held back and is no remark; its lines may name emotion and pitch as an object does."""
        text, self._remark = self._remark, ""
        if not self.plain or not (text.strip() or not self.empty):
            return
        self._compliant = False
        elements = {tag: value for tag, value in _ELEMENT.findall(text) if _kind(tag) or tag.casefold() in _TEXT_KEYS}
        if any(map(_kind, elements)):
            self._values = {_kind(tag) or tag.casefold(): value for tag, value in elements.items()}
            self._values.setdefault("text", "" if _text_in(self._values) else _ELEMENT.sub("", text).strip())
            self._end_object()
            return
        lines = text.strip().splitlines()
        label = _LABEL.fullmatch(lines[0]) if lines else None
        if label is None or not _kind(label[1]):
            self._tell(self._said.push(text))
            return
        key = ""
        for line in lines:
            label = _LABEL.fullmatch(line)
            known = label is not None and (_kind(label[1]) or label[1].casefold() in _TEXT_KEYS)
            key = label[1].casefold() if label and known else key if _kind(key) is None and key else "text"
            self._values[key] = "\n".join(filter(None, (self._values.get(key), label[2] if label and known else line)))
        self._end_object()

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
            yield from self._gap()
            char = yield from reader.peek()
            if char in {"", "}"}:
                reader.skip(1)
                return
            key = yield from reader.key()
            if key is not None:
                yield from reader.take_key()
                yield from self._field(_canonical(key))
            else:  # a comma, or what belongs nowhere
                reader.skip(1)

    def _gap(self) -> Wait[None]:
        """Skip white space and comments."""
        reader = self._reader
        while True:
            reader.skip((yield from reader.blank()))
            char = yield from reader.peek()
            ahead = (yield from reader.peek(1)) if char == "/" else ""
            if char != "#" and not (char == "/" and ahead and ahead in "/*"):
                return
            end = "*/" if ahead == "*" else "\n"
            while (char := (yield from reader.take())) and not (
                char == end[0] and (len(end) == 1 or (yield from reader.peek()) == end[1])
            ):
                pass
            reader.skip(len(end) - 1)

    def _field(self, key: str) -> Wait[None]:
        yield from self._gap()
        reader, kind = self._reader, _kind(key)
        opening = yield from reader.peek()
        within = yield from reader.peek(1)
        begins = opening in QUOTES and within not in {"{", "[", "\\", ""}  # words, and no object inside a string
        if begins and key.endswith("text") and not self._told and "emotion" in self._values:
            self._choose_style()
            self._streams = True
            yield from reader.string(self._say)
            return
        if key in _CALL_KEYS and opening in {"{", "["}:
            self._calls += written_calls((yield from reader.bare()), self._tools)
            return
        kept: list[str] = []
        before = dict(self._values)
        yield from self._value(kept.append)
        if _SILENT_KEYS & set(key.split()) and kind is None:  # nor does anything inside it
            self._values = before
        else:
            self._values.setdefault(kind or key, "".join(kept))

    def _value(self, sink: Callable[[str], None]) -> Wait[None]:
        reader = self._reader
        opening = yield from reader.peek()
        if opening in QUOTES:
            yield from reader.string(sink)
        elif opening in {"{", "["}:
            if reader.nesting >= _DEEPEST:
                told = f"the model's answer has more than {_DEEPEST} objects and lists inside each other"
                raise EmptyAnswerError(told, "try again, or use a model that keeps to the form")
            reader.skip(1)
            reader.nesting += 1
            yield from self._members() if opening == "{" else self._items(sink)
            reader.nesting -= 1
        else:
            bare = yield from reader.bare()
            if bare not in {"null", "None"}:
                sink(bare)

    def _items(self, sink: Callable[[str], None]) -> Wait[None]:
        """Read a list: its strings are one text, the fields of its objects belong to the object around it."""
        reader, first = self._reader, True
        while True:
            yield from self._gap()
            char = yield from reader.peek()
            if char in {"", "]"}:
                reader.skip(1)
                return
            if char in COMMAS:
                reader.skip(1)
                continue
            if char in QUOTES or char in {"{", "["}:
                sink("" if first or char not in QUOTES else " ")
                yield from self._value(sink)
            else:
                reader.skip(1)
            first = False

    def _end_object(self) -> None:
        """Say what the object says, if that was not possible while it was written."""
        if self._streams:
            return
        text = _text_in(self._values)
        if text.lstrip(' \n"')[:1] == "{":  # an object inside a string
            inner = BrainReply(self._tools)
            events = [*inner.push(text), *inner.finish()]
            self._styled = self._styled or any(isinstance(event, StyleChosen) for event in events)
            self._events += [event for event in events if isinstance(event, StyleChosen | ToolCall)]
            text = "".join(event.text for event in events if isinstance(event, TextDelta))
            self.empty = self.empty and inner.empty
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
        text, self._unsayable = self._unsayable + text, ""
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
        emotion = _one_of(self._values.get("emotion", ""), EMOTIONS, "neutral")
        pitch = _one_of(self._values.get("pitch", ""), PITCHES, "normal")
        self._events.append(StyleChosen(Style(emotion=cast("Any", emotion), pitch=cast("Any", pitch))))


def _canonical(key: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", key.casefold())) or key


def _kind(key: str) -> str | None:
    """Return whether a key names the emotion or the pitch of the answer."""
    named = _canonical(key).split()
    return None if not named or named[0] == "user" else _STYLE_KEYS.get(named[-1])


def _text_in(values: dict[str, str]) -> str:
    """Return what an object says: the value of the likeliest key, or the only one that may be it."""
    for last in _TEXT_KEYS:
        for key, value in values.items():
            if key.split()[-1:] == [last] and value.strip():
                return value
    others = [value for key, value in values.items() if key not in _STYLE_KEYS]
    return others[0] if len(others) == 1 and " " in others[0].strip() else ""


def _one_of(written: str, choices: tuple[str, ...], default: str) -> str:
    """Return the first word of a value that is a choice, or means one."""
    for word in re.findall(r"[^\W\d_]+", written.casefold()):
        for value in (word, _SYNONYMS.get(word, "")):
            if value in choices:
                return value
    return default
