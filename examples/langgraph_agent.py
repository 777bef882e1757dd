"""An agent on langgraph that listens, looks, calls two ordinary tools, and adapts to how the user feels.

The user speaks and shows a picture. The model understands the request and calls the tool for it; a user who sounds sad,
angry or afraid is also called back by a person, and answered calmly. It runs offline on emova-nano.
Needs `pip install "emova-sdk[langgraph]"`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import InjectedToolArg, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from emova_sdk import Audio, Image, Pipeline, Style, TurnContext
from emova_sdk.langchain import ChatEmova, audio_block, audio_of, emova_tools, inject_turn_context, style_of

INPUT = Path(__file__).parent / "input"
DISTRESSED = ("sad", "angry", "fearful")
CALM = Style(emotion="neutral", pitch="low", speed="slow")


class Talk(MessagesState):
    """The conversation, and what the agent perceived."""

    feeling: str
    scene: str


@tool
def timer(duration: str) -> str:
    """Set a timer."""
    return duration


@tool
def call_back(reason: str, context: Annotated[TurnContext, InjectedToolArg]) -> str:
    """Have a person call the user back."""
    emotion = context.user_style.style.emotion if context.user_style else "unknown"
    return f"someone will call about `{reason}`; they know that the user feels {emotion}"


def agent(pipeline: Pipeline, folder: Path) -> Any:
    """Build the graph: perceive, think, use tools, answer."""
    senses = {one.name: one for one in emova_tools(pipeline, folder=folder)}
    chat = ChatEmova(pipeline=pipeline)

    def perceive(_: Talk) -> dict[str, Any]:
        heard = use(senses["listen"], file="question.wav").artifact
        seen = use(senses["look"], file="scene.png", question="what do you see").text
        return {
            "messages": [HumanMessage(content_blocks=[audio_block(Audio.open(folder / "question.wav"))])],
            "feeling": heard["user_style"]["style"]["emotion"],
            "scene": seen,
        }

    def think(state: Talk) -> dict[str, Any]:
        wish = chat.bind_tools([timer]).invoke(state["messages"])
        if state["feeling"] in DISTRESSED:
            reason = wish.response_metadata["emova"]["transcript"]
            care: Any = {"type": "tool_call", "id": "care", "name": "call_back", "args": {"reason": reason}}
            wish = wish.model_copy(update={"tool_calls": [care, *wish.tool_calls]})
        return {"messages": [wish]}

    def by_wish(state: Talk) -> str:
        return "tools" if state["messages"][-1].tool_calls else END

    def answer(state: Talk) -> dict[str, Any]:
        style = {"style": CALM.to_dict()} if state["feeling"] in DISTRESSED else {}
        return {"messages": [chat.bind_tools([timer], **style).invoke(state["messages"])]}

    graph = StateGraph(Talk)
    graph.add_node("perceive", perceive)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([timer, call_back], wrap_tool_call=inject_turn_context))
    graph.add_node("answer", answer)
    graph.add_edge(START, "perceive")
    graph.add_edge("perceive", "think")
    graph.add_conditional_edges("think", by_wish)
    graph.add_edge("tools", "answer")
    graph.add_edge("answer", END)
    return graph.compile()


def use(one: Any, **arguments: Any) -> Any:
    """Call a tool as a model would, to get its text and its artifact."""
    return one.invoke({"type": "tool_call", "id": one.name, "name": one.name, "args": arguments})


def main(config: str = "emova-nano") -> None:
    folder = Path.cwd()
    Image.open(INPUT / "scene.png").save(folder / "scene.png")
    with Pipeline.from_config(config) as pipeline:
        for feeling in ("sad", "neutral"):
            pipeline.speak("set a timer for ten minutes", style=Style(emotion=feeling)).save(folder / "question.wav")
            state = agent(pipeline, folder).invoke({"messages": []})
            print(f"the user sounds {state['feeling']}; the picture: {state['scene']}")
            for message in state["messages"]:
                if message.type == "tool":
                    print(f"  {message.name}: {message.text}")
            last = state["messages"][-1]
            style, sound = style_of(last), audio_of(last)
            if isinstance(last, AIMessage) and style and sound:
                how = f"{style.emotion}, pitch {style.pitch}, {style.speed}, {sound.duration_s:.1f} s"
                print(f"  answer: {last.text} ({how})")


if __name__ == "__main__":
    main(*sys.argv[1:])
