from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from endpoint import (
    Endpoint,
    breaks_off,
    calls,
    dies,
    keeps_alive,
    refuses,
    says,
    sends,
    stalls,
)

from emova_sdk.components.base import GenerationOptions, Space
from emova_sdk.components.brains.openai import OpenAICore
from emova_sdk.errors import BackendError, ConfigError, EmovaError, EmptyAnswerError, InputError
from emova_sdk.pipeline import Pipeline
from emova_sdk.types import (
    Audio,
    Image,
    LLMEvent,
    Message,
    Metadata,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
    UnitsDelta,
    UserStyle,
    VisionFeatures,
)


def core(endpoint: Endpoint, **options: Any) -> OpenAICore:
    return OpenAICore("loopback-1", base_url=endpoint.url, **{"retries": 0, "timeout_s": 2.0, **options})


def ask(model: OpenAICore, *parts: Any, **options: Any) -> list[LLMEvent]:
    with model:
        return list(model.generate([Message("user", parts or ("Hi.",))], **options))


def text(events: list[LLMEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_it_streams_text_and_tells_what_it_used(endpoint: Endpoint) -> None:
    endpoint.script = [says("Good evening, friend.")]
    events = ask(core(endpoint, api_key="secret"))
    assert text(events) == "Good evening, friend."
    assert sum(isinstance(event, TextDelta) for event in events) > 3
    usage = {"input_tokens": 5, "output_tokens": 7}
    assert events[-1] == Metadata({"usage": usage, "model": "loopback-1", "finish_reason": "stop"})
    assert endpoint.keys == ["Bearer secret"]


def test_the_request_carries_the_conversation(endpoint: Endpoint) -> None:
    picture = Image(np.full((2, 3, 3), 200, np.uint8))
    messages = [
        Message("system", ("Be kind.",)),
        Message("user", ("What is this?", picture)),
        Message("assistant", (ToolCall("a", "look", {"at": 1}),)),
        Message("tool", (ToolResult("a", "look", "grey"),)),
        Message("tool", (ToolResult("b", "smell", "no nose", failed=True),)),
        Message("assistant", ("It is a gr",), interrupted=True),
        Message("user", ("Go on.",)),
    ]
    options = GenerationOptions(max_tokens=9, temperature=0.5, top_p=0.9, seed=3)
    with core(endpoint, sees_images=True) as model:
        list(model.generate(messages, options=options))
    request = endpoint.requests[0]
    roles = [entry["role"] for entry in request["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant", "user"]
    assert request["messages"][1]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert request["messages"][2]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": 1}'}
    assert request["messages"][3] == {"role": "tool", "tool_call_id": "a", "content": "grey"}
    assert request["messages"][4]["content"] == "error: no nose"
    assert request["messages"][5]["content"] == "It is a gr [the user interrupted here]"
    assert (request["max_tokens"], request["temperature"], request["top_p"], request["seed"]) == (9, 0.5, 0.9, 3)


def test_tools_are_called_in_order(endpoint: Endpoint) -> None:
    endpoint.script = [calls(("clock", '{"zone": "UTC"}'), ("dice", ""))]
    tools = [ToolSpec("clock", "Tells the time."), ToolSpec("dice", "Throws.")]
    events = ask(core(endpoint), tools=tools, options=GenerationOptions(tool_choice="any"))
    assert [event for event in events if isinstance(event, ToolCall)] == [
        ToolCall("call-0", "clock", {"zone": "UTC"}),
        ToolCall("call-1", "dice", {}),
    ]
    assert endpoint.requests[0]["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in endpoint.requests[0]["tools"]] == ["clock", "dice"]


def test_a_named_tool_and_a_schema_are_asked_for(endpoint: Endpoint) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
    options = GenerationOptions(tool_choice="clock", json_schema=schema)
    ask(core(endpoint), tools=[ToolSpec("clock", "")], options=options)
    assert endpoint.requests[0]["tool_choice"] == {"type": "function", "function": {"name": "clock"}}
    assert endpoint.requests[0]["response_format"]["json_schema"] == {"name": "answer", "schema": schema, "strict": True}


def test_calls_without_numbers_and_ids_are_understood(endpoint: Endpoint) -> None:
    whole = {"function": {"name": "dice", "arguments": '{"sides": 6}'}}
    chunk = '{"model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [%s]}, "finish_reason": "tool_calls"}]}'
    endpoint.script = [
        sends(chunk % str(whole).replace("'", '"').replace('"{', '"{').replace('"{"sides": 6}"', '"{\\"sides\\": 6}"'))
    ]
    (call,) = (event for event in ask(core(endpoint)) if isinstance(event, ToolCall))
    assert call.name == "dice"
    assert call.arguments == {"sides": 6}
    assert call.id


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<think>hm, hello?</think>\n\nHello.", "Hello."),
        ("  <think>a</think>b", "b"),
        ("<thin air>", "<thin air>"),
        ("Write `<think>like this</think>` first.", "Write `<think>like this</think>` first."),
        ("Hello. <think>hm</think> How are you?", "Hello. How are you?"),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 100])
def test_thinking_is_not_said(endpoint: Endpoint, written: str, said: str, size: int) -> None:
    endpoint.script = [says(written, size=size)]
    assert text(ask(core(endpoint))) == said


@pytest.mark.parametrize(
    ("behaviour", "message", "retryable"),
    [
        (says(""), "empty", True),
        (says("  \n"), "empty", True),
        (says("<think>never done"), "thought, and said nothing", True),
        (sends('{"choices": [{"delta": {"content": ""}, "finish_reason": "length"}]}', "[DONE]"), "used up", False),
        (sends('{"choices": [{"delta": {}, "finish_reason": "content_filter"}]}', "[DONE]"), "withheld", False),
        (sends('{"choices": [{"delta": {"reasoning_content": "Hm."}}]}', "[DONE]"), "thought, and said nothing", True),
        (sends('{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}'), "empty", True),
        (sends('{"choices": null}', "[DONE]"), "empty", True),
    ],
)
def test_an_empty_answer_is_an_error_of_its_own(endpoint: Endpoint, behaviour: Any, message: str, retryable: bool) -> None:
    endpoint.otherwise = behaviour
    with pytest.raises(EmptyAnswerError, match=message) as caught:
        ask(core(endpoint))
    assert caught.value.retryable is retryable


def test_an_empty_answer_is_asked_for_again(endpoint: Endpoint) -> None:
    endpoint.script = [says(""), says("Hello.")]
    assert text(ask(core(endpoint, retries=1))) == "Hello."


def test_thoughts_that_no_tag_opens_are_held_back_once_they_are_known(endpoint: Endpoint) -> None:
    endpoint.otherwise = says("The user greets me.\n</think>\n\nHello.", size=4)
    with core(endpoint) as model:
        first = list(model.generate([Message("user", ("Hi.",))]))
        again = list(model.generate([Message("user", ("Hi.",))]))
    assert any(isinstance(event, Metadata) and event.values.get("thoughts") == "unopened" for event in first)
    assert text(again) == "Hello."
    assert text(ask(core(endpoint, unopened_thoughts=True))) == "Hello."


def test_no_message_of_the_assistant_is_empty(endpoint: Endpoint) -> None:
    messages = [
        Message("user", ("Hi.",)),
        Message("assistant", ("",)),
        Message("user", ("Hello?",)),
        Message("assistant", ("One moment.", ToolCall("a", "look", {}))),
        Message("tool", (ToolResult("a", "look", "grey"),)),
        Message("assistant", ("",), interrupted=True),
        Message("user", ("Go on.",)),
    ]
    with core(endpoint) as model:
        list(model.generate(messages))
    told = [entry for entry in endpoint.requests[0]["messages"] if entry["role"] == "assistant"]
    assert [entry["content"] for entry in told] == ["One moment.", "[the user interrupted here]"]
    assert told[0]["tool_calls"][0]["id"] == "a"


# --- failures ---


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_refused_for_good_is_a_config_error(endpoint: Endpoint, status: int) -> None:
    endpoint.otherwise = refuses(status, "wrong key or name")
    with pytest.raises(ConfigError, match="wrong key or name") as caught:
        ask(core(endpoint, retries=2))
    assert caught.value.hint
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "retryable", "message"),
    [
        (refuses(429, "slow down", headers={"retry-after": "900"}), True, "429"),
        (refuses(429, "pay first", code="insufficient_quota"), False, "pay first"),
        (refuses(500, "oops"), True, "500"),
        (refuses(503, "busy"), True, "503"),
        (refuses(400, "context too long"), False, "context too long"),
        (dies, True, "connection"),
        (stalls(3.0), True, "said nothing for 0.3 s"),
        (stalls(3.0, after="Once upon"), True, "said nothing for 0.3 s"),
        (breaks_off(), True, "broke off"),
        (breaks_off(after="Once upon"), True, "broke off"),
        (sends("{not json"), True, "understood"),
        (sends('"just a string"'), True, "understood"),
        (sends('{"choices": 5, "model": "m"}'), True, "understood"),
        (sends('{"model": "m", "choices": [{"delta": {"content": {"a": 1}}}]}'), True, "understood"),
        (sends('{"error": {"message": "out of memory"}}'), True, "out of memory"),
        (sends("<html>welcome</html>", kind="text/html; charset=utf-8"), False, "text/html"),
        (calls(("dice", '{"sides":')), True, "no JSON object"),
        (calls(("dice", "[1]")), True, "no JSON object"),
    ],
)
def test_every_failure_is_one_typed_error(endpoint: Endpoint, behaviour: Any, retryable: bool, message: str) -> None:
    endpoint.otherwise = behaviour
    with pytest.raises(BackendError, match=message) as caught:
        ask(core(endpoint, timeout_s=0.3))
    assert caught.value.retryable is retryable
    assert caught.value.hint


@pytest.mark.parametrize(
    "behaviour",
    [refuses(429, headers={"retry-after": "0.01"}), refuses(500), dies, breaks_off(), sends("{not json"), stalls(1.0)],
    ids=["429", "500", "dies", "breaks off", "garbage", "stalls"],
)
def test_what_may_pass_is_tried_again(endpoint: Endpoint, behaviour: Any) -> None:
    endpoint.script = [behaviour, says("At last.")]
    assert text(ask(core(endpoint, retries=2, timeout_s=0.4))) == "At last."
    assert len(endpoint.requests) == 2


def test_nothing_is_said_twice(endpoint: Endpoint) -> None:
    endpoint.script = [breaks_off(after="Once upon"), says("Once upon a time.")]
    with core(endpoint, retries=2) as model:
        events = model.generate([Message("user", ("Tell me.",))])
        assert next(events) == TextDelta("Once upon")
        with pytest.raises(BackendError, match="broke off"):
            next(events)
    assert len(endpoint.requests) == 1


def test_an_answer_that_is_only_kept_alive_ends(endpoint: Endpoint) -> None:
    endpoint.otherwise = keeps_alive(5.0)
    with pytest.raises(BackendError, match=r"within 0\.3 s"):  # the server would go on for long
        ask(core(endpoint, answer_s=0.3))


def test_a_server_that_is_not_there(endpoint: Endpoint) -> None:
    model = OpenAICore("m", base_url="http://127.0.0.1:9/v1", retries=0, timeout_s=0.5)
    with pytest.raises(BackendError) as caught:
        ask(model)
    assert caught.value.retryable


def test_fields_an_endpoint_does_not_know_are_left_out(endpoint: Endpoint) -> None:
    endpoint.script = [
        refuses(400, "unknown field stream_options"),
        refuses(422, "use max_completion_tokens instead of max_tokens"),
        says("Fine."),
        says("Fine again."),
    ]
    with core(endpoint) as model:
        assert text(list(model.generate([Message("user", ("Hi.",))]))) == "Fine."
        assert text(list(model.generate([Message("user", ("Hi.",))]))) == "Fine again."
    assert "stream_options" not in endpoint.requests[-1]
    assert "max_tokens" not in endpoint.requests[-1]
    assert endpoint.requests[-1]["max_completion_tokens"] == 1024


def test_closing_the_generator_hangs_up(endpoint: Endpoint) -> None:
    endpoint.otherwise = says("word " * 2000, delay_s=0.002)
    threads = threading.active_count()
    with core(endpoint) as model:
        events = model.generate([Message("user", ("Talk.",))])
        next(events)
        events.close()
        assert endpoint.hung_up.wait(2.0)
    assert threading.active_count() <= threads + 1


def test_a_session_goes_on_after_a_failure(endpoint: Endpoint) -> None:
    endpoint.script = [refuses(500), says("Still here."), stalls(1.0), says("And here.")]
    pipeline = Pipeline(llm_core=core(endpoint, timeout_s=0.3))
    session = pipeline.session()
    replies: list[str] = []
    for _ in range(4):
        try:
            replies.append(session.ask("Hello?").text)
        except EmovaError as error:
            replies.append(type(error).__name__)
    assert replies == ["BackendError", "Still here.", "BackendError", "And here."]
    assert [turn.text for turn in session.history] == ["Hello?", "Still here.", "Hello?", "And here."]


def test_sessions_share_a_core(endpoint: Endpoint) -> None:
    endpoint.otherwise = says("Same to you.", delay_s=0.001)
    pipeline = Pipeline(llm_core=core(endpoint))
    replies: list[str] = []
    threads = [threading.Thread(target=lambda: replies.append(pipeline.session().ask("Hi.").text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == ["Same to you."] * 8


# --- options and inputs ---


def test_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="no key"):
        OpenAICore("gpt").load()
    with pytest.raises(ConfigError, match="model"):
        OpenAICore("")
    with pytest.raises(ConfigError, match="time-out"):
        OpenAICore("m", timeout_s=0)
    with pytest.raises(ConfigError, match="not a space"):
        OpenAICore("m", units="emova")


def test_the_key_comes_from_the_environment(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    ask(core(endpoint))
    assert endpoint.keys == ["Bearer from-environment"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (SpeechUnits.of([1]), "text alone"),
        (Audio.silence(0.1, 16_000), "text alone"),
        (VisionFeatures(np.zeros((1, 2)), (1, 1)), "cannot travel"),
        (Image(np.zeros((2, 2, 3), np.uint8)), "not known to see"),
        (ToolResult("a", "b", "c"), "cannot hold"),
    ],
)
def test_what_it_cannot_read_is_refused(endpoint: Endpoint, part: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(core(endpoint), part)
    with pytest.raises(InputError, match="no message"):
        core(endpoint).generate([])
    with pytest.raises(ConfigError, match="cannot speak"):
        core(endpoint).generate([Message("user", ("a",))], task="speak")


# --- a served EMOVA checkpoint ---

UNITS = "emova-fsq-8888[4096]"
REPLY = (
    '{"user question text": "how are you", "user question emotion": "sad", "user question pitch": "low", '
    '"assistant response text": "Fine.", "assistant response emotion": "happy", "assistant response pitch": "high", '
    '"assistant response speech": "<|speech_5|><|speech_9|>"}'
)


def test_a_served_checkpoint_answers_speech_with_speech(endpoint: Endpoint) -> None:
    endpoint.script = [says(REPLY)]
    model = core(endpoint, units=UNITS, extra_body={"skip_special_tokens": False})
    assert model.units == Space("emova-fsq-8888", 4096)
    events = ask(model, SpeechUnits.of([1, 2]), style=Style("male"))
    assert Transcript("how are you") in events
    assert next(event for event in events if isinstance(event, UserStyle)).perceived.style.emotion == "sad"
    assert StyleChosen(Style("male", "happy", "high")) in events
    assert text(events) == "Fine."
    assert [unit for event in events if isinstance(event, UnitsDelta) for unit in event.units.ids] == [5, 9]
    request = endpoint.requests[0]
    assert request["messages"][0]["content"].endswith("<|speech_1|><|speech_2|>")
    assert request["skip_special_tokens"] is False


def test_a_served_checkpoint_transcribes_and_speaks(endpoint: Endpoint) -> None:
    endpoint.script = [says("the words\n"), says("<|speech_3|><|speech_4|>")]
    with core(endpoint, units=UNITS) as model:
        heard = list(model.generate([Message("user", (SpeechUnits.of([1]),))], task="transcribe"))
        spoken = list(model.generate([Message("user", ("say it",))], task="speak"))
    assert Transcript("the words") in heard
    assert not any(isinstance(event, TextDelta) for event in heard)
    assert [unit for event in spoken if isinstance(event, UnitsDelta) for unit in event.units.ids] == [3, 4]
    assert "recognize" in endpoint.requests[0]["messages"][0]["content"]
    assert "synthesize" in endpoint.requests[1]["messages"][0]["content"]


def test_a_served_checkpoint_sees(endpoint: Endpoint) -> None:
    endpoint.script = [says("A grey square.")]
    model = core(endpoint, units=UNITS, sees_images=True)
    pipeline = Pipeline(llm_core=model)
    assert pipeline.look(Image(np.full((4, 4, 3), 99, np.uint8)), "What is it?") == "A grey square."
    kinds = [part["type"] for part in endpoint.requests[0]["messages"][0]["content"]]
    assert kinds == ["image_url", "text"]
    assert "<image>" not in str(endpoint.requests[0]["messages"])
