"""LangChain's messages and content blocks, and EMOVA's: both directions, with nothing of a turn's style lost.

Style travels in two places. Each audio block carries the style it is spoken in as ``extras`` (``emotion``, ``pitch``,
``speed``, ``speaker``); the message carries the turn's facts once, in ``response_metadata["emova"]``.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.content import ContentBlock, create_audio_block, create_image_block

from emova_sdk.audio import encode_pcm16
from emova_sdk.errors import InputError
from emova_sdk.types import Audio, Image, Message, PerceivedStyle, Style, ToolCall, ToolResult

__all__ = ["audio_block", "audio_of", "block_media", "image_block", "messages_for", "style_of", "user_style_of"]

KEY = "emova"
"""Where a message's ``response_metadata`` holds the facts of its turn."""

_MIME_WAV = "audio/wav"


def audio_block(audio: Audio, style: Style | None = None, *, index: int | None = None, **facts: Any) -> ContentBlock:
    """Make an audio block: WAV in base64, the style and other facts in ``extras``.

    Args:
        audio: The sound; 16 bits where they hold it without loss, 32-bit floats otherwise.
        style: How it is spoken.
        index: Place in a stream; no two blocks of a stream may share it.
        facts: Further ``extras``.
    """
    extras: dict[str, Any] = {**(style.to_dict() if style else {}), "duration_s": audio.duration_s, **facts}
    if index is not None:
        extras["index"] = index
    return create_audio_block(base64=base64.b64encode(wav(audio)).decode(), mime_type=_MIME_WAV, **extras)


def image_block(image: Image) -> ContentBlock:
    """Make an image block: PNG in base64."""
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray(image.pixels).save(file, format="PNG")
    return create_image_block(base64=base64.b64encode(file.getvalue()).decode(), mime_type="image/png")


def wav(audio: Audio) -> bytes:
    """Return the bytes of a WAV file, without loss."""
    import soundfile as sf

    pcm = encode_pcm16(audio.samples)
    exact = Audio.from_pcm16(pcm, audio.sample_rate) == audio
    file = io.BytesIO()
    sf.write(file, pcm if exact else audio.samples, audio.sample_rate, format="WAV", subtype="PCM_16" if exact else "FLOAT")
    return file.getvalue()


def audio_of(message: BaseMessage, *, media_folder: str | Path | None = None) -> Audio | None:
    """Return the sound of a message: its audio blocks, joined; None without any.

    Raises:
        InputError: If a block holds no readable sound.
    """
    sounds = [block_media(block, media_folder) for block in message.content_blocks if block["type"] == "audio"]
    return Audio.concat(cast("list[Audio]", sounds)) if sounds else None


def style_of(message: BaseMessage) -> Style | None:
    """Return the style an answer was spoken in, or None."""
    found = message.response_metadata.get(KEY, {}).get("style")
    return Style.from_dict(found) if found else None


def user_style_of(message: BaseMessage) -> PerceivedStyle | None:
    """Return how the user spoke, as recorded with the answer (or with the user's message), or None."""
    found = message.response_metadata.get(KEY, {}).get("user_style")
    return PerceivedStyle.from_dict(found) if found else None


# --- what blocks hold ---


def block_media(block: Mapping[str, Any], media_folder: str | Path | None = None) -> Audio | Image:
    """Read the sound or picture of an ``audio`` or ``image`` block.

    Args:
        block: With ``base64``, a ``data:`` URL, or a ``file_id``.
        media_folder: Where files named by ``file_id`` are; nothing outside it is read.

    Raises:
        InputError: If there is nothing to read, or it is not what it says. Other URLs are never fetched.
    """
    kind, data = str(block["type"]), _block_bytes(block, media_folder)
    if kind == "image":
        return Image.open(data)
    mime = str(block.get("mime_type") or _MIME_WAV).lower()
    if mime.startswith(("audio/pcm", "audio/l16")):
        return Audio.from_pcm16(data, _pcm_rate(mime, block))
    return Audio.open(data)


def _block_bytes(block: Mapping[str, Any], media_folder: str | Path | None) -> bytes:
    encoded, url = block.get("base64"), str(block.get("url") or "")
    if encoded is None and url.startswith("data:"):
        encoded = url.partition(",")[2]
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise InputError(f"the {block['type']} block does not hold base64: {error}", "encode the file's bytes") from error
    if "file_id" in block:
        return stored_file(str(block["file_id"]), media_folder).read_bytes()
    what = f"the {block['type']} block names `{url[:60]}`" if url else f"the {block['type']} block is empty"
    raise InputError(f"{what}, and URLs are not fetched", "download it and pass `base64` with `mime_type`")


def stored_file(file_id: str, media_folder: str | Path | None) -> Path:
    """Return the path of a file in the media folder.

    Raises:
        InputError: If there is no folder, or no such file in it.
    """
    if media_folder is None:
        raise InputError(f"`{file_id}` is kept in a media folder, and none is known", "pass `media_folder`")
    folder = Path(media_folder).resolve()
    path = (folder / file_id).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise InputError(f"`{file_id}` is not a file in `{media_folder}`", "check the name and the folder")
    return path


def _pcm_rate(mime: str, block: Mapping[str, Any]) -> int:
    """Take the rate from ``audio/pcm;rate=16000`` or the extras; 24 kHz is the convention."""
    rate = next((part.partition("=")[2] for part in mime.split(";") if part.strip().startswith("rate=")), None)
    return int(rate or block.get("extras", {}).get("sample_rate", 24_000))


# --- what a language core reads ---


class Heard(dict[int, tuple[str, PerceivedStyle | None]]):
    """Transcript and style of earlier user messages by position, as the answers to them recorded."""

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> Heard:
        """Collect what was recorded."""
        heard, question = cls(), -1
        for position, message in enumerate(messages):
            question = position if isinstance(message, HumanMessage) else question
            recorded = message.response_metadata.get(KEY, {})
            if question >= 0 and recorded.get("transcript"):
                style = recorded.get("user_style")
                heard[question] = (recorded["transcript"], PerceivedStyle.from_dict(style) if style else None)
        return heard


Hearing = Callable[[Sequence[str | Audio | Image], PerceivedStyle | None], Message]
"""Makes the message of what a user said, typed and showed, and how it is known to have sounded."""


def messages_for(messages: Sequence[BaseMessage], hearing: Hearing, *, media_folder: str | Path | None = None) -> list[Message]:
    """Turn LangChain's messages into those a language core reads.

    Args:
        messages: The conversation.
        hearing: Called for each user's message. Sound whose words are known from an earlier answer is not passed to it: the
            words are.
        media_folder: Where files named by ``file_id`` are.

    Raises:
        InputError: If a message or block is of a kind that cannot be read.
    """
    heard, found = Heard.of(messages), list[Message]()
    for position, message in enumerate(messages):
        if isinstance(message, SystemMessage):
            found.append(Message("system", (message.text,)))
        elif isinstance(message, HumanMessage):
            found.append(_user_message(message, heard.get(position), hearing, media_folder))
        elif isinstance(message, AIMessage):
            found.append(_assistant_message(message))
        elif isinstance(message, ToolMessage):
            result = ToolResult(message.tool_call_id, message.name or "tool", message.text, failed=message.status == "error")
            found.append(Message("tool", (result,)))
        else:
            raise InputError(f"a message of type `{message.type}` cannot be read", "use system, human, AI and tool messages")
    return found


def _user_message(
    message: HumanMessage,
    known: tuple[str, PerceivedStyle | None] | None,
    hearing: Hearing,
    media_folder: str | Path | None,
) -> Message:
    parts: list[str | Audio | Image] = [known[0]] if known else []
    for block in message.content_blocks:
        if block["type"] in {"text", "text-plain"}:
            parts.append(str(block.get("text", "")))
        elif block["type"] not in {"audio", "image"}:
            raise InputError(f"a block of type `{block['type']}` cannot be read", "use text, image and audio blocks")
        elif not (known and block["type"] == "audio"):
            parts.append(block_media(block, media_folder))
    return hearing(parts, known[1] if known else None)


def _assistant_message(message: AIMessage) -> Message:
    recorded = message.response_metadata.get(KEY, {})
    text = recorded.get("heard_text") or message.text
    calls = tuple(ToolCall(call["id"] or "", call["name"], call["args"]) for call in message.tool_calls)
    style = recorded.get("requested_style")
    parts = ((text,) if text else ()) + calls
    interrupted = bool(recorded.get("interrupted"))
    return Message("assistant", parts, style=Style.from_dict(style) if style else None, interrupted=interrupted)
