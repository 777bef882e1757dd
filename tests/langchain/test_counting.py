"""Tokens are counted offline, by the measure of `usage_metadata`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages

from emova_sdk import Audio, Image, Pipeline, Style
from emova_sdk.langchain import ChatEmova, audio_block, image_block
from emova_sdk.langchain.tokens import words_in


@pytest.fixture(scope="module")
def chat() -> ChatEmova:
    return ChatEmova(model="fake")


def clock(zone: str) -> str:
    """Tell the time."""
    return zone


CALL: Any = {"type": "tool_call", "id": "1", "name": "clock", "args": {"zone": "Central European Time"}}


def conversation(pipeline: Pipeline) -> list[BaseMessage]:
    spoken = pipeline.speak("how are you today", style=Style("male", "sad"))
    picture = image_block(Image(np.full((8, 8, 3), 200, np.uint8)))
    return [
        SystemMessage("Be brief."),
        HumanMessage(content_blocks=[{"type": "text", "text": "what is the time?"}, picture]),
        AIMessage("", tool_calls=[CALL]),
        ToolMessage("a quarter past noon", tool_call_id="1", name="clock"),
        AIMessage("It is noon."),
        HumanMessage(content_blocks=[audio_block(spoken)]),
    ]


def test_messages_count_what_usage_counts(chat: ChatEmova) -> None:
    messages = conversation(chat.wired)
    for length in (1, 2, 4, 6):
        usage = chat.invoke(messages[:length]).usage_metadata
        assert usage is not None
        assert chat.get_num_tokens_from_messages(messages[:length]) == usage["input_tokens"]
    bound: Any = chat.bind_tools([clock])
    usage = bound.invoke(messages).usage_metadata
    assert chat.get_num_tokens_from_messages(messages, tools=[clock]) == usage["input_tokens"]


def test_everything_in_a_message_counts(chat: ChatEmova) -> None:
    counts = [chat.get_num_tokens_from_messages([message]) for message in conversation(chat.wired)]
    system, picture, call, result, _, spoken = counts
    assert system == 1 + 3
    assert picture == 1 + 5 + 4  # four rows of features
    assert call > 5
    assert result == 1 + 4
    assert spoken == 1 + len(chat.wired.hear(Audio.concat([chat.wired.speak("how are you today", style=Style("male", "sad"))])))
    assert chat.get_num_tokens_from_messages([AIMessage("")]) == 1


def test_a_question_that_was_heard_counts_as_its_words(chat: ChatEmova) -> None:
    question = conversation(chat.wired)[-1]
    answer = chat.invoke([question])
    heard = answer.response_metadata["emova"]["transcript"]
    count = chat.get_num_tokens_from_messages([question, answer])
    assert count == 2 + words_in(heard) + words_in(answer.text)


@pytest.mark.parametrize("counter", ["chat", "approximate"])
def test_conversations_are_trimmed(chat: ChatEmova, counter: str) -> None:
    messages = [SystemMessage("Be brief."), HumanMessage("one two three " * 30), AIMessage("yes"), HumanMessage("again")]
    counted: Any = chat if counter == "chat" else counter
    kept = trim_messages(messages, max_tokens=30, token_counter=counted, strategy="last", include_system=True)
    assert [message.text for message in kept] == ["Be brief.", "yes", "again"]


def test_texts_are_counted_without_a_tokenizer(chat: ChatEmova) -> None:
    assert chat.get_num_tokens("One, two!") == 4
    assert len(chat.get_token_ids("to be or not to be")) == 6
    assert chat.get_token_ids("to be to")[0] == chat.get_token_ids("to be to")[2]
    assert chat.get_num_tokens("今日はいい天気") == 7  # no spaces, and more than one word
    assert chat.get_num_tokens("สวัสดีครับผมชื่อ") > 1
    assert chat.get_num_tokens("A" * 1_200) == 100
    assert chat.get_num_tokens("\ud800 \x00 🙂") > 0
    assert chat.get_num_tokens("") == 0
