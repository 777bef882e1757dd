"""Counts the tokens of messages without a tokenizer: words, speech units and rows of vision features."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable, Sequence

from emova_sdk.pipeline import Pipeline
from emova_sdk.types import Audio, Image, Message, Part, SpeechUnits, ToolCall, ToolResult, ToolSpec, VisionFeatures

_IDEOGRAPH = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
# writing without spaces has no words to count, and a long run of letters is no single token
_WORDS = re.compile(rf"[{_IDEOGRAPH}]|(?:(?![{_IDEOGRAPH}])\w){{1,12}}|[^\w\s]")
_UNIT_RATE = 25.0
"""Units per second of sound, where no speech tokenizer tells."""
_PATCH = 32
"""Pixels on a side for one token, where the language model reads pictures itself."""
_MOST_PATCHES = 1024


def words_in(text: str) -> int:
    """Count words, ideographs and punctuation marks; words of over 12 letters count once for each 12."""
    return len(_WORDS.findall(text))


def word_ids(text: str) -> list[int]:
    """Return a number for each of the `words_in` a text; equal words have equal numbers, which mean nothing else."""
    return [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in _WORDS.findall(text)]


def call_tokens(call: ToolCall) -> int:
    """Count the name and the arguments of a tool call."""
    return words_in(f"{call.name} {_json(dict(call.arguments))}")


class TokenCounter:
    """Counts what a language core reads; nothing is downloaded, and sound is not encoded.

    Args:
        pipeline: Tells how many units a second of sound has, and how many rows a picture.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._rows: dict[tuple[int, int], int] = {}

    def count(self, messages: Iterable[Message], tools: Sequence[ToolSpec] = ()) -> int:
        """Count messages, each with one more for its role, and the descriptions of tools."""
        described = sum(words_in(f"{tool.name} {tool.description} {_json(dict(tool.parameters))}") for tool in tools)
        return described + sum(1 + sum(self._part(part) for part in message.parts) for message in messages)

    def _part(self, part: Part) -> int:
        match part:
            case str():
                return words_in(part)
            case SpeechUnits() | VisionFeatures():
                return len(part)
            case Audio():
                tokenizer = self._pipeline.speech_tokenizer
                return math.ceil(part.duration_s * (tokenizer.unit_rate if tokenizer is not None else _UNIT_RATE) - 1e-6)
            case Image():
                return self._picture(part)
            case ToolCall():
                return call_tokens(part)
            case ToolResult():
                return words_in(part.content)

    def _picture(self, image: Image) -> int:
        size = image.size
        encoder, llm = self._pipeline.vision_encoder, self._pipeline.llm_core
        if encoder is None or (llm is not None and llm.sees_images):
            return min(_MOST_PATCHES, math.ceil(size[0] / _PATCH) * math.ceil(size[1] / _PATCH))
        if size not in self._rows:  # pictures of one size have equally many rows
            self._rows[size] = len(encoder.encode([image])[0])
        return self._rows[size]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
