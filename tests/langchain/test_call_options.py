"""What a call asks for is done or refused, never ignored."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from emova_sdk import Pipeline
from emova_sdk.errors import ConfigError, EmovaError, InputError
from emova_sdk.langchain import ChatEmova
from emova_sdk.testing.fakes import FakeLLMCore


def dice() -> str:
    """Throw."""
    return "6"


def clock() -> str:
    """Tell the time."""
    return "noon"


@pytest.fixture(scope="module")
def chat() -> ChatEmova:
    return ChatEmova(model="fake")


@pytest.mark.parametrize(("parallel", "called"), [(None, 2), (True, 2), (False, 1)])
def test_one_call_at_a_time(chat: ChatEmova, parallel: bool | None, called: int) -> None:
    bound: Any = chat.bind_tools([dice, clock], parallel_tool_calls=parallel)
    assert len(bound.invoke("dice and clock").tool_calls) == called
    streamed: Any = None
    for chunk in bound.stream("dice and clock"):
        streamed = chunk if streamed is None else streamed + chunk
    assert len(streamed.tool_calls) == called
    assert len(asyncio.run(bound.ainvoke("dice and clock")).tool_calls) == called


def test_what_cannot_be_done_is_refused(chat: ChatEmova) -> None:
    with pytest.raises(InputError, match="`temprature` is not an argument") as caught:
        chat.invoke("hello", temprature=0.5)
    assert "`temperature`" in caught.value.hint
    with pytest.raises(ConfigError, match="strict=True"):
        chat.bind_tools([dice], strict=True)
    with pytest.raises(ConfigError, match="strict=True"):
        chat.invoke("hello", tools=[dice], strict=True)
    with pytest.raises(InputError, match="`lamp`, which is none of the tools") as caught:
        chat.bind_tools([dice, clock], tool_choice="lamp")
    assert caught.value.hint == "pass one of: dice, clock"
    with pytest.raises(InputError, match="response_format"):
        chat.invoke("hello", response_format={"type": "xml"})
    with pytest.raises(InputError, match="not an argument"):
        list(chat.stream("hello", user="ann"))


def test_a_choice_bound_by_hand_is_read_as_well(chat: ChatEmova) -> None:
    assert len(chat.invoke("hello", tools=[dice, clock], tool_choice="required").tool_calls) == 1
    assert chat.invoke("dice", tools=[dice, clock], tool_choice="none").tool_calls == []


class Form(BaseModel):
    """A form."""

    name: str


@pytest.mark.parametrize(
    "form",
    [Form, {"type": "json_schema", "json_schema": {"name": "Form", "schema": Form.model_json_schema()}}],
)
def test_openais_way_to_ask_for_a_form(form: Any) -> None:
    asked: list[Any] = []

    class Core(FakeLLMCore):
        def generate(self, messages: Any, *, options: Any, **rest: Any) -> Any:
            asked.append(options.json_schema)
            return super().generate(messages, options=options, **rest)

    ChatEmova(pipeline=Pipeline(llm_core=Core())).invoke("hello", response_format=form)
    assert list(asked[0]["properties"]) == ["name"]


def test_many_threads_make_one_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Pipeline] = []
    together = threading.Barrier(4)

    def slowly(_: str) -> Pipeline:
        made.append(Pipeline(llm_core=FakeLLMCore()))
        return made[-1]

    monkeypatch.setattr(Pipeline, "from_config", staticmethod(slowly))
    chat = ChatEmova(model="fake", speak=False)

    def wired() -> None:
        together.wait(30)
        _ = chat.wired

    threads = [threading.Thread(target=wired) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 1
    assert len(chat.batch(["one", "two", "three"])) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"style": "sad"},
        {"style": {"emotion": "bored"}},
        {"max_tokens": 0},
        {"max_tokens": "many"},
        {"tools": [42]},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": "no"}}},
    ],
    ids=str,
)
def test_wrong_values_are_one_clear_error(chat: ChatEmova, wrong: dict[str, Any]) -> None:
    with pytest.raises(EmovaError) as caught:
        chat.invoke("hello", **wrong)
    assert caught.value.hint
    with pytest.raises(InputError, match="`methd`"):
        chat.with_structured_output(Form, methd="json_mode")


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": 5, "mime_type": "image/png"},
        {"type": "image_url"},
        {"type": "audio"},
        {"type": "audio", "base64": "AAAA"},
        {"type": "audio", "base64": "AAAAAAA=", "mime_type": "audio/pcm"},
        {"type": "surprise"},
    ],
    ids=str,
)
def test_malformed_blocks_are_one_clear_error(chat: ChatEmova, block: Any) -> None:
    with pytest.raises(InputError):
        chat.invoke([HumanMessage(content=[block])])


def test_records_that_others_have_written_over(chat: ChatEmova) -> None:
    messages = [HumanMessage("one"), AIMessage("two", response_metadata={"emova": "mine"}), HumanMessage("three")]
    assert chat.invoke(messages).text == "You said: three."
    damaged = AIMessage("two", response_metadata={"emova": {"transcript": "one", "user_style": {"mood": 1}}})
    with pytest.raises(InputError, match="damaged"):
        chat.invoke([messages[0], damaged, messages[2]])
