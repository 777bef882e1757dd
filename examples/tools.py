"""Tools are typed functions. One that asks for the turn's context knows how the user feels."""

from __future__ import annotations

import sys
from datetime import date

from emova_sdk import Pipeline, TurnContext


def weekday(year: int, month: int, day: int) -> str:
    """Tell on which day of the week a date falls."""
    return date(year, month, day).strftime("%A")


def comfort(context: TurnContext) -> str:
    """Choose something to say to cheer the user up."""
    sad = context.user_style is not None and context.user_style.style.emotion == "sad"
    return "a warm word" if sad else "a joke"


def main(config: str = "fake") -> None:
    # the stand-in model calls every tool it hears the name of, with arguments one can give it
    arguments = "llm_core.tool_arguments={weekday={year=2024,month=9,day=26}}"
    with Pipeline.from_config(config, overrides=[arguments] if config == "fake" else []) as emova:
        session = emova.session(tools=[weekday, comfort])
        for said in ("on which weekday was the 26th of September 2024?", "comfort me"):
            reply = session.ask(said)
            for call, result in zip(reply.tool_calls, reply.turn.tool_results, strict=True):
                print(f"{call.name}({dict(call.arguments)}) -> {result.content}")
            print(f"emova: {reply.text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
