"""Decoding conversations, fast: the layers of a Llama-shaped language model without the model around them.

At batch 1 and small sizes, a transformers forward pass spends most of its time outside the matrix products. `FastDecoder`
runs the same arithmetic over the model's own parameters with preallocated keys and values, fused query/key/value and
gate/up products, and rotary tables computed once. On a CPU the weights are stored transposed, which a matrix-vector product
reads about twice as fast when it widens; parameters become views of that storage, so nothing is held twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from emova_sdk.models.compiled_step import CompiledStep
from emova_sdk.models.decoder_layers import FusedLayers, KeyValues, Layer

_ROPE_TYPES = {"default", "llama3", "linear", "yarn"}
_ARCHITECTURES = {"Qwen2Model", "LlamaModel", "MistralModel"}


class SequenceSpan(NamedTuple):
    """A conversation's part of a pass: its new positions, their rows among all, and what they may attend to."""

    start: int
    stop: int
    rows: slice
    mask: torch.Tensor | None


class FastDecoder(FusedLayers):
    """The layers of a language model, run for one conversation or for several in one pass.

    Building it moves the model's weights into fused storage; the model stays usable and its parameters keep their values.

    Args:
        language_model: Qwen2, Llama or Mistral of transformers, without its head.
        head: the head.
        compiled: whether single tokens are read by a `CompiledStep`.
    """

    def __init__(self, language_model: nn.Module, head: nn.Linear, *, compiled: bool = False) -> None:
        super().__init__(language_model, head)
        self._step = CompiledStep(self) if compiled else None

    @staticmethod
    def supports(language_model: nn.Module) -> bool:
        """Whether this decoder computes what `language_model` does: its architecture, plain linear layers, one device."""
        config: Any = language_model.config
        if type(language_model).__name__ not in _ARCHITECTURES or getattr(config, "hidden_act", "silu") != "silu":
            return False
        if (config.rope_parameters or {}).get("rope_type", "default") not in _ROPE_TYPES:
            return False
        if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
            return False
        if getattr(config, "sliding_window", None) is not None:
            return False
        parameters = list(language_model.parameters())
        plain = all(type(one) is nn.Linear for name, one in language_model.named_modules() if name.endswith("_proj"))
        alike = len({(one.device, one.dtype) for one in parameters}) == 1
        hooked = any(hasattr(module, "_hf_hook") for module in language_model.modules())
        return plain and alike and not hooked and parameters[0].is_floating_point()

    def new_cache(self) -> KeyValues:
        """Empty keys and values."""
        return KeyValues(len(self.layers), self.kv_heads, self.head_size, like=self.norm)

    def run(self, embeds: torch.Tensor, cache: KeyValues) -> torch.Tensor:
        """Read new positions; return the state from which the next token's logits follow.

        Args:
            embeds: (new positions, hidden_size).
            cache: what came before; the new positions are added.

        Returns:
            (hidden_size,), normed, of the last position.
        """
        return self.run_together([embeds], [cache])[0]

    def run_together(self, embeds: Sequence[torch.Tensor], caches: Sequence[KeyValues]) -> list[torch.Tensor]:
        """Read new positions of several conversations in one pass over the weights.

        Nothing is padded: the products are computed for all positions at once, the attention for each conversation.

        Args:
            embeds: (new positions, hidden_size) of each conversation, which may differ in number.
            caches: what came before in each; all different.

        Returns:
            (hidden_size,), normed, of each conversation's last position.
        """
        if self._step is not None and len(embeds) == 1 and len(embeds[0]) == 1:
            return [self._step.run(embeds[0], caches[0])]
        spans = _spans(embeds, caches)
        cos, sin = (
            _joined([table[span.start : span.stop] for span in spans])
            for table in self.tables(max(span.stop for span in spans))
        )
        hidden = _joined(list(embeds))
        stored = zip(*(cache.buffer for cache in caches), strict=True)
        for layer, buffers in zip(self.layers, stored, strict=True):
            mixed = self._attend(layer, hidden, buffers, spans, (cos, sin))
            hidden = self.mix(layer, hidden, mixed)
        for span, cache in zip(spans, caches, strict=True):
            cache.length = span.stop
        last = hidden[-1:] if len(spans) == 1 else hidden[[span.rows.stop - 1 for span in spans]]
        return list(functional.rms_norm(last, self.norm.shape, self.norm, self.eps))

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """(hidden_size,) -> (vocabulary,)."""
        return functional.linear(state, self.head_weight)

    def _attend(
        self,
        layer: Layer,
        hidden: torch.Tensor,
        buffers: Sequence[torch.Tensor],
        spans: Sequence[SequenceSpan],
        angles: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        query, key, value = self.project(layer, hidden, angles)
        mixed: list[torch.Tensor] = []
        for (keys, values), span in zip(buffers, spans, strict=True):
            keys[:, span.start : span.stop] = key[:, span.rows]
            values[:, span.start : span.stop] = value[:, span.rows]
            attended = functional.scaled_dot_product_attention(
                query[None, :, span.rows],
                keys[None, :, : span.stop],
                values[None, :, : span.stop],
                attn_mask=span.mask,
                is_causal=span.mask is None and span.stop - span.start > 1,
                enable_gqa=self.heads != self.kv_heads,
            )
            mixed.append(attended[0].transpose(0, 1).reshape(span.stop - span.start, -1))
        return _joined(mixed)


def _spans(embeds: Sequence[torch.Tensor], caches: Sequence[KeyValues]) -> list[SequenceSpan]:
    """Where each conversation's new positions are; its buffers have room for them afterwards."""
    spans: list[SequenceSpan] = []
    begin = 0
    for new, cache in zip(embeds, caches, strict=True):
        start, stop = cache.length, cache.length + len(new)
        cache.reserve(stop)
        mask = None
        if len(new) > 1 and start > 0:
            mask = torch.ones(len(new), stop, dtype=torch.bool, device=new.device).tril_(start)
        spans.append(SequenceSpan(start, stop, slice(begin, begin + len(new)), mask))
        begin += len(new)
    return spans


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
