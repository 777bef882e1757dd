"""Backend-independent half of EMOVA's language model: prompting, prefix caching and decoding. Does not import torch.

What computes is an `Engine`: `EmovaLLM` has one of torch, `exported_llm.ExportedLLM` one of exported graphs.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from emova_sdk.components.base import GenerationOptions, LLMCore, Space, Task
from emova_sdk.components.emova.language.generation import (
    ForcedPrefix,
    IncrementalDetokenizer,
    PrefixCache,
    Sampler,
    TokenChooser,
    as_floats,
    as_transcript,
    speech_tokens,
)
from emova_sdk.components.emova.language.prompts import CORRECTED, IMAGE_ID, PUBLISHED, Conversation, conversation, tokenize
from emova_sdk.components.emova.language.reply import Expected, ReplyParser
from emova_sdk.components.emova.language.templates import Template
from emova_sdk.components.emova.trials import llm_trials
from emova_sdk.components.trials import Trial
from emova_sdk.errors import ContextLengthError, InputError
from emova_sdk.types import Image, LLMEvent, Message, SpeechUnits, Style, ToolSpec, VisionFeatures

_DEFAULT = GenerationOptions()
_COMPARED = 24
"""Tokens after which the next one is compared with that of an export."""
_EXPECT: dict[Task, Expected] = {"transcribe": "text", "speak": "units"}


class Engine(Protocol):
    """Runs the layers. Embeddings, caches and states are its own affair; a cache has ``length`` and ``copy(length)``."""

    def new_cache(self) -> Any:
        """An empty cache."""
        ...

    def embed(self, ids: Sequence[int], features: Sequence[VisionFeatures]) -> Any:
        """Embeddings (ids, width): an id of `IMAGE_ID` takes the next row of the features."""
        ...

    def read(self, embeds: Any, cache: Any) -> Any:
        """Read embeddings; return the state from which the next token follows."""
        ...

    def head(self, ids: Sequence[int] | None) -> Callable[[Any], Any]:
        """What computes logits from a state: of these tokens, or of all, where the picture's own is never the likeliest."""
        ...


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model before its weights are.

    Attributes:
        tokenizer: A fast one of transformers, or a `TextTokenizer`.
        template: How conversations are written down.
        stops: Ids that end an answer.
        longest: Most tokens of a conversation.
        unit_space: Name of the units' space.
        vision: Space of the picture features it reads, or None.
    """

    tokenizer: Any
    template: Template
    stops: tuple[int, ...]
    longest: int
    unit_space: str
    vision: Space | None


@dataclass(frozen=True)
class _Prompt:
    """A conversation as the model reads it: what each position is, and the features of its pictures."""

    keys: list[Hashable]
    features: list[VisionFeatures]


class EmovaLLMBase(LLMCore):
    """EMOVA's language model without what runs its layers.

    Args:
        info: What is known of the model.
        wording: Task strings: as the checkpoints were trained, or with their misspellings corrected.
        history: How earlier spoken turns are written, see `prompts.conversation`.
        kept_conversations: Conversations whose keys and values are kept.
    """

    tools = False

    def __init__(
        self,
        info: ModelInfo,
        *,
        wording: Literal["published", "corrected"],
        history: Literal["text", "full"],
        kept_conversations: int,
    ) -> None:
        self._info = info
        self._units = speech_tokens(info.tokenizer)
        self._unit_of = {token: unit for unit, token in self._units.items()}
        self.units = Space(info.unit_space, len(self._units)) if self._units else None
        self.vision = info.vision
        self._wording = PUBLISHED if wording == "published" else CORRECTED
        self._history: Literal["text", "full"] = history
        self._caches = PrefixCache(kept_conversations)
        self._digests: WeakKeyDictionary[VisionFeatures, bytes] = WeakKeyDictionary()

    @abstractmethod
    def _loaded(self) -> Engine:
        """The engine, brought into memory where it is not there yet."""

    def trials(self) -> list[Trial]:
        """The likeliest next tokens of a given text, and a short answer."""
        return llm_trials(self.units)

    def next_tokens(self, messages: Sequence[Message]) -> list[int]:
        """The likeliest token after each of the last tokens of a conversation, whatever was said before."""
        ids, engine = self._prompt_ids(messages), self._loaded()
        cache, chooser = engine.new_cache(), self._chooser(engine, "text", _DEFAULT)
        head, tail = ids[:-_COMPARED], ids[-_COMPARED:]
        if head:
            engine.read(engine.embed(head, []), cache)
        return [chooser.choose(engine.read(engine.embed([one], []), cache), first=False) for one in tail]

    def _look(self, image: Image) -> VisionFeatures:  # noqa: ARG002 - the signature of those that do look
        """Features of a picture that is given as pixels."""
        raise InputError("a picture is given as pixels", "fill the vision_encoder slot, or set `sees_images = true`")

    def generate(
        self,
        messages: Sequence[Message],
        *,
        task: Task = "chat",
        style: Style | None = None,
        tools: Sequence[ToolSpec] = (),  # noqa: ARG002 - `tools` is False: none are called
        options: GenerationOptions = _DEFAULT,
    ) -> Generator[LLMEvent, None, None]:
        """Answer the last message, as events while they are written; see `LLMCore.generate`.

        Raises:
            InputError: If the messages hold what this model cannot read, or are too long for it.
            LoadError: See `load`.
        """
        spoken = self._check(messages)
        talk = conversation(messages, task=task, wording=self._wording, history=self._history)
        prompt = self._prompt(talk)
        expect: Expected = _EXPECT.get(task) or ("dialogue" if spoken else "text")
        speaker = (style or Style()).speaker
        parser = ReplyParser(expect=expect, speaker=speaker, units=self.units.size if self.units else 0)
        events = self._events(parser, self._write(prompt, expect, style, options))
        with closing(events):
            yield from as_transcript(events) if task == "transcribe" else events

    # --- what is read

    def _check(self, messages: Sequence[Message]) -> bool:
        """Refuse what cannot be read; return whether the last message has speech."""
        for message in messages:
            for part in message.parts:
                if isinstance(part, SpeechUnits) and (self.units is None or int(part.ids.max(initial=0)) >= self.units.size):
                    raise InputError(f"the units are not of {self.units}", "use the speech tokenizer of the same family")
                if isinstance(part, VisionFeatures) and (self.vision is None or part.embeddings.shape[1] != self.vision.size):
                    columns = part.embeddings.shape[1]
                    what = f"vision features of {columns} columns are not of {self.vision}"
                    raise InputError(what, "use the vision encoder of the same checkpoint")
        return bool(messages) and any(isinstance(part, SpeechUnits) for part in messages[-1].parts)

    def _prompt(self, talk: Conversation) -> _Prompt:
        features = [self._look(one) if isinstance(one, Image) else one for one in talk.images]
        ids = tokenize(talk.render(self._info.template), self._info.tokenizer, image_id=IMAGE_ID).ids
        keys: list[Hashable] = []
        waiting = iter(features)
        for token in ids:
            if token == IMAGE_ID:
                picture = next(waiting)
                digest = self._digest(picture)
                keys += [(digest, row) for row in range(len(picture))]
            else:
                keys.append(token)
        if len(keys) >= self._info.longest:
            message = f"the conversation has {len(keys)} tokens, and the model reads {self._info.longest}"
            hint = "leave out the oldest messages, or shorten what is asked"
            raise ContextLengthError(message, hint, tokens=len(keys), limit=self._info.longest)
        return _Prompt(keys, features)

    def _prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation without pictures."""
        talk = conversation(messages, wording=self._wording, history=self._history)
        return [key for key in self._prompt(talk).keys if isinstance(key, int)]

    def _digest(self, features: VisionFeatures) -> bytes:
        """What tells two pictures apart in a kept conversation."""
        known = self._digests.get(features)
        if known is None:
            array = np.ascontiguousarray(as_floats(features.embeddings))
            known = hashlib.blake2b(array.tobytes(), digest_size=16).digest()
            self._digests[features] = known
        return known

    # --- what is written

    @staticmethod
    def _events(parser: ReplyParser, writing: Generator[str | int, None, None]) -> Generator[LLMEvent, None, None]:
        with closing(writing):
            for piece in writing:
                yield from parser.push(piece) if isinstance(piece, str) else parser.push_units([piece])
        yield from parser.finish()

    def _write(
        self, prompt: _Prompt, expect: Expected, style: Style | None, options: GenerationOptions
    ) -> Generator[str | int, None, None]:
        """Text and units as they are written, token by token."""
        engine = self._loaded()
        keys = list(prompt.keys)
        cache, known = self._caches.take(keys, engine.new_cache)
        text = IncrementalDetokenizer(self._info.tokenizer)
        prefix = ForcedPrefix(self._info.tokenizer, style) if style and expect == "dialogue" else None
        chooser = self._chooser(engine, expect, options)
        try:
            embeds = _unread(engine, prompt, known)
            for token in self._tokens(engine, embeds, cache, keys, prefix, chooser, options.max_tokens):
                unit = self._unit_of.get(token)
                piece = text.push(token) if unit is None else text.finish()
                if prefix:
                    prefix.heard(piece)
                if piece:
                    yield piece
                if unit is not None:
                    yield unit
            if rest := text.finish():
                yield rest
        finally:
            self._caches.give(keys, cache)

    def _chooser(self, engine: Engine, expect: Expected, options: GenerationOptions) -> TokenChooser:
        stops = self._info.stops
        ids = [*self._unit_of, *stops] if expect == "units" else None
        return TokenChooser(engine.head(ids), Sampler(options), ids, len(stops))

    def _tokens(  # noqa: PLR0917 - the state of one answer
        self,
        engine: Engine,
        embeds: Any,
        cache: Any,
        keys: list[Hashable],
        prefix: ForcedPrefix | None,
        chooser: TokenChooser,
        most: int,
    ) -> Iterator[int]:
        """Tokens of the answer without the one that ends it; `keys` grows with what was read."""
        for written in range(min(most, self._info.longest - len(keys))):
            state = engine.read(embeds, cache)
            forced = prefix.next() if prefix else None
            token = chooser.choose(state, first=written == 0) if forced is None else forced
            if token in self._info.stops:
                return
            yield token
            keys.append(token)
            embeds = engine.embed([token], [])


def _unread(engine: Engine, prompt: _Prompt, start: int) -> Any:
    """Embeddings of a prompt from position `start` on."""
    ids = [key if isinstance(key, int) else IMAGE_ID for key in prompt.keys]
    skipped = sum(one == IMAGE_ID for one in ids[:start])
    features: list[VisionFeatures] = []
    for picture in prompt.features:
        rows = len(picture) - skipped
        if rows > 0:
            features.append(picture if skipped <= 0 else VisionFeatures(picture.embeddings[-rows:], picture.grid))
        skipped = max(0, -rows)
    return engine.embed(ids[start:], features)
