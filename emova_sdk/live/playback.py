"""Sound on its way to a loudspeaker: it can be held and dropped at any moment, and it is known what was played."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray

from emova_sdk.audio import Resampler
from emova_sdk.types import Audio

Samples = NDArray[np.float32]


class PlaybackBuffer:
    """What a `LiveSession` fills and a loudspeaker takes, each in a thread of its own.

    Sound belongs to an answer by its ``generation``; of one that was dropped nothing is played any more, whenever it comes.

    Args:
        sample_rate: Rate of the loudspeaker, in Hz; sound of other rates is converted.
        lead_s: How much sound is kept ready, in seconds: enough that the loudspeaker never waits.
    """

    def __init__(self, sample_rate: int, *, lead_s: float = 0.1) -> None:
        self.sample_rate = sample_rate
        self.lead_s = lead_s
        self._waiting: deque[Samples] = deque()
        self._given_s = 0.0
        self._taken = 0
        self._held = False
        self._dropped = 0
        self._generation = 0
        self._rate = 0
        self._resampler: Resampler | None = None
        self._lock = threading.Lock()

    @property
    def unplayed_s(self) -> float:
        """Seconds of sound that were given and not taken yet, those that are just being converted included."""
        with self._lock:
            return max(0.0, self._given_s - self._taken / self.sample_rate)

    def push(self, generation: int, audio: Audio) -> None:
        """Give the next sound of an answer; what is of a dropped one is ignored."""
        with self._lock:
            if generation <= self._dropped:
                return
            if self._resampler is None or (generation, audio.sample_rate) != (self._generation, self._rate):
                self._generation, self._rate = generation, audio.sample_rate
                self._resampler = Resampler(audio.sample_rate, self.sample_rate)
            self._given_s += audio.duration_s
            self._append(self._resampler.push(audio.samples))

    def finish(self) -> None:
        """Say that the answer is complete."""
        with self._lock:
            if self._resampler is not None:
                self._append(self._resampler.finish())
                self._resampler = None

    def pull(self, count: int) -> Samples:
        """Take what the loudspeaker plays next, float32 (count,): silence where there is nothing."""
        taken = np.zeros(count, np.float32)
        at = 0
        with self._lock:
            while at < count and self._waiting and not self._held:
                piece = self._waiting.popleft()
                part, rest = piece[: count - at], piece[count - at :]
                taken[at : at + len(part)] = part
                at += len(part)
                if len(rest):
                    self._waiting.appendleft(rest)
            self._taken += at
        return taken

    def hold(self) -> None:
        """Stop playing at once; `release` goes on where it stopped."""
        self._held = True

    def release(self) -> None:
        """Go on playing."""
        self._held = False

    def drop(self, generation: int) -> None:
        """Forget all sound up to this answer's, whether it is here already or not."""
        with self._lock:
            self._dropped = max(self._dropped, generation)
            self._waiting.clear()
            self._given_s = self._taken / self.sample_rate
            self._resampler, self._held = None, False

    def _append(self, samples: Samples) -> None:
        if len(samples):
            self._waiting.append(samples)
