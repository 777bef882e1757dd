"""One token of one conversation with shapes that do not change: for `torch.compile`, and for CUDA graphs on a GPU.

A pass that reads one token spends its time on starting kernels, not in them. Here the place of the token is a tensor and the
attention covers the whole buffer behind a mask, so that the same kernels serve every token. On a GPU they are recorded once
for each buffer, as a CUDA graph, and replayed; recordings are made anew when a buffer grows, that is when it doubles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional

from emova_sdk.models.decoder_layers import FusedLayers, KeyValues, Layer


class _Recording(NamedTuple):
    """A CUDA graph and the tensors it reads and writes; all must live as long as it does."""

    graph: Any
    buffer: torch.Tensor
    tables: tuple[torch.Tensor, torch.Tensor]
    embed: torch.Tensor
    position: torch.Tensor
    state: torch.Tensor


class CompiledStep:
    """Reads single tokens with `FusedLayers`, to the same states.

    Args:
        decoder: whose layers are run.
        compiler: what turns the function of a layer into a faster one; `torch.compile` when not given. All layers have the
            same shapes, so that one is compiled for all.
    """

    def __init__(self, decoder: FusedLayers, *, compiler: Callable[[Any], Any] | None = None) -> None:
        self._decoder = decoder
        self._layer = (compiler or torch.compile)(self._run_layer)
        self._recordings: WeakKeyDictionary[KeyValues, _Recording] = WeakKeyDictionary()

    def run(self, embed: torch.Tensor, cache: KeyValues) -> torch.Tensor:
        """Read one position.

        Args:
            embed: (1, hidden_size).
            cache: what came before; the position is added.

        Returns:
            (hidden_size,), normed.
        """
        cache.reserve(cache.length + 1)
        tables = self._decoder.tables(cache.capacity)
        place = torch.tensor([cache.length], device=embed.device)
        if embed.device.type == "cuda":
            state = self._replay(embed, place, cache, tables)
        else:
            state = self._compute(embed, place, cache.buffer, tables)
        cache.length += 1
        return state

    def _replay(
        self, embed: torch.Tensor, place: torch.Tensor, cache: KeyValues, tables: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        known = self._recordings.get(cache)
        if known is None or known.buffer is not cache.buffer:
            known = self._recordings[cache] = self._record(embed, place, cache.buffer, tables)
        known.embed.copy_(embed)
        known.position.copy_(place)
        known.graph.replay()
        return known.state.clone()

    def _record(
        self, embed: torch.Tensor, place: torch.Tensor, buffer: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor]
    ) -> _Recording:
        embed, place = embed.clone(), place.clone()
        aside = torch.cuda.Stream(embed.device)
        aside.wait_stream(torch.cuda.current_stream(embed.device))
        with torch.cuda.stream(aside):  # compiles and warms up; the same keys and values are written each time
            for _ in range(3):
                self._compute(embed, place, buffer, tables)
        torch.cuda.current_stream(embed.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other sessions' threads may be at work
            state = self._compute(embed, place, buffer, tables)
        return _Recording(graph, buffer, tables, embed, place, state)

    def _compute(
        self, embed: torch.Tensor, place: torch.Tensor, buffer: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        decoder = self._decoder
        angles = tables[0].index_select(0, place), tables[1].index_select(0, place)
        mask = (torch.arange(buffer.shape[3], device=place.device) <= place)[None]
        hidden = embed
        for layer, (keys, values) in zip(decoder.layers, buffer, strict=True):
            hidden = self._layer(layer, hidden, keys, values, place, mask, angles)
        return functional.rms_norm(hidden[-1], decoder.norm.shape, decoder.norm, decoder.eps)

    def _run_layer(  # noqa: PLR0917 - one call, made for every layer and token
        self,
        layer: Layer,
        hidden: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        place: torch.Tensor,
        mask: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        decoder = self._decoder
        query, key, value = decoder.project(layer, hidden, angles)
        keys.index_copy_(1, place, key)
        values.index_copy_(1, place, value)
        mixed = functional.scaled_dot_product_attention(
            query[None], keys[None], values[None], attn_mask=mask, enable_gqa=decoder.heads != decoder.kv_heads
        )
        return decoder.mix(layer, hidden, mixed[0].transpose(0, 1).reshape(1, -1))
