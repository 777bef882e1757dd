"""Incremental parser of EMOVA's replies, tolerating broken ones.

A spoken question is answered by one JSON object with the keys `KEYS`, in that order. `ReplyParser` takes its text as it
comes and gives events: the transcript, the user's style, the answer's text, the style chosen, units. However the text is
cut, the events joined are the same. What is wrong is repaired where the meaning is plain and reported as a `Problem`; what
was good is kept: text is never taken for units, an unknown emotion becomes a neutral one, a cut-off reply ends early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

import regex

from emova_sdk.components.emova.language.reply_format import (
    CHOICES,
    EMOTION,
    KEYS,
    PITCH,
    SPEECH,
    SPEED,
    TEXT,
    USER_EMOTION,
    USER_PITCH,
    USER_TEXT,
    canonical_key,
)
from emova_sdk.components.partial_json import COMMAS, KEY, QUOTES, PartialJSONParser, Wait
from emova_sdk.errors import InputError
from emova_sdk.types import (
    LLMEvent,
    Metadata,
    PerceivedStyle,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    Transcript,
    UnitsDelta,
    UserStyle,
)

Expected = Literal["dialogue", "text", "units"]
ProblemKind = Literal["not_json", "stray", "malformed", "truncated", "missing", "unknown", "duplicate", "late", "bad_unit"]

_SURROGATE = regex.compile("[\ud800-\udfff]")
"""Half of a character, which no file or terminal can take."""
_PREAMBLE = 64
"""Characters in which an object must begin for what precedes it to be dropped rather than said."""
_KEPT = 200
"""Characters of a problem's text that are kept."""
_UNITS = regex.compile(r"(?:<\|speech_(-?\d{1,9})\|>)+")
_OBJECT = regex.compile(rf"\{{\s*(?:\Z|{KEY})", regex.DOTALL)
_TEXT = regex.compile(r"[^{]+")


@dataclass(frozen=True)
class Problem:
    """Something in a reply that is not as it should be.

    Attributes:
        kind: ``not_json``: text where an object was expected. ``stray``: text where none belongs. ``malformed``: repaired
            JSON. ``truncated``: the reply ends early. ``missing``: a key without a value. ``unknown``: a key or value that
            does not exist. ``duplicate``: a key's second value, not used. ``late``: a style after the units it is for.
            ``bad_unit``: a unit that does not exist, dropped.
        message: What happened, in a few words.
        text: The characters concerned, the first 200 of them.
    """

    kind: ProblemKind
    message: str
    text: str = ""


@dataclass(frozen=True)
class ParsedReply:
    """A whole reply.

    Attributes:
        transcript: What the user said, or None.
        user_style: How the user said it, or None.
        text: The answer.
        style: How the answer is spoken, or None where none was written.
        units: The answer's units.
        problems: What was wrong with it.
    """

    transcript: str | None = None
    user_style: PerceivedStyle | None = None
    text: str = ""
    style: Style | None = None
    units: SpeechUnits = field(default_factory=lambda: SpeechUnits.of([]))
    problems: tuple[Problem, ...] = ()


class ReplyParser:
    """A reply's text to events, while it is written.

    Besides what the reply says, `finish` gives a `Metadata` event ``{"reply_problems": [...]}`` where there are any.

    Args:
        expect: ``dialogue`` for an object, ``text`` for plain text, ``units`` for speech alone. It says what counts as a
            problem; a reply of another kind is read all the same.
        speaker: Voice of the chosen style: it comes from the user, never from the model.
        units: Number of units that exist.
    """

    def __init__(self, *, expect: Expected = "dialogue", speaker: str = "female", units: int = 4096) -> None:
        self._expect: Expected = expect
        self._speaker = Style(speaker).speaker
        self._unit_count = units
        self._problems: list[Problem] = []
        self._events: list[LLMEvent] = []
        self._values: dict[str, str | None] = {}
        self._style_chosen = False
        self._user_style_told = False
        self._unit_stray = ""
        self._unit_text = ""  # what may still be a unit, or the beginning of one
        self._takes_units = False
        self._said = False
        self._unknown: set[str] = set()
        self._finished = False
        self._reader = PartialJSONParser(lambda message, text: self._report("malformed", message, text))
        self._steps = self._run()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was wrong so far."""
        return tuple(self._problems)

    def push(self, text: str) -> list[LLMEvent]:
        """Take the next characters; return what is certain, neighbouring deltas joined.

        Raises:
            InputError: After `finish`.
        """
        self._check_unfinished()
        self._reader.feed(_SURROGATE.sub("\ufffd", text))
        return self._advance()

    def push_units(self, ids: Sequence[int]) -> list[LLMEvent]:
        """Take units that were written as tokens of their own; return what is certain.

        Raises:
            InputError: After `finish`.
        """
        if self._finished or not (self._takes_units and self._reader.idle and not self._unit_text):
            return self.push("".join(f"<|speech_{number}|>" for number in ids))
        self._tell_units(ids)
        return self._advance()

    def finish(self) -> list[LLMEvent]:
        """Declare the reply complete; return the rest.

        Raises:
            InputError: When called again.
        """
        self._check_unfinished()
        self._finished = True
        self._reader.end()
        return self._advance()

    def _check_unfinished(self) -> None:
        if self._finished:
            raise InputError("this reply is finished", "use a new parser for each reply")

    def _advance(self) -> list[LLMEvent]:
        next(self._steps, None)
        events, self._events = self._events, []
        return events

    def _tell(self, event: LLMEvent) -> None:
        """Keep an event, joined with the one before if both are pieces of one thing."""
        last = self._events[-1] if self._events else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            self._events[-1] = TextDelta(last.text + event.text)
        elif isinstance(event, UnitsDelta) and isinstance(last, UnitsDelta):
            self._events[-1] = UnitsDelta(SpeechUnits.of([*last.units.ids, *event.units.ids]))
        else:
            self._events.append(event)

    def _tell_text(self, text: str) -> None:
        if text:
            self._tell(TextDelta(text))

    def _report(self, kind: ProblemKind, message: str, text: str = "") -> None:
        problem = Problem(kind, message, text[:_KEPT])
        if problem not in self._problems:
            self._problems.append(problem)

    # --- the whole reply

    def _run(self) -> Wait[None]:
        reader = self._reader
        reader.skip((yield from reader.blank()))
        start = yield from self._find_object()
        if start is None:
            yield from self._plain()
        else:
            self._stray(reader.skip(start))
        if (yield from reader.peek()):
            reader.skip(1)
            yield from self._object()
        self._tell_user_style()
        if self._values and self._expect == "dialogue":
            self._choose_style()
        self._report_missing()
        if self._problems:
            self._tell(Metadata({"reply_problems": [asdict(problem) for problem in self._problems]}))

    def _find_object(self) -> Wait[int | None]:
        """Return how far ahead the object begins, within the few characters that may precede it."""
        for ahead in range(_PREAMBLE if self._expect == "dialogue" else 1):
            if (yield from self._object_begins(ahead)):
                return ahead
        return None

    def _object_begins(self, ahead: int) -> Wait[bool]:
        match = yield from self._reader.match(_OBJECT, ahead)
        if match is None or self._expect == "dialogue":
            return match is not None
        return match[1] is not None and canonical_key(match[1]) in (*KEYS, SPEED)

    def _plain(self) -> Wait[None]:
        """Read text and units up to the end, or to an object that follows after all."""
        self._said = (yield from self._reader.peek()) != ""
        if self._expect == "dialogue" and self._said:
            self._report("not_json", "the reply is not an object")
        self._takes_units = True
        while (yield from self._reader.peek()) and not (yield from self._object_begins(0)):
            self._read_units(self._reader.run(_TEXT) or self._reader.skip(1), self._plain_text)
        self._end_units(self._plain_text)

    def _plain_text(self, text: str) -> None:
        if self._expect == "units":
            self._unit_stray += text
        else:
            self._tell_text(text)

    def _object(self) -> Wait[None]:
        """Read fields up to the end; text between and behind them is stray."""
        reader, closed, stray = self._reader, False, ""
        while True:
            reader.skip((yield from reader.blank()))
            char = yield from reader.peek()
            key = (yield from reader.key()) if char in QUOTES else None
            if not char or key is not None:
                self._stray(stray)
                stray = ""
            if not char:
                break
            if key is not None:
                yield from reader.take_key()
                yield from self._field(key)
                closed = False
            elif char == "}" or (char in COMMAS and not closed):
                closed = closed or char == "}"
                reader.skip(1)
            else:
                stray += reader.skip(1)
        if not closed:
            self._report("truncated", "the reply ends before its object is closed")

    def _stray(self, text: str) -> None:
        if text.strip("` \n\t").removeprefix("json").strip():
            self._report("stray", "text outside the fields", text.strip())

    # --- one field

    def _field(self, key: str) -> Wait[None]:
        name = canonical_key(key)
        if name in self._values or name not in (*KEYS, SPEED):
            written = yield from self._value()
            self._report("duplicate" if name in self._values else "unknown", f"key `{key}`", str(written))
        elif name == TEXT:
            self._values[name] = yield from self._value(self._tell_text)
        elif name == SPEECH:
            yield from self._speech()
        elif name == USER_TEXT:
            self._values[name] = yield from self._value()
            if self._values[name] is not None:
                self._tell(Transcript(self._values[name] or ""))
        else:
            self._values[name] = self._choice(name, (yield from self._value()))
        if self._values.keys() & {TEXT, EMOTION, PITCH, SPEECH} or self._values.keys() >= {USER_EMOTION, USER_PITCH}:
            self._tell_user_style()

    def _speech(self) -> Wait[None]:
        self._values[SPEECH] = ""
        self._choose_style()
        self._takes_units = (yield from self._reader.peek()) in QUOTES
        self._values[SPEECH] = yield from self._value(lambda text: self._read_units(text, self._stray_in_units))
        self._end_units(self._stray_in_units)

    def _value(self, sink: Callable[[str], None] = lambda _text: None) -> Wait[str | None]:
        """Read a value, handing over its text as it comes; None for ``null`` and for nothing."""
        parts: list[str] = []

        def keep(text: str) -> None:
            parts.append(text)
            sink(text)

        if (yield from self._reader.peek()) in QUOTES:
            yield from self._reader.string(keep)
            return "".join(parts)
        bare = yield from self._reader.bare()
        if bare in {"", "null", "None"}:
            return None
        self._report("malformed", "a value without quotes", bare)
        sink(bare)
        return bare

    def _choice(self, name: str, written: str | None) -> str | None:
        """Return the value of a closed list that is meant, or None."""
        if written is None:
            return None
        value = written.strip().casefold()
        if value not in CHOICES[name]:
            self._report("unknown", f"`{name}` is not one of {', '.join(CHOICES[name])}", written)
            self._unknown.add(name)
            return None
        if value != written:
            self._report("malformed", f"`{name}` is not written as agreed", written)
        if name in {EMOTION, PITCH, SPEED} and self._style_chosen:
            self._report("late", f"`{name}` comes after the speech it is for", written)
        return value

    # --- what is told

    def _tell_user_style(self) -> None:
        emotion, pitch = self._values.get(USER_EMOTION), self._values.get(USER_PITCH)
        if self._user_style_told or (emotion is None and pitch is None):
            return
        self._user_style_told = True
        style = Style(self._speaker, cast("Any", emotion or "neutral"), cast("Any", pitch or "normal"))
        self._tell(UserStyle(PerceivedStyle(style, source="llm_core")))

    def _choose_style(self) -> None:
        if self._style_chosen:
            return
        self._style_chosen = True
        axes = [
            self._values.get(name) or default for name, default in ((EMOTION, "neutral"), (PITCH, "normal"), (SPEED, "normal"))
        ]
        self._tell(StyleChosen(Style(self._speaker, *cast("Any", axes))))

    # --- units

    def _read_units(self, text: str, other: Callable[[str], None]) -> None:
        """Tell units from the text around them, which ``other`` takes as soon as it is certain."""
        text, at = self._unit_text + text, 0
        while (run := _UNITS.search(text, at)) is not None:
            other(text[at : run.start()])
            self._tell_units([int(number) for number in run.captures(1)])
            at = run.end()
        begun = _UNITS.search(text, at, partial=True)
        end = begun.start() if begun else len(text)
        self._unit_text = text[end:]
        other(text[at:end])

    def _end_units(self, other: Callable[[str], None]) -> None:
        """Give out what only looked like the beginning of a unit."""
        self._takes_units = False
        other(self._unit_text)
        self._unit_text = ""
        self._end_unit_stray()

    def _tell_units(self, ids: Sequence[int]) -> None:
        self._end_unit_stray()
        exist = [number for number in ids if 0 <= number < self._unit_count]
        for number in ids if len(exist) < len(ids) else ():
            if number not in exist:
                self._report("bad_unit", f"there is no unit `{number}`", f"<|speech_{number}|>")
        if self._expect == "text" and not self._values:
            for number in exist:
                self._report("stray", "units in a reply of text", f"<|speech_{number}|>")
        elif exist:
            if self._expect == "dialogue":
                self._choose_style()
            self._tell(UnitsDelta(SpeechUnits.of(exist)))

    def _stray_in_units(self, text: str) -> None:
        self._unit_stray += text

    def _end_unit_stray(self) -> None:
        stray, self._unit_stray = self._unit_stray.strip(), ""
        if stray:
            self._report("stray", "text among the units", stray)

    def _report_missing(self) -> None:
        if not self._values:
            if not self._said:
                self._report("missing", "the reply is empty")
            return
        for name in KEYS:
            if self._values.get(name) is None and name not in self._unknown:
                self._report("missing", f"`{name}` has no value")


def parse_reply(text: str, *, expect: Expected = "dialogue", speaker: str = "female", units: int = 4096) -> ParsedReply:
    """Read a whole reply; see `ReplyParser` for the arguments."""
    parser = ReplyParser(expect=expect, speaker=speaker, units=units)
    values: dict[str, Any] = {}
    for event in [*parser.push(text), *parser.finish()]:
        match event:
            case Transcript(transcript):
                values["transcript"] = transcript
            case UserStyle(perceived):
                values["user_style"] = perceived
            case StyleChosen(style):
                values["style"] = style
            case TextDelta(delta):
                values["text"] = values.get("text", "") + delta
            case UnitsDelta(new):
                values["units"] = SpeechUnits.of([*values.get("units", SpeechUnits.of([])).ids, *new.ids])
            case _:
                pass
    return ParsedReply(**values, problems=parser.problems)
