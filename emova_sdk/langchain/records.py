"""Turns of a session as LangChain messages, and back: the same turns, sounds, pictures and styles.

A user's turn is one `HumanMessage`. An assistant's turn is one `AIMessage`; if it called tools, an `AIMessage` with the calls
and a `ToolMessage` for each result come before it. Tools that no answer followed are a turn without words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages import ToolCall as LangChainCall
from langchain_core.messages.content import ContentBlock, create_audio_block, create_image_block

from emova_sdk.langchain.messages import (
    KEY,
    audio_block,
    block_media,
    facts_of,
    image_block,
    media_blocks,
    perceived_in,
    transcript_block,
    typed_text,
)
from emova_sdk.types import (
    Audio,
    Image,
    MediaRef,
    Role,
    Style,
    ToolCall,
    ToolResult,
    Turn,
)

__all__ = ["messages_of", "turns_of"]

_CALLS = "-tools"
"""Ends the id of the message that holds a turn's calls, which begins with the turn's own."""


def messages_of(turns: Iterable[Turn]) -> list[BaseMessage]:
    """Write turns as messages; sounds and pictures are inlined, references stay references."""
    found: list[BaseMessage] = []
    for turn in turns:
        found += [_human(turn)] if turn.role == "user" else _assistant(turn)
    return found


def turns_of(messages: Sequence[BaseMessage], *, media_folder: str | Path | None = None) -> list[Turn]:
    """Read turns from messages, of `messages_of`, of `ChatEmova`, or any other.

    Args:
        messages: The conversation; system messages belong to no turn.
        media_folder: Where files named by ``file_id`` are: they are loaded; without it they stay references.
    """
    found: list[Turn] = []
    calls: list[ToolCall] = []
    results: list[ToolResult] = []
    asked = ""  # the turn that the calls belong to
    for place, message in enumerate(messages):
        turn_id = message.id or _made_up_id(place, message)
        if isinstance(message, HumanMessage):
            found += _unanswered(calls, results, asked)
            calls, results = [], []
            found.append(_turn("user", message, turn_id, media_folder))
        elif isinstance(message, ToolMessage):
            failed = message.status == "error"
            results.append(ToolResult(message.tool_call_id, message.name or "tool", message.text, failed=failed))
        elif isinstance(message, AIMessage):
            asked = asked if calls else turn_id.removesuffix(_CALLS)
            calls += [ToolCall(call["id"] or "", call["name"], call["args"]) for call in message.tool_calls]
            _hear(found, message)
            if not message.tool_calls:
                called = {"tool_calls": tuple(calls), "tool_results": tuple(results)}
                found.append(_turn("assistant", message, turn_id, media_folder, **called))
                calls, results = [], []
    return [*found, *_unanswered(calls, results, asked)]


# --- to messages ---

_FACTS = ("metadata", "units", "unit_space", "layout")
_ANSWER_FACTS = ("style", "requested_style", "interrupted", "heard_text", "timings", *_FACTS)
"""Keys of `Turn.to_dict` that stand in ``response_metadata`` under the same names."""


def _human(turn: Turn) -> HumanMessage:
    record = turn.to_dict()
    spoken = turn.audio is not None
    facts = {"transcript": turn.text if spoken else None, "user_style": record["perceived"], **_kept(record, _FACTS)}
    blocks = [*_media(turn.audio, None), *(block for image in turn.images for block in _media(image, None))]
    typed: Any = transcript_block(turn.text) if spoken else {"type": "text", "text": turn.text}
    content: Any = [typed, *blocks] if turn.text else blocks
    return HumanMessage(content=content, id=turn.id, response_metadata={KEY: facts})


def _assistant(turn: Turn) -> list[BaseMessage]:
    before: list[BaseMessage] = []
    if turn.tool_calls:
        asked = [tool_call(call) for call in turn.tool_calls]
        before.append(AIMessage(content="", tool_calls=asked, id=f"{turn.id}{_CALLS}"))
        before += [_tool_message(result) for result in turn.tool_results]
    text: list[Any] = [{"type": "text", "text": turn.text}] if turn.text else []
    content: Any = [*text, *_media(turn.audio, turn.style)]
    facts = _kept(turn.to_dict(), _ANSWER_FACTS)
    return [*before, AIMessage(content=content, id=turn.id, response_metadata={KEY: facts})]


def _kept(record: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: record[key] for key in keys if record[key] is not None}


def tool_call(call: ToolCall) -> LangChainCall:
    """Write a tool call as LangChain does."""
    return {"type": "tool_call", "id": call.id, "name": call.name, "args": dict(call.arguments)}


def _tool_message(result: ToolResult) -> ToolMessage:
    status = "error" if result.failed else "success"
    return ToolMessage(content=result.content, tool_call_id=result.id, name=result.name, status=status)


def _media(media: Audio | Image | MediaRef | None, style: Style | None) -> list[ContentBlock]:
    if media is None:
        return []
    if isinstance(media, Audio):
        return [audio_block(media, style)]
    if isinstance(media, Image):
        return [image_block(media)]
    facts: dict[str, Any] = {"sha256": media.sha256, **(style.to_dict() if style else {})}
    name = media.uri or f"sha256:{media.sha256}"
    if media.media_type.startswith("image/"):
        return [create_image_block(file_id=name, mime_type=media.media_type, **facts)]
    return [create_audio_block(file_id=name, mime_type=media.media_type, duration_s=media.duration_s, **facts)]


# --- to turns ---


def _made_up_id(place: int, message: BaseMessage) -> str:
    """A name for the turn of a message that has none, the same at each reading."""
    told = json.dumps([place, message.type, message.content], default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _turn(role: Role, message: BaseMessage, turn_id: str, folder: str | Path | None, **called: Any) -> Turn:
    facts = facts_of(message)
    sound, images = _read_media(message, folder)
    heard = "\n".join(filter(None, (facts.get("transcript"), typed_text(message))))
    told = {key: facts.get(key) for key in _ANSWER_FACTS}
    defaults = {"interrupted": False, "metadata": {}, "unit_space": "", "layout": ()}
    record: dict[str, Any] = {
        "id": turn_id,
        "role": role,
        "text": heard if role == "user" else message.text,
        "perceived": facts.get("user_style") if role == "user" else None,  # in an answer's facts it is of the question
        "audio": None,
        **dict.fromkeys(("images", "tool_calls", "tool_results"), ()),
        **told,
        **{key: value for key, value in defaults.items() if not told[key]},
    }
    return replace(Turn.from_dict(record), audio=sound, images=images, **called)


def _unanswered(calls: list[ToolCall], results: list[ToolResult], turn_id: str) -> list[Turn]:
    """The turn of tools that no answer followed: what they did stays with the question they were called for."""
    if not calls:
        return []
    return [Turn("assistant", "", tool_calls=tuple(calls), tool_results=tuple(results), id=turn_id)]


def _hear(turns: list[Turn], answer: AIMessage) -> None:
    """What an answer recorded of the question belongs to the question's turn."""
    facts = facts_of(answer)
    if not turns or turns[-1].role != "user":
        return
    turn = turns[-1]
    if turn.perceived is None:
        turn = replace(turn, perceived=perceived_in(facts))
    if facts.get("transcript") and turn.audio is not None and facts["transcript"] not in turn.text:
        text = "\n".join(filter(None, (facts["transcript"], turn.text)))
        turn = replace(turn, text=text, heard_text=text)
    turns[-1] = turn


def _read_media(
    message: BaseMessage, folder: str | Path | None
) -> tuple[Audio | MediaRef | None, tuple[Image | MediaRef, ...]]:
    sounds: list[Any] = []
    images: list[Any] = []
    for block in media_blocks(message):
        if block["type"] not in {"audio", "image"}:
            continue
        media = _reference(block) if "file_id" in block and folder is None else block_media(block, folder)
        (sounds if block["type"] == "audio" else images).append(media)
    if len(sounds) > 1 and all(isinstance(sound, Audio) for sound in sounds):
        sounds = [Audio.concat(sounds)]
    return (sounds[0] if sounds else None), tuple(images)


def _reference(block: dict[str, Any]) -> MediaRef:
    extras = block.get("extras", {})
    name = str(block["file_id"])
    uri = "" if name.startswith("sha256:") else name
    return MediaRef(uri, str(block.get("mime_type", "")), str(extras.get("sha256", "")), extras.get("duration_s"))
