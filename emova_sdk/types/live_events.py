"""What happens in a live conversation: the events of its answers, and what becomes of turns and playback beside them.

``at_s`` counts seconds of recorded sound since the beginning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from emova_sdk.types.events import StyleChosen, TextDelta, ToolCall, ToolResult, Transcript, UserStyle
from emova_sdk.types.signals import Audio
from emova_sdk.types.turns import Turn


@dataclass(frozen=True)
class _Moment:
    kind: ClassVar[str]
    at_s: float

    def __init_subclass__(cls) -> None:
        cls.kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


@dataclass(frozen=True)
class UserSpoke(_Moment):
    """Somebody began to speak; an answer that was being played has paused."""


@dataclass(frozen=True)
class UserPaused(_Moment):
    """Speech stopped at ``at_s``; whether the turn is over is not decided yet."""


@dataclass(frozen=True)
class UserTurn(_Moment):
    """The user's turn is over. ``ended_s`` is when speech stopped, ``at_s`` when that was decided."""

    ended_s: float
    audio: Audio


@dataclass(frozen=True)
class EndOfTurnFailed(_Moment):
    """The end-of-turn detector failed; the turn ends after the usual silence."""

    error: Exception


@dataclass(frozen=True)
class _OfAnswer(_Moment):
    generation: int


@dataclass(frozen=True)
class AnswerBegan(_OfAnswer):
    """An answer is being made; what is said of it follows, and its sound carries its ``generation``."""


@dataclass(frozen=True)
class Playback(_OfAnswer):
    """Sound to play now. What is not of the newest ``generation`` is stale: drop it."""

    audio: Audio


@dataclass(frozen=True)
class FalseInterruption(_OfAnswer):
    """What paused the answer was no turn; it goes on where it paused."""

    audio: Audio


@dataclass(frozen=True)
class Interrupted(_OfAnswer):
    """The answer was cut off after ``heard_s`` seconds of its sound; ``turn`` is what history keeps of it, if anything."""

    heard_s: float
    turn: Turn | None


@dataclass(frozen=True)
class AnswerFinished(_OfAnswer):
    """The answer was played to its end."""

    turn: Turn


@dataclass(frozen=True)
class AnswerFailed(_OfAnswer):
    """The answer could not be made or completed; the conversation goes on."""

    error: Exception


AnswerEvent = UserStyle | Transcript | StyleChosen | TextDelta | ToolCall | ToolResult
"""An event of an answer other than its sound, which comes as `Playback`."""
LiveEvent = (
    UserSpoke
    | UserPaused
    | UserTurn
    | EndOfTurnFailed
    | AnswerBegan
    | AnswerEvent
    | Playback
    | FalseInterruption
    | Interrupted
    | AnswerFinished
    | AnswerFailed
)
