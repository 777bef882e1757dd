"""From tokens to events, without torch: text of tokens, a style that is dictated, caches that are kept."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from typing import Any

from emova_sdk.components.emova.language.reply import ReplyParser
from emova_sdk.components.emova.language.reply_format import EMOTION, PITCH, SPEECH
from emova_sdk.types import LLMEvent, Style, TextDelta, Transcript

_UNIT = re.compile(r"<\|speech_(\d+)\|>")


def speech_tokens(tokenizer: Any) -> dict[int, int]:
    """Unit to token id. Looked up by name: the published tokenizers number the units in no order."""
    found = ((_UNIT.fullmatch(token), index) for token, index in tokenizer.get_vocab().items())
    return dict(sorted((int(match[1]), int(index)) for match, index in found if match))


class TextOfTokens:
    """Text of tokens as they come; a character is held back until its last byte is there.

    Args:
        tokenizer: of transformers.
        fixed: text of tokens that need no decoding, such as speech units.
    """

    def __init__(self, tokenizer: Any, fixed: dict[int, str]) -> None:
        self._tokenizer, self._fixed = tokenizer, fixed
        self._ids: list[int] = []
        self._told = 0

    def push(self, token: int) -> str:
        """The text that is certain with one more token."""
        if token in self._fixed:
            return self.finish() + self._fixed[token]
        self._ids.append(token)
        # Some tokenizers write a space before a token only when one precedes it, so the tokens told last are decoded again.
        before, now = self._decode(self._ids[: self._told]), self._decode(self._ids)
        if now.endswith("\ufffd") and len(self._ids) - self._told < 8:
            return ""
        self._ids = self._ids[self._told :]
        self._told = len(self._ids)
        return now[len(before) :]

    def finish(self) -> str:
        """What was held back."""
        before, now = self._decode(self._ids[: self._told]), self._decode(self._ids)
        self._ids, self._told = [], 0
        return now[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        if not ids:
            return ""
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class Dictation:
    """Writes a requested style into the reply: when its emotion is due, the tokens of emotion and pitch are given."""

    def __init__(self, tokenizer: Any, style: Style | None) -> None:
        self._tokenizer, self._style = tokenizer, style
        self._tail = ""
        self._waiting: deque[int] = deque()

    def heard(self, text: str) -> None:
        """Take what was written."""
        if self._style is None or not text:
            return
        cue = f'"{EMOTION}": "'
        self._tail = (self._tail + text)[-len(cue) :]
        if self._tail == cue:
            rest = f'{self._style.emotion}", "{PITCH}": "{self._style.pitch}", "{SPEECH}": "'
            self._waiting.extend(self._tokenizer(rest, add_special_tokens=False)["input_ids"])
            self._style = None

    def next(self) -> int | None:
        """The next token that is given, or None where the model chooses."""
        return self._waiting.popleft() if self._waiting else None


def as_transcript(parser: ReplyParser, writing: Iterator[str]) -> Generator[LLMEvent, None, None]:
    """One `Transcript` of all the text, then what else there is to tell."""
    events = [event for text in writing for event in parser.push(text)]
    events += parser.finish()
    yield Transcript("".join(event.text for event in events if isinstance(event, TextDelta)).strip())
    yield from (event for event in events if not isinstance(event, TextDelta))


class KeptCaches:
    """Caches of the last conversations, so that a turn reads only what is new.

    Args:
        most: conversations that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[list[Hashable], Any]] = []
        self._lock = threading.Lock()

    def take(self, keys: Sequence[Hashable], fresh: Callable[[], Any]) -> tuple[Any, int]:
        """The cache that shares the longest beginning with `keys`, and the length of that beginning.

        A cache that `keys` continue is handed over; of one that goes on differently, the shared beginning is copied, so that
        the other conversation keeps its own. The last key is never part of the beginning: something has to be read for a
        first token to follow from.

        Args:
            keys: what each position of the conversation is.
            fresh: called for an empty cache when none shares anything.
        """
        with self._lock:
            lengths = [_shared(keys[:-1], kept) for kept, _ in self._kept]
            best = max(range(len(lengths)), key=lengths.__getitem__, default=None)
            if best is None or lengths[best] == 0:
                return fresh(), 0
            kept, cache = self._kept[best]
            if lengths[best] == len(kept):
                del self._kept[best]
                return cache, lengths[best]
            return cache.copy(lengths[best]), lengths[best]

    def give(self, keys: Sequence[Hashable], cache: Any) -> None:
        """Keep a cache for later turns; the one unused longest is dropped."""
        if cache.length == 0 or self._most == 0:
            return
        with self._lock:
            self._kept.append((list(keys[: cache.length]), cache))
            del self._kept[: -self._most]

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._kept.clear()


def _shared(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))
