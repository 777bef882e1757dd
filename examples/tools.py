"""Tools are typed functions. One with a parameter for the turn's context knows how the user feels."""

from __future__ import annotations

import sys
from datetime import datetime

from emova_sdk import Pipeline, Style, TurnContext


def clock(question: str) -> str:
    """Tell the time or the day.

    Args:
        question: What is asked for, e.g. `time` or `day`.
    """
    now = datetime.now().astimezone()
    return f"{now:%A}" if "day" in question else f"{now:%H:%M}"


def timer(duration: str, context: TurnContext) -> str:
    """Set a timer.

    Args:
        duration: How long, in words.
    """
    sad = context.user_style is not None and context.user_style.style.emotion == "sad"
    return f"{duration}, take your time" if sad else duration


def main(config: str = "emova-nano") -> None:
    with Pipeline.from_config(config) as emova:
        session = emova.session(tools=[clock, timer])
        for said in ("what day is it", emova.speak("set a timer for ten minutes", style=Style("male", "sad"))):
            reply = session.ask(said)
            for call, result in zip(reply.tool_calls, reply.turn.tool_results, strict=True):
                print(f"{call.name}({dict(call.arguments)}) -> {result.content}")
            print(f"emova: {reply.text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
