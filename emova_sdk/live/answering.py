"""Generates an answer ahead of its playback, in the caller's thread or in a separate one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from emova_sdk.response import Closable
from emova_sdk.types import Audio, AudioDelta, Event, Turn
from emova_sdk.types.live_events import AnswerEvent


class Answering:
    """Takes events from an answer's generator and hands out its sound in real time.

    Args:
        events: The answer, as `Session.respond` gives it.
        ahead_s: How many seconds of sound are made ahead.
        threaded: Whether a thread makes the answer while the caller goes on; otherwise `play` makes what it needs itself,
            so that a simulation gives the same result every time.
    """

    def __init__(self, events: Closable[Event], *, ahead_s: float, threaded: bool) -> None:
        self._events = events
        self._ahead_s = ahead_s
        self._said: deque[AnswerEvent] = deque()
        self._sound: deque[np.ndarray[Any, np.dtype[np.float32]]] = deque()
        self._waiting = 0
        self._played = 0
        self._owed = 0.0
        self._sample_rate = 0
        self._exhausted = False
        self._stopped = False
        self._error: Exception | None = None
        self._record: Callable[[], Turn | None] | None = None
        self._turn: Turn | None = None
        self._unrecorded: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="emova-live-answer", daemon=True) if threaded else None
        if self._thread is not None:
            self._thread.start()

    @property
    def heard_s(self) -> float:
        """Seconds of the answer handed out so far."""
        return self._played / self._sample_rate if self._sample_rate else 0.0

    def play(self, duration_s: float) -> tuple[list[AnswerEvent], Audio | None]:
        """Return the events since the last call, and the next ``duration_s`` seconds of sound as far as they are ready.

        Raises:
            Exception: Whatever the answer's generator raised, once all that came before has been played.
        """
        if self._thread is None:
            self._make(duration_s)
        with self._changed:
            said = list(self._said)
            self._said.clear()
            self._owed += duration_s * self._sample_rate
            wanted = int(self._owed)
            self._owed -= wanted  # a frame is not a whole number of samples at every rate
            audio = self._take(min(wanted, self._waiting))
            self._changed.notify_all()
            if self._error is not None and not self._waiting:
                raise self._error
        return said, audio

    @property
    def finished(self) -> bool:
        """Whether everything was made and played."""
        with self._changed:
            return self._exhausted and not self._waiting and not self._said

    def wait(self, duration_s: float) -> None:
        """Wait until that much sound is ready, or there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._exhausted or self._waiting > duration_s * max(1, self._sample_rate))

    def stop(self, record: Callable[[], Turn | None] | None = None) -> None:
        """Ask that no more of the answer is made. A model may take its time to notice; `stopped` tells when it has.

        Args:
            record: What to do once it has, in the thread that makes the answer; see `turn`.
        """
        with self._changed:
            self._stopped, self._record = True, record
            self._changed.notify_all()
        if self._thread is None:
            self._end()

    @property
    def stopped(self) -> bool:
        """Whether nothing is made any more, and the session has recorded the answer."""
        return self._thread is None or not self._thread.is_alive()

    @property
    def turn(self) -> Turn | None:
        """What was recorded of an answer that was stopped.

        Raises:
            Exception: Whatever prevented it.
        """
        if self._unrecorded is not None:
            raise self._unrecorded
        return self._turn

    def close(self) -> None:
        """Stop, and wait for it."""
        if not self._stopped:
            self.stop()
        if self._thread is not None:
            self._thread.join()

    def _end(self) -> None:
        try:
            self._events.close()
            self._turn = self._record() if self._record is not None else None
        except Exception as error:  # noqa: BLE001 - handed to the thread that asks for the turn
            self._unrecorded = error

    def _make(self, duration_s: float) -> None:
        while not self._exhausted and self._waiting < duration_s * max(1, self._sample_rate):
            self._next()

    def _work(self) -> None:
        while not self._stopped:
            self._next()
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or (self._wants_more and not self._exhausted))
        self._end()

    @property
    def _wants_more(self) -> bool:
        return self._waiting <= self._ahead_s * self._sample_rate

    def _next(self) -> None:
        event: Event | None = None
        error: Exception | None = None
        try:
            event = next(self._events, None)
        except Exception as caught:  # noqa: BLE001 - handed to the thread that plays
            error = caught
        with self._changed:
            if event is None:
                self._exhausted, self._error = True, error
            elif isinstance(event, AudioDelta):
                self._sample_rate = event.audio.sample_rate
                self._sound.append(event.audio.samples)
                self._waiting += len(event.audio.samples)
            else:
                self._said.append(event)
            self._changed.notify_all()

    def _take(self, count: int) -> Audio | None:
        parts: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        left = count
        while left > 0:
            head = self._sound.popleft()
            if len(head) > left:
                self._sound.appendleft(head[left:])
                head = head[:left]
            parts.append(head)
            left -= len(head)
        if not parts:
            return None
        self._waiting -= count
        self._played += count
        return Audio(np.concatenate(parts), self._sample_rate)
