"""The words that decide: found beside the conversation, in several languages, and with the same result as at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from test_conversation import RATE, chunks, kinds, live, quiet, tone

from emova_sdk import Audio
from emova_sdk.errors import InputError
from emova_sdk.live import FalseInterruption, Interrupted, LiveEvent, LiveSession, LiveSettings, Playback, UserTurn, converse
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer
from emova_sdk.types.turn_words import WORDS, ends_in, holds

PATIENCE_S = 60
"""Only bounds how long a failure takes."""


class Gate:
    """Work that waits until it is let through."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.in_time = True

    def pass_through(self) -> None:
        self.entered.set()
        self.in_time = self.opened.wait(PATIENCE_S) and self.in_time


class GatedTokenizer(FakeSpeechTokenizer):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def encode(self, clips: Any) -> Any:
        self._gate.pass_through()
        return super().encode(clips)


class GatedTranscription(FakeLLMCore):
    """Answers at once, and takes its time to write down what was said."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        super().__init__(**options)
        self._gate = gate

    def generate(self, messages: Any, *, task: Any = "chat", **options: Any) -> Any:
        if task == "transcribe":
            self._gate.pass_through()
        yield from super().generate(messages, task=task, **options)


def push_until(conversation: LiveSession, sound: Callable[[], Audio], so: Callable[[LiveEvent], bool]) -> list[LiveEvent]:
    """Push until an event comes; the number only bounds a failure."""
    events: list[LiveEvent] = []
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.002)):
        events += conversation.push(sound())
        if any(so(event) for event in events):
            return events
        pause.wait(0.002)  # lets the threads of the conversation run
    raise AssertionError("it never came")


def test_push_returns_while_the_tokenizer_is_stuck() -> None:
    gate = Gate()
    conversation = live(threaded=True)
    conversation.session.pipeline.speech_tokenizer = GatedTokenizer(gate)
    events: list[LiveEvent] = []
    for chunk in chunks(Audio.concat([tone(1.0), quiet(1.0)]), 512):
        events += conversation.push(chunk)
    assert gate.entered.wait(PATIENCE_S)  # the end of the turn is not decided
    for chunk in chunks(quiet(1.0), 512):
        events += conversation.push(chunk)  # would wait for the tokenizer, and find the gate closed for too long
    assert kinds(events) == ["user_spoke", "user_paused"]
    assert conversation.busy
    assert gate.in_time
    gate.opened.set()
    events += conversation.finish()
    (turn,) = (event for event in events if isinstance(event, UserTurn))
    assert turn.at_s == pytest.approx(1.7, abs=0.07)  # when the silence was long enough, not when the words were known
    assert len(conversation.session.history) == 2


@pytest.mark.parametrize(("said", "expected"), [("stop", Interrupted), ("count", FalseInterruption)])
def test_push_returns_while_short_speech_over_an_answer_is_judged(said: str, expected: type[LiveEvent]) -> None:
    gate = Gate()
    llm = GatedTranscription(gate, transcript=said, replies={said: "one two three " * 8})
    conversation = live(llm, threaded=True, unfinished=())
    events = conversation.push(Audio.concat([tone(1.0), quiet(0.8)]))
    events += push_until(conversation, lambda: quiet(0.032), lambda event: isinstance(event, Playback))
    events += conversation.push(Audio.concat([tone(0.3), quiet(1.0)]))
    assert gate.entered.wait(PATIENCE_S)
    spoke = kinds(events)
    assert spoke[-2:] == ["user_spoke", "user_paused"]
    silent = conversation.push(quiet(0.5))
    assert silent == []  # nothing is decided, and nothing played
    assert gate.in_time
    gate.opened.set()
    events += push_until(conversation, lambda: quiet(0.032), lambda event: isinstance(event, expected))
    conversation.close()
    assert sum(isinstance(event, Interrupted | FalseInterruption) for event in events) == 1


@pytest.mark.parametrize("size", [160, 777, 16_000, 80_000])
@pytest.mark.parametrize("said", ["tell me", "tell me and"])
def test_what_is_decided_later_is_decided_the_same(size: int, said: str) -> None:
    more = [quiet(0.9), tone(0.4), quiet(1.2), tone(0.5)] if said.endswith("and") else []
    sound = Audio.concat([tone(1.0), *more, quiet(2.0)])

    def decided(*, threaded: bool) -> list[tuple[Any, ...]]:
        events = converse(live(FakeLLMCore(transcript=said), threaded=threaded), chunks(sound, size))
        turns = ("user_spoke", "user_paused", "user_turn")
        return [(event.kind, event.at_s) for event in events if event.kind in turns]  # type: ignore[union-attr]

    at_once = decided(threaded=False)
    assert decided(threaded=True) == at_once
    assert [kind for kind, _ in at_once].count("user_turn") == 1


def test_what_cannot_be_understood_ends_the_turn() -> None:
    class Deaf(FakeLLMCore):
        def generate(self, messages: Any, *, task: Any = "chat", **options: Any) -> Any:
            if task == "transcribe":
                raise ValueError("a fault of somebody else's")
            yield from super().generate(messages, task=task, **options)

    for threaded in (False, True):
        events = converse(live(Deaf(transcript="count"), threaded=threaded), [tone(1.0), quiet(1.0)])
        assert sum(isinstance(event, UserTurn) for event in events) == 1


def test_the_weights_are_loaded_before_the_first_sound() -> None:
    loaded: list[str] = []

    class Heavy(FakeSpeechTokenizer):
        def load(self) -> None:
            loaded.append("tokenizer")

    session = live().session
    session.pipeline.speech_tokenizer = Heavy()
    from emova_sdk.live import EnergyActivity

    LiveSession(session, activity=EnergyActivity(), threaded=False)
    assert loaded == ["tokenizer"]


@pytest.mark.parametrize(
    ("language", "unfinished", "stop", "other"),
    [
        ("en", "tell me about the", "no, wait!", "well"),
        ("de-AT", "ich möchte und", "Warten Sie!", "na ja"),
        ("fr", "je voudrais le", "Arrête-toi", "d'accord"),
        ("es_MX", "quiero que", "¡Espera!", "bueno"),
        ("it", "vorrei un", "Aspetta.", "va bene"),
        ("pt", "quero de", "Não!", "tudo bem"),
        ("nl", "ik wil een", "nee", "goed"),
    ],
)
def test_each_language_has_its_words(language: str, unfinished: str, stop: str, other: str) -> None:
    words = LiveSettings(language=language).words
    assert ends_in(unfinished, words.unfinished)
    assert holds(stop, words.stop)
    assert not holds(other, words.stop)
    assert not ends_in(other, words.unfinished)


def test_words_of_ones_own_and_none_at_all() -> None:
    assert LiveSettings(language="ja").words == ((), ())
    own = LiveSettings(language="ja", stop_words=("止めて", "hold on")).words
    assert own.unfinished == ()
    assert holds("Hold on, please", own.stop)
    assert not holds("hold it on", own.stop)
    assert LiveSettings(stop_words=()).words == ((), WORDS["en"].unfinished)
    assert not holds("anything", ("", "!"))
    assert not ends_in("", ("", "and"))
    with pytest.raises(InputError, match="one text"):
        LiveSettings(stop_words="stop")  # type: ignore[arg-type]


def test_a_german_speaker_is_given_more_time() -> None:
    speech = Audio.concat([tone(1.0), quiet(1.0), tone(1.0), quiet(2.0)])
    for language, turns in (("de", 1), ("en", 2), ("ja", 2)):
        conversation = live(FakeLLMCore(transcript="ich möchte und"), language=language)
        assert sum(isinstance(event, UserTurn) for event in converse(conversation, chunks(speech, 512))) == turns
    assert speech.sample_rate == RATE
