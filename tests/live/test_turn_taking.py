"""Who speaks: the state machine by itself, and end-of-turn detectors."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_conversation import chunks, kinds, live, quiet, tone
from test_words import PATIENCE_S, Gate

from emova_sdk import Audio
from emova_sdk.config import dump_config, load_config
from emova_sdk.errors import ConfigError, LoadError, UnknownComponentError
from emova_sdk.live import (
    Decision,
    EndOfTurn,
    EndOfTurnFailed,
    EnergyActivity,
    LastWord,
    LiveSession,
    LiveSettings,
    Pause,
    TurnTaking,
    UserTurn,
    converse,
    detectors,
)
from emova_sdk.live.activity import FRAME_S
from emova_sdk.testing import check_end_of_turn
from emova_sdk.testing.fakes import FakeLLMCore


class Patient(EndOfTurn):
    """Says what it is told to, and keeps what it was asked."""

    slow = False

    def __init__(self, *waits_s: float, after_s: float = 0.2) -> None:
        self.after_s = after_s
        self.waits_s = [*waits_s]
        self.asked: list[Pause] = []

    def wait_s(self, pause: Pause) -> float:
        self.asked.append(pause)
        return self.waits_s.pop(0)


def listening(detector: EndOfTurn, llm: Any = None, *, threaded: bool = False, **settings: Any) -> LiveSession:
    session = live(llm).session
    return LiveSession(
        session, activity=EnergyActivity(), settings=LiveSettings(**settings), end_of_turn=detector, threaded=threaded
    )


def turns_in(events: Any) -> list[UserTurn]:
    return [event for event in events if isinstance(event, UserTurn)]


def test_a_sure_detector_ends_the_turn_early_and_an_unsure_one_late() -> None:
    sound = Audio.concat([tone(1.0), quiet(3.0)])
    for wait_s in (0.0, 0.3, 1.2):
        detector = Patient(wait_s)
        (turn,) = turns_in(converse(listening(detector), chunks(sound, 777)))
        assert turn.at_s - turn.ended_s == pytest.approx(max(wait_s, detector.after_s), abs=0.05)
        assert len(detector.asked) == 1


def test_speech_in_time_continues_the_turn_and_the_detector_is_asked_again() -> None:
    detector = Patient(2.0, 0.3)
    conversation = listening(detector, FakeLLMCore(transcript="and"), language="de")
    (turn,) = turns_in(converse(conversation, [tone(1.0), quiet(1.0), tone(0.5), quiet(2.0)]))
    assert turn.audio.duration_s > 2.5
    first, second = detector.asked
    assert (first.language, first.history, first.words) == ("de", (), "and")
    assert first.silence_s == pytest.approx(0.2, abs=FRAME_S)
    assert second.audio.duration_s > first.audio.duration_s + 1.4


def test_the_detector_knows_the_conversation_before() -> None:
    detector = Patient(0.3, 0.3)
    converse(listening(detector), [tone(1.0), quiet(7.0), tone(1.0), quiet(1.0)])
    assert [len(pause.history) for pause in detector.asked] == [0, 2]


def test_a_detector_that_fails_is_told_and_silence_decides() -> None:
    class Broken(EndOfTurn):
        def wait_s(self, pause: Pause) -> float:
            raise RuntimeError("no weights")

    for detector in (Broken(), Patient(float("nan")), Patient(-1.0)):
        for threaded in (False, True):
            if isinstance(detector, Patient):
                detector.waits_s *= 2
            events = converse(listening(detector, threaded=threaded), [tone(1.0), quiet(1.5)])
            (failed,) = (event for event in events if isinstance(event, EndOfTurnFailed))
            assert "no weights" in str(failed.error) or "says to wait" in str(failed.error)
            (turn,) = turns_in(events)
            assert turn.at_s - turn.ended_s == pytest.approx(0.7, abs=0.05)


def test_a_slow_detector_keeps_nobody_waiting_and_decides_the_same() -> None:
    gate = Gate()

    class Slow(EndOfTurn):
        def wait_s(self, pause: Pause) -> float:
            gate.pass_through()
            return 0.4

    conversation = listening(Slow(), threaded=True)
    events = conversation.push(Audio.concat([tone(1.0), quiet(2.0)]))
    assert gate.entered.wait(PATIENCE_S)
    assert kinds(events) == ["user_spoke", "user_paused"]
    gate.opened.set()
    (turn,) = turns_in(conversation.finish())
    assert turn.at_s - turn.ended_s == pytest.approx(0.4, abs=0.05)
    assert gate.in_time


# --- the machine by itself ---


def decisions(machine: TurnTaking, voiced: list[bool], *, answering: bool = False) -> list[Decision]:
    return [one for frame in voiced for one in machine.hear(voiced=frame, answering=answering, stopping=False, length_s=0.0)]


def test_short_speech_over_an_answer_is_judged_and_long_speech_interrupts() -> None:
    speech, silence = [True] * 6, [False] * 12
    machine = TurnTaking(LiveSettings(), after_s=0.7)
    assert decisions(machine, speech + silence, answering=True)[:3] == [
        Decision.BEGAN,
        Decision.PAUSED,
        Decision.CHECK_STOP_WORDS,
    ]
    assert machine.stop(said=False) == Decision.RESUME
    assert not machine.speaking
    machine = TurnTaking(LiveSettings(), after_s=0.7)
    assert decisions(machine, [True] * 25, answering=True) == [Decision.BEGAN, Decision.INTERRUPT]
    assert machine.speaking
    assert not machine.holding


@given(st.lists(st.booleans(), max_size=400), st.booleans(), st.floats(0.0, 2.0))
def test_whatever_is_heard_the_machine_keeps_its_order(voiced: list[bool], answering: bool, wait_s: float) -> None:
    """A turn begins before it pauses or ends, nothing is judged but what holds an answer, and no turn ends too early."""
    machine = TurnTaking(LiveSettings(), after_s=0.2)
    began = False
    for frame in voiced:
        for one in machine.hear(voiced=frame, answering=answering, stopping=False, length_s=0.0):
            assert began or one is Decision.BEGAN
            match one:
                case Decision.BEGAN:
                    assert not began
                    began = True
                case Decision.CHECK_STOP_WORDS:
                    assert machine.holding
                    began = machine.stop(said=True) is Decision.INTERRUPT
                case Decision.ASK_HOW_LONG:
                    machine.wait(wait_s)
                case Decision.END:
                    assert not machine.holding
                    assert machine.silence_s >= max(wait_s, 0.2) - FRAME_S / 2
                    machine.rest()
                    began = False
                case _:
                    pass
        assert machine.speaking == began


# --- judges of others ---


def test_the_built_in_detector_keeps_the_rules() -> None:
    for make in (LastWord, lambda: LastWord(LiveSettings(language="ja"))):
        results = check_end_of_turn(make)
        assert len(results) == 7
        assert all(result.passed for result in results), [result.message for result in results]


def test_the_kit_catches_what_breaks_the_rules() -> None:
    class Forgetful(EndOfTurn):
        slow = "yes"  # type: ignore[assignment]

        def __init__(self) -> None:
            self.asked = 0
            self.lock = threading.Lock()

        def wait_s(self, pause: Pause) -> float:
            pause.audio.samples.flags.writeable = True
            pause.audio.samples[:] = 0.0
            with self.lock:
                self.asked += 1
                return self.asked if pause.audio.duration_s > 0.1 else float("inf")

    broken = {result.name for result in check_end_of_turn(Forgetful) if not result.passed}
    assert {
        "facts_are_declared",
        "equal_pauses_have_equal_answers",
        "sound_is_left_as_it_is",
        "several_threads_may_ask",
    } <= broken
    failing = check_end_of_turn(Patient)
    assert "IndexError" in next(result.message for result in failing if result.name == "waits_are_seconds")


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    def offer(name: str, made: Any) -> SimpleNamespace:
        return SimpleNamespace(name=name, dist=None, load=lambda: made)

    found = [offer("patient", lambda: Patient(0.4)), offer("nothing", object), offer("broken", lambda: 1 / 0)]
    monkeypatch.setattr(detectors, "entry_points_of", lambda group: found if group == "emova_sdk.end_of_turn" else [])


@pytest.mark.usefixtures("offered")
def test_a_detector_of_a_package_is_found_by_its_name() -> None:
    (turn,) = turns_in(converse(live(end_of_turn="patient"), [tone(1.0), quiet(1.5)]))
    assert turn.at_s - turn.ended_s == pytest.approx(0.4, abs=0.05)
    with pytest.raises(UnknownComponentError, match="no end_of_turn `patent`") as error:
        live(end_of_turn="patent")
    assert "`patient`" in error.value.hint
    for name, why in (("nothing", "no `EndOfTurn`"), ("broken", "ZeroDivisionError")):
        with pytest.raises(LoadError, match=why):
            live(end_of_turn=name)


# --- in a config ---


def test_a_config_says_how_turns_end(tmp_path: Any) -> None:
    path = tmp_path / "assistant.toml"
    path.write_text('extends = "fake"\n[live]\nlanguage = "de"\nend_s = 0.4\nstop_words = ["halt", "warte"]\n')
    settings = load_config(path, overrides=["live.interruptible=false"]).live
    assert settings == LiveSettings(language="de", end_s=0.4, stop_words=("halt", "warte"), interruptible=False)
    path.write_text(dump_config(load_config(path)))
    assert load_config(path).live == LiveSettings(language="de", end_s=0.4, stop_words=("halt", "warte"))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("live.end=1", "no place for `live.end`"),
        ("live.end_s=-1", "contradict each other"),
        ("live.end_s='soon'", "`live.end_s` in the config is `soon`"),
        ("live.stop_words='halt'", "live.stop_words"),
    ],
)
def test_a_wrong_live_table_is_one_clear_error(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config("fake", overrides=[override])
