"""What is kept of the recorded sound: a little from before speech was noticed, and the turn so far."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from emova_sdk.live.activity import FRAME_S, RATE
from emova_sdk.types import Audio

Frame = NDArray[np.float32]


class Capture:
    """The user's sound.

    Args:
        prefix_s: How much is kept from before speech.
    """

    def __init__(self, prefix_s: float) -> None:
        self._before: deque[Frame] = deque(maxlen=max(1, round(prefix_s / FRAME_S)))
        self._speech: list[Frame] = []
        self._carried: list[Frame] = []

    @property
    def length_s(self) -> float:
        """Length of the speech that goes on, in seconds."""
        return len(self._speech) * FRAME_S

    @property
    def continues(self) -> bool:
        """Whether the speech goes on from a turn of which no answer was heard."""
        return bool(self._carried)

    def add(self, frame: Frame, *, speaking: bool) -> None:
        """Keep a frame."""
        (self._speech if speaking else self._before).append(frame)

    def begin(self) -> None:
        """Speech begins, a little before it was noticed."""
        self._speech = list(self._before)
        self._before.clear()

    def audio(self) -> Audio:
        """Return the turn so far."""
        return Audio(np.concatenate([*self._carried, *self._speech]), RATE)

    def rest(self) -> None:
        """Nobody speaks; what was said was no turn."""
        self._before.extend(self._speech)
        self._speech = []

    def end(self) -> None:
        """The turn is over; until `forget`, more speech continues it."""
        self._carried += self._speech
        self._speech = []
        self._before.clear()

    def forget(self) -> None:
        """The turn was answered: what is said now is a new one."""
        self._carried = []
