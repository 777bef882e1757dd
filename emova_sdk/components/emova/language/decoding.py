"""Running the layers of the language model with torch, for one conversation or several at a time."""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import nn
from transformers import DynamicCache

from emova_sdk.models.fast_decoder import FastDecoder, KeyValues


class Decoder(Protocol):
    """Runs a language model for a conversation; safe to call from the threads of several."""

    def new_cache(self) -> Any:
        """An empty cache."""
        ...

    def run(self, embeds: torch.Tensor, cache: Any) -> torch.Tensor:
        """Read embeddings (positions, hidden_size); return the last state (hidden_size,)."""
        ...

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """(hidden_size,) -> (vocabulary,)."""
        ...


class TransformersDecoder:
    """The model as it is, for what `FastDecoder` does not know: mixtures of experts, quantised or distributed weights.

    Args:
        language_model: a decoder of transformers without its head.
        head: the head.
    """

    def __init__(self, language_model: nn.Module, head: nn.Module) -> None:
        self._model, self._head = language_model, head

    def new_cache(self) -> _CroppedCache:
        """An empty cache."""
        return _CroppedCache(DynamicCache())

    def run(self, embeds: torch.Tensor, cache: _CroppedCache) -> torch.Tensor:
        """Read embeddings (positions, hidden_size); return the last state (hidden_size,)."""
        outputs = self._model(inputs_embeds=embeds[None], past_key_values=cache.kept, use_cache=True)
        cache.length += len(embeds)
        return outputs.last_hidden_state[0, -1]

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """(hidden_size,) -> (vocabulary,)."""
        return self._head(state)


class _CroppedCache:
    def __init__(self, kept: DynamicCache) -> None:
        self.kept, self.length = kept, 0

    def copy(self, length: int) -> _CroppedCache:
        twin = _CroppedCache(copy.deepcopy(self.kept))
        if length < self.length:  # a negative number removes that many positions
            twin.kept.crop(length - self.length)
        twin.length = length
        return twin


class SharedDecoder:
    """Lets sessions that decode at the same time share each pass over the weights: continuous batching.

    Sessions call `run` from threads of their own. Whoever finds the decoder free runs what has been waiting, its own and
    the others', in one pass; a session joins or leaves at any token. One that is alone waits for nobody; where others have
    just taken part, a quarter of a pass is waited for them at most. Long prompts are read in pieces, so that the tokens of
    other sessions come in between.

    Args:
        decoder: what runs the passes.
        piece: most positions of a prompt that are read in one pass.
    """

    def __init__(self, decoder: FastDecoder, *, piece: int = 512) -> None:
        self._decoder, self._piece = decoder, piece
        self._waiting: list[_Request] = []
        self._gate, self._turn = threading.Condition(), threading.Lock()
        self._expected, self._patience_s = 1, 0.0
        self.logits = decoder.logits

    def new_cache(self) -> KeyValues:
        """An empty cache."""
        return self._decoder.new_cache()

    def run(self, embeds: torch.Tensor, cache: KeyValues) -> torch.Tensor:
        """Read embeddings (positions, hidden_size); return the last state (hidden_size,)."""
        *before, last = embeds.split(self._piece)
        for piece in before:
            self._join(_Request(piece, cache))
        return self._join(_Request(last, cache))

    def _join(self, request: _Request) -> torch.Tensor:
        with self._gate:
            self._waiting.append(request)
            self._gate.notify_all()
        with self._turn:  # an earlier turn may have run this request already
            if not request.done:
                self._run_waiting()
        if request.error is not None:
            raise request.error
        return cast("torch.Tensor", request.state)

    def _run_waiting(self) -> None:
        with self._gate:
            self._gate.wait_for(lambda: len(self._waiting) >= self._expected, self._patience_s)
            together, self._waiting = self._waiting, []
        started = time.perf_counter()
        try:
            states = self._decoder.run_together([one.embeds for one in together], [one.cache for one in together])
            for one, state in zip(together, states, strict=True):
                one.state = state
        except Exception as error:  # noqa: BLE001 - raised again, in each session
            for one in together:
                one.error = error
        for one in together:
            one.done = True
        with self._gate:
            self._expected = len(together) + len(self._waiting)
            self._patience_s = min((time.perf_counter() - started) / 4, 0.01)


@dataclass(eq=False)
class _Request:
    embeds: torch.Tensor
    cache: KeyValues
    state: torch.Tensor | None = None
    error: BaseException | None = None
    done: bool = False


def decoder_for(model: Any, *, compiled: bool = False) -> Decoder:
    """The fastest decoder that computes what the model does.

    Args:
        model: an `EmovaForConditionalGeneration`.
        compiled: whether single tokens are read by compiled code, where that decoder can.
    """
    language_model, head = model.model.language_model, model.lm_head
    plain = type(head) is nn.Linear and head.weight.dtype == language_model.norm.weight.dtype
    if plain and FastDecoder.supports(language_model):
        return SharedDecoder(FastDecoder(language_model, head, compiled=compiled))
    return TransformersDecoder(language_model, head)
