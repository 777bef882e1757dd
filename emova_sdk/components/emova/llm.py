"""EMOVA's language model as a component: conversations in, events out while it writes."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque
from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.nn import functional

from emova_sdk.components.base import GenerationOptions, LLMCore, Space, Task
from emova_sdk.components.emova.checkpoints import Checkpoint, find_checkpoint, load_model, pick_dtype, quantisation
from emova_sdk.components.emova.decoding import Decoder, KeptCaches, Sampler, TextOfTokens, decoder_for
from emova_sdk.components.emova.prompts import (
    CORRECTED,
    IMAGE_ID,
    PUBLISHED,
    Conversation,
    Template,
    conversation,
    template,
    tokenize,
)
from emova_sdk.components.emova.reply import EMOTION, PITCH, SPEECH, Expected, ReplyParser
from emova_sdk.components.emova.speech_tokenizer import pick_device
from emova_sdk.components.emova.vision import EmovaVision, image_space
from emova_sdk.errors import InputError, LoadError
from emova_sdk.types import (
    Image,
    LLMEvent,
    Message,
    SpeechUnits,
    Style,
    TextDelta,
    ToolSpec,
    Transcript,
    VisionFeatures,
)

__all__ = ["EmovaLLM", "speech_tokens"]

_UNIT = re.compile(r"<\|speech_(\d+)\|>")
_DEFAULT = GenerationOptions()


@dataclass(frozen=True)
class _Prompt:
    """A conversation as the model reads it: what each position is, and the features of its pictures."""

    keys: list[Hashable]
    features: list[VisionFeatures]


@dataclass(frozen=True)
class _Engine:
    """What `load` brings into memory."""

    model: Any
    decoder: Decoder
    device: torch.device


def speech_tokens(tokenizer: Any) -> dict[int, int]:
    """Unit to token id. Looked up by name: the published tokenizers number the units in no order."""
    found = ((_UNIT.fullmatch(token), index) for token, index in tokenizer.get_vocab().items())
    return dict(sorted((int(match[1]), int(index)) for match, index in found if match))


class EmovaLLM(LLMCore):
    """EMOVA's language model, from a checkpoint in origin or HF layout.

    A spoken question is answered with its transcript, the user's style, text, a style and units; a typed one with text. The
    keys and values of the last conversations are kept, so that a turn reads only what is new; pictures are read as
    features of the vision encoder. When a style is asked for, its emotion and pitch are written into the reply at their
    place, and the units follow from them.

    Args:
        model: A checkpoint's folder, or a hub id.
        revision: Commit, tag or branch of a hub id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        dtype: Type of the weights; ``auto`` is that of the files.
        device_map: Spreads a large model over devices, as in transformers (``auto``, ``balanced``, ...); needs `accelerate`.
        quantization: ``int8`` or ``int4`` weights through `bitsandbytes` (GPU).
        template: Conversation template; ``auto`` is the one of the checkpoint's family.
        wording: Task strings: as the checkpoints were trained, or with their misspellings corrected.
        history: How earlier spoken turns are written: ``text`` as what was said, ``full`` as they were asked and answered,
            which lets the whole conversation's cache be used again.
        unit_space: Name of the units' space.
        compiled: Compile what reads a token with `torch.compile`, and record it as CUDA graphs on a GPU. The first
            answer waits for the compiler; what the fast decoder does not know is not compiled.
        sees_images: Load the vision tower too and read `Image` parts itself, without a vision encoder.
        kept_conversations: Conversations whose keys and values are kept.

    Raises:
        LoadError: If the checkpoint is not there or its configuration or tokenizer is broken.
    """

    tools = False

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        device_map: str | None = None,
        quantization: Literal["int8", "int4"] | None = None,
        template: str = "auto",
        wording: Literal["published", "corrected"] = "published",
        history: Literal["text", "full"] = "text",
        unit_space: str = "emova-fsq-8888",
        compiled: bool = False,
        sees_images: bool = False,
        kept_conversations: int = 4,
    ) -> None:
        self._model, self._revision = model, revision
        self._device, self._dtype = device, dtype
        self._options = {"device_map": device_map} if device_map else {}
        self._quantization: Literal["int8", "int4"] | None = quantization
        self._checkpoint = Checkpoint.open(find_checkpoint(model, revision=revision, weights=False))
        self._units = speech_tokens(self._checkpoint.tokenizer)
        self.units = Space(unit_space, len(self._units)) if self._units else None
        self.vision = image_space(self._checkpoint.config)
        self.sees_images = sees_images
        self._eyes = EmovaVision(model, revision=revision, device=device, dtype=dtype) if sees_images else None
        self._template = _template_of(template, self._checkpoint)
        self._wording = PUBLISHED if wording == "published" else CORRECTED
        self._history: Literal["text", "full"] = history
        self._caches = KeptCaches(kept_conversations)
        self._compiled = compiled
        self._digests: WeakKeyDictionary[VisionFeatures, bytes] = WeakKeyDictionary()
        self._engine: _Engine | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Bring the weights into memory. Safe to call again and from several threads.

        Raises:
            LoadError: If a file is missing, broken or does not match.
        """
        with self._lock:
            if self._engine is not None:
                return
            checkpoint = Checkpoint.open(find_checkpoint(self._model, revision=self._revision))
            device = pick_device(self._device)
            options: dict[str, Any] = dict(self._options)
            if self._quantization:
                options["quantization_config"] = quantisation(self._quantization)
            model = load_model(checkpoint, part="language", dtype=pick_dtype(self._dtype, device), device=device, **options)
            self._engine = _Engine(
                model, decoder_for(model, compiled=self._compiled), model.get_input_embeddings().weight.device
            )
        if self._eyes is not None:
            self._eyes.load()

    def close(self) -> None:
        """Free the weights and the kept conversations. Safe to call again."""
        with self._lock:
            self._engine = None
        self._caches.clear()
        if self._eyes is not None:
            self._eyes.close()

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
        expect: Expected = {"transcribe": "text", "speak": "units"}.get(task) or ("dialogue" if spoken else "text")  # type: ignore[assignment]
        self.load()
        speaker = (style or Style()).speaker
        parser = ReplyParser(expect=expect, speaker=speaker, units=self.units.size if self.units else 0)
        writing = self._write(prompt, expect, style, options)
        try:
            if task == "transcribe":
                yield from _as_transcript(parser, writing)
                return
            for text in writing:
                yield from parser.push(text)
            yield from parser.finish()
        finally:
            writing.close()

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
                if isinstance(part, Image) and self._eyes is None:
                    hint = "fill the vision_encoder slot, or set `sees_images = true`"
                    raise InputError("a picture is given as pixels", hint)
        return bool(messages) and any(isinstance(part, SpeechUnits) for part in messages[-1].parts)

    def _prompt(self, talk: Conversation) -> _Prompt:
        features = [self._look(one) if isinstance(one, Image) else one for one in talk.images]
        ids = tokenize(talk.render(self._template), self._checkpoint.tokenizer, image_id=IMAGE_ID).ids
        keys: list[Hashable] = []
        waiting = iter(features)
        for token in ids:
            if token == IMAGE_ID:
                picture = next(waiting)
                digest = self._digest(picture)
                keys += [(digest, row) for row in range(len(picture))]
            else:
                keys.append(token)
        limit = cast("Any", self._checkpoint.config.text_config).max_position_embeddings
        if len(keys) >= limit:
            hint = "start a new session, or shorten what is asked"
            raise InputError(f"the conversation has {len(keys)} tokens, and the model reads {limit}", hint)
        return _Prompt(keys, features)

    def _prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation without pictures."""
        talk = conversation(messages, wording=self._wording, history=self._history)
        return [key for key in self._prompt(talk).keys if isinstance(key, int)]

    def _look(self, image: Image) -> VisionFeatures:
        return cast("EmovaVision", self._eyes).encode([image])[0]

    def _digest(self, features: VisionFeatures) -> bytes:
        """What tells two pictures apart in a kept conversation."""
        known = self._digests.get(features)
        if known is None:
            rows = features.embeddings
            array = rows.detach().float().cpu().numpy() if isinstance(rows, torch.Tensor) else np.asarray(rows, np.float32)
            known = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
            self._digests[features] = known
        return known

    @torch.inference_mode()
    def _embed(self, prompt: _Prompt, start: int) -> torch.Tensor:
        """Embeddings (positions, hidden_size) of a prompt from position `start` on."""
        engine = cast("_Engine", self._engine)
        table = engine.model.get_input_embeddings()
        ids = [key if isinstance(key, int) else 0 for key in prompt.keys]
        embeds = table(torch.tensor(ids, device=engine.device)).clone()
        places = torch.tensor([not isinstance(key, int) for key in prompt.keys], device=engine.device)
        if prompt.features:
            rows = [torch.as_tensor(one.embeddings).to(engine.device, embeds.dtype) for one in prompt.features]
            embeds[places] = torch.cat(rows)
        return embeds[start:]

    # --- what is written

    def _write(
        self, prompt: _Prompt, expect: Expected, style: Style | None, options: GenerationOptions
    ) -> Generator[str, None, None]:
        """Text as it is written, token by token."""
        engine = cast("_Engine", self._engine)
        keys = list(prompt.keys)
        cache, known = self._caches.take(keys, engine.decoder.new_cache)
        names = {token: f"<|speech_{unit}|>" for unit, token in self._units.items()}
        text = TextOfTokens(self._checkpoint.tokenizer, names)
        ahead = _Dictation(self._checkpoint.tokenizer, style if expect == "dialogue" else None)
        try:
            for token in self._tokens(self._embed(prompt, known), cache, keys, ahead, expect, options):
                piece = text.push(token)
                ahead.heard(piece)
                if piece:
                    yield piece
            rest = text.finish()
            if rest:
                yield rest
        finally:
            self._caches.give(keys, cache)

    def _tokens(  # noqa: PLR0917
        self,
        embeds: torch.Tensor,
        cache: Any,
        keys: list[Hashable],
        ahead: _Dictation,
        expect: Expected,
        options: GenerationOptions,
    ) -> Iterator[int]:
        """Tokens of the answer without the one that ends it; `keys` grows with what was read."""
        engine = cast("_Engine", self._engine)
        sampler = Sampler(options, engine.device)
        stops = self._checkpoint.stop_tokens
        choice = _Choice(engine, self._allowed(expect), stops, cast("int", self._checkpoint.config.image_token_id))
        limit = cast("Any", self._checkpoint.config.text_config).max_position_embeddings
        for written in range(min(options.max_tokens, limit - len(keys))):
            state = _run(engine, embeds, cache)
            dictated = ahead.next()
            token = choice.of(state, sampler, first=written == 0) if dictated is None else dictated
            if token in stops:
                return
            yield token
            keys.append(token)
            embeds = _embed_token(engine, token)

    def _allowed(self, expect: Expected) -> list[int] | None:
        """Tokens an answer may have; None for all."""
        return list(self._units.values()) if expect == "units" else None


class _Choice:
    """The next token from a state; the head is computed for the allowed tokens only."""

    def __init__(self, engine: _Engine, allowed: list[int] | None, stops: Sequence[int], image_token: int) -> None:
        self._engine, self._stops, self._image_token = engine, stops, image_token
        self._ids: torch.Tensor | None = None
        if allowed is not None and isinstance(engine.model.lm_head, torch.nn.Linear):
            with torch.inference_mode():
                self._ids = torch.tensor([*allowed, *stops], device=engine.device)
                self._rows = engine.model.lm_head.weight[self._ids]

    @torch.inference_mode()
    def of(self, state: torch.Tensor, sampler: Sampler, *, first: bool) -> int:
        """Choose; the first token of restricted speech is not its end."""
        if self._ids is None:
            logits = self._engine.decoder.logits(state)
            if self._image_token < len(logits):
                logits[self._image_token] = -torch.inf
            return sampler.choose(logits)
        logits = functional.linear(state, self._rows)
        if first:
            logits[len(logits) - len(self._stops) :] = -torch.inf
        return int(self._ids[sampler.choose(logits)])


class _Dictation:
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


@torch.inference_mode()
def _run(engine: _Engine, embeds: torch.Tensor, cache: Any) -> torch.Tensor:
    return engine.decoder.run(embeds, cache)


@torch.inference_mode()
def _embed_token(engine: _Engine, token: int) -> torch.Tensor:
    return engine.model.get_input_embeddings()(torch.tensor([token], device=engine.device))


def _as_transcript(parser: ReplyParser, writing: Iterator[str]) -> Generator[LLMEvent, None, None]:
    """One `Transcript` of all the text, then what else there is to tell."""
    events = [event for text in writing for event in parser.push(text)]
    events += parser.finish()
    yield Transcript("".join(event.text for event in events if isinstance(event, TextDelta)).strip())
    yield from (event for event in events if not isinstance(event, TextDelta))


def _template_of(name: str, checkpoint: Checkpoint) -> Template:
    if name != "auto":
        return template(name)
    if checkpoint.template is None:
        hint = "set `template` to one of the published templates"
        raise LoadError(f"the conversation template of `{checkpoint.folder}` is not known", hint, path=str(checkpoint.folder))
    return template(checkpoint.template)
