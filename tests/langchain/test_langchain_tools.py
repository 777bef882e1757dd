from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, InjectedToolArg, tool

from emova_sdk import Audio, Image, Pipeline, Style
from emova_sdk.errors import InputError
from emova_sdk.langchain import (
    ChatEmova,
    acall_tools,
    ainject_turn_context,
    audio_block,
    call_tools,
    emova_tools,
    inject_turn_context,
    turn_context,
)
from emova_sdk.tools import TurnContext


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_config("fake")


@pytest.fixture
def tools(pipeline: Pipeline, tmp_path: Path) -> dict[str, BaseTool]:
    pipeline.speak("how are you", style=Style("male", "sad")).save(tmp_path / "question.wav")
    Image(np.full((8, 8, 3), (20, 20, 220), np.uint8)).save(tmp_path / "scene.png")
    return {one.name: one for one in emova_tools(pipeline, folder=tmp_path)}


def called(one: BaseTool, **arguments: Any) -> ToolMessage:
    message = one.invoke({"type": "tool_call", "id": "1", "name": one.name, "args": arguments})
    assert isinstance(message, ToolMessage)
    return message


def test_listen_gives_words_and_feeling(tools: dict[str, BaseTool]) -> None:
    message = called(tools["listen"], file="question.wav")
    assert message.text.endswith("The speaker sounds sad.")
    assert message.artifact["user_style"]["style"]["emotion"] == "sad"
    assert message.artifact["transcript"] in message.text


def test_look_answers(tools: dict[str, BaseTool]) -> None:
    message = called(tools["look"], file="scene.png", question="What colour?")
    assert "blue" in message.text
    assert message.artifact["size"] == [8, 8]


def test_speak_speaks(tools: dict[str, BaseTool], tmp_path: Path, pipeline: Pipeline) -> None:
    message = called(tools["speak"], text="I am so glad.", emotion="happy", pitch="high")
    audio = Audio.open(tmp_path / message.artifact["file"])
    heard = pipeline.perceive(audio)
    assert heard is not None
    assert heard.style.emotion == "happy" == message.artifact["style"]["emotion"]
    assert audio.duration_s == pytest.approx(message.artifact["duration_s"])


def test_what_a_tool_cannot_do_is_told_to_the_model(tools: dict[str, BaseTool]) -> None:
    for name in ("../secret.wav", "missing.wav"):
        message = called(tools["listen"], file=name)
        assert message.status == "error"
        assert "not a file in" in message.text


def test_models_see_the_tools_as_they_are(tools: dict[str, BaseTool]) -> None:
    schema = tools["speak"].args
    assert schema["emotion"]["enum"][:3] == ["neutral", "happy", "sad"]
    assert schema["text"]["description"] == "What to say."
    assert tools["listen"].description.startswith("Listen to a sound file")


# --- the user's style for any tool ---


@tool
def refund(order: str, context: Annotated[TurnContext, InjectedToolArg]) -> str:
    """Give money back."""
    feeling = context.user_style.style.emotion if context.user_style else "unknown"
    return f"{order}: the user, who said `{context.user_text}`, feels {feeling}; {len(context.history)} turns before"


@tool
def clock() -> str:
    """Tell the time."""
    return "noon"


@tool
def broken() -> str:
    """Break."""
    raise RuntimeError("dropped")


def conversation(pipeline: Pipeline, *tools: BaseTool) -> list[Any]:
    chat = ChatEmova(model="fake", pipeline=pipeline).bind_tools(tools)
    audio = pipeline.speak("please help me", style=Style("male", "sad"))
    first = [HumanMessage("Hello."), AIMessage("Hi.")]
    question = HumanMessage(content_blocks=[{"type": "text", "text": "refund clock broken"}, audio_block(audio)])
    return [*first, question, chat.invoke([*first, question])]


def test_a_tool_is_handed_the_users_feeling(pipeline: Pipeline) -> None:
    messages = conversation(pipeline, refund, clock, broken)
    assert "context" not in messages[-1].tool_calls[0]["args"]
    results = call_tools(messages, [refund, clock, broken], session_id="one")
    assert "feels sad; 2 turns before" in results[0].text
    assert results[1].text == "noon"
    assert (results[2].status, results[2].text) == ("error", "RuntimeError: dropped")
    assert call_tools(messages, [])[0].text == "there is no tool `refund`"
    alone = conversation(pipeline, refund)
    answer = ChatEmova(model="fake", pipeline=pipeline).invoke([*alone, *call_tools(alone, [refund])])
    assert "feels sad" in answer.text


def test_langgraphs_tool_node_hands_it_too(pipeline: Pipeline) -> None:
    pytest.importorskip("langgraph")
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    node = ToolNode([refund, clock], wrap_tool_call=inject_turn_context)
    graph = StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools").compile()
    results = graph.invoke({"messages": conversation(pipeline, refund, clock)})["messages"][-2:]
    texts = sorted(result.text for result in results)
    assert texts[1] == "noon" or texts[0] == "noon"
    assert any("feels sad; 2 turns before" in text for text in texts)


@tool
async def comfort(name: str, context: Annotated[TurnContext, InjectedToolArg]) -> str:
    """Comfort somebody."""
    await asyncio.sleep(0)
    return f"dear {name}, you feel {context.user_style.style.emotion if context.user_style else 'unknown'}"


def test_tools_that_are_coroutines_are_handed_it_too(pipeline: Pipeline) -> None:
    messages = conversation(pipeline, refund, clock)
    calls: Any = [{"type": "tool_call", "id": "9", "name": "comfort", "args": {"name": "Ann"}}, *messages[-1].tool_calls]
    messages[-1] = messages[-1].model_copy(update={"tool_calls": calls})
    results = asyncio.run(acall_tools(messages, [comfort, refund]))
    assert results[0].text == "dear Ann, you feel sad"
    assert "feels sad" in results[1].text
    assert (results[2].status, results[2].text) == ("error", "there is no tool `clock`")
    assert asyncio.run(acall_tools(messages, [comfort, refund, clock]))[2].text == "noon"


def test_langgraphs_tool_node_hands_it_under_asyncio(pipeline: Pipeline) -> None:
    pytest.importorskip("langgraph")
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    messages = conversation(pipeline, clock)
    calls: Any = [{"type": "tool_call", "id": "9", "name": "comfort", "args": {"name": "Ann"}}, *messages[-1].tool_calls]
    messages[-1] = messages[-1].model_copy(update={"tool_calls": calls})
    node = ToolNode([comfort, clock], awrap_tool_call=ainject_turn_context)
    graph = StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools").compile()
    results = asyncio.run(graph.ainvoke({"messages": messages}))["messages"][-2:]
    assert sorted(result.text for result in results) == ["dear Ann, you feel sad", "noon"]


def test_there_must_be_a_turn() -> None:
    with pytest.raises(InputError, match="no user"):
        turn_context([])
    with pytest.raises(InputError, match="calls no tools"):
        call_tools([HumanMessage("hi")], [])
