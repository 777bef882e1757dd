"""LangChain's messages and content blocks, and EMOVA's: both directions, with nothing of a turn's style lost.

Style travels in two places. Each audio block carries the style it is spoken in as ``extras`` (``emotion``, ``pitch``,
``speed``, ``speaker``); the message carries the turn's facts once, in ``response_metadata["emova"]``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.content import ContentBlock, create_audio_block, create_image_block

from emova_sdk.audio import encode_pcm16
from emova_sdk.errors import InputError
from emova_sdk.turn_builder import NOT_RUN
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


def transcript_block(text: str) -> dict[str, Any]:
    """Make a text block of what is said in the audio block beside it, for whoever shows messages and plays none."""
    return {"type": "text", "text": text, "extras": {"transcript": True}}


def is_transcript(block: Mapping[str, Any]) -> bool:
    """Whether a block is of `transcript_block`, and no text of its own."""
    return block.get("type") == "text" and bool((block.get("extras") or {}).get("transcript"))


def typed_text(message: BaseMessage) -> str:
    """Return the text of a message, transcripts left out."""
    blocks = [block for block in message.content_blocks if block["type"] == "text"]
    return "".join(str(block.get("text", "")) for block in blocks if not is_transcript(block))


def with_transcripts(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Put beside the sound of each question what was heard in it, where an answer or the question itself has recorded that."""
    heard = HeardMessages.of(messages)
    return [_with_transcript(message, *heard[at][:1]) if at in heard else message for at, message in enumerate(messages)]


def _with_transcript(message: BaseMessage, text: str) -> BaseMessage:
    blocks = media_blocks(message)
    if isinstance(message.content, str) or any(map(is_transcript, blocks)):
        return message
    if not any(block["type"] == "audio" for block in blocks):
        return message
    return message.model_copy(update={"content": [transcript_block(text), *message.content]})


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
    sounds = [block_media(block, media_folder) for block in media_blocks(message) if block["type"] == "audio"]
    return Audio.concat(cast("list[Audio]", sounds)) if sounds else None


def facts_of(message: BaseMessage) -> dict[str, Any]:
    """Return what an answer, or a question of a history, has recorded of its turn."""
    found = message.response_metadata.get(KEY)
    return dict(cast("Mapping[str, Any]", found)) if isinstance(found, Mapping) else {}


def perceived_in(facts: Mapping[str, Any]) -> PerceivedStyle | None:
    """Return how the user spoke, if that was recorded.

    Raises:
        InputError: If the record is damaged.
    """
    found = facts.get("user_style")
    try:
        return PerceivedStyle.from_dict(found) if found else None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "a message's record of how the user spoke is damaged", 'leave `["emova"]["user_style"]` as it was'
        ) from error


def style_of(message: BaseMessage) -> Style | None:
    """Return the style an answer was spoken in, or None."""
    found = facts_of(message).get("style")
    return Style.from_dict(found) if found else None


def user_style_of(message: BaseMessage) -> PerceivedStyle | None:
    """Return how the user spoke, as recorded with the answer (or with the user's message), or None."""
    return perceived_in(facts_of(message))


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
    file = _file_of(block) if "file_id" in block or media_folder is not None else None
    if file is not None:
        try:
            return stored_file(file, media_folder).read_bytes()
        except OSError as error:
            raise InputError(f"`{file}` cannot be read: {error.strerror}", "check the file and its rights") from error
    what = f"the {block['type']} block names `{url[:60]}`" if url else f"the {block['type']} block is empty"
    raise InputError(f"{what}, and URLs are not fetched", "download it and pass `base64` with `mime_type`")


def _file_of(block: Mapping[str, Any]) -> str | None:
    """Return the name of the file a block refers to: its ``file_id``, or a ``file:`` URL."""
    url = str(block.get("url") or "")
    if url.startswith("file:"):
        return url2pathname(urlsplit(url).path)
    return str(block["file_id"]) if "file_id" in block else None


def stored_file(file_id: str, media_folder: str | Path | None) -> Path:
    """Return the path of a file in the media folder.

    Raises:
        InputError: If there is no folder, or no such file in it.
    """
    if media_folder is None:
        raise InputError(f"`{file_id}` is kept in a media folder, and none is known", "pass `media_folder`")
    try:
        folder = Path(media_folder).resolve()
        path = (folder / file_id).resolve()
        inside = path.is_relative_to(folder) and path.is_file()
    except (OSError, ValueError):  # a name no file can have
        inside, path = False, Path()
    if not inside:
        raise InputError(f"`{file_id}` is not a file in `{media_folder}`", "check the name and the folder")
    return path


def _pcm_rate(mime: str, block: Mapping[str, Any]) -> int:
    """Take the rate from ``audio/pcm;rate=16000`` or the extras; 24 kHz is the convention."""
    told = next((part.partition("=")[2] for part in mime.split(";") if part.strip().startswith("rate=")), None)
    rate = told or (block.get("extras") or {}).get("sample_rate", 24_000)
    try:
        return int(rate)
    except (TypeError, ValueError) as error:
        raise InputError(f"`{rate}` is no sample rate", "write it as `audio/pcm;rate=16000`") from error


def media_blocks(message: BaseMessage) -> list[dict[str, Any]]:
    """Return the content of a message as standard blocks, whatever form sounds and pictures are written in."""
    try:
        blocks = message.content_blocks
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"a message holds a malformed block: {error}", "write it as a standard content block") from error
    return [_standard(dict(cast("Mapping[str, Any]", block))) for block in blocks]


def _standard(block: dict[str, Any]) -> dict[str, Any]:
    """Read the forms that LangChain itself leaves as they are."""
    told = block.get("value") if block["type"] == "non_standard" else block
    if not isinstance(told, Mapping):
        return block
    inner = dict(cast("Mapping[str, Any]", told))
    kind = str(inner.get("type"))
    mime = str(inner.get("mime_type") or inner.get("mimeType") or "")
    if kind == "input_text":
        return {"type": "text", "text": inner.get("text", "")}
    if kind in {"image_url", "input_image"}:
        url = inner.get("image_url")
        return {"type": "image", "url": url.get("url") if isinstance(url, Mapping) else url}
    if kind in {"media", "file"}:
        kind = mime.partition("/")[0]
    if kind not in {"audio", "image"}:
        return block
    given = {key: value for key, value in inner.items() if key not in {"type", "data", "mimeType"}}
    data = {"base64": inner["data"]} if "base64" not in inner and "data" in inner else {}
    return {**given, **data, "type": kind, "mime_type": mime or None}


def with_digests(messages: Sequence[BaseMessage], media_folder: str | Path | None) -> list[BaseMessage]:
    """Put beside the name of each file in ``media_folder`` what it holds, so that messages compare by that."""
    return [_with_digests(message, media_folder) for message in messages]


def _with_digests(message: BaseMessage, media_folder: str | Path | None) -> BaseMessage:
    if media_folder is None or isinstance(message.content, str) or isinstance(message, AIMessage):
        return message  # what an assistant said is read as text
    content = [_with_digest(block, media_folder) for block in message.content]
    return message.model_copy(update={"content": content})


def _with_digest(block: Any, media_folder: str | Path) -> Any:
    name = _file_of(block) if isinstance(block, Mapping) and "base64" not in block else None
    if name is None:
        return block
    try:
        digest = hashlib.sha256(stored_file(name, media_folder).read_bytes()).hexdigest()
    except (InputError, OSError):
        return block  # said where it is read, if it is
    return {**block, "extras": {**(block.get("extras") or {}), "file_sha256": digest}}


# --- what a language core reads ---


class HeardMessages(dict[int, tuple[str, PerceivedStyle | None]]):
    """Transcript and style of earlier user messages by position, as the answers to them recorded."""

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> HeardMessages:
        """Collect what was recorded."""
        heard, question = cls(), -1
        for position, message in enumerate(messages):
            question = position if isinstance(message, HumanMessage) else question
            recorded = facts_of(message)
            if question >= 0 and recorded.get("transcript"):
                heard[question] = (str(recorded["transcript"]), perceived_in(recorded))
            elif position == question and not isinstance(message.content, str):
                told = [str(block.get("text", "")) for block in message.content_blocks if is_transcript(block)]
                heard |= {position: ("\n".join(told), None)} if told else {}
        return heard


class Encoding(Protocol):
    """Makes the message of what a user said, typed and showed, or of what a tool brought."""

    def __call__(self, parts: Sequence[str | Audio | Image], known: PerceivedStyle | None, *, by_user: bool) -> Message:
        """Encode the parts; ``known`` is how the user is known to have sounded."""
        ...


def messages_for(
    messages: Sequence[BaseMessage], encoding: Encoding, *, media_folder: str | Path | None = None
) -> list[Message]:
    """Turn LangChain's messages into those a language core reads.

    A tool's result is text to every language core. Sounds and pictures of tools are shown in a message of their own, after
    the results of all tools, since no other message may come between these.

    Args:
        messages: The conversation.
        encoding: Called for each message with sounds, pictures or a user's words. Sound whose words are known from an
            earlier answer is not passed to it: the words are.
        media_folder: Where files named by ``file_id`` are.

    Raises:
        InputError: If a message or block is of a kind that cannot be read.
    """
    heard, found, shown = HeardMessages.of(messages), list[Message](), list[str | Audio | Image]()
    for position, message in enumerate(messages):
        if shown and not isinstance(message, ToolMessage):
            found.append(encoding(shown, None, by_user=False))
            shown = []
        if isinstance(message, SystemMessage):
            found.append(Message("system", (message.text,)))
        elif isinstance(message, HumanMessage):
            known = heard.get(position)
            parts = ((known[0],) if known else ()) + _parts_of(message, media_folder, spoken=not known)
            found.append(encoding(parts, known[1] if known else None, by_user=True))
        elif isinstance(message, AIMessage):
            answer = _assistant_message(message)
            found += [answer] if answer.parts or not answer.interrupted else []  # of one nobody heard, nothing is told
        elif isinstance(message, ToolMessage):
            brought = [part for part in _parts_of(message, media_folder) if not isinstance(part, str)]
            shown += [f"From the tool `{message.name or 'tool'}`:", *brought] if brought else []
            text = message.text or ("see what is shown after the results" if brought else "")
            result = ToolResult(message.tool_call_id, message.name or "tool", text, failed=message.status == "error")
            found.append(Message("tool", (result,)))
        else:
            raise InputError(f"a message of type `{message.type}` cannot be read", "use system, human, AI and tool messages")
    return [*found, encoding(shown, None, by_user=False)] if shown else found


def as_endpoints_read_it(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Let each tool call be followed by its one result, and no message be empty: OpenAI-compatible endpoints refuse the rest.

    A result that comes later is moved, one that is missing is told as not run; one of no call is left out, and so is what is
    blank.

    Raises:
        InputError: If nothing is left, or the last message is a blank one of the user.
    """
    found: list[BaseMessage] = []
    taken: set[int] = set()
    for place, message in enumerate(messages):
        if isinstance(message, ToolMessage) or _is_blank(message):
            continue
        found.append(message)
        for call in message.tool_calls if isinstance(message, AIMessage) else ():
            at = _place_of_result(call["id"], messages, place, taken)
            taken |= {at} if at is not None else set()
            not_run = ToolMessage(NOT_RUN, tool_call_id=call["id"] or "", name=call["name"], status="error")
            found.append(not_run if at is None else messages[at])
    if not found or (isinstance(messages[-1], HumanMessage) and _is_blank(messages[-1])):
        raise InputError("there is nothing to answer", "let the last message hold text, sound or a picture")
    return found


def _is_blank(message: BaseMessage) -> bool:
    """Whether a message tells a language core nothing."""
    if isinstance(message, AIMessage):
        return not (message.tool_calls or message.text.strip())
    if isinstance(message.content, str):
        return not message.content.strip()
    blocks = media_blocks(message)
    return not any(block["type"] not in {"text", "text-plain"} or str(block.get("text", "")).strip() for block in blocks)


def _place_of_result(call_id: str | None, messages: Sequence[BaseMessage], place: int, taken: set[int]) -> int | None:
    for at, message in enumerate(messages[place + 1 :], start=place + 1):
        if isinstance(message, ToolMessage) and at not in taken and message.tool_call_id == (call_id or ""):
            return at
        if isinstance(message, AIMessage) and any(call["id"] == call_id for call in message.tool_calls):
            return None  # some servers count calls anew in each answer
    return None


def _parts_of(message: BaseMessage, media_folder: str | Path | None, *, spoken: bool = True) -> tuple[str | Audio | Image, ...]:
    """Return what a message holds; its sound only if ``spoken``."""
    parts: list[str | Audio | Image] = []
    for block in media_blocks(message):
        if is_transcript(block):
            continue  # known from `HeardMessages`
        if block["type"] in {"text", "text-plain"}:
            parts.append(str(block.get("text", "")))
        elif block["type"] not in {"audio", "image"}:
            raise InputError(f"a block of type `{block['type']}` cannot be read", "use text, image and audio blocks")
        elif spoken or block["type"] != "audio":
            parts.append(block_media(block, media_folder))
    return tuple(parts)


def _assistant_message(message: AIMessage) -> Message:
    recorded = facts_of(message)
    heard = recorded.get("heard_text")
    text = message.text if heard is None else heard
    calls = tuple(ToolCall(call["id"] or "", call["name"], call["args"]) for call in message.tool_calls)
    style = recorded.get("requested_style")
    parts = ((text,) if text else ()) + calls
    interrupted = bool(recorded.get("interrupted"))
    return Message("assistant", parts, style=Style.from_dict(style) if style else None, interrupted=interrupted)
