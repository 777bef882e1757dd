"""End-of-turn detection: has the user finished, or only paused? The interface, and the built-in detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from emova_sdk.types import Audio, Turn
from emova_sdk.types.live_settings import LiveSettings
from emova_sdk.types.turn_words import ends_in


@dataclass(frozen=True)
class Pause:
    """What is known when a speaker pauses.

    Attributes:
        audio: The turn so far, 16 kHz, with the silence at its end.
        silence_s: How long that silence is.
        history: The conversation before.
        language: What is spoken, as the settings say.
        transcribe: Finds out the words.
    """

    audio: Audio
    silence_s: float
    history: tuple[Turn, ...]
    language: str
    transcribe: Callable[[], str]

    @cached_property
    def words(self) -> str:
        """What was said so far, found out when it is first asked for; empty where that fails."""
        with suppress(Exception):  # what cannot be understood does not call for more
            return self.transcribe()
        return ""


class EndOfTurn(ABC):
    """Says how long to wait for somebody who paused.

    Attributes:
        after_s: Silence after which it is asked, once in each pause.
        slow: Whether its answer takes time, so that it is asked in a thread of its own.
    """

    after_s: float = 0.2
    slow: bool = True

    @abstractmethod
    def wait_s(self, pause: Pause) -> float:
        """Return the silence, in seconds from the end of speech, after which the turn is over.

        Short where the speaker seems to have finished, long where more is to come: with a probability ``p`` that the turn is
        over, ``0.3 + (1 - p) * 2``, say. Speech before that continues the turn.
        """


class LastWord(EndOfTurn):
    """Waits longer where the last word calls for more ("and", "the", "um"): the built-in detector.

    Args:
        settings: ``end_s``, ``unfinished_end_s``, and the words, or the language whose words they are.
    """

    def __init__(self, settings: LiveSettings = LiveSettings()) -> None:
        self.after_s = settings.end_s
        self.slow = bool(settings.words.unfinished)  # without such words nothing is transcribed
        self._settings = settings

    def wait_s(self, pause: Pause) -> float:
        """See `EndOfTurn`."""
        unfinished = self._settings.words.unfinished
        calls_for_more = bool(unfinished) and ends_in(pause.words, unfinished)
        return self._settings.unfinished_end_s if calls_for_more else self._settings.end_s
