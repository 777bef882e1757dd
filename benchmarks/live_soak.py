"""Many live conversations at once, for a while: do turns get lost, do conversations hear each other, does anything leak?

    python benchmarks/live_soak.py --sessions 50 --seconds 600                          # the fake preset
    python benchmarks/live_soak.py --preset emova-nano --sessions 2 --seconds 600       # as many as this machine keeps up with
    python benchmarks/live_soak.py --preset emova-nano --find --seconds 60              # how many that is

Each caller makes one call after the other, each on a session of its own that is kept in SQLite and forgotten afterwards. A call
is a recording in real time through the same devices, buffers and threads as a microphone: questions with time for the answer,
one with a cough in its answer, and one spoken into the answer before it. After a call its history is compared with its sound.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emova_sdk import Audio, Pipeline, Style, Turn
from emova_sdk.errors import EmovaError
from emova_sdk.live import AnswerFailed, AnswerFinished, FalseInterruption, Interrupted, LiveEvent, LiveSettings, Playback
from emova_sdk.live.activity import FRAME, RATE, Activity, EnergyActivity, SileroActivity
from emova_sdk.live.devices import Recordings, talk
from emova_sdk.live.live_session import LiveSession
from emova_sdk.memory import SessionStore
from emova_sdk.session import Session
from emova_sdk.testing.fakes import FakeLLMCore
from emova_sdk.types import TextDelta, UnitsDelta

SETTINGS = LiveSettings(unfinished=())
NANO_QUESTIONS = ("what can you do", "tell me a joke", "someone stole my bike", "i won the race", "what is three plus four")


class Talkative(FakeLLMCore):
    """Says everything it has to say four times, so that there is time to interrupt it."""

    def generate(self, messages: Any, *, task: Any = "chat", **options: Any) -> Any:
        """See `FakeLLMCore`."""
        said: list[Any] = []
        for event in super().generate(messages, task=task, **options):
            said += [event] if isinstance(event, TextDelta | UnitsDelta) else []
            yield event
        yield from said * (3 if task == "chat" else 0)


@dataclass
class Tally:
    """What happened in all calls together."""

    calls: int = 0
    turns: int = 0
    lost: int = 0
    interruptions: int = 0
    coughs: int = 0
    gaps: int = 0
    behind_s: float = 0.0
    first_audio_s: list[float] = field(default_factory=list[float])
    faults: list[str] = field(default_factory=list[str])
    lock: threading.Lock = field(default_factory=threading.Lock)


class Line(Recordings):
    """A recording in the microphone's place that keeps nothing of what is played, but how late it was."""

    def __init__(self, recording: Audio, *, sample_rate: int, paced: bool) -> None:
        super().__init__(recording, sample_rate=sample_rate, paced=paced)
        self.behind_s = 0.0
        self._paced_from = time.perf_counter() if paced else None

    def record(self) -> Any:
        """As `Recordings.record`."""
        for chunk in super().record():
            yield chunk
            self._played.clear()
            if self._paced_from is not None:
                self.behind_s = max(self.behind_s, time.perf_counter() - self._paced_from - self._at_s)


class Caller:
    """Makes calls and checks what became of them."""

    def __init__(
        self, number: int, pipeline: Pipeline, store: SessionStore, tally: Tally, questions: Sequence[Audio], *,
        activity: Callable[[], Activity], paced: bool,
    ) -> None:  # fmt: skip
        self.pipeline, self.store, self.tally = pipeline, store, tally
        self.questions, self.activity, self.paced = questions, activity, paced
        self.name = f"caller-{number}"
        self.random = random.Random(number)

    def run(self, until: float, calls: int | None = None) -> None:
        """Call again and again, or so many times."""
        self.wait(self.random.random() * 6.0)  # callers do not speak in chorus
        made = 0
        while time.monotonic() < until if calls is None else made < calls:
            made += 1
            try:
                self.call()
            except Exception as error:  # noqa: BLE001 - counted, and the next call is made
                self.fault(f"{type(error).__name__}: {error}")

    def wait(self, seconds: float) -> None:
        """Pause, where time is real."""
        if self.paced:
            time.sleep(seconds)

    def call(self) -> None:
        """Make one call."""
        recording, asked = self.script()
        session = self.store.session(self.pipeline, f"{self.name}-{self.tally.calls}-{self.random.randrange(1 << 30)}")
        events: list[LiveEvent] = []
        line = Line(
            recording, sample_rate=self.pipeline.vocoder.sample_rate if self.pipeline.vocoder else RATE, paced=self.paced
        )
        talk(session, line, settings=SETTINGS, activity=self.activity(), threaded=self.paced, notice=events.append)
        self.check(session, events, recording, asked)
        with self.tally.lock:
            self.tally.behind_s = max(self.tally.behind_s, line.behind_s)

    def script(self) -> tuple[Audio, int]:
        """Three questions; there is a cough in the first answer, and the third is spoken into the second."""
        first, second, third = (self.random.choice(self.questions) for _ in range(3))
        noise = np.random.default_rng(self.random.randrange(1 << 30)).normal(0.0, 0.1, RATE // 5).astype(np.float32)
        quiet = [Audio.silence(seconds, RATE) for seconds in (1.7, 5.0, 1.9, 5.0)]
        return Audio.concat([first, quiet[0], Audio(noise, RATE), quiet[1], second, quiet[2], third, quiet[3]]), 3

    def check(self, session: Session, events: Sequence[LiveEvent], recording: Audio, asked: int) -> None:
        """Compare what became of a call with what was said in it."""
        history = session.history
        users = [turn for turn in history if turn.role == "user"]
        self.mine(history, users, recording)
        if [turn.id for turn in self.store.turns(session.id)] != [turn.id for turn in history]:
            self.fault("the database holds other turns than the session")
        self.store.forget(session.id)
        for event in events:
            if isinstance(event, AnswerFailed):
                self.fault(f"an answer failed: {event.error}")
        with self.tally.lock:
            self.tally.calls += 1
            self.tally.turns += len(users)
            self.tally.lost += abs(asked - len(users))
            self.tally.interruptions += sum(isinstance(event, Interrupted) for event in events)
            self.tally.coughs += sum(isinstance(event, FalseInterruption) for event in events)
            self.tally.gaps += gaps(events)
            timings = [turn.timings for turn in history if turn.timings is not None]
            self.tally.first_audio_s += [one.first_audio_s for one in timings if one.first_audio_s is not None]

    def mine(self, history: Sequence[Turn], users: Sequence[Turn], recording: Audio) -> None:
        """Cross-talk would show here: a turn's sound is a piece of this call's own recording, its answer an answer to it."""
        for turn in users:
            if not isinstance(turn.audio, Audio) or not within(turn.audio.samples, recording.samples):
                self.fault("a turn holds sound that was not said in this call")
        for user, answer in zip(history[::2], history[1::2], strict=True):
            if (user.role, answer.role) != ("user", "assistant"):
                self.fault("turns are out of order")
            if answer.text.startswith("You said: ") and not (f"You said: {user.text}." * 4).startswith(answer.text):
                self.fault(f"`{user.text}` was answered with `{answer.text}`")

    def fault(self, what: str) -> None:
        """Count a fault."""
        with self.tally.lock:
            self.tally.faults.append(f"{self.name}: {what}")


def within(turn: np.ndarray[Any, Any], recording: np.ndarray[Any, Any]) -> bool:
    """Whether every frame of a turn is one of the recording, or of the silence after it (a session cuts at frames)."""
    frames = {recording[at : at + FRAME].tobytes() for at in range(0, len(recording) - FRAME + 1, FRAME)}
    last = recording[len(recording) // FRAME * FRAME :]
    frames |= {np.pad(last, (0, FRAME - len(last))).tobytes(), np.zeros(FRAME, np.float32).tobytes()}
    return all(turn[at : at + FRAME].tobytes() in frames for at in range(0, len(turn), FRAME))


def gaps(events: Sequence[LiveEvent]) -> int:
    """Count whole answers that did not play in one go (those with a cough are meant to pause)."""
    first: dict[int, float] = {}
    length: dict[int, float] = {}
    paused: set[int] = set()
    found = 0
    for event in events:
        if isinstance(event, Playback):
            first.setdefault(event.generation, event.at_s)
            length[event.generation] = length.get(event.generation, 0.0) + event.audio.duration_s
        elif isinstance(event, FalseInterruption):
            paused.add(event.generation)
        elif isinstance(event, AnswerFinished) and event.generation in first and event.generation not in paused:
            found += event.at_s - first[event.generation] > length[event.generation] + 0.15
    return found


@dataclass(frozen=True)
class Resources:
    """What a process holds."""

    threads: int
    files: int
    resident_mb: float
    sessions: int

    @classmethod
    def now(cls) -> Resources:
        """Look, after what is free was given back."""
        gc.collect()
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        alive = sum(type(one) in (Session, LiveSession) for one in gc.get_objects())
        size = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        return cls(threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), round(size, 1), alive)


def pipeline_of(preset: str) -> Pipeline:
    """Build a preset; the fakes with a core that talks for long."""
    pipeline = Pipeline.from_config(preset)
    return pipeline.replace(llm_core=Talkative()) if preset == "fake" else pipeline


def questions_for(pipeline: Pipeline, preset: str) -> list[Audio]:
    """Speech that the preset hears: said by itself, or a hundred tunes for the fakes, which hear anything."""
    if preset != "fake":
        return [pipeline.speak(text, style=Style("male")).resample(RATE) for text in NANO_QUESTIONS]
    times, rng = np.arange(int(0.25 * RATE)) / RATE, random.Random(0)
    tones = [Audio((0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32), RATE) for hertz in range(150, 900, 30)]
    return [Audio.concat(rng.sample(tones, 12)) for _ in range(100)]


def soak(preset: str, *, sessions: int, seconds: float = 0.0, calls: int | None = None, paced: bool = True) -> dict[str, Any]:
    """Let so many callers call for so long; return what happened.

    Args:
        preset: A preset's name or a config.
        sessions: Callers at the same time.
        seconds: For how long calls are begun.
        calls: How many calls each caller makes, in place of ``seconds``.
        paced: Whether time is real; otherwise each caller is as fast as it can be, and answers are made in its own thread.
    """
    with tempfile.TemporaryDirectory() as folder, pipeline_of(preset) as pipeline:
        questions = questions_for(pipeline.load(), preset)
        database = Path(folder, "soak.db")

        def crew(store: SessionStore, tally: Tally, count: int) -> list[Caller]:
            activity = EnergyActivity if preset == "fake" else SileroActivity
            return [Caller(one, pipeline, store, tally, questions, activity=activity, paced=paced) for one in range(count)]

        with SessionStore(database) as store:
            crew(store, Tally(), 1)[0].call()  # what is made once is made before the first look
        tally, before, cpu, began = Tally(), Resources.now(), time.process_time(), time.monotonic()
        with SessionStore(database) as store:
            threads = [threading.Thread(target=one.run, args=(began + seconds, calls)) for one in crew(store, tally, sessions)]
            sizes = _run(threads)
            left = len(store.sessions()) + len(list(Path(folder).rglob("*.wav")))
        took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
        facts = {"preset": preset, "sessions": sessions, "seconds": round(took_s, 1), "cores_used": round(cpu_s / took_s, 2)}
        return {**facts, **_report(tally, before, Resources.now(), sizes), "kept_after_forgetting": left}


def _run(threads: Sequence[threading.Thread]) -> list[float]:
    """Start the callers and wait for them; return the resident memory in MB, minute by minute."""
    sizes: list[float] = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(timeout=60.0 / len(threads))
        sizes.append(Resources.now().resident_mb)
    return sizes


def _report(tally: Tally, before: Resources, after: Resources, sizes: list[float]) -> dict[str, Any]:
    late = sorted(tally.first_audio_s) or [0.0]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "calls": tally.calls,
        "turns": tally.turns,
        "lost_turns": tally.lost,
        "interruptions": tally.interruptions,
        "false_interruptions": tally.coughs,
        "answers_with_gaps": tally.gaps,
        "most_behind_s": round(tally.behind_s, 3),
        "first_audio_s": {"median": round(late[len(late) // 2], 3), "p95": round(late[int(len(late) * 0.95)], 3)},
        "faults": tally.faults[:20],
        "threads": [before.threads, after.threads],
        "files": [before.files, after.files],
        "sessions_alive": [before.sessions, after.sessions],
        "resident_mb": [before.resident_mb, *sizes, after.resident_mb],
    }


def keeps_up(report: dict[str, Any]) -> bool:
    """Whether nothing was lost, nothing stuttered and the microphone was never a second ahead."""
    return not (report["lost_turns"] or report["answers_with_gaps"] or report["faults"] or report["most_behind_s"] > 1.0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--preset", default="fake")
    options.add_argument("--sessions", type=int, default=50)
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument("--find", action="store_true", help="find how many sessions the machine keeps up with")
    given = options.parse_args()
    if given.preset != "fake":
        import torch

        torch.set_num_threads(1)  # callers share the cores
    try:
        if given.find:
            find(given.preset, seconds=given.seconds)
        else:
            tried(given.preset, sessions=given.sessions, seconds=given.seconds)
    except EmovaError as error:
        raise SystemExit(str(error)) from error


def tried(preset: str, *, sessions: int, seconds: float) -> bool:
    """Soak, print the report, and return whether the machine kept up."""
    report = soak(preset, sessions=sessions, seconds=seconds)
    print(json.dumps({**report, "keeps_up": keeps_up(report)}), flush=True)
    return keeps_up(report)


def find(preset: str, *, seconds: float) -> None:
    """Double the number of sessions until the machine falls behind, then halve the distance."""
    most, step = 0, 1
    while tried(preset, sessions=most + step, seconds=seconds):
        most, step = most + step, max(step, most + step)
    while step > 1:
        step //= 2
        most += step * tried(preset, sessions=most + step, seconds=seconds)
    print(json.dumps({"preset": preset, "keeps_up_with": most}))


if __name__ == "__main__":
    main()
