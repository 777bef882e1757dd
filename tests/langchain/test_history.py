from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables.history import RunnableWithMessageHistory

from emova_sdk import Audio, Image, Pipeline, Style
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.langchain import (
    ChatEmova,
    EmovaChatHistory,
    audio_block,
    audio_of,
    image_block,
    messages_of,
    style_of,
    turns_of,
    user_style_of,
)
from emova_sdk.types import MediaRef, PerceivedStyle, Timings, ToolCall, ToolResult, Turn


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_config("fake")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'chats.db'}"


def a_talk(pipeline: Pipeline) -> list[Turn]:
    def clock() -> str:
        """Tell the time."""
        return "noon"

    session = pipeline.session(tools=[clock])
    question = pipeline.speak("it is a hard day", style=Style("male", "sad", "low", "slow"))
    session.ask(question, Image(np.full((4, 6, 3), (9, 200, 9), np.uint8)))
    session.ask("what does the clock say?")
    session.ask("tell me a very long story of the sea")
    session.cut(0.5)
    return session.history


def test_turns_survive_messages(pipeline: Pipeline) -> None:
    turns = a_talk(pipeline)
    assert turns[-1].interrupted
    back = turns_of(messages_of(turns))
    assert back == turns


def test_turns_with_references_survive_messages() -> None:
    heard = PerceivedStyle(Style("male", "sad", "low", "fast"), {"emotion": 0.7})
    question = Turn("user", "hello", perceived=heard, audio=MediaRef("a.wav", "audio/wav", "00ff", 1.5), metadata={"a": 1})
    answer = Turn(
        "assistant",
        "Hi.",
        style=Style(emotion="happy"),
        requested_style=Style(emotion="surprised"),
        audio=MediaRef("", "audio/wav", "0abc", 0.5),
        tool_calls=(ToolCall("1", "clock", {"zone": "UTC"}),),
        tool_results=(ToolResult("1", "clock", "broken", failed=True),),
        timings=Timings(0.1, 0.2, 0.3, 0.4, 0.5),
        metadata={"b": [2]},
    )
    assert turns_of(messages_of([question, answer])) == [question, answer]


def test_turns_survive_sqlite_and_a_new_process(pipeline: Pipeline, url: str) -> None:
    turns = a_talk(pipeline)
    EmovaChatHistory("one", connection=url).add_turns(turns)
    script = f"""
from emova_sdk.langchain import EmovaChatHistory
import json
history = EmovaChatHistory("one", connection={url!r})
print(json.dumps([turn.to_dict() for turn in history.turns]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [turn.to_dict() for turn in turns]
    assert EmovaChatHistory("one", connection=url).turns == turns


def test_messages_survive_with_style_and_media_outside(pipeline: Pipeline, url: str, tmp_path: Path) -> None:
    chat = ChatEmova(model="fake", pipeline=pipeline)
    audio = pipeline.speak("how are you", style=Style("male", "sad"))
    question = HumanMessage(content_blocks=[audio_block(audio), image_block(Image(np.full((4, 4, 3), 7, np.uint8)))])
    answer = chat.invoke([question])
    history = EmovaChatHistory("a/../b?", connection=url)
    history.add_messages([question, answer])
    kept = EmovaChatHistory("a/../b?", connection=url).messages
    assert "base64" not in str(kept)
    assert audio_of(kept[0], media_folder=history.media_folder) == audio_of(question)
    assert audio_of(kept[1], media_folder=history.media_folder) == audio_of(answer)
    assert (style_of(kept[1]), user_style_of(kept[1])) == (style_of(answer), user_style_of(answer))
    assert kept[1].content_blocks[1]["extras"]["emotion"] == "sad"  # type: ignore[typeddict-item]
    assert kept[1].usage_metadata == answer.usage_metadata  # type: ignore[union-attr]
    again = chat.model_copy(update={"media_folder": history.media_folder}).invoke([*kept, HumanMessage("And now?")])
    assert again.text == "You said: And now?."
    assert list(tmp_path.glob("chats.media/*/*.png"))


def test_a_session_goes_on_from_a_history(pipeline: Pipeline, url: str) -> None:
    history = EmovaChatHistory("one", connection=url)
    first = pipeline.session()
    first.ask("My name is Ada.")
    history.add_turns(first.history)
    second = pipeline.session(history=history.turns)
    second.ask("What is my name?")
    assert [turn.text for turn in second.history][:2] == [turn.text for turn in first.history]


def test_tool_artifacts_are_kept(url: str) -> None:
    history = EmovaChatHistory("one", connection=url)
    history.add_message(ToolMessage("said", tool_call_id="1", artifact={"style": {"emotion": "sad"}}))
    kept = history.messages[0]
    assert isinstance(kept, ToolMessage)
    assert kept.artifact == {"style": {"emotion": "sad"}}
    with pytest.raises(InputError, match="cannot be kept"):
        history.add_messages([HumanMessage("first"), ToolMessage("x", tool_call_id="2", artifact=object())])
    assert len(history.messages) == 1


def test_forgetting_a_session_forgets_its_sound_and_no_others(url: str, tmp_path: Path) -> None:
    one, two = EmovaChatHistory("one", connection=url), EmovaChatHistory("two", connection=url)
    for history in (one, two):
        history.add_messages([HumanMessage(content_blocks=[audio_block(Audio.silence(0.1, 16_000))])])
    one.clear()
    one.clear()
    assert one.messages == []
    assert len(two.messages) == 1
    assert audio_of(two.messages[0], media_folder=two.media_folder) is not None
    assert len(list(tmp_path.glob("chats.media/*/*"))) == 1
    one.close()


def test_without_a_folder_sound_stays_in_the_message() -> None:
    history = EmovaChatHistory("one", connection="sqlite://")
    audio = Audio.silence(0.1, 16_000)
    history.add_messages([HumanMessage(content_blocks=[audio_block(audio)])])
    assert audio_of(history.messages[0]) == audio
    history.close()


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
def test_with_langchains_own_wrapper(pipeline: Pipeline, url: str) -> None:
    chat = ChatEmova(model="fake", pipeline=pipeline)
    talk = RunnableWithMessageHistory(chat, lambda session_id: EmovaChatHistory(session_id, connection=url))
    config = {"configurable": {"session_id": "one"}}
    talk.invoke([HumanMessage("Hello.")], config)  # type: ignore[arg-type]
    talk.invoke([HumanMessage("Again.")], config)  # type: ignore[arg-type]
    kept = EmovaChatHistory("one", connection=url).messages
    assert [type(message) for message in kept] == [HumanMessage, AIMessage] * 2


def test_what_cannot_be_opened_is_said() -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        EmovaChatHistory("one", connection="sqlite:////nowhere/at/all.db")
    with pytest.raises(ConfigError, match="cannot be opened"):
        EmovaChatHistory("one", connection="no url")
    with pytest.raises(InputError, match="no name"):
        EmovaChatHistory("")
