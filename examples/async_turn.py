"""Two conversations at once under asyncio, on one pipeline; each answer is generated in its own thread."""

from __future__ import annotations

import asyncio
import sys

from emova_sdk import Pipeline, TextDelta


async def converse(emova: Pipeline, name: str, said: str) -> str:
    text = ""
    async for event in emova.session().arespond(said):
        if isinstance(event, TextDelta):
            text += event.text
    return f"{name}: {text}"


async def talk(config: str) -> list[str]:
    with Pipeline.from_config(config) as emova:
        return await asyncio.gather(converse(emova, "first", "good morning"), converse(emova, "second", "good night"))


def main(config: str = "emova-nano") -> None:
    print(*asyncio.run(talk(config)), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
