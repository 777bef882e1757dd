"""How servers deviate from the wire, and what comes of it."""

from __future__ import annotations

import json
import traceback
from contextlib import suppress
from typing import Any

import pytest
from endpoint import Behaviour, Endpoint, calls, chunk, refuses, says, sends_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emova_sdk.components.base import GenerationOptions
from emova_sdk.components.brains.openai import OpenAICore
from emova_sdk.errors import BackendError, ConfigError, EmovaError, InputError, MissingDependencyError
from emova_sdk.types import LLMEvent, Message, Metadata, TextDelta, ToolCall, ToolSpec

DONE = b"data: [DONE]\n\n"
TOOLS = [ToolSpec("weather", "Tell the weather."), ToolSpec("dice", "Throw.")]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def ask(endpoint: Endpoint, *, tools: Any = (), options: Any = None, **settings: Any) -> list[LLMEvent]:
    model = OpenAICore("m", base_url=endpoint.url, **{"retries": 0, "timeout_s": 5.0, **settings})
    with model:
        return list(model.generate([Message("user", ("Hi.",))], tools=tools, options=options or GenerationOptions()))


def text(events: list[LLMEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def body(value: object, *, status: int = 200, kind: str = "application/json") -> Behaviour:
    written = value if isinstance(value, bytes) else json.dumps(value).encode()
    return sends_bytes(written, kind=kind, status=status)


def message(finish: str | None = "stop", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish}]}


HELLO = {"choices": [{"delta": {"content": "Hello."}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    "behaviour",
    [
        # streams
        sends_bytes(chunk(content="Hello."), DONE),
        sends_bytes(chunk(content="Hel"), chunk("stop", content="lo.")),
        sends_bytes(HELLO, DONE, kind="text/plain"),
        sends_bytes(HELLO, DONE, kind="application/json"),
        sends_bytes(HELLO, DONE, kind=""),
        sends_bytes({"choices": None}, {"choices": []}, {}, {"usage": None}, {"choices": [None]}, b"data: null\n\n", HELLO, DONE),
        sends_bytes({"choices": [{"delta": None}]}, {"choices": [{}]}, HELLO, DONE),
        sends_bytes(chunk(content=[{"type": "text", "text": "Hel"}, {"type": "reference"}, "lo."]), DONE),
        sends_bytes(chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]), HELLO, DONE),
        sends_bytes(chunk(content={"type": "text", "text": "Hello."}), DONE),
        sends_bytes(chunk(content=None, reasoning_content="Hm."), chunk(content="Hello.", reasoning=None), DONE),
        sends_bytes(chunk(content=None, refusal="Hello."), DONE),
        sends_bytes({"choices": [{"text": "Hello."}]}, DONE),
        sends_bytes(chunk(content="Hel"), message(content="Hello."), DONE),
        sends_bytes(chunk(content="Hello."), message(content="Hello."), DONE),
        sends_bytes(chunk("stop", content="Hello."), b"data: {not json}\n\n"),
        sends_bytes(chunk("stop", content="Hello."), {"error": "the log is full"}),
        sends_bytes(chunk(content="Hello."), b"data: [done]\n\n"),
        sends_bytes({"error": None, **HELLO}, DONE),
        # no stream at all
        sends_bytes(message(content="Hello."), DONE),
        body(message(content="Hello.")),
        body(message(None, content="Hello.")),
        body(json.dumps(message(content="Hello."), indent=2).encode(), kind="text/plain; charset=utf-8"),
        body(message(content=[{"type": "text", "text": "Hello."}])),
        body([message(content="Hello.")]),
        body(b"".join(json.dumps(one).encode() + b"\n" for one in (chunk(content="Hel"), chunk("stop", content="lo.")))),
    ],
)  # fmt: skip
def test_an_answer_is_read_however_it_is_sent(endpoint: Endpoint, behaviour: Behaviour) -> None:
    endpoint.otherwise = behaviour
    assert text(ask(endpoint)) == "Hello."


def test_halves_of_characters_are_joined_or_replaced(endpoint: Endpoint) -> None:
    halves = [chunk(content="a\ud83d"), chunk(content="\ude00b\ud83d"), chunk(content="c")]
    endpoint.otherwise = sends_bytes(*halves, DONE)
    assert text(ask(endpoint)) == "a\U0001f600b\ufffdc"


def test_usage_of_any_form_is_counted(endpoint: Endpoint) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": None, "completion_tokens": 3.0}}
    endpoint.otherwise = sends_bytes(HELLO, usage, DONE)
    (facts,) = (event.values for event in ask(endpoint) if isinstance(event, Metadata))
    assert facts["usage"] == {"input_tokens": 0, "output_tokens": 3}


@pytest.mark.parametrize(
    "behaviour",
    [
        sends_bytes(chunk("stop", tool_calls=[{"index": 0, "function": {"name": "weather", "arguments": {"city": "Paris"}}}]), DONE),
        sends_bytes(chunk("function_call", function_call={"name": "weather", "arguments": '{"city": "Paris"}'}), DONE),
        body(message("tool_calls", content=None, tool_calls=[{"id": "a", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}])),
        sends_bytes(
            chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}]),
            message("stop", content="", tool_calls=[{"id": "a", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}]),
        ),
        says('<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'),
    ],
)  # fmt: skip
def test_a_call_is_read_however_it_is_sent(endpoint: Endpoint, behaviour: Behaviour) -> None:
    endpoint.otherwise = behaviour
    found = [(call.name, dict(call.arguments)) for call in ask(endpoint, tools=TOOLS) if isinstance(call, ToolCall)]
    assert found == [("weather", {"city": "Paris"})]


@pytest.mark.parametrize(
    ("error", "kind", "retryable", "says_"),
    [
        ({"error": {"message": "out of memory"}}, BackendError, True, "out of memory"),
        ({"error": "overloaded"}, BackendError, True, "overloaded"),
        ({"error": {"message": "slow down", "code": 429}}, BackendError, True, "slow down"),
        ({"error": {"message": "pay", "type": "insufficient_quota"}}, BackendError, False, "pay"),
        ({"error": {"message": "too long", "code": "context_length_exceeded"}}, InputError, None, "too long"),
        ({"error": {"message": "who are you", "type": "authentication_error"}}, ConfigError, None, "who are you"),
        ({"object": "error", "message": "no GPU", "code": 500}, BackendError, True, "no GPU"),
        ({"detail": "not today"}, BackendError, True, "not today"),
        ([{"error": {"code": 400, "message": "no such thing"}}], BackendError, False, "no such thing"),
        ({"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]}, BackendError, True, "the model failed"),
    ],
)
@pytest.mark.parametrize("framed", [True, False])
def test_an_error_inside_an_answer_is_one(
    endpoint: Endpoint, error: Any, kind: type[EmovaError], retryable: bool | None, says_: str, framed: bool
) -> None:
    endpoint.otherwise = sends_bytes(b"data: " + json.dumps(error).encode() + b"\n\n") if framed else body(error)
    with pytest.raises(kind, match=says_) as caught:
        ask(endpoint)
    assert getattr(caught.value, "retryable", None) is retryable


@pytest.mark.parametrize(
    ("written", "says_"),
    [
        (b'{"error": {"message": "no room"}}', "no room"),
        (b'{"error": "no room"}', "no room"),
        (b'[{"error": {"message": "no room", "status": "INVALID_ARGUMENT"}}]', "no room"),
        (b'{"detail": [{"loc": ["body", "messages", 0], "msg": "no room", "input": "Hi."}]}', r"body\.messages\.0: no room"),
        (b'{"object": "error", "message": "no room", "param": null}', "no room"),
        (b'{"errors": [{"message": "no room"}]}', "no room"),
        (b"no room", "no room"),
        (b"<html><head><style>b {}</style></head><body><h1>no room</h1></body></html>", r": no room\n"),
        (b'"no room"', "no room"),
        (b"", r"\): \w"),
        (b"\xff\xfe", r"\): \S"),
    ],
)
@pytest.mark.parametrize(("status", "retryable"), [(400, False), (413, False), (429, True), (502, True)])
def test_error_bodies_of_any_form_are_told(
    endpoint: Endpoint, written: bytes, says_: str, status: int, retryable: bool
) -> None:
    endpoint.otherwise = body(written, status=status, kind="text/plain")
    with pytest.raises(BackendError, match=says_) as caught:
        ask(endpoint)
    assert caught.value.retryable is retryable
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 304, 308])
def test_a_redirection_to_nowhere_is_one_error(endpoint: Endpoint, status: int) -> None:
    endpoint.otherwise = body(b"", status=status)
    with pytest.raises(BackendError) as caught:
        ask(endpoint)
    assert caught.value.retryable is False


def test_a_stream_that_just_stops_tells_what_it_sent(endpoint: Endpoint) -> None:
    endpoint.otherwise = sends_bytes(b"upstream is gone\n", kind="text/plain")
    with pytest.raises(BackendError, match=r"broke off.*upstream is gone") as caught:
        ask(endpoint)
    assert caught.value.retryable


# --- what is refused ---

FORM = GenerationOptions(json_schema=SCHEMA, seed=3, top_p=0.5)


def fastapi(field: str) -> dict[str, Any]:
    echoed = {"stream_options": 1, "temperature": 0, "seed": 3, "response_format": 0}
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", field], "msg": "not permitted", "input": echoed}]}


@pytest.mark.parametrize("field", ["stream_options", "response_format", "seed", "temperature", "top_p", "max_tokens", "think"])
@pytest.mark.parametrize(
    "refusal",
    [
        lambda field: {"error": {"message": f"Unsupported parameter: '{field}'", "param": field}},
        lambda field: {"error": {"message": "Unsupported value", "param": f"{field}.x"}},
        lambda field: {"object": "error", "message": {"detail": [{"loc": ["body", field, "x"], "msg": "Extra inputs"}]}},
        lambda field: {"object": "error", "message": f"[{{'type': 'extra_forbidden', 'loc': ('body', '{field}')}}]"},
        fastapi,
        lambda field: [{"error": {"message": f'Unknown name "{field}": Cannot find field.'}}],
        lambda field: f"unknown field `{field}`",
    ],
)
def test_a_refused_field_is_found_and_left_out_from_then_on(endpoint: Endpoint, field: str, refusal: Any) -> None:
    endpoint.script = [body(refusal(field), status=422), says("Fine."), says("Fine.")]
    with OpenAICore("m", base_url=endpoint.url, retries=0, extra_body={"think": False}) as model:
        for _ in range(2):
            assert text(list(model.generate([Message("user", ("Hi.",))], options=FORM))) == "Fine."
    everything = {"stream_options", "response_format", "seed", "temperature", "top_p", "max_tokens", "think"}
    assert len(endpoint.requests) == 3
    for request in endpoint.requests[1:]:
        assert everything - request.keys() == {field}


@pytest.mark.parametrize(
    "refusal",
    [
        [{"error": {"code": 400, "message": "a JSON answer and functions exclude each other"}}],
        {"error": {"message": "json mode cannot be combined with tool/function calling"}},
        {"error": {"message": "`tools` is incompatible with `response_format`", "param": "tools"}},
        {"error": {"message": "'response_format' and 'tools' cannot be used together"}},
        {"error": "Bad Request"},
        {},
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_tools_and_a_form_that_exclude_each_other(endpoint: Endpoint, refusal: Any, status: int) -> None:
    endpoint.script = [body(refusal, status=status), says("Fine."), says("Fine."), says("Fine.")]
    with OpenAICore("m", base_url=endpoint.url, retries=0) as model:
        for tools in (TOOLS, TOOLS, ()):
            list(model.generate([Message("user", ("Hi.",))], tools=tools, options=GenerationOptions(json_schema=SCHEMA)))
    asked = [("tools" in request, "response_format" in request) for request in endpoint.requests]
    assert asked == [(True, True), (True, False), (True, False), (False, True)]


@pytest.mark.parametrize(
    "name", ["json_schema", "guided_json", "Guided decoding", "a grammar", "Structured output", "structured_outputs"]
)
def test_a_form_is_also_refused_by_another_name(endpoint: Endpoint, name: str) -> None:
    endpoint.script = [refuses(400, f"{name} is not supported"), says("Fine.")]
    assert text(ask(endpoint, options=FORM)) == "Fine."
    assert ["response_format" in request for request in endpoint.requests] == [True, False]


@pytest.mark.parametrize(
    "refusal",
    [
        body({"error": {"message": "create() got an unexpected keyword argument 'stream_options'"}}, status=500),
        sends_bytes({"error": {"message": "Provider: unknown field stream_options", "code": 400}}),
        body({"error": None, "detail": "stream_options is not known"}, status=400),
    ],
)
def test_a_field_is_also_refused_by_a_failure_or_inside_an_answer(endpoint: Endpoint, refusal: Behaviour) -> None:
    endpoint.script = [refusal, says("Fine.")]
    assert text(ask(endpoint)) == "Fine."
    assert "stream_options" not in endpoint.requests[-1]


def test_what_cannot_be_left_out_is_an_error(endpoint: Endpoint) -> None:
    endpoint.otherwise = refuses(400, "m does not support tools")
    with pytest.raises(BackendError, match="does not support tools") as caught:
        ask(endpoint, tools=TOOLS, options=FORM)
    assert "tools = false" in caught.value.hint
    endpoint.otherwise = refuses(422, "max_tokens and max_completion_tokens are both refused, as is whatever comes")
    with pytest.raises(BackendError, match="are both refused"):
        ask(endpoint)


# --- keys, addresses, proxies ---


@pytest.mark.parametrize("written", ["sk-secret-1\n", "  sk-secret-1\t", "\r\nsk-secret-1\r\n", "\u00a0sk-secret-1"])
def test_white_space_around_a_key_is_no_part_of_it(endpoint: Endpoint, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(endpoint, api_key=written)
    monkeypatch.setenv("OPENAI_API_KEY", written)
    ask(endpoint)
    assert endpoint.keys == ["Bearer sk-secret-1"] * 2


@pytest.mark.parametrize(
    "written", ['"sk-secret"', "'sk-secret'", "sk-sec ret", "sk-\nsecret", "sk-secret\u200b", "\ufeffsk-secret", "sk-secrét"]
)
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="api_key") as caught:
        OpenAICore("m", base_url="http://127.0.0.1:9/v1", api_key=written)
    monkeypatch.setenv("OPENAI_API_KEY", written)
    with pytest.raises(ConfigError, match="api_key") as from_environment:
        OpenAICore("m", base_url="http://127.0.0.1:9/v1").load()
    for error in (caught.value, from_environment.value):
        assert "sec" not in f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"


@pytest.mark.parametrize(
    "behaviour",
    [
        refuses(401, "Incorrect API key provided: sk-secret-1"),
        refuses(400, "the header was Bearer sk-secret-1"),
        sends_bytes({"error": {"message": "no such key: sk-secret-1", "code": 401}}),
        sends_bytes({"error": {"message": "no such key: sk-secret-1"}}),
    ],
)
def test_a_key_that_an_endpoint_repeats_is_not_shown(
    endpoint: Endpoint, behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.otherwise = behaviour
    model = OpenAICore("m", base_url=endpoint.url, api_key="sk-secret-1", retries=0)
    with caplog.at_level("DEBUG"), pytest.raises(EmovaError, match=r"\*\*\*") as caught:
        list(model.generate([Message("user", ("Hi.",))]))
    assert "sk-secret" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(model)
    assert "sk-secret" not in caplog.text
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "sk-secret" not in f"{seen} {seen!r} {seen.args}"
        seen = seen.__cause__ or seen.__context__


@pytest.mark.parametrize(
    "written",
    ["localhost:8000/v1", "127.0.0.1/v1", "ftp://host/v1", "http://", "http:///v1", "http://host:99999/v1", "http://[::1/v1",
     "http://ho st/v1", "http://host/v1\n/x", "/v1", "http://host/v1/chat/completions", "https://host/v1/completions/"],
)  # fmt: skip
def test_an_address_that_cannot_be_one_is_refused(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="base_url") as caught:
        OpenAICore("m", base_url=written, api_key="k")
    assert caught.value.hint
    monkeypatch.setenv("OPENAI_BASE_URL", written)
    with pytest.raises(ConfigError, match="base_url"):
        OpenAICore("m", api_key="k").load()


@pytest.mark.parametrize("around", ["{}/", "{}//", " {}\n"])
def test_an_address_may_end_in_a_slash(endpoint: Endpoint, around: str) -> None:
    with OpenAICore("m", base_url=around.format(endpoint.url)) as model:
        assert text(list(model.generate([Message("user", ("Hi.",))]))) == "Hello there."


@pytest.mark.parametrize(
    ("variable", "value", "error"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", MissingDependencyError),
        ("HTTP_PROXY", "ftp://127.0.0.1:9", ConfigError),
        ("HTTPS_PROXY", "http://[::1", ConfigError),
        ("SSL_CERT_FILE", "/no/such/file", ConfigError),
    ],
)
def test_an_environment_that_cannot_be_used_is_one_error(
    variable: str, value: str, error: type[EmovaError], monkeypatch: pytest.MonkeyPatch
) -> None:
    if error is MissingDependencyError:
        monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(error) as caught:
        OpenAICore("m", base_url="https://127.0.0.1:9/v1", api_key="k").load()
    assert caught.value.hint


# --- anything at all ---

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["", "Hi.", "stop", "error", "{", "<think>"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["text", "type", "name"]), inner, max_size=2)
    ),
    max_leaves=4,
)
CALLS = st.lists(st.fixed_dictionaries({}, optional={"index": JSON, "id": JSON, "function": JSON, "name": JSON}), max_size=2)
DELTA = st.fixed_dictionaries(
    {}, optional={"content": JSON, "tool_calls": st.one_of(JSON, CALLS), "refusal": JSON, "function_call": JSON}
)
CHOICE = st.fixed_dictionaries(
    {}, optional={"delta": st.one_of(JSON, DELTA), "message": st.one_of(JSON, DELTA), "finish_reason": JSON, "text": JSON}
)
CHUNK = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {}, optional={"choices": st.one_of(JSON, st.lists(CHOICE, max_size=2)), "usage": JSON, "error": JSON, "model": JSON}
    ),
)
BETWEEN = st.sampled_from(
    [b"", b": ping\n\n", b"retry: 1\n", b"event: error\n", b"data:\n\n", b"\r\n", b"junk\n", b"{", b"data: [DONE]\n\n"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.tuples(BETWEEN, CHUNK), max_size=4), st.booleans())
def test_whatever_comes_is_an_answer_or_one_error(
    endpoint: Endpoint, chunks: list[tuple[bytes, Any]], with_tools: bool
) -> None:
    pieces = [between + b"data: " + json.dumps(one).encode() + b"\n\n" for between, one in chunks]
    endpoint.otherwise = sends_bytes(*pieces)
    with suppress(EmovaError):
        assert ask(endpoint, tools=TOOLS if with_tools else ())


def test_calls_and_text_of_one_answer_are_both_read(endpoint: Endpoint) -> None:
    endpoint.otherwise = calls(("dice", "{}"), text="One moment.")
    events = ask(endpoint, tools=TOOLS)
    assert text(events) == "One moment."
    assert any(isinstance(event, ToolCall) for event in events)
