from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, message_to_dict
from langchain_core.runnables.history import RunnableWithMessageHistory

from emova_sdk import Audio, Image, Pipeline, Style
from emova_sdk.errors import BackendError, ConfigError, InputError
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
from emova_sdk.langchain.messages import messages_for
from emova_sdk.langchain.tokens import words_in
from emova_sdk.memory import SessionStore
from emova_sdk.testing.fakes import FakeLLMCore
from emova_sdk.types import MediaRef, Message, PerceivedStyle, Timings, ToolCall, ToolResult, Transcript, Turn
from emova_sdk.types.events import UNCLEAR


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
    session.truncate(0.5)
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
    assert list(tmp_path.glob("chats.db.media/*/*.png"))


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
    assert len(list(tmp_path.glob("chats.db.media/*/*"))) == 1
    one.close()


def test_histories_that_share_a_folder_and_a_name_share_no_file(tmp_path: Path) -> None:
    message = HumanMessage(content_blocks=[audio_block(Audio.silence(0.1, 16_000))])
    urls = [f"sqlite:///{tmp_path / name}" for name in ("one.db", "two.db")]
    one, two = (EmovaChatHistory("anna", connection=url, media_folder=tmp_path / "media") for url in urls)
    one.add_messages([message])
    two.add_messages([message])
    two.add_messages(one.messages)  # names a file of the other
    one.clear()
    assert one.messages == []
    for kept in two.messages:
        assert audio_of(kept, media_folder=two.media_folder) == audio_of(message)
    two.clear()
    assert not list((tmp_path / "media").rglob("*.*"))


def test_a_database_that_was_moved_forgets_its_files_as_well(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    message = HumanMessage(content_blocks=[audio_block(Audio.silence(0.1, 16_000))])
    history = EmovaChatHistory("anna", connection=f"sqlite:///{tmp_path / 'old/chats.db'}")
    history.add_messages([message])
    history.close()
    (tmp_path / "old").rename(tmp_path / "new")
    moved = EmovaChatHistory("anna", connection=f"sqlite:///{tmp_path / 'new/chats.db'}")
    assert audio_of(moved.messages[0], media_folder=moved.media_folder) == audio_of(message)
    moved.clear()
    assert not list(tmp_path.rglob("*.wav"))


def test_one_model_serves_histories_of_several_folders(pipeline: Pipeline, tmp_path: Path) -> None:
    chat = ChatEmova(model="fake", pipeline=pipeline)
    for colour, name in (((220, 20, 20), "red"), ((20, 20, 220), "blue")):
        history = EmovaChatHistory("anna", connection=f"sqlite:///{tmp_path / name}.db")
        picture = image_block(Image(np.full((8, 8, 3), colour, np.uint8)))
        history.add_messages([HumanMessage(content_blocks=[picture])])
        assert name in chat.invoke(history.messages, media_folder=history.media_folder).text
        assert name in chat.bind(media_folder=history.media_folder).invoke(history.messages).text


def test_a_chat_window_shows_what_was_heard(pipeline: Pipeline, url: str) -> None:
    chat = ChatEmova(model="fake", pipeline=pipeline)
    question = HumanMessage(content_blocks=[audio_block(pipeline.speak("how are you"))])
    answer = chat.invoke([question])
    words = answer.response_metadata["emova"]["transcript"]
    history = EmovaChatHistory("one", connection=url)
    history.add_messages([question, answer])
    session = pipeline.session()
    session.ask(pipeline.speak("the bird sings"), "and this")
    history.add_turns(session.history)
    shown = [message.text for message in history.messages if message.type == "human"]
    assert shown == [words, session.history[0].text]
    assert [turn.text for turn in history.turns if turn.role == "user"] == shown  # the same words, and not twice
    folder = history.media_folder
    again = [*history.messages, HumanMessage("And now?")]
    assert chat.invoke(again, media_folder=folder).text == "You said: And now?."
    assert chat.get_num_tokens_from_messages(history.messages[:1]) == 1 + words_in(words)
    copied = EmovaChatHistory("two", connection=url)
    copied.add_messages(history.messages)
    assert [message.text for message in copied.messages] == [message.text for message in history.messages]


def test_unclear_speech_is_marked_and_never_words(pipeline: Pipeline, url: str) -> None:
    class Unsure(FakeLLMCore):
        def generate(self, messages: Any, **options: Any) -> Any:
            for event in super().generate(messages, **options):
                yield Transcript("", 0.2, guess="sell everything") if isinstance(event, Transcript) else event

    chat = ChatEmova(pipeline=Pipeline(**{**pipeline.slots(), "llm_core": Unsure()}))  # type: ignore[arg-type]
    question = HumanMessage(content_blocks=[audio_block(pipeline.speak("how are you"))])
    answer = chat.invoke([question])
    assert answer.response_metadata["emova"]["transcript"] == UNCLEAR
    assert answer.response_metadata["emova"]["transcript_guess"] == "sell everything"
    history = EmovaChatHistory("one", connection=url)
    history.add_messages([question, answer])
    assert history.messages[0].text == UNCLEAR
    assert history.turns[0].text == UNCLEAR
    told: list[Any] = []
    messages_for(history.messages, lambda parts, _, by_user: told.extend(parts) or Message("user", tuple(parts)))
    assert told == [UNCLEAR]


def test_an_answer_nobody_heard_is_not_told(pipeline: Pipeline) -> None:
    silent = Turn("assistant", "A secret.", interrupted=True, heard_text="")
    told = messages_of([Turn("user", "hello"), silent])
    assert [message.parts for message in messages_for(told, lambda parts, _, by_user: Message("user", tuple(parts)))] == [
        ("hello",)
    ]


def test_without_a_folder_sound_is_kept_small() -> None:
    history = EmovaChatHistory("one", connection="sqlite://")
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    whole = Audio((np.round(noise * 32768) / 32768).astype(np.float32), 16_000)
    fine = Audio((noise * np.sin(np.arange(16_000) / 8_000)).astype(np.float32), 16_000)
    loud = Audio((noise * 20).astype(np.float32), 16_000)
    history.add_messages([HumanMessage(content_blocks=[audio_block(sound)]) for sound in (whole, fine, loud)])
    kept = history.messages
    assert audio_of(kept[0]) == whole
    assert audio_of(kept[2]) == loud  # FLAC would clip it
    back = audio_of(kept[1])
    assert back is not None
    assert np.abs(back.samples - fine.samples).max() < 2e-7
    assert [block["mime_type"] for message in kept for block in message.content_blocks] == [  # type: ignore[typeddict-item]
        "audio/flac",
        "audio/flac",
        "audio/wav",
    ]
    assert len(str(kept[1].content)) < 0.8 * len(str(audio_block(fine)))
    history.close()


def test_half_a_character_is_kept(url: str) -> None:
    history = EmovaChatHistory("one", connection=url)
    history.add_messages([HumanMessage("cut \ud83d here")])
    assert history.messages[0].text == "cut \ud83d here"
    with pytest.raises(InputError, match="half a character"):
        EmovaChatHistory("\ud83d", connection=url)


def test_what_fails_later_is_said_as_well(url: str, tmp_path: Path) -> None:
    history = EmovaChatHistory("one", connection=url)
    with pytest.raises(InputError, match="base64"):
        history.add_messages([HumanMessage(content=[{"type": "audio", "base64": "###", "mime_type": "audio/wav"}])])
    (tmp_path / "taken").write_text("a file")
    blocked = EmovaChatHistory("one", connection=url, media_folder=tmp_path / "taken")
    with pytest.raises(BackendError, match="cannot be written"):
        blocked.add_messages([HumanMessage(content_blocks=[audio_block(Audio.silence(0.1, 16_000))])])
    assert history.messages == []
    for one in (history, blocked):
        one.close()
    (tmp_path / "chats.db").write_bytes(b"no database at all, and long enough to be read as one" * 40)
    with pytest.raises(BackendError, match="database refused"):
        _ = history.messages


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
    with pytest.raises(ConfigError, match="the folder `/nowhere/at` does not exist"):
        EmovaChatHistory("one", connection="sqlite:////nowhere/at/all.db")
    with pytest.raises(ConfigError, match="cannot be used"):
        EmovaChatHistory("one", connection="no://url")
    with pytest.raises(InputError, match="no name"):
        EmovaChatHistory("")


def test_tools_that_no_answer_followed_stay_with_their_question() -> None:
    call: Any = {"name": "weather", "args": {"city": "Rome"}, "id": "z1"}
    asked = [HumanMessage("w"), AIMessage("", tool_calls=[call]), ToolMessage("sunny", tool_call_id="z1", name="weather")]

    for messages in (asked, [*asked, HumanMessage("next"), AIMessage("fine")]):
        turns = turns_of(messages)
        assert [turn.role for turn in turns] == ["user", "assistant", "user", "assistant"][: len(turns)]
        assert turns[1].tool_calls == (ToolCall("z1", "weather", {"city": "Rome"}),)
        assert turns[1].tool_results == (ToolResult("z1", "weather", "sunny"),)
        assert not any(turn.tool_calls for turn in turns[2:])


@pytest.mark.parametrize("heard_s", [-1.0, float("nan")])
def test_what_was_heard_is_a_number_of_seconds(pipeline: Pipeline, heard_s: float) -> None:
    session = pipeline.session()
    session.ask("hello")

    with pytest.raises(InputError, match="number of seconds"):
        session.truncate(heard_s)


@pytest.mark.parametrize("said", ["", "  ", "\n"])
def test_blanks_are_nothing_to_answer(pipeline: Pipeline, said: str) -> None:
    with pytest.raises(InputError, match="nothing to answer"):
        pipeline.session().ask(said)


# --- one database for sessions and histories ---


def test_a_store_lists_and_forgets_histories_and_each_names_the_others_sessions(pipeline: Pipeline, tmp_path: Path) -> None:
    with SessionStore(tmp_path / "chats.db") as store:
        store.session(pipeline, "anna").ask("hello")
        history = EmovaChatHistory("b/ob", connection=tmp_path / "chats.db")
        history.add_messages([HumanMessage(content_blocks=[audio_block(Audio.silence(0.1, 16_000))])])
        assert {(one.id, one.turns) for one in store.sessions()} == {("anna", 2), ("b/ob", 1)}
        assert [store.is_chat_history(name) for name in ("anna", "b/ob")] == [False, True]
        with pytest.raises(InputError, match="LangChain history"):
            store.turns("b/ob")
        with pytest.raises(InputError, match="session of `SessionStore`"):
            EmovaChatHistory("anna", connection=tmp_path / "chats.db")
        assert list(tmp_path.rglob("*.wav"))
        store.forget("b/ob")
        assert history.messages == []
        assert store.media is not None
        assert [file.parent.name for file in tmp_path.rglob("*.wav")] == ["anna"]
        assert sorted(store.retain(days=0)) == ["anna"]
        assert not list(tmp_path.rglob("*.wav"))


def of_version_0_1(path: Path, names: Sequence[str], message: HumanMessage) -> None:
    """Write a database, and media beside it, as they were."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE emova_messages (id INTEGER PRIMARY KEY, session_id VARCHAR(255), message TEXT)")
        database.execute("CREATE TABLE emova_database (id INTEGER PRIMARY KEY, name VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO emova_database VALUES (1, 'feed')")
        for name in names:
            own = hashlib.sha256(f"feed\n{name}".encode()).hexdigest()[:16]
            folder = path.with_suffix(".media") / own
            folder.mkdir(parents=True)
            (folder / "00.wav").write_bytes(base64.b64decode(message.content_blocks[0]["base64"]))  # type: ignore[typeddict-item]
            block = {**message.content_blocks[0], "file_id": f"{own}/00.wav"}
            block.pop("base64")
            kept = message_to_dict(HumanMessage(content=[block], id=f"of {name}"))
            database.execute("INSERT INTO emova_messages (session_id, message) VALUES (?, ?)", (name, json.dumps(kept)))


def test_a_database_of_0_1_is_taken_over_with_its_media(tmp_path: Path) -> None:
    audio = Audio(np.linspace(-0.5, 0.5, 800, dtype=np.float32), 16_000)
    of_version_0_1(tmp_path / "chats.db", ["anna", "b/ob"], HumanMessage(content_blocks=[audio_block(audio)]))
    for name in ("anna", "b/ob", "anna"):
        history = EmovaChatHistory(name, connection=f"sqlite:///{tmp_path / 'chats.db'}")
        [message] = history.messages
        assert message.id == f"of {name}"
        kept = audio_of(message, media_folder=history.media_folder)
        assert kept is not None
        assert np.abs(kept.samples - audio.samples).max() < 1e-4
        history.close()
    history.clear()
    assert history.messages == []
    assert len(list(tmp_path.rglob("*.wav"))) == 1


def test_a_name_that_stands_for_a_session_and_an_old_history_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    with SessionStore(tmp_path / "chats.db") as store:
        store.session(pipeline, "anna").ask("hello")
        store.forget("anna")
    message = HumanMessage(content_blocks=[audio_block(Audio.silence(0.1, 16_000))])
    with closing(sqlite3.connect(tmp_path / "chats.db")) as database, database:
        database.execute("DROP TABLE emova_database")
    of_version_0_1(tmp_path / "chats.db", ["anna"], message)
    with SessionStore(tmp_path / "chats.db") as store:
        store.session(pipeline, "anna").ask("hello")
        with pytest.raises(ConfigError, match="a LangChain history as well"):
            EmovaChatHistory("anna", connection=tmp_path / "chats.db")
        assert len(store.turns("anna")) == 2
        store.forget("anna")
    assert len(EmovaChatHistory("anna", connection=tmp_path / "chats.db").messages) == 1
