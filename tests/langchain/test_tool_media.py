"""Sounds and pictures that tools bring are seen by the model, in every form LangChain writes them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from endpoint import Endpoint, says
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from emova_sdk import Image, Pipeline, Style
from emova_sdk.components.brains.openai import OpenAICore
from emova_sdk.errors import InputError
from emova_sdk.langchain import ChatEmova, audio_block, image_block, user_style_of

RED = image_block(Image(np.full((8, 8, 3), (220, 20, 20), np.uint8)))
DATA = str(RED["base64"])  # type: ignore[typeddict-item]
URL = f"data:image/png;base64,{DATA}"


@pytest.fixture(scope="module")
def chat() -> ChatEmova:
    return ChatEmova(model="fake")


def asked(*results: Any) -> list[Any]:
    calls: Any = [{"type": "tool_call", "id": str(at), "name": "camera", "args": {}} for at in range(len(results))]
    told = [ToolMessage(result, tool_call_id=str(at), name="camera") for at, result in enumerate(results)]
    return [HumanMessage("what do you see?"), AIMessage("", tool_calls=calls), *told]


@pytest.mark.parametrize(
    "block",
    [
        RED,
        {"type": "image", "url": URL},
        {"type": "image", "data": DATA, "mimeType": "image/png"},
        {"type": "image", "source_type": "base64", "data": DATA, "mime_type": "image/png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "image_url", "image_url": URL},
        {"type": "input_image", "image_url": URL},
        {"type": "media", "mime_type": "image/png", "data": DATA},
        {"type": "file", "mime_type": "image/png", "base64": DATA},
    ],
    ids=lambda block: "-".join(sorted(block)),
)
@pytest.mark.parametrize("of", ["tool", "user"])
def test_every_form_of_a_picture_is_seen(chat: ChatEmova, block: Any, of: str) -> None:
    content = [{"type": "text", "text": "here it is"}, block]
    messages = asked(content) if of == "tool" else [HumanMessage(content=content)]
    assert "I see something red" in chat.invoke(messages).text


def test_files_are_read_in_the_media_folder_alone(chat: ChatEmova, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    for path in ("inside/red picture.png", "outside.png"):
        (tmp_path / path).write_bytes(base64.b64decode(DATA))
    inside = tmp_path / "inside"
    for url in ((inside / "red picture.png").as_uri(), (inside / "red picture.png").as_uri().replace("%20", " ")):
        assert "red" in chat.invoke(asked([{"type": "image", "url": url}]), media_folder=inside).text
    for wrong in ((tmp_path / "outside.png").as_uri(), "file:///etc/passwd", "file:../outside.png", "file:"):
        with pytest.raises(InputError, match="not a file in"):
            chat.invoke(asked([{"type": "image", "url": wrong}]), media_folder=inside)
    for name in ("\0", "a" * 5_000, "\ud800.png", "../outside.png", ".", ""):
        with pytest.raises(InputError, match="not a file in"):
            chat.invoke([HumanMessage(content=[{"type": "image", "file_id": name}])], media_folder=inside)


def test_the_results_of_all_tools_come_before_what_they_show(endpoint: Endpoint) -> None:
    endpoint.otherwise = says("I see.")
    core = OpenAICore("m", base_url=endpoint.url, retries=0, sees_images=True)
    ChatEmova(pipeline=Pipeline(llm_core=core)).invoke(asked([RED], "nothing"))
    told = endpoint.requests[0]["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "tool", "user"]
    assert told[2]["content"]
    assert told[4]["content"][0] == {"type": "text", "text": "From the tool `camera`:"}
    assert told[4]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")


def test_the_sound_of_a_tool_is_not_the_users_mood(chat: ChatEmova) -> None:
    sad = chat.wired.speak("how are you today", style=Style("male", "sad"))
    happy = chat.wired.speak("the bird sings", style=Style("female", "happy"))
    messages = asked([audio_block(happy)])
    messages[0] = HumanMessage(content_blocks=[audio_block(sad)])
    answer = chat.invoke(messages)
    perceived = user_style_of(answer)
    assert perceived is not None
    assert perceived.style.emotion == "sad"
    usage = answer.usage_metadata
    assert usage is not None
    assert usage["input_token_details"]["audio"] == sum(len(chat.wired.hear(sound)) for sound in (sad, happy))


def test_what_a_tool_brings_and_nobody_can_read_is_said(chat: ChatEmova) -> None:
    with pytest.raises(InputError, match="`file` cannot be read"):
        chat.invoke(asked([{"type": "file", "base64": "QUJD", "mime_type": "application/pdf"}]))
    with pytest.raises(InputError, match="no sample rate"):
        chat.invoke(asked([{"type": "audio", "base64": "QUJD", "mime_type": "audio/pcm;rate=fast"}]))
