"""Parts of the decode loop that need no torch: detokenizer, sampler, forced prefix and prefix cache."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from emova_sdk.components.base import GenerationOptions
from emova_sdk.components.emova.language.reply_format import EMOTION, PITCH, SPEECH
from emova_sdk.types import LLMEvent, Style, TextDelta, Transcript

_UNIT = re.compile(r"<\|speech_(\d+)\|>")


def speech_tokens(tokenizer: Any) -> dict[int, int]:
    """Unit to token id. Looked up by name: the published tokenizers number the units in no order."""
    found = ((_UNIT.fullmatch(token), index) for token, index in tokenizer.get_vocab().items())
    return dict(sorted((int(match[1]), int(index)) for match, index in found if match))


class IncrementalDetokenizer:
    """Text of tokens as they come; a character is held back until its last byte is there.

    Args:
        tokenizer: of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._told = 0

    def push(self, token: int) -> str:
        """The text that is certain with one more token."""
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


class ForcedPrefix:
    """Writes a requested style into the reply: where its emotion is due, the tokens of emotion and pitch are forced."""

    def __init__(self, tokenizer: Any, style: Style) -> None:
        self._tokenizer = tokenizer
        self._style: Style | None = style
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
        """The next token that is forced, or None where the model chooses."""
        return self._waiting.popleft() if self._waiting else None


def as_transcript(events: Iterable[LLMEvent]) -> Generator[LLMEvent, None, None]:
    """Join all text into one `Transcript`, followed by the other events."""
    told = list(events)
    yield Transcript("".join(event.text for event in told if isinstance(event, TextDelta)).strip())
    yield from (event for event in told if not isinstance(event, TextDelta))


class Sampler:
    """Chooses tokens from logits of torch or NumPy.

    Args:
        options: Temperature, top-p and seed.
    """

    def __init__(self, options: GenerationOptions) -> None:
        self._temperature, self._top_p = options.temperature, options.top_p
        self._rng = np.random.default_rng(options.seed)

    def choose(self, logits: Any) -> int:
        """Index of the chosen token; logits (tokens,) of -inf are never chosen."""
        if self._temperature == 0:
            return int(logits.argmax())  # where the logits are: only the index leaves a GPU
        scaled = as_floats(logits).astype(np.float64) / self._temperature
        weights = np.exp(scaled - scaled.max())
        if self._top_p < 1:
            order = np.argsort(-weights, kind="stable")
            ordered = weights[order] / weights.sum()
            weights[order[ordered.cumsum() - ordered >= self._top_p]] = 0.0
        return int(self._rng.choice(len(weights), p=weights / weights.sum()))


class TokenChooser:
    """Chooses the tokens of one answer.

    Args:
        logits_of: The head: from the state of a position to the logits of all tokens, or of `ids`.
        sampler: Chooses among them.
        ids: The allowed tokens, followed by those that end an answer; None for all.
        stops: How many of `ids` end an answer.
    """

    def __init__(self, logits_of: Callable[[Any], Any], sampler: Sampler, ids: Sequence[int] | None, stops: int) -> None:
        self._logits_of, self._sampler, self._ids, self._stops = logits_of, sampler, ids, stops

    def choose(self, state: Any, *, first: bool) -> int:
        """Return the next token; the first one of restricted speech is not its end."""
        logits = self._logits_of(state)
        if self._ids is None:
            return self._sampler.choose(logits)
        return self._ids[self._sampler.choose(logits[: len(self._ids) - self._stops] if first else logits)]


def as_floats(array: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return an array of torch or NumPy as float32 of NumPy."""
    if hasattr(array, "detach"):
        array = array.detach().float().cpu().numpy()
    return np.asarray(array, np.float32)


class PrefixCache:
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
