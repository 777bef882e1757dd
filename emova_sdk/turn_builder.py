"""Collects the events of an answer into the two turns that the history keeps."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast
from uuid import uuid4

from emova_sdk.types import (
    Audio,
    AudioDelta,
    Image,
    Metadata,
    PerceivedStyle,
    Segment,
    SpeechUnits,
    SpokenEvent,
    Stage,
    Style,
    StyleChosen,
    TextDelta,
    Timings,
    ToolCall,
    ToolResult,
    Transcript,
    Turn,
    UnitsDelta,
    UnitsEnd,
    UserStyle,
)

Input = str | Audio | Image

NOT_RUN = "not run: the answer was stopped"
CUT_SHORT = "stopped while it ran: whether it took effect is not known"
"""What stands in the place of a result, for each call has exactly one."""

UNITS_PER_CHARACTER = 1.0
"""Rough length of speech, used to place a cut in a text whose units were not all written (measured ones replace it)."""


class TurnWatch(Protocol):
    """Watches one answer being given."""

    def stage(self, name: str, detail: str) -> AbstractContextManager[object]:
        """Surround one step; see `Stage` for the names."""
        ...

    def end(self) -> None:
        """Take note that the answer was recorded, or that it left no trace."""
        ...


@dataclass
class TurnBuilder:
    """Gathers an answer's events; it ``began`` when the user's input ended, which was noticed ``endpointing_s`` later."""

    parts: tuple[Input, ...]
    style: Style | None
    began: float
    endpointing_s: float | None = None
    heard: list[SpeechUnits] = field(default_factory=list[SpeechUnits])
    transcript: Transcript | None = None
    perceived: PerceivedStyle | None = None
    text: str = ""
    chosen: Style | None = None
    requested: Style | None = None
    units: list[SpeechUnits] = field(default_factory=list[SpeechUnits])
    units_ended: bool = False
    unit_space: str = ""
    audio: list[AudioDelta] = field(default_factory=list[AudioDelta])
    tool_calls: list[ToolCall] = field(default_factory=list[ToolCall])
    tool_results: list[ToolResult] = field(default_factory=list[ToolResult])
    running: ToolCall | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    understood: float | None = None
    first_token: float | None = None
    first_audio: float | None = None
    turn: Turn | None = None
    recorded: Turn | None = None
    error: Exception | None = None
    stages: list[Stage] = field(default_factory=list[Stage])
    watch: TurnWatch | None = None
    user_id: str = field(default_factory=lambda: uuid4().hex)
    turn_id: str = field(default_factory=lambda: uuid4().hex)
    _rounds: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def __post_init__(self) -> None:
        if self.endpointing_s is not None:
            self.stages.append(Stage("endpointing", 0.0, self.endpointing_s))

    @contextmanager
    def stage(self, name: str, detail: str = "") -> Generator[None, None, None]:
        """Take the time of one step."""
        began = time.perf_counter() - self.began
        try:
            with self.watch.stage(name, detail) if self.watch is not None else nullcontext():
                yield
        finally:
            self.stages.append(Stage(name, began, time.perf_counter() - self.began, detail))

    def end_round(self) -> None:
        """Take note that the model stopped writing, for it wants the results of the tools it called."""
        self._rounds.append((len(self.text), len(self.tool_calls)))

    def note(self, event: SpokenEvent) -> SpokenEvent:
        """Take an event into account; return it, with a space before what is said first after a tool was called."""
        if isinstance(event, TextDelta) and self._needs_space(event.text):
            event = TextDelta(f" {event.text}")
        now = time.perf_counter()
        match event:
            case TextDelta() | UnitsDelta():
                self.first_token, self.units_ended = self.first_token or now, False
                if isinstance(event, TextDelta):
                    self.text += event.text
                else:
                    self.units.append(event.units)
            case UnitsEnd():
                self.units_ended = True
            case AudioDelta():
                self.first_audio = self.first_audio or now
                self.audio.append(event)
            case Transcript():
                self.transcript = event
            case UserStyle():
                self.perceived = event.perceived
            case StyleChosen():
                self.chosen, self.requested = event.style, event.requested
            case ToolCall():
                self.tool_calls.append(event)
            case Metadata():
                self.metadata.update(event.values)
        return event

    def _needs_space(self, text: str) -> bool:
        if not text or not self._rounds or not self.text:
            return False
        first_of_round = self._rounds[-1][0] == len(self.text)
        return first_of_round and not (self.text[-1].isspace() or text[0].isspace())

    @property
    def user_text(self) -> str:
        typed = [part for part in self.parts if isinstance(part, str)]
        return "\n".join(([self.transcript.words] if self.transcript else []) + typed)

    def finish(self, *, whole: bool) -> Turn:
        """Make the assistant's turn of what there is."""
        sound = self._sound()
        self.turn = Turn(
            "assistant",
            self.text,
            style=self.chosen if sound is not None else None,
            requested_style=self.requested if sound is not None else None,
            audio=sound,
            tool_calls=tuple(self.tool_calls),
            tool_results=(*self.tool_results, *self._results_missing()),
            timings=self._timings(sound.duration_s if sound is not None else 0.0),
            metadata=self.metadata,
            interrupted=not whole,
            units=self._written(),
            unit_space=self.unit_space if self.units else "",
            layout=self._layout(),
            id=self.turn_id,
        )
        return self.turn

    def _layout(self) -> tuple[Segment, ...]:
        said = called = 0
        found: list[Segment] = []
        for text_end, calls_end in (*self._rounds, (len(self.text), len(self.tool_calls))):
            found += [Segment("text", said, text_end), Segment("call", called, calls_end)]
            said, called = text_end, calls_end
        found.append(Segment("units", 0, self.written_units))
        return tuple(segment for segment in found if segment.end > segment.begin)

    def _results_missing(self) -> list[ToolResult]:
        """What the model is told of the calls that were not run, or not to their end."""
        calls = self.tool_calls[len(self.tool_results) :]
        return [ToolResult(call.id, call.name, CUT_SHORT if call is self.running else NOT_RUN, failed=True) for call in calls]

    def _timings(self, audio_s: float) -> Timings:
        marks = [self.understood, self.first_token, self.first_audio, time.perf_counter()]
        times = [None if mark is None else mark - self.began for mark in marks]
        return Timings(*times, audio_s=audio_s, endpointing_s=self.endpointing_s, stages=tuple(self.stages))

    @property
    def written_units(self) -> int:
        """Units the model has written so far."""
        return sum(map(len, self.units))

    @property
    def audio_s(self) -> float:
        """Seconds of sound made so far."""
        return sum(delta.audio.duration_s for delta in self.audio)

    def _sound(self) -> Audio | None:
        return Audio.concat([delta.audio for delta in self.audio]) if self.audio else None

    def user_turn(self) -> Turn:
        """Make the user's turn."""
        sounds = [part for part in self.parts if isinstance(part, Audio)]
        together = [part.resample(sounds[0].sample_rate) for part in sounds]
        metadata: dict[str, Any] = {}
        if self.transcript is not None:
            metadata["transcript_confidence"] = self.transcript.confidence
            metadata |= {"transcript_guess": self.transcript.guess} if self.transcript.guess else {}
        return Turn(
            "user",
            self.user_text,
            perceived=self.perceived,
            audio=Audio.concat(together) if together else None,
            images=tuple(part for part in self.parts if isinstance(part, Image)),
            metadata=metadata,
            units=_joined(self.heard) if self.heard else None,
            unit_space=self.unit_space if self.heard else "",
            layout=tuple(self._user_layout()),
            id=self.user_id,
        )

    def _user_layout(self) -> Generator[Segment, None, None]:
        """What was said, shown and typed, in order; the transcript is no part of what the model reads."""
        typed = 0 if self.transcript is None else len(self.transcript.text) + 1
        shown = units = 0
        heard = iter(self.heard)
        for part in self.parts:
            if isinstance(part, str):
                yield Segment("text", typed, typed + len(part))
                typed += len(part) + 1
            elif isinstance(part, Image):
                yield Segment("image", shown, shown + 1)
                shown += 1
            else:
                length = len(next(heard, ()))
                yield Segment("units", units, units + length)
                units += length

    def _written(self) -> SpeechUnits | None:
        return _joined(self.units) if self.units else None

    def truncate(self, audio_s: float, units_per_character: float) -> Turn:
        """Cut text, sound and units where the listener stopped hearing."""
        turn = cast("Turn", self.turn)
        sound = self._sound()
        if sound is None or (audio_s >= sound.duration_s and not turn.interrupted):
            return turn  # all of it was heard
        heard_units = self._units_within(audio_s)
        written = self.written_units
        total = written if self.units_ended else max(written, round(len(self.text) * units_per_character))
        heard_text = _words_within(self.text, heard_units / total if total else 0.0)
        units = None if turn.units is None else SpeechUnits(turn.units.ids[:heard_units])
        return replace(turn, audio=sound.cut(0.0, audio_s), units=units, interrupted=True, heard_text=heard_text)

    def unheard(self) -> Turn:
        """The turn of an answer of which nothing was heard: what remains is the tools that were called."""
        turn = cast("Turn", self.turn)
        return replace(turn, audio=None, units=None, style=None, requested_style=None, interrupted=True, heard_text="")

    def _units_within(self, audio_s: float) -> int:
        """Units complete after ``audio_s`` seconds, by the vocoder's own chunks; a chunk's units are evenly spread in it."""
        at, units = 0.0, 0
        for delta in self.audio:
            length = delta.audio.duration_s
            if at + length > audio_s:
                return units + int(delta.units * max(0.0, audio_s - at) / length) if length else units
            at, units = at + length, units + delta.units
        return units


def _joined(units: list[SpeechUnits]) -> SpeechUnits:
    return SpeechUnits.of([unit for piece in units for unit in piece.ids.tolist()])


def _words_within(text: str, share: float) -> str:
    """Return the whole words of the first ``share`` of a text."""
    end = round(len(text) * min(1.0, share))
    if end >= len(text) or text[end : end + 1].isspace():
        return text[:end]
    at = max(text.rfind(" ", 0, end), text.rfind("\n", 0, end))
    return text[:at] if at > 0 else ""
