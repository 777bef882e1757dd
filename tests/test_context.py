"""What a model is told of a conversation: after interruptions and failures, from a store, and when it is long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emova_sdk import Audio, Image, Message, Pipeline, Session, Space, SpeechUnits, Style, TextDelta, ToolCall, ToolResult, Turn
from emova_sdk.components.brains.openai_errors import refusal
from emova_sdk.errors import BackendError, ConfigError, ContextLengthError, InputError
from emova_sdk.memory import SessionStore
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVisionEncoder, FakeVocoder
from emova_sdk.types import UnitsDelta, VisionFeatures

SOUND = Audio((0.3 * np.sin(2 * np.pi * 220 * np.arange(8_000) / 16_000)).astype(np.float32), 16_000)
OTHER = Audio((0.1 * np.sin(2 * np.pi * 330 * np.arange(4_000) / 8_000)).astype(np.float32), 8_000)
RED = Image(np.full((8, 8, 3), (250, 10, 10), np.uint8))
BLUE = Image(np.full((8, 8, 3), (10, 10, 250), np.uint8))

Round = Callable[[], Iterator[Any]] | tuple[Any, ...]


class Scripted(FakeLLMCore):
    """Writes the given rounds, one a request, then words of its own; remembers what it was told."""

    def __init__(self, *rounds: Round, longest: int = 10_000) -> None:
        super().__init__()
        self.rounds = list(rounds)
        self.longest = longest
        self.told: list[list[Message]] = []

    def generate(self, messages, *, task="chat", **options):  # type: ignore[no-untyped-def]
        if task != "chat":
            yield from super().generate(messages, task=task, **options)
            return
        length = sum(len(message.text) for message in messages)
        if length > self.longest:
            raise ContextLengthError("too long", tokens=length, limit=self.longest)
        self.told.append(list(messages))
        if self.rounds:
            script = self.rounds.pop(0)
            yield from script() if callable(script) else script
        else:
            yield from super().generate(messages, task=task, **options)


def pipeline_of(llm: FakeLLMCore) -> Pipeline:
    return Pipeline(
        vision_encoder=FakeVisionEncoder(),
        speech_tokenizer=FakeSpeechTokenizer(),
        llm_core=llm,
        style_module=FakeStyleModule(),
        vocoder=FakeVocoder(),
    )


def book(guests: int) -> str:
    """Book a table."""
    return f"booked for {guests}"


def asks(*guests: int, say: str = "") -> tuple[Any, ...]:
    said = (TextDelta(say), UnitsDelta(SpeechUnits.of([3] * len(say)))) if say else ()
    return (*said, *(ToolCall(f"call-{number}", "book", {"guests": number}) for number in guests))


def says(text: str) -> tuple[Any, ...]:
    return tuple(
        event for word in text.split() for event in (TextDelta(f"{word} "), UnitsDelta(SpeechUnits.of([5] * len(word))))
    )


def fails() -> Iterator[Any]:
    raise BackendError("the endpoint is gone", retryable=True)
    yield


def plain(messages: list[Message]) -> list[Any]:
    """Messages in a form that can be compared: features by their values."""

    def of(part: Any) -> Any:
        return np.asarray(part.embeddings).tolist() if isinstance(part, VisionFeatures) else part

    return [(one.role, [of(part) for part in one.parts], one.style, one.interrupted) for one in messages]


def require_valid(messages: list[Message]) -> None:
    """What strict endpoints insist on: a result for every call right after it, no empty message, the user's words last."""
    waiting: list[str] = []
    for message in messages:
        if message.role == "tool":
            (result,) = message.parts
            assert isinstance(result, ToolResult)
            assert result.id == waiting.pop(0)
            continue
        assert not waiting, "a call has no result"
        assert any(part != "" for part in message.parts), "an empty message"
        waiting = [part.id for part in message.parts if isinstance(part, ToolCall)]
    assert not waiting


def results(messages: list[Message]) -> list[str]:
    return [part.content for message in messages for part in message.parts if isinstance(part, ToolResult)]


# --- a tool that ran is never forgotten ---


def stop_at(session: Session, kind: str, count: int = 1) -> None:
    """Interrupt an answer when so many events of a kind have come."""
    events = session.respond("a table, please")
    for event in events:
        count -= event.kind == kind
        if not count:
            break
    events.close()


@pytest.mark.parametrize(
    ("kind", "count", "told"),
    [
        ("tool_result", 1, ["booked for 4", "not run: the answer was stopped"]),
        ("tool_result", 2, ["booked for 4", "booked for 5"]),
        ("text_delta", 1, ["booked for 4", "booked for 5"]),
        ("audio_delta", 1, ["booked for 4", "booked for 5"]),
    ],
)
def test_an_interruption_at_any_moment_keeps_the_calls(kind: str, count: int, told: list[str]) -> None:
    llm = Scripted(asks(4, 5), says("Your tables are booked."))
    session = pipeline_of(llm).session(tools=[book])
    stop_at(session, kind, count)
    session.ask("hello?")
    require_valid(llm.told[-1])
    assert results(llm.told[-1]) == told
    assert [call.arguments for call in session.history[1].tool_calls] == [{"guests": 4}, {"guests": 5}]
    assert session.history[1].interrupted


@pytest.mark.parametrize("count", [1, 2])
def test_calls_that_were_announced_and_never_run_are_told_as_not_run(count: int) -> None:
    llm = Scripted(asks(4, 5))
    session = pipeline_of(llm).session(tools=[book])
    stop_at(session, "tool_call", count)
    assert [call.arguments["guests"] for call in session.history[1].tool_calls] == [4, 5][:count]
    assert all(result.failed for result in session.history[1].tool_results)
    session.ask("hello?")
    require_valid(llm.told[-1])
    assert results(llm.told[-1]) == ["not run: the answer was stopped"] * count


def test_a_failure_after_announced_calls_tells_them_as_not_run() -> None:
    def breaks() -> Iterator[Any]:
        yield from asks(4)
        raise BackendError("the endpoint is gone", retryable=True)

    llm = Scripted(breaks)
    session = pipeline_of(llm).session(tools=[book])
    with pytest.raises(BackendError):
        session.ask("a table, please")
    session.ask("hello?")
    require_valid(llm.told[-1])
    assert results(llm.told[-1]) == ["not run: the answer was stopped"]


@pytest.mark.parametrize("rounds", [[asks(4), fails], [asks(4, say="One moment."), fails], [asks(n) for n in range(8)]])
def test_a_failure_after_a_tool_keeps_the_calls_and_the_next_answer_works(rounds: list[Round]) -> None:
    llm = Scripted(*rounds)
    session = pipeline_of(llm).session(tools=[book])
    with pytest.raises(BackendError):
        session.ask("a table, please")
    assert session.history[1].metadata["error"]
    assert session.ask("hello?").text
    require_valid(llm.told[-1])
    assert len(results(llm.told[-1])) == len(rounds) - 1 if rounds[-1] is fails else 8


def test_an_exchange_that_is_taken_back_stays_as_far_as_a_tool_ran() -> None:
    llm = Scripted(asks(4), says("Your table is booked."), says("nothing much"))
    session = pipeline_of(llm).session(tools=[book])
    session.ask("a table, please")
    kept = session.take_back()
    assert kept == session.history[1]
    assert (kept.text, kept.heard_text, kept.audio) == ("Your table is booked. ", "", None)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="only once"):
        session.take_back()
    session.ask("hello?")
    assert [message.role for message in llm.told[-1]] == ["user", "assistant", "tool", "user"]
    assert results(llm.told[-1]) == ["booked for 4"]
    assert session.take_back() is None
    assert len(session.history) == 2


def test_a_tool_that_is_stopped_by_the_keyboard_may_have_taken_effect() -> None:
    def slow() -> str:
        """Take long."""
        raise KeyboardInterrupt

    llm = Scripted((ToolCall("1", "slow", {}),))
    session = pipeline_of(llm).session(tools=[slow])
    with pytest.raises(KeyboardInterrupt):
        session.ask("go")
    session.ask("hello?")
    require_valid(llm.told[-1])
    assert "not known" in results(llm.told[-1])[0]


def test_what_was_said_before_a_call_is_told_with_it_and_apart_in_the_text() -> None:
    llm = Scripted(asks(4, say="One moment."), asks(5, say="And one more."), says("Both are booked."))
    session = pipeline_of(llm).session(tools=[book])
    events = list(session.respond("two tables"))
    turn = session.history[-1]
    assert turn.text.strip() == "One moment. And one more. Both are booked."
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == turn.text
    session.ask("thanks")
    told = llm.told[-1]
    assert [(one.role, one.text) for one in told] == [
        ("user", "two tables"),
        ("assistant", "One moment."),
        ("tool", ""),
        ("assistant", "And one more."),
        ("tool", ""),
        ("assistant", "Both are booked."),
        ("user", "thanks"),
    ]
    assert [one.text for one in llm.told[2]] == [one.text for one in told[:5]]  # as the model was told while it answered
    require_valid(told)


def test_a_cut_is_told_up_to_the_sentence_that_was_heard() -> None:
    llm = Scripted(asks(4, say="One moment please."), says("Your table is booked for tonight."))
    session = pipeline_of(llm).session(tools=[book])
    session.ask("a table, please")
    heard = session.truncate(0.04 * 10)
    session.ask("hello?")
    assert heard.heard_text == "One moment"
    assert [(one.role, one.text, one.interrupted) for one in llm.told[-1]][1:3] == [
        ("assistant", "One moment", True),
        ("tool", "", False),
    ]
    require_valid(llm.told[-1])


@pytest.mark.parametrize("script", [(), (TextDelta(""),), (TextDelta("  "),)])
def test_an_empty_answer_is_no_empty_message(script: tuple[Any, ...]) -> None:
    llm = Scripted(script, says("yes"))
    session = Pipeline(llm_core=llm).session()
    session.ask("hi")
    session.ask("are you there?")
    require_valid(llm.told[-1])
    assert [message.role for message in llm.told[-1]] == ["user", "user"]


# --- a session that goes on is as one that was never closed ---

KINDS: dict[str, tuple[Any, ...]] = {
    "typed": ("hello there",),
    "spoken": (SOUND,),
    "spoken and typed": (SOUND, "and this is typed", OTHER),
    "shown between words": ("is this", RED, "or this", BLUE),
    "a tool": ("please use book with 4",),
    "spoken about a picture": (BLUE, SOUND, "look"),
}


def exchange(session: Session, kind: str, ending: str) -> None:
    events = session.respond(*KINDS[kind], style=Style(emotion="sad") if kind == "typed" else None)
    if ending == "interrupted":
        for event in events:
            if event.kind in {"audio_delta", "tool_result"}:
                break
        events.close()
    else:
        list(events)
    if ending == "cut":
        session.truncate(0.3)


@pytest.mark.parametrize("ending", ["whole", "interrupted", "cut"])
def test_a_resumed_session_tells_the_model_what_the_running_one_does(tmp_path: Path, ending: str) -> None:
    llm = Scripted()
    pipeline = pipeline_of(llm)
    running = pipeline.session(tools=[book], system="be kind")
    for number, kind in enumerate(KINDS):
        with SessionStore(tmp_path / "talk.db") as store:  # opened and closed for each exchange
            resumed = store.session(pipeline, "anna", tools=[book], system="be kind")
            exchange(resumed, kind, ending)
        by_resumed = llm.told[:]
        llm.told.clear()
        exchange(running, kind, ending)
        assert [plain(told) for told in by_resumed] == [plain(told) for told in llm.told], (number, kind)
        for told in llm.told:
            require_valid(told)
        llm.told.clear()


def test_media_that_are_gone_are_told_in_words(tmp_path: Path) -> None:
    llm = Scripted()
    pipeline = pipeline_of(llm)
    with SessionStore(tmp_path / "talk.db") as store:
        store.session(pipeline, "anna").ask(SOUND, RED)
        heard = store.turns("anna")[0].text
        for file in (store.media / "anna").iterdir():  # type: ignore[operator]
            file.unlink()
        store.session(pipeline, "anna").ask("what was it?")
    question = llm.told[-1][0]
    assert isinstance(question.parts[0], SpeechUnits)  # units are kept with the turn
    assert question.parts[1] == "[a picture, no longer available]"
    with SessionStore(tmp_path / "bare.db", keep_media=False) as store:
        store.session(pipeline, "anna").ask(SOUND, RED)
        store.session(pipeline, "anna").ask("what was it?")
    assert llm.told[-1][0].parts == (heard, "[a picture, no longer available]")


def test_another_model_is_told_of_speech_by_its_own_ears_or_in_words(tmp_path: Path) -> None:
    with SessionStore(tmp_path / "talk.db") as store:
        store.session(pipeline_of(Scripted()), "anna").ask(SOUND, "look", RED)

        llm = Scripted()
        llm.units = Space("other-units", 64)

        class OtherEars(FakeSpeechTokenizer):
            units = Space("other-units", 64)

            def encode(self, clips):  # type: ignore[no-untyped-def]
                return [SpeechUnits.of([7, 7]) for _ in clips]

        store.session(Pipeline(llm_core=llm, speech_tokenizer=OtherEars()), "anna").ask("go on")
        assert llm.told[0][0].parts == (SpeechUnits.of([7, 7]), "look", "[a picture, no longer available]")
        assert [type(part) for part in llm.told[0][1].parts] == [str]
        text_alone = Listening()
        store.session(Pipeline(llm_core=text_alone), "anna").ask("and on")
        spoken = store.turns("anna")[0].text.removesuffix("\nlook")
        assert text_alone.told[0][0].parts == (spoken, "look", "[a picture, no longer available]")


class Listening(Scripted):
    """A model of text alone."""

    def __init__(self) -> None:
        super().__init__()
        self.units = None
        self.vision = None


def test_a_model_that_calls_no_tools_is_told_of_earlier_calls_in_words() -> None:
    first = pipeline_of(Scripted(asks(4, say="One moment."), says("Booked."))).session(tools=[book])
    first.ask("a table, please")
    llm = Listening()
    llm.tools = False
    Pipeline(llm_core=llm).session(history=first.history).ask("and?")
    assert [(one.role, one.parts) for one in llm.told[0]] == [
        ("user", ("a table, please",)),
        ("assistant", ("One moment.", '[book {"guests": 4}: booked for 4]', "Booked.")),
        ("user", ("and?",)),
    ]


def test_a_turn_that_was_made_by_hand_is_told_as_it_is() -> None:
    llm = Scripted()
    history = [
        Turn("user", "what is it?", images=(RED,)),
        Turn("assistant", "wait", tool_calls=(ToolCall("a", "book", {"guests": 1}), ToolCall("b", "book", {"guests": 2}))),
    ]
    pipeline_of(llm).session(history=history).ask("and?")
    require_valid(llm.told[0])
    assert [message.role for message in llm.told[0]] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert isinstance(llm.told[0][0].parts[0], VisionFeatures)


def test_what_a_tool_did_is_in_the_store_before_the_answer_ends(tmp_path: Path) -> None:
    with SessionStore(tmp_path / "talk.db") as store:
        events = store.session(pipeline_of(Scripted(asks(4, 5), says("Done."))), "anna", tools=[book]).respond("tables")
        assert next(event for event in events if event.kind == "tool_result")
        user, assistant = store.turns("anna")  # as another process finds it, should this one end now
        assert [result.failed for result in assistant.tool_results] == [False, True]
        list(events)
        assert [turn.id for turn in store.turns("anna")] == [user.id, assistant.id]
        assert store.turns("anna")[1].text == "Done. "
        assert not store.turns("anna")[1].interrupted


def test_two_sessions_of_one_name_take_up_what_the_other_added(tmp_path: Path) -> None:
    llm = Scripted()
    with SessionStore(tmp_path / "talk.db") as store:
        one, two = (store.session(pipeline_of(llm), "anna") for _ in range(2))
        one.ask("first")
        two.ask("second")
        one.ask("third")
        assert [message.text for message in llm.told[-1] if message.role == "user"] == ["first", "second", "third"]
        assert [turn.id for turn in one.history] == store.turn_ids("anna")
        store.forget("anna")
        two.ask("fourth")
        assert [turn.text for turn in two.history if turn.role == "user"] == ["fourth"]


def test_turns_that_the_memory_failed_to_keep_are_kept_with_the_next_ones(tmp_path: Path) -> None:
    with SessionStore(tmp_path / "talk.db") as store:
        session = store.session(pipeline_of(Scripted()), "anna")
        append = store.append

        def refuse(*_: Any) -> None:
            raise BackendError("the disk is full")

        store.append = refuse  # type: ignore[method-assign]
        with pytest.raises(BackendError, match="disk"):
            session.ask("first")
        store.append = append  # type: ignore[method-assign]
        session.ask("second")
        assert [turn.text for turn in store.turns("anna") if turn.role == "user"] == ["first", "second"]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "interrupt", "cut", "take_back", "resume", "fail"]),
        st.sampled_from(["typed", "spoken", "a tool", "shown between words"]),
        st.integers(1, 9),
    ),
    max_size=7,
)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_whatever_happens_the_messages_are_valid_and_a_resumed_session_tells_the_same(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str, int]]
) -> None:
    llm = Scripted()
    pipeline = pipeline_of(llm)
    store = SessionStore(tmp_path_factory.mktemp("talk") / "talk.db")
    session = store.session(pipeline, "anna", tools=[book])
    for action, kind, count in actions:
        try:
            if action == "resume":
                session = store.session(pipeline, "anna", tools=[book])
            elif action == "cut":
                session.truncate(count / 10)
            elif action == "take_back":
                session.take_back()
            elif action == "fail":
                llm.rounds = [asks(count), fails]
                session.ask(*KINDS[kind])
            else:
                events = session.respond(*KINDS[kind])
                for number, _ in enumerate(events):
                    if action == "interrupt" and number == count:
                        break
                events.close()
        except (InputError, BackendError):
            llm.rounds = []
    llm.told.clear()
    kept = store.turns("anna")
    assert [turn.to_dict() | {"audio": 0, "images": 0} for turn in kept] == [
        turn.to_dict() | {"audio": 0, "images": 0} for turn in session.history
    ]
    session.ask("and now?")
    session.take_back()
    store.session(pipeline, "anna").ask("and now?")
    assert plain(llm.told[0]) == plain(llm.told[1])
    require_valid(llm.told[0])
    store.close()


# --- a conversation longer than the model reads ---


def told_users(messages: list[Message]) -> list[str]:
    return [message.text for message in messages if message.role == "user"]


def test_a_conversation_longer_than_the_model_reads_goes_on_without_its_oldest_exchanges(tmp_path: Path) -> None:
    llm = Scripted(longest=400)
    with SessionStore(tmp_path / "talk.db") as store:
        session = store.session(pipeline_of(llm), "anna", tools=[book], system="be kind")
        for number in range(30):
            reply = session.ask(f"please use book with {number}" if number % 3 == 0 else f"this is number {number}")
            require_valid(llm.told[-1])
            assert llm.told[-1][0].text == "be kind"
            assert llm.told[-1][1].role == "user"
        assert len(session.history) == 60  # the history is whole
        left_out = reply.turn.metadata["history_turns_left_out"]
        assert left_out > 0
        assert left_out % 2 == 0
        session.ask("and now?")
        running = llm.told[-1]
        session.take_back()
        store.session(pipeline_of(llm), "anna", tools=[book], system="be kind").ask("and now?")
        assert plain(llm.told[-1]) == plain(running)


def test_a_limit_tells_the_newest_turns_in_whole_exchanges() -> None:
    llm = Scripted()
    session = pipeline_of(llm).session(history_limit=3)
    for number in range(5):
        session.ask(f"number {number}")
    assert told_users(llm.told[-1]) == ["number 3", "number 4"]
    session = pipeline_of(llm).session(history_limit=0)
    session.ask("one")
    session.ask("two")
    assert told_users(llm.told[-1]) == ["two"]


def test_media_are_left_out_before_words() -> None:
    llm = Scripted()
    session = pipeline_of(llm).session(history_limit=2, truncation="drop_media")
    for number in range(3):
        session.ask(SOUND, RED, f"number {number}")
    first, second, third = (message for message in llm.told[-1] if message.role == "user")
    assert [type(part) for part in first.parts] == [str, str, str]
    assert first.parts[1:] == ("[a picture, no longer available]", "number 0")
    assert [type(part) for part in second.parts] == [type(part) for part in third.parts] == [SpeechUnits, VisionFeatures, str]
    assert session.history[-1].metadata["history_media_left_out"] == 2
    assert len(session._context._encoded) == 2  # features are kept as long as they are told


def talk_until_too_long(session: Session) -> None:
    session.ask("this is the first question of a conversation")
    with pytest.raises(ContextLengthError):
        session.ask("this is the second question of a conversation")


def test_a_function_decides_what_is_told_and_error_ends_the_conversation() -> None:
    llm = Scripted(longest=120)
    session = pipeline_of(llm).session(truncation=lambda turns: turns[-2:])
    for number in range(8):
        session.ask(f"this is number {number}")
    assert told_users(llm.told[-1])[-1] == "this is number 7"
    session = pipeline_of(llm).session(truncation="error")
    talk_until_too_long(session)
    session = pipeline_of(llm).session(truncation=lambda turns: turns)  # keeps everything: nothing more can be done
    talk_until_too_long(session)
    with pytest.raises(ContextLengthError):
        pipeline_of(llm).session().ask("a question that is too long " * 20)


@pytest.mark.parametrize("returned", [None, 5, "abc", [None], [{"role": "user"}]])
def test_a_truncation_that_returns_no_turns_is_one_error_and_loses_nothing(returned: Any) -> None:
    answers = [returned]
    llm = Scripted(says("one"), says("two"), says("three"))
    session = pipeline_of(llm).session(history_limit=2, truncation=lambda turns: answers.pop() if answers else turns[-2:])
    session.ask("first")
    session.ask("second")
    before = session.history
    with pytest.raises(InputError, match=r"`truncation` returned a `\w+`, not a `Turn`") as error:
        session.ask("third")
    assert "list of `Turn`s" in error.value.hint
    assert session.history == before
    assert session.ask("third").text


def test_a_truncation_may_be_a_generator() -> None:
    def newest(turns: Any) -> Iterator[Turn]:
        yield from turns[-2:]

    llm = Scripted()
    session = pipeline_of(llm).session(history_limit=2, truncation=newest)
    for word in ("first", "second", "third"):
        session.ask(word)
    assert [message.text for message in llm.told[-1] if message.role == "user"] == ["second", "third"]


@pytest.mark.parametrize("truncation", [lambda: (), lambda turns, more: turns])
def test_a_truncation_that_cannot_be_called_with_turns_is_refused_at_once(truncation: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be called with the turns"):
        pipeline_of(Scripted()).session(truncation=truncation)


@pytest.mark.parametrize(
    "options", [{"truncation": "middle"}, {"truncation": 3}, {"history_limit": -1}, {"history_limit": "2"}]
)
def test_a_limit_that_means_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        pipeline_of(Scripted()).session(**options)


def test_a_config_sets_the_limit() -> None:
    pipeline = Pipeline.from_config("fake", overrides=["limits.history_turns=2", 'limits.truncation="drop_media"'])
    assert (pipeline.limits.history_turns, pipeline.limits.truncation) == (2, "drop_media")
    with pytest.raises(ConfigError):
        Pipeline.from_config("fake", overrides=['limits.truncation="middle"'])


@pytest.mark.parametrize(
    "body",
    [
        {"message": "too long", "code": "context_length_exceeded"},
        {"message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."},
        {"error": {"type": "exceed_context_size_error", "message": "the request exceeds the available context size"}},
        [{"error": {"message": "The input token count (9000) exceeds the maximum number of tokens allowed (8192)."}}],
        {"message": "prompt is too long: 9000 tokens > 8192 maximum"},
    ],
)
def test_endpoints_say_in_many_ways_that_a_conversation_is_too_long(body: Any) -> None:
    assert isinstance(refusal(400, body), ContextLengthError)
    assert not isinstance(refusal(500, body), ContextLengthError)


# --- text that can be kept ---


@pytest.mark.parametrize(
    ("given", "kept"), [("caf\udce9", "caf\ufffd"), ("\ud83d\ude00 hi", "\U0001f600 hi"), ("\udc00\ud800x", "\ufffd\ufffdx")]
)
def test_half_characters_are_replaced_wherever_they_come_from(tmp_path: Path, given: str, kept: str) -> None:
    def tell(text: str) -> list[str]:
        """Tell something."""
        return [text, given]

    llm = Scripted((ToolCall("1", "tell", {"text": given}),), (TextDelta(given), UnitsDelta(SpeechUnits.of([1, 2]))))
    with SessionStore(tmp_path / "talk.db") as store:
        session = store.session(pipeline_of(llm), "anna", tools=[tell], system=given)
        session.ask(given, "and more")
        user, assistant = store.turns("anna")
        assert user.text == f"{kept}\nand more"
        assert assistant.text == kept
        assert assistant.tool_calls[0].arguments == {"text": kept}
        assert assistant.tool_results[0].content == f'["{kept}", "{kept}"]'
        assert llm.told[-1][0].text == kept
        assert llm.told[-1][1].parts == (kept, "and more")


def test_respond_checks_its_input_at_the_call() -> None:
    session = pipeline_of(Scripted()).session()
    for wrong in (42, None, b"bytes", ["hello"]):
        with pytest.raises(InputError, match="cannot be said"):
            session.respond(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing to answer"):
        session.respond("")
    session.respond("hello").close()  # nothing was asked: it leaves no trace, and the next answer can begin
    assert session.history == []
    assert session.ask("hello").text
