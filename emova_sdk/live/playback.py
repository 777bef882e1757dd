"""Playback buffer that can pause, flush, and report how much has been played."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray

from emova_sdk.audio import Resampler
from emova_sdk.types import Audio

Samples = NDArray[np.float32]


class DeviceBuffer:
    """What a device has taken and not yet let anybody hear. Its clock is what it takes, silence included.

    Args:
        delay: How much it takes between a sound and its being heard, in samples or any other unit of time.
    """

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self._recent: deque[tuple[float, float]] = deque()
        self._clock = 0.0

    def take(self, sound: float, silence: float) -> None:
        """Take note of sound that was taken, and of silence after it."""
        self._clock += sound
        if sound and self.delay > 0:
            self._recent.append((self._clock, sound))
        self._clock += silence
        while self._recent and self._recent[0][0] <= self._clock - self.delay:
            self._recent.popleft()

    @property
    def unheard(self) -> float:
        """How much sound is still to be heard."""
        heard_until = self._clock - self.delay
        return sum(min(sound, max(0.0, ended - heard_until)) for ended, sound in self._recent)

    def forget(self) -> None:
        """What was taken so far counts as heard."""
        self._recent.clear()


class PlaybackBuffer:
    """What a `LiveSession` fills and a loudspeaker takes, each in a thread of its own.

    Sound belongs to an answer by its ``generation``; of one that was dropped nothing is played any more, whenever it comes.

    Args:
        sample_rate: Rate of the loudspeaker, in Hz; sound of other rates is converted.
        lead_s: How much sound is kept ready, in seconds: enough that the loudspeaker never waits.
        latency_s: How long after it was taken a sample is heard, in seconds: a device has a buffer of its own, a wireless
            one a long one. None is for a device that will tell, and 0 until it does.
    """

    def __init__(self, sample_rate: int, *, lead_s: float = 0.1, latency_s: float | None = None) -> None:
        self.sample_rate = sample_rate
        self.lead_s = lead_s
        self._latency_s = latency_s
        self._device = DeviceBuffer((latency_s or 0.0) * sample_rate)
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
    def latency_s(self) -> float | None:
        """How long after it was taken a sample is heard, in seconds; None if nobody has told."""
        return self._latency_s

    @latency_s.setter
    def latency_s(self, latency_s: float) -> None:
        with self._lock:
            self._latency_s = latency_s
            self._device.delay = latency_s * self.sample_rate

    @property
    def waiting_s(self) -> float:
        """Seconds of sound that were given and not taken yet, those that are just being converted included."""
        with self._lock:
            return self._waiting_s()

    @property
    def unplayed_s(self) -> float:
        """Seconds of sound that were given and not heard yet: those waiting here, and those the device has taken."""
        with self._lock:
            return self._waiting_s() + self._device.unheard / self.sample_rate

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
            self._device.take(at, count - at)
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
            self._device.forget()

    def _waiting_s(self) -> float:
        return max(0.0, self._given_s - self._taken / self.sample_rate)

    def _append(self, samples: Samples) -> None:
        if len(samples):
            self._waiting.append(samples)
