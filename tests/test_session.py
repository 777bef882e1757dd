"""Sessions: answers as events, history, interruption, tools, threads and asyncio."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from emova_sdk import (
    Audio,
    AudioDelta,
    Image,
    Message,
    Pipeline,
    Session,
    Style,
    StyleChosen,
    TextDelta,
    ToolCall,
    ToolResult,
    Transcript,
    Turn,
    TurnContext,
    UserStyle,
)
from emova_sdk.errors import BackendError, InputError
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVisionEncoder, FakeVocoder
from emova_sdk.types import Metadata, SpeechUnits, UnitsDelta

QUESTION = Audio((0.3 * np.sin(2 * np.pi * 220 * np.arange(24_000) / 16_000)).astype(np.float32), 16_000)
PICTURE = Image(np.full((8, 8, 3), (10, 10, 250), np.uint8))


class Listening(FakeLLMCore):
    """Remembers the messages of each request."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.told: list[list[Message]] = []

    def generate(self, messages, **options):  # type: ignore[no-untyped-def]
        if options.get("task", "chat") == "chat":
            self.told.append(list(messages))
        return super().generate(messages, **options)


def make(llm: FakeLLMCore | None = None, **slots: Any) -> Pipeline:
    filled: dict[str, Any] = {
        "vision_encoder": FakeVisionEncoder(),
        "speech_tokenizer": FakeSpeechTokenizer(),
        "llm_core": llm or FakeLLMCore(),
        "style_module": FakeStyleModule(),
        "vocoder": FakeVocoder(),
    }
    return Pipeline(**(filled | slots))


def test_a_spoken_turn_says_everything_about_itself() -> None:
    reply = make().session(style=Style("male")).ask(QUESTION, PICTURE)
    assert reply.transcript is not None
    assert reply.user_style is not None
    assert reply.user_style.source == "style_module"
    assert "blue" in reply.text
    assert reply.style is not None
    assert reply.style.speaker == "male"
    assert reply.audio is not None
    assert reply.audio.duration_s > 1
    assert reply.turn.timings == reply.timings
    assert 0 < reply.timings.understood_s <= reply.timings.first_token_s <= reply.timings.first_audio_s <= reply.timings.total_s  # type: ignore[operator]
    assert reply.timings.real_time_factor is not None
    assert reply.timings.real_time_factor < 1


def test_events_come_in_order_and_sound_before_the_last_word() -> None:
    session = make(FakeLLMCore(transcript="one two three four five")).session()
    events = list(session.respond(QUESTION))
    kinds = [type(event) for event in events]
    assert kinds[:3] == [UserStyle, Transcript, StyleChosen]
    first_sound = kinds.index(AudioDelta)
    last_word = len(kinds) - 1 - kinds[::-1].index(TextDelta)
    assert first_sound < last_word
    assert {"units_delta", "metadata"}.isdisjoint({event.kind for event in events})
    answer = session.history[-1]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer.text
    assert Audio.concat([event.audio for event in events if isinstance(event, AudioDelta)]) == answer.audio
    assert answer.timings is not None
    assert answer.timings.first_audio_s < answer.timings.total_s  # type: ignore[operator]


def test_history_keeps_both_sides_with_their_styles() -> None:
    session = make().session()
    session.ask(QUESTION, "and this is typed", style=Style("female", "sad", "low", "slow"))
    user, assistant = session.history
    assert (user.role, assistant.role) == ("user", "assistant")
    assert user.audio == QUESTION
    assert user.text.endswith("and this is typed")
    assert user.perceived is not None
    assert assistant.style == assistant.requested_style == Style("female", "sad", "low", "slow")
    assert Turn.from_dict(assistant.to_dict()).style == assistant.style


def test_requested_and_applied_style_are_both_kept_when_the_voice_falls_back() -> None:
    pipeline = make(style_module=FakeStyleModule(emotions=("neutral", "happy")))
    reply = pipeline.session().ask("hello", style=Style(emotion="surprised"))
    assert reply.turn.requested_style == Style(emotion="surprised")
    assert reply.style == Style(emotion="happy")


def test_a_session_goes_on_from_a_saved_history_and_a_system_message() -> None:
    llm = Listening()
    first = make().session()
    first.ask("hello")
    later = make(llm).session(history=[Turn.from_dict(turn.to_dict()) for turn in first.history], system="be kind")
    later.ask("again")
    assert [message.role for message in llm.told[0]] == ["system", "user", "assistant", "user"]
    assert llm.told[0][1].text == "hello"


def test_without_voice_or_ears_a_session_still_writes() -> None:
    session = Pipeline(llm_core=FakeLLMCore(hears=False)).session()
    reply = session.ask("hello")
    assert reply.text == "You said: hello."
    assert reply.audio is None
    assert reply.style is None
    assert reply.timings.first_audio_s is None
    assert reply.timings.real_time_factor is None


def test_an_answer_without_units_is_spoken_in_a_second_pass_and_says_so() -> None:
    class TextFirst(FakeLLMCore):
        def generate(self, messages, *, task="chat", **options):  # type: ignore[no-untyped-def]
            if task == "chat":
                yield TextDelta("First. Second.")
            else:
                yield from super().generate(messages, task=task, **options)

    reply = make(TextFirst()).session().ask("hello", style=Style(emotion="happy"))
    assert reply.text == "First. Second."
    assert reply.audio is not None
    assert reply.style == Style(emotion="happy")
    assert "second pass" in reply.turn.metadata["speech"]


def test_closing_the_answer_interrupts_it_and_history_keeps_what_was_taken() -> None:
    session = make(FakeLLMCore(replies={"count": "one two three four five six seven eight nine ten"})).session()
    events = session.respond("count")
    taken: list[Any] = []
    for event in events:
        taken.append(event)
        if sum(isinstance(one, AudioDelta) for one in taken) == 4:
            break
    events.close()
    answer = session.history[-1]
    heard = Audio.concat([event.audio for event in taken if isinstance(event, AudioDelta)])
    assert answer.interrupted
    assert answer.audio == heard
    assert "one two three four five six seven eight nine ten".startswith(answer.heard_text or "!")
    assert len(answer.heard_text or "") < len("one two three four five six seven")
    session.ask("count")  # the session goes on
    assert len(session.history) == 4


def test_cut_keeps_text_sound_and_units_up_to_what_was_heard() -> None:
    llm = Listening(replies={"count": "one two three four five six seven eight nine ten"})
    session = make(llm).session()
    whole = session.ask("count")
    assert whole.audio is not None
    half = session.truncate(whole.audio.duration_s / 2)
    assert half.interrupted
    assert half.text == whole.text
    assert half.heard_text in {"one two three four", "one two three four five"}
    assert half.audio == whole.audio.cut(0, whole.audio.duration_s / 2)
    assert session.history[-1] == half
    assert half.units is not None
    assert len(half.units) == pytest.approx(len(whole.text) / 2, abs=2)
    session.ask("and on")
    remembered = llm.told[-1][1]
    assert (remembered.interrupted, remembered.parts) == (True, (half.heard_text, half.units))
    nothing = session.truncate(0.0)
    assert nothing.heard_text == ""
    session.ask("hello?")
    assert [message.text for message in llm.told[-1]] == ["count", half.heard_text, "and on", "hello?"]


@pytest.mark.parametrize("text", ["one two three four", "Hello, nice to hear you.", "a b"])
@pytest.mark.parametrize("units_per_word", [1, 9])
def test_an_answer_closed_after_its_last_event_was_heard_to_its_last_word(text: str, units_per_word: int) -> None:
    class Paced(FakeLLMCore):
        def generate(self, messages, *, task="chat", **options):  # type: ignore[no-untyped-def]
            for word in text.split():
                yield TextDelta(f"{word} ")
                yield UnitsDelta(SpeechUnits.of(range(units_per_word)))

    pipeline = make(Paced())
    count = len(list(pipeline.session().respond("hello")))
    session = pipeline.session()
    events = session.respond("hello")
    for _ in range(count):
        next(events)
    events.close()
    closed = session.history[-1]
    assert (closed.heard_text or "").split() == text.split()
    assert session.truncate(60.0).heard_text == closed.heard_text


def test_cut_after_everything_was_heard_changes_nothing() -> None:
    session = make().session()
    reply = session.ask("hello")
    assert session.truncate(60.0) == reply.turn
    with pytest.raises(InputError, match="no answer to truncate"):
        make().session().truncate(1.0)


def test_a_failure_before_anything_was_said_leaves_no_trace() -> None:
    class Broken(FakeLLMCore):
        def generate(self, messages, **_):  # type: ignore[no-untyped-def]
            raise BackendError("the model fell over", "start it again", retryable=True)
            yield

    session = make(Broken()).session()
    with pytest.raises(BackendError):
        session.ask("hello")
    with pytest.raises(InputError):
        session.ask(Audio.silence(0, 16_000))
    assert session.history == []


def test_a_failure_in_the_middle_keeps_what_was_said_and_why_it_stopped() -> None:
    class Breaking(FakeLLMCore):
        def generate(self, messages, **options):  # type: ignore[no-untyped-def]
            for count, event in enumerate(super().generate(messages, **options)):
                yield event
                if count == 7:
                    raise BackendError("the model fell over")

    session = make(Breaking()).session()
    with pytest.raises(BackendError):
        session.ask("hello there friend")
    assert session.history[-1].interrupted
    assert session.history[-1].metadata["error"] == "the model fell over"


@pytest.mark.parametrize("parts", [(), ("",), (b"bytes",)])
def test_input_that_cannot_be_answered_is_refused(parts: tuple[Any, ...]) -> None:
    with pytest.raises(InputError):
        make().session().ask(*parts)


def test_one_answer_at_a_time() -> None:
    session = make().session()
    events = session.respond("hello")
    next(events)
    with pytest.raises(InputError, match="still answering"):
        session.ask("me too")
    events.close()
    assert session.ask("now").text


# --- tools ---


def weather(city: str, days: int = 1) -> str:
    """Tell the weather."""
    return f"sunny in {city} for {days} days"


def mood(context: TurnContext) -> dict[str, Any]:
    """Tell how the user feels."""
    perceived = context.user_style
    return {"emotion": perceived.style.emotion if perceived else None, "said": context.user_text, "turns": len(context.history)}


def test_a_tool_is_called_and_its_answer_is_spoken() -> None:
    llm = FakeLLMCore(tool_arguments={"weather": {"city": "Lund", "days": 2}})
    session = make(llm).session(tools=[weather])
    events = list(session.respond("tell me the weather"))
    assert next(event for event in events if isinstance(event, ToolCall)).arguments == {"city": "Lund", "days": 2}
    result = next(event for event in events if isinstance(event, ToolResult))
    assert (result.content, result.failed) == ("sunny in Lund for 2 days", False)
    turn = session.history[-1]
    assert "sunny in Lund" in turn.text
    assert turn.audio is not None
    assert [call.name for call in turn.tool_calls] == ["weather"]
    assert Turn.from_dict(turn.to_dict()).tool_results == turn.tool_results


def test_a_tool_sees_how_the_user_feels() -> None:
    llm = FakeLLMCore(transcript="what is my mood", tool_arguments={"mood": {}})
    session = make(llm).session(tools=[mood])
    reply = session.ask(QUESTION)
    assert reply.user_style is not None
    assert f'"emotion": "{reply.user_style.style.emotion}"' in reply.turn.tool_results[0].content
    assert '"said": "what is my mood"' in reply.turn.tool_results[0].content


@pytest.mark.parametrize(("arguments", "reason"), [({"days": 1}, "city: Field required"), ({"city": "x", "extra": 1}, "extra")])
def test_wrong_arguments_become_a_failed_result_and_the_turn_goes_on(arguments: dict[str, Any], reason: str) -> None:
    reply = make(FakeLLMCore(tool_arguments={"weather": arguments})).session(tools=[weather]).ask("the weather please")
    assert reply.turn.tool_results[0].failed
    assert reason in reply.turn.tool_results[0].content
    assert "failed" in reply.text


def test_a_tool_that_raises_and_a_tool_that_does_not_exist_are_failed_results() -> None:
    def broken() -> str:
        """Break."""
        raise RuntimeError("no luck")

    class Inventive(FakeLLMCore):
        def generate(self, messages, *, task="chat", **options):  # type: ignore[no-untyped-def]
            if task != "chat":
                yield from super().generate(messages, task=task, **options)
            elif messages[-1].role == "user":
                yield ToolCall("1", "broken", {})
                yield ToolCall("2", "imagined", {})
            else:
                yield TextDelta("done")

    reply = make(Inventive()).session(tools=[broken]).ask("go")
    first, second = reply.turn.tool_results
    assert (first.failed, first.content) == (True, "RuntimeError: no luck")
    assert "there is no tool `imagined`; the tools are: broken" in second.content
    assert reply.text == "done"


def test_a_model_that_only_ever_asks_for_tools_is_stopped() -> None:
    class Endless(FakeLLMCore):
        def generate(self, messages, **options):  # type: ignore[no-untyped-def]
            yield Metadata({"round": len(messages)})
            yield ToolCall("1", "weather", {"city": "Lund"})

    with pytest.raises(BackendError, match="without answering"):
        make(Endless()).session(tools=[weather]).ask("go")


# --- an answer while it is given ---


def test_a_response_gives_events_text_sound_and_the_whole_answer() -> None:
    reply = make().session().ask("hello there")
    assert "".join(make().session().respond("hello there").text()) == reply.text
    assert Audio.concat(list(make().session().respond("hello there").audio())) == reply.audio
    response = make().session().respond("hello there")
    first = next(response)
    rest = list(response)
    assert [first, *rest] == list(make().session().respond("hello there"))
    assert (response.reply().text, response.reply().audio) == (reply.text, reply.audio)
    half = make().session().respond("hello there")
    next(half)
    assert half.reply().audio == reply.audio  # goes on where it was


def test_a_cancelled_response_keeps_what_was_taken_and_gives_no_more() -> None:
    session = make(FakeLLMCore(replies={"count": "one two three four five six seven eight nine ten"})).session()
    with session.respond("count") as response:
        heard = next(response.audio())
    assert list(response) == []
    reply = response.reply()
    assert reply.turn == session.history[-1]
    assert (reply.turn.interrupted, reply.audio) == (True, heard)
    nothing = session.respond("count")
    nothing.cancel()
    with pytest.raises(InputError, match="nothing came of this answer"):
        nothing.reply()
    assert len(session.history) == 2


def test_an_answer_is_cancelled_from_another_thread_while_a_component_works() -> None:
    working, go_on = threading.Event(), threading.Event()

    class Slow(FakeLLMCore):
        def generate(self, messages, **options):  # type: ignore[no-untyped-def]
            for event in super().generate(messages, **options):
                if isinstance(event, TextDelta):
                    working.set()
                    assert go_on.wait(60)
                yield event

    session = make(Slow()).session()
    response = session.respond("one two three four")
    taken: list[Any] = []
    thread = threading.Thread(target=lambda: taken.extend(response))
    thread.start()
    assert working.wait(60)
    response.cancel()  # returns at once: the event in the making is the last
    go_on.set()
    thread.join(60)
    assert [event.text for event in taken if isinstance(event, TextDelta)] == [session.history[-1].text]
    assert session.history[-1].interrupted
    assert session.ask("go on").text


def test_a_tool_may_cancel_the_answer_it_is_called_in() -> None:
    def stop() -> str:
        """Stop."""
        response.cancel()
        return "stopped"

    session = make(FakeLLMCore(tool_arguments={"stop": {}})).session(tools=[stop])
    response = session.respond("please stop")
    assert [event.content for event in response if isinstance(event, ToolResult)] == ["stopped"]
    assert [result.content for result in session.history[-1].tool_results] == ["stopped"]


def test_what_failed_once_fails_again_when_the_reply_is_asked_for() -> None:
    class Broken(FakeLLMCore):
        def generate(self, messages, **_):  # type: ignore[no-untyped-def]
            raise BackendError("the model fell over")
            yield

    response = make(Broken()).session().respond("hello")
    for _ in range(2):
        with pytest.raises(BackendError, match="fell over"):
            response.reply()


# --- threads and asyncio ---


def test_sessions_on_one_pipeline_do_not_disturb_each_other() -> None:
    pipeline = make(FakeLLMCore(delay_s=0.001))
    alone = {name: make().session().ask(f"my name is {name}") for name in "abcdef"}
    found: dict[str, Any] = {}

    def converse(name: str) -> None:
        session = Session(pipeline)
        found[name] = [session.ask(f"my name is {name}") for _ in range(3)]

    threads = [threading.Thread(target=converse, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, replies in found.items():
        assert all(reply.text == alone[name].text and reply.audio == alone[name].audio for reply in replies)


def _own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("emova")]


async def _settled() -> None:
    for _ in range(6000):  # as long as a busy machine may need
        if not _own_threads():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"threads were left: {_own_threads()}")


def test_arespond_is_ordered_and_leaves_no_thread() -> None:
    async def run() -> tuple[list[Any], list[Any]]:
        session, other = make().session(), make().session()
        events = [event async for event in session.arespond("hello there")]
        await _settled()
        return events, list(other.respond("hello there"))

    asynchronous, synchronous = asyncio.run(run())
    assert asynchronous == synchronous


def test_arespond_is_cancelled_with_its_task() -> None:
    session = make(FakeLLMCore(delay_s=0.01, replies={"go": "word " * 500})).session()

    async def run() -> None:
        heard = 0

        async def listen() -> None:
            nonlocal heard
            async for event in session.arespond("go"):
                heard += isinstance(event, AudioDelta)

        task = asyncio.create_task(listen())
        while heard < 3:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _settled()

    asyncio.run(run())
    assert session.history[-1].interrupted
    assert session.ask("hello").text


def test_aask_gives_the_reply_without_blocking_the_event_loop() -> None:
    beat = threading.Event()

    class Blocking(FakeLLMCore):
        def generate(self, messages, **options):  # type: ignore[no-untyped-def]
            assert beat.wait(60)  # set by the event loop, which would never get to it if it were blocked
            yield from super().generate(messages, **options)

    async def run() -> Any:
        asyncio.get_running_loop().call_later(0.01, beat.set)
        return await make(Blocking()).session().aask("hello there", style=Style(emotion="happy"))

    reply = asyncio.run(run())
    assert reply.text == make().session().ask("hello there").text
    assert reply.style == Style(emotion="happy")


def test_aask_is_cancelled_with_its_task() -> None:
    working = threading.Event()

    class Endless(FakeLLMCore):
        def generate(self, messages, **options):  # type: ignore[no-untyped-def]
            for event in super().generate(messages, **options):
                yield event
                if isinstance(event, TextDelta):
                    working.set()

    session = make(Endless(delay_s=0.001, replies={"go": "word " * 5000})).session()

    async def run() -> None:
        task = asyncio.create_task(session.aask("go"))
        await asyncio.to_thread(working.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert session.history[-1].interrupted
    assert session.ask("hello").text


def test_arespond_passes_errors_on() -> None:
    async def run() -> None:
        async for _ in make().session().arespond():
            pass

    with pytest.raises(InputError):
        asyncio.run(run())


def test_the_builtin_tools_answer_and_refuse() -> None:
    from emova_sdk.tools import as_tools, builtin_tools

    tools = as_tools(builtin_tools())
    context = TurnContext("s", "hello", None, Style(), ())
    assert tools["calculator"].call(ToolCall("1", "calculator", {"expression": "twelve plus thirty"}), context).content == "42"
    assert tools["timer"].call(ToolCall("2", "timer", {"duration": "ten minutes"}), context).content == "ten minutes"
    assert tools["clock"].call(ToolCall("3", "clock", {"question": "day"}), context).content.endswith("day")
    assert tools["clock"].call(ToolCall("4", "clock", {"question": "weather"}), context).failed
    assert tools["calculator"].call(ToolCall("5", "calculator", {"sum": "1 plus 1"}), context).failed


def test_truncating_while_an_answer_is_given_harms_no_earlier_one():
    with Pipeline.from_config("fake") as pipeline:
        session = pipeline.session()
        session.ask("hello")
        before = session.history[-1]
        response = session.respond("again")
        next(response)
        with pytest.raises(InputError, match="still answering"):
            session.truncate(0.1)
        response.cancel()
        assert session.history[1] == before


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_an_endpointing_time_that_is_none_is_refused(seconds):
    with Pipeline.from_config("fake") as pipeline, pytest.raises(InputError, match="no number of seconds"):
        pipeline.session().respond("hello", endpointing_s=seconds)


def test_a_tool_that_reads_its_own_answer_is_refused_instead_of_waiting_for_ever():
    responses = []

    def calculator(expression: str) -> str:
        """Compute."""
        return next(responses[0])

    with Pipeline.from_config("fake") as pipeline:
        response = pipeline.session(tools=[calculator]).respond("use the calculator: one")
        responses.append(response)
        reply = response.reply()
    assert "cannot read the answer" in reply.turn.tool_results[0].content
