"""A conversation as an OpenAI-compatible endpoint reads it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

from emova_sdk.errors import InputError
from emova_sdk.types import Audio, Image, Message, SpeechUnits, ToolCall, ToolResult, VisionFeatures

CUT_OFF = " [the user interrupted here]"
"""Follows an earlier answer in what the model reads, where the user cut it off."""


def entries(message: Message, *, sees_images: bool) -> list[dict[str, Any]]:
    """Write a message for a text model; the results of tools become one entry each."""
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    if message.role == "tool":
        return [{"role": "tool", "tool_call_id": one.id, "content": _result(one)} for one in results]
    if message.role == "assistant":
        return _assistant(message)
    content = [_content(part, sees_images=sees_images) for part in message.parts]
    only_text = all(part["type"] == "text" for part in content)
    return [{"role": message.role, "content": "\n".join(part["text"] for part in content) if only_text else content}]


def _result(result: ToolResult) -> str:
    return f"error: {result.content}" if result.failed else result.content


def _assistant(message: Message) -> list[dict[str, Any]]:
    """Write an answer; one without a word and without a call is left out, which strict endpoints would refuse."""
    text = (message.text + (CUT_OFF if message.interrupted else "")).strip()
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    entry: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        entry["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))}}
            for call in calls
        ]
    return [entry] if text or calls else []


def _content(part: object, *, sees_images: bool) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, Image):
        if not sees_images:
            raise InputError("the model behind the endpoint is not known to see", "set `sees_images = true` if it does")
        return {"type": "image_url", "image_url": {"url": _data_url(part)}}
    if isinstance(part, SpeechUnits | Audio):
        raise InputError("the model behind the endpoint reads text alone", "put it behind the `bridge` llm_core")
    if isinstance(part, VisionFeatures):
        raise InputError(
            "vision features cannot travel to an endpoint", "leave the vision encoder out and set `sees_images = true`"
        )
    raise InputError(f"a user's message cannot hold a {type(part).__name__}", "use text and pictures")


def emova_entries(
    turns: Sequence[tuple[str, str | None]], images: Sequence[object], system: str | None, *, sees_images: bool
) -> list[dict[str, Any]]:
    """Write EMOVA's turns, each picture in the place of its mark; the server adds the template."""
    from emova_sdk.components.emova.language.prompts import IMAGE_MARK

    pictures = iter(images)
    wire: list[dict[str, Any]] = [{"role": "system", "content": system}] if system is not None else []
    for role, text in turns:
        if text is None:  # what is to be written
            continue
        content: list[dict[str, Any]] = []
        for index, piece in enumerate(text.split(IMAGE_MARK)):
            if index:
                content.append(_content(next(pictures), sees_images=sees_images))
            if piece.strip():
                content.append({"type": "text", "text": piece.lstrip("\n") if index else piece})
        only_text = all(part["type"] == "text" for part in content)
        wire.append({"role": role, "content": "".join(part["text"] for part in content) if only_text else content})
    return wire


def _data_url(image: Image) -> str:
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray(image.pixels).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
