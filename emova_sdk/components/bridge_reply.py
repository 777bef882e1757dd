"""Reading a brain's answer while it is written: a JSON object with emotion, pitch and text, or plain text after all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from emova_sdk.components.emova.lenient_json import COMMAS, QUOTES, Reader, Wait
from emova_sdk.types import EMOTIONS, PITCHES, LLMEvent, Metadata, Style, StyleChosen, TextDelta

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

_TEXT_KEYS = ("text", "answer", "response", "reply", "content", "message")
_SYNONYMS = {
    "joyful": "happy", "joy": "happy", "cheerful": "happy", "excited": "happy", "friendly": "happy", "warm": "happy",
    "sadness": "sad", "empathetic": "sad", "sympathetic": "sad", "compassionate": "sad", "sorry": "sad",
    "anger": "angry", "annoyed": "angry", "surprise": "surprised", "fear": "fearful", "afraid": "fearful", "scared": "fearful",
    "worried": "fearful", "disgust": "disgusted", "calm": "neutral",
}  # fmt: skip
_FENCES = ("```json", "```")


class BrainReply:
    """An answer's text to events: `StyleChosen` (if there is one) before the first `TextDelta`."""

    def __init__(self) -> None:
        self._events: list[LLMEvent] = []
        self._reader = Reader(lambda _what, _text: None)
        self._values: dict[str, str] = {}
        self._told = False
        self._compliant = True
        self._steps = self._run()

    def push(self, text: str) -> list[LLMEvent]:
        """Take the next characters; return what is certain."""
        self._reader.feed(text)
        return self._advance()

    def finish(self) -> list[LLMEvent]:
        """Declare the answer complete; return the rest, and as `Metadata` whether it was not as asked for."""
        self._reader.end()
        return self._advance()

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

    def _run(self) -> Wait[None]:
        reader = self._reader
        reader.skip((yield from reader.blank()))
        fenced = yield from self._fence()
        if (yield from self._object_begins(fenced)):
            reader.skip(fenced + 1)
            yield from self._object()
        else:
            yield from self._plain()
        if not self._compliant:
            self._events.append(Metadata({"brain": "the answer was not of the form asked for; it was spoken as it is"}))

    def _fence(self) -> Wait[int]:
        """How many characters of a code fence and white space precede the answer."""
        for fence in _FENCES:
            ahead = 0
            while ahead < len(fence) and (yield from self._reader.peek(ahead)) == fence[ahead]:
                ahead += 1
            if ahead == len(fence):
                return (yield from self._reader.blank(ahead))
        return 0

    def _object_begins(self, ahead: int) -> Wait[bool]:
        if (yield from self._reader.peek(ahead)) != "{":
            return False
        at = yield from self._reader.blank(ahead + 1)
        return (yield from self._reader.key(at)) is not None

    def _plain(self) -> Wait[None]:
        said = False
        while char := (yield from self._reader.peek()):
            said = True
            self._say(char)
            self._reader.skip(1)
        self._compliant = not said

    def _object(self) -> Wait[None]:
        """Read the fields; what follows the object is not said."""
        reader = self._reader
        while True:
            reader.skip((yield from reader.blank()))
            char = yield from reader.peek()
            key = (yield from reader.key()) if char in QUOTES else None
            if key is not None:
                yield from reader.take_key()
                yield from self._field(key.strip().casefold())
            elif char in COMMAS and char:
                reader.skip(1)
            else:
                break
        while (yield from reader.peek()):  # a closing brace or fence, and remarks
            reader.skip(1)
        if not self._told:  # the text came before the style, or under another name
            self._choose_style()
            self._compliant = self._compliant and "text" in self._values
            self._say(next((self._values[key] for key in _TEXT_KEYS if key in self._values), ""))

    def _field(self, key: str) -> Wait[None]:
        if key == "text" and not self._told and {"emotion", "pitch"} & self._values.keys():
            self._choose_style()
            self._told = True
            yield from self._value(self._say)
            return
        kept: list[str] = []
        yield from self._value(kept.append)
        self._values.setdefault(key, "".join(kept))

    def _value(self, sink: Callable[[str], None]) -> Wait[None]:
        if (yield from self._reader.peek()) in QUOTES:
            yield from self._reader.string(sink)
            return
        bare = yield from self._reader.bare()
        if bare not in {"null", "None"}:
            sink(bare)

    def _say(self, text: str) -> None:
        if text:
            self._events.append(TextDelta(text))

    def _choose_style(self) -> None:
        """Tell the style, if the brain named one; what is no emotion is neutral."""
        if not {"emotion", "pitch"} & self._values.keys():
            self._compliant = False
            return
        emotion = _one_of(self._values.get("emotion", ""), EMOTIONS, "neutral")
        pitch = _one_of(self._values.get("pitch", ""), PITCHES, "normal")
        self._events.append(StyleChosen(Style(emotion=cast("Any", emotion), pitch=cast("Any", pitch))))


def _one_of(written: str, choices: tuple[str, ...], default: str) -> str:
    value = written.strip().casefold()
    value = _SYNONYMS.get(value, value)
    return value if value in choices else default
