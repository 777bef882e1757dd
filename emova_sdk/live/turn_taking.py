"""Turn taking as a state machine: voice activity of frames in, decisions out.

It knows no sound, model, thread or device, and its clock is the number of frames: whatever carries a conversation can drive it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from emova_sdk.live.activity import FRAME_S
from emova_sdk.types.live_settings import LiveSettings


class Decision(Enum):
    """What to do now."""

    BEGAN = "the user began to speak: hold the answer that is heard"
    PAUSED = "the user stopped speaking, and may go on"
    INTERRUPT = "the user speaks for long: stop the held answer for good"
    CHECK_STOP_WORDS = "the user spoke shortly over the held answer: find out whether a stop word was said, see `stop`"
    RESUME = "that was not meant for the answer: let it go on where it was held, and forget the speech"
    ASK_HOW_LONG = "the user paused: `wait` as long as an end-of-turn detector says"
    END = "the turn is over: answer it"


class TurnTaking:
    """Decides when turns begin and end and what interrupts an answer.

    Args:
        settings: Times and whether answers can be interrupted.
        after_s: Silence after which the end-of-turn detector is asked.

    Attributes:
        speaking: Whether the user has begun and neither ended the turn nor said nothing of weight.
        holding: Whether an answer is held until it is clear what the user wants.
    """

    def __init__(self, settings: LiveSettings, *, after_s: float) -> None:
        self.speaking = False
        self.holding = False
        self._settings = settings
        self._after_s = after_s
        self._wait_s: float | None = None
        self._voiced = self._silent = self._length = 0

    @property
    def silence_s(self) -> float:
        """How long nobody has spoken."""
        return self._silent * FRAME_S

    @property
    def voiced_s(self) -> float:
        """How much of the turn so far is speech."""
        return self._voiced * FRAME_S

    def hear(self, *, voiced: bool, answering: bool, stopping: bool, length_s: float) -> Iterator[Decision]:
        """Take note of the next frame.

        Args:
            voiced: Whether it holds speech.
            answering: Whether an answer is given.
            stopping: Whether an earlier answer has not stopped yet: the next cannot begin.
            length_s: How long the user's turn is, in seconds of sound that is kept of it.
        """
        self._voiced = self._voiced + 1 if voiced else (self._voiced if self.speaking else 0)
        self._silent = 0 if voiced else self._silent + 1
        if not self.speaking:
            if self._voiced * FRAME_S >= self._settings.start_s:
                self.speaking, self.holding = True, answering
                self._silent, self._wait_s = 0, None
                yield Decision.BEGAN
            return
        if voiced:
            self._wait_s = None
        if self._silent == 1:
            yield Decision.PAUSED
        yield from self.decide(stopping=stopping, length_s=length_s)

    def decide(self, *, stopping: bool, length_s: float) -> Iterator[Decision]:
        """Say what follows from what was heard so far; again, once a question was answered."""
        if self.holding:
            if self.voiced_s >= self._settings.interrupt_s:
                self.holding = False
                yield Decision.INTERRUPT
            elif self.silence_s >= self._settings.resume_s:
                yield Decision.CHECK_STOP_WORDS
        elif stopping or not self.speaking:
            return
        elif length_s >= self._settings.longest_s or (self._wait_s is not None and self.silence_s >= self._wait_s):
            yield Decision.END
        elif self._wait_s is None and self.silence_s >= self._after_s:
            yield Decision.ASK_HOW_LONG

    def stop(self, *, said: bool) -> Decision:
        """Answer `Decision.CHECK_STOP_WORDS`: whether a stop word was ``said``."""
        self.holding = False
        if not said:
            self.rest()
        return Decision.INTERRUPT if said else Decision.RESUME

    def wait(self, wait_s: float) -> None:
        """Answer `Decision.ASK_HOW_LONG`: the silence after which the turn is over; see then what to `decide`."""
        self._wait_s = wait_s

    def rest(self) -> None:
        """Nobody speaks any more."""
        self.speaking, self._voiced, self._silent = False, 0, 0
