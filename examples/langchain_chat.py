"""EMOVA as a LangChain chat model: speech in, speech out, a tool that knows how the user feels, streaming, history."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from langchain_core.messages import HumanMessage
from langchain_core.tools import InjectedToolArg, tool

from emova_sdk import Pipeline, Style, TurnContext
from emova_sdk.langchain import ChatEmova, EmovaChatHistory, audio_block, audio_of, call_tools, style_of, user_style_of


@tool
def timer(duration: str, context: Annotated[TurnContext, InjectedToolArg]) -> str:
    """Set a timer."""
    sad = context.user_style is not None and context.user_style.style.emotion == "sad"
    return f"{duration}, and a kind word" if sad else duration


def main(config: str = "emova-nano") -> None:
    with Pipeline.from_config(config) as emova:
        chat = ChatEmova(model=config, pipeline=emova)
        history = EmovaChatHistory("anna", connection="sqlite:///chats.db")
        said = emova.speak("i lost my dog", style=Style("male", "sad"))
        question = HumanMessage(content_blocks=[audio_block(said)])

        first, *rest = chat.stream([question])
        answer = sum(rest, start=first)  # merged chunks hold all the sound
        heard, spoken, reply = user_style_of(answer), style_of(answer), audio_of(answer)
        if heard and spoken and reply:
            print(f"heard {heard.style.emotion}, answered {spoken.emotion} in {reply.duration_s:.1f} s of sound")

        wish = HumanMessage(
            content_blocks=[audio_block(emova.speak("set a timer for ten minutes", style=Style("male", "sad")))]
        )
        asks: Any = chat.bind_tools([timer], tool_choice="timer").invoke([wish])
        results = call_tools([wish, asks], [timer])
        print(f"{asks.tool_calls[0]['name']} says: {results[0].text}")

        history.add_messages([question, answer])
        later = [*history.messages, HumanMessage("how are you today")]
        print(chat.model_copy(update={"media_folder": history.media_folder}).invoke(later).text)


if __name__ == "__main__":
    main(*sys.argv[1:])
