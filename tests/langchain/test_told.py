"""What endpoints are told: each tool call with its one result, no empty message."""

from __future__ import annotations

from typing import Any

import pytest
from endpoint import Endpoint, says
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from emova_sdk import Pipeline
from emova_sdk.components.brains.openai import OpenAICore
from emova_sdk.errors import InputError
from emova_sdk.langchain import ChatEmova, turns_of
from emova_sdk.langchain.messages import as_endpoints_read_it


def calling(*ids: str, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[{"type": "tool_call", "id": one, "name": "clock", "args": {}} for one in ids])


def result(call_id: str, text: str = "noon") -> ToolMessage:
    return ToolMessage(text, tool_call_id=call_id, name="clock")


def in_short(messages: list[BaseMessage]) -> list[str]:
    return [f"{message.type}:{message.text[:7]}" for message in messages]


def test_an_endpoint_gets_a_result_for_each_call_and_none_of_no_call(endpoint: Endpoint) -> None:
    endpoint.otherwise = says("I see.")
    chat = ChatEmova(pipeline=Pipeline(llm_core=OpenAICore("m", base_url=endpoint.url, retries=0)))
    chat.invoke([result("lost"), HumanMessage("the time?"), calling("a", "b"), result("b"), HumanMessage("well?")])
    told = endpoint.requests[0]["messages"]
    assert [(message["role"], message.get("tool_call_id")) for message in told] == [
        ("user", None),
        ("assistant", None),
        ("tool", "a"),
        ("tool", "b"),
        ("user", None),
    ]
    assert "not run" in told[2]["content"]
    assert told[3]["content"] == "noon"


def test_a_result_that_comes_late_is_moved_to_its_call() -> None:
    messages = [HumanMessage("the time?"), calling("a"), HumanMessage("hurry"), result("a"), result("a", "twice")]
    assert in_short(as_endpoints_read_it(messages)) == ["human:the tim", "ai:", "tool:noon", "human:hurry"]


def test_servers_that_count_calls_anew_in_each_answer_are_understood() -> None:
    messages = [HumanMessage("x"), calling("0"), calling("0"), result("0", "second"), AIMessage("done"), HumanMessage("y")]
    told = in_short(as_endpoints_read_it(messages))
    assert told == ["human:x", "ai:", "tool:not run", "ai:", "tool:second", "ai:done", "human:y"]


@pytest.mark.parametrize("said", ["", "  ", [], [{"type": "text", "text": " "}]])
def test_a_blank_question_is_nothing_to_answer(said: Any) -> None:
    chat = ChatEmova(model="fake")
    for before in ([], [SystemMessage("Be brief.")], [HumanMessage("hi"), AIMessage("hello")]):
        with pytest.raises(InputError, match="nothing to answer"):
            chat.invoke([*before, HumanMessage(content=said)])
    with pytest.raises(InputError, match="nothing to answer"):
        chat.invoke([])
    assert chat.invoke([HumanMessage(content=said), AIMessage(""), HumanMessage("hi")]).text == "You said: hi."


entries = st.one_of(
    st.builds(HumanMessage, st.sampled_from(["", " ", "hi"])),
    st.builds(
        lambda ids, text: calling(*ids, text=text), st.lists(st.sampled_from("abc"), unique=True), st.sampled_from(["", "x"])
    ),
    st.builds(result, st.sampled_from("abc")),
)


@given(st.lists(entries, max_size=8))
def test_whatever_a_history_holds_every_call_has_one_result_right_after_it(messages: list[BaseMessage]) -> None:
    told = as_endpoints_read_it([*messages, HumanMessage("and now?")])
    waiting: list[str] = []
    for message in told:
        if waiting:
            assert isinstance(message, ToolMessage)
            assert message.tool_call_id == waiting.pop(0)
        else:
            assert not isinstance(message, ToolMessage)
            assert message.text.strip() or (isinstance(message, AIMessage) and message.tool_calls)
        if isinstance(message, AIMessage):
            waiting = [str(call["id"]) for call in message.tool_calls]
    assert not waiting


def test_turns_keep_their_ids_at_each_reading() -> None:
    messages = [HumanMessage("x"), calling("a"), HumanMessage("x"), calling("b"), result("b"), AIMessage("fine"), calling("c")]
    turns = turns_of(messages)
    assert turns_of(messages) == turns
    assert len({turn.id for turn in turns}) == len(turns) == 5
