"""An agent on langgraph: it listens, looks, calls two ordinary tools, and chooses what to do by how the user feels.

A customer speaks and shows a picture. Whoever sounds sad, angry or afraid is offered a call back; everyone is told the state
of the order, in a voice that suits. Needs `pip install "emova-sdk[langgraph]"`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import InjectedToolArg, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from emova_sdk import Audio, Image, Pipeline, Style, TurnContext
from emova_sdk.langchain import ChatEmova, audio_block, audio_of, emova_tools, image_block, inject_turn_context, style_of

INPUT = Path(__file__).parent / "input"


class Talk(MessagesState):
    """The conversation, and what the agent found out."""

    feeling: str
    scene: str


@tool
def order_status(order: str) -> str:
    """Tell where an order is."""
    return f"order {order} arrives on Thursday"


@tool
def call_back(reason: str, context: Annotated[TurnContext, InjectedToolArg]) -> str:
    """Let a person call the user back."""
    felt = context.user_style.style.emotion if context.user_style else "unknown"
    return f"someone will call today about {reason}; they know that the user feels {felt}"


def agent(pipeline: Pipeline, folder: Path) -> Any:
    """Make the graph."""
    senses = {one.name: one for one in emova_tools(pipeline, folder=folder)}
    chat = ChatEmova(pipeline=pipeline)

    def perceive(_: Talk) -> dict[str, Any]:
        heard = use(senses["listen"], file="question.wav").artifact
        seen = use(senses["look"], file="scene.png", question="What is to be seen?").text
        question = [audio_block(Audio.open(folder / "question.wav")), image_block(Image.open(folder / "scene.png"))]
        facts = {"emova": {"transcript": heard["transcript"], "user_style": heard["user_style"]}}
        spoken = HumanMessage(content_blocks=question, response_metadata=facts)
        return {"messages": [spoken], "feeling": heard["user_style"]["style"]["emotion"], "scene": seen}

    def by_feeling(state: Talk) -> Literal["comfort", "inform"]:
        return "comfort" if state["feeling"] in {"sad", "angry", "fearful"} else "inform"

    def ask_for(*calls: tuple[str, dict[str, Any]]) -> Any:
        wanted: Any = [{"type": "tool_call", "id": name, "name": name, "args": args} for name, args in calls]
        return lambda _: {"messages": [AIMessage("", tool_calls=wanted)]}

    def answer(state: Talk) -> dict[str, Any]:
        calm = state["feeling"] in {"sad", "angry", "fearful"}
        style = Style(emotion="neutral", pitch="low", speed="slow") if calm else Style(emotion="happy")
        return {"messages": [chat.bind(style=style.to_dict()).invoke(state["messages"])]}

    order, worry = ("order_status", {"order": "1507"}), ("call_back", {"reason": "a late order"})
    graph = StateGraph(Talk)
    graph.add_node("perceive", perceive)
    graph.add_node("comfort", ask_for(worry, order))
    graph.add_node("inform", ask_for(order))
    graph.add_node("tools", ToolNode([order_status, call_back], wrap_tool_call=inject_turn_context))
    graph.add_node("answer", answer)
    graph.add_edge(START, "perceive")
    graph.add_conditional_edges("perceive", by_feeling)
    graph.add_edge("comfort", "tools")
    graph.add_edge("inform", "tools")
    graph.add_edge("tools", "answer")
    graph.add_edge("answer", END)
    return graph.compile()


def use(one: Any, **arguments: Any) -> Any:
    """Call a tool as a model would, for its text and its artifact."""
    return one.invoke({"type": "tool_call", "id": one.name, "name": one.name, "args": arguments})


def main(config: str = "fake") -> None:
    folder = Path.cwd()
    Image.open(INPUT / "scene.png").save(folder / "scene.png")
    with Pipeline.from_config(config) as pipeline:
        for feeling in ("sad", "happy"):
            pipeline.speak("where is my order", style=Style(emotion=feeling)).save(folder / "question.wav")
            state = agent(pipeline, folder).invoke({"messages": []})
            answers = [message for message in state["messages"] if isinstance(message, AIMessage)]
            calls = [call["name"] for message in answers for call in message.tool_calls]
            last = state["messages"][-1]
            style, sound = style_of(last), audio_of(last)
            print(f"the user sounds {state['feeling']}; the picture: {state['scene']}")
            print(f"  tools: {', '.join(calls)}")
            print(f"  answer: {last.text}")
            if style and sound:
                print(f"  spoken {style.emotion}, pitch {style.pitch}, {style.speed}, {sound.duration_s:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
