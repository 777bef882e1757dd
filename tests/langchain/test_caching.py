"""LangChain's cache: an answer is found again only where everything that makes it is the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage

from emova_sdk import Image, Pipeline, Style
from emova_sdk.components.brains.openai import OpenAICore
from emova_sdk.langchain import ChatEmova
from emova_sdk.langchain.identity import name_of
from emova_sdk.policy import StylePolicy
from emova_sdk.testing.fakes import FakeLLMCore, FakeVisionEncoder


class Counting(FakeLLMCore):
    """Counts how often it is asked."""

    asked = 0

    def generate(self, messages: Any, **options: Any) -> Any:
        self.asked += 1
        return super().generate(messages, **options)


@pytest.fixture(autouse=True)
def cache() -> Iterator[InMemoryCache]:
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


def test_two_pipelines_never_share_an_answer() -> None:
    one, two = (Pipeline(llm_core=FakeLLMCore(replies={"who are you": name})) for name in ("One.", "Two."))
    assert [ChatEmova(pipeline=pipeline).invoke("who are you?").text for pipeline in (one, two, one)] == [
        "One.",
        "Two.",
        "One.",
    ]


def test_one_pipeline_is_asked_once_however_many_models_are_made_of_it() -> None:
    core = Counting()
    pipeline = Pipeline(llm_core=core)
    assert len({ChatEmova(pipeline=pipeline).invoke("hello").text for _ in range(3)}) == 1
    assert core.asked == 1
    pipeline.llm_core = Counting(replies={"hello": "Good morning."})
    assert ChatEmova(pipeline=pipeline).invoke("hello").text == "Good morning."


@pytest.mark.parametrize(
    ("changed", "call"),
    [
        ({"style": Style(emotion="sad")}, {}),
        ({"policy": StylePolicy(never_cheerful_to=("sad",))}, {}),
        ({"max_tokens": 1}, {}),
        ({"temperature": 0.5}, {}),
        ({"top_p": 0.5}, {}),
        ({"seed": 7}, {}),
        ({"stop": ["said"]}, {}),
        ({"speak": False}, {}),
        ({}, {"style": {"emotion": "sad"}}),
        ({}, {"max_tokens": 1}),
        ({}, {"stop": ["said"]}),
        ({}, {"tools": [{"type": "function", "function": {"name": "clock", "description": "Tell the time."}}]}),
        ({}, {"json_schema": {"type": "object"}}),
    ],
)
def test_whatever_changes_an_answer_makes_another_entry(changed: dict[str, Any], call: dict[str, Any]) -> None:
    core = Counting()
    chat = ChatEmova(pipeline=Pipeline(llm_core=core))
    chat.invoke("hello")
    chat.model_copy(update=changed).invoke("hello", **call)
    assert core.asked == 2
    chat.model_copy(update=changed).invoke("hello", **call)
    assert core.asked == 2


def test_a_file_of_the_same_name_that_holds_another_picture_is_another_question(tmp_path: Path) -> None:
    chat = ChatEmova(pipeline=Pipeline(llm_core=FakeLLMCore(), vision_encoder=FakeVisionEncoder()), media_folder=tmp_path)
    question = [HumanMessage(content=[{"type": "image", "file_id": "seen.png", "mime_type": "image/png"}])]
    said: list[str] = []
    for colour in ((220, 20, 20), (20, 20, 220)):
        Image(np.full((8, 8, 3), colour, np.uint8)).save(tmp_path / "seen.png")
        said.append(chat.invoke(question).text)
    assert "red" in said[0]
    assert "blue" in said[1]


def test_no_key_is_told_to_a_cache_or_a_tracer() -> None:
    secret = "sk-not-for-anybody"
    chat = ChatEmova(pipeline=Pipeline(llm_core=OpenAICore("m", base_url="http://127.0.0.1:9/v1", api_key=secret)))
    assert secret not in str(chat._identifying_params) + chat._get_llm_string() + repr(chat)


def test_names_are_not_given_twice() -> None:
    names = {name_of(FakeLLMCore()) for _ in range(100)}  # each is gone when the next one is made, often at its address
    assert len(names) == 100
