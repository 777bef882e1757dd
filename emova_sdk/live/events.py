"""What happens in a live conversation. ``at_s`` counts seconds of recorded sound since its beginning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emova_sdk.types import Audio, Event, Turn


@dataclass(frozen=True)
class UserSpoke:
    """Somebody began to speak; an answer that was being played has paused."""

    kind: ClassVar[str] = "user_spoke"
    at_s: float


@dataclass(frozen=True)
class UserPaused:
    """Speech stopped at ``at_s``; whether the turn is over is not decided yet."""

    kind: ClassVar[str] = "user_paused"
    at_s: float


@dataclass(frozen=True)
class UserTurn:
    """The user's turn is over. ``ended_s`` is when speech stopped, ``at_s`` when that was decided."""

    kind: ClassVar[str] = "user_turn"
    at_s: float
    ended_s: float
    audio: Audio


@dataclass(frozen=True)
class EndOfTurnFailed:
    """What judges the end of turns failed; the turn ends after the usual silence."""

    kind: ClassVar[str] = "end_of_turn_failed"
    at_s: float
    error: Exception


@dataclass(frozen=True)
class AnswerBegan:
    """An answer is being made; everything of it carries its ``generation``."""

    kind: ClassVar[str] = "answer_began"
    at_s: float
    generation: int


@dataclass(frozen=True)
class Said:
    """An event of the answer other than its sound."""

    kind: ClassVar[str] = "said"
    generation: int
    event: Event


@dataclass(frozen=True)
class Playback:
    """Sound to play now. What is not of the newest ``generation`` is stale: drop it."""

    kind: ClassVar[str] = "playback"
    at_s: float
    generation: int
    audio: Audio


@dataclass(frozen=True)
class FalseInterruption:
    """What paused the answer was no turn; it goes on where it paused."""

    kind: ClassVar[str] = "false_interruption"
    at_s: float
    generation: int
    audio: Audio


@dataclass(frozen=True)
class Interrupted:
    """The answer was cut off after ``heard_s`` seconds of its sound; ``turn`` is what history keeps of it, if anything."""

    kind: ClassVar[str] = "interrupted"
    at_s: float
    generation: int
    heard_s: float
    turn: Turn | None


@dataclass(frozen=True)
class AnswerFinished:
    """The answer was played to its end."""

    kind: ClassVar[str] = "answer_finished"
    at_s: float
    generation: int
    turn: Turn


@dataclass(frozen=True)
class AnswerFailed:
    """The answer could not be made or completed; the conversation goes on."""

    kind: ClassVar[str] = "answer_failed"
    at_s: float
    generation: int
    error: Exception


LiveEvent = (
    UserSpoke
    | UserPaused
    | UserTurn
    | EndOfTurnFailed
    | AnswerBegan
    | Said
    | Playback
    | FalseInterruption
    | Interrupted
    | AnswerFinished
    | AnswerFailed
)
