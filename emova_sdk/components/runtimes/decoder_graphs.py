"""A language model as graphs: embeddings of what is read, and the layers that write, in two flavours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.runtimes.decoder_cache import DecoderSizes

if TYPE_CHECKING:
    from torch import nn


Flavour = Literal["runtime", "portable"]
"""Of a decoder: ``runtime`` has operators of ONNX Runtime, ``portable`` those of the standard alone."""
FLAVOURS: tuple[Flavour, ...] = ("runtime", "portable")

_TURNS = (
    {"rows": 1, "past": 0},
    {"rows": 5, "past": 0},
    {"rows": 1, "past": 5},
    {"rows": 7, "past": 6},
    {"rows": 1, "past": 200},
)
"""Positions that are read and cached: the first word, a beginning, a word, a chunk, a word of a long conversation."""


def decoder_graphs(
    language_model: nn.Module,
    head: nn.Linear,
    *,
    longest: int,
    metadata: Mapping[str, str],
    flavours: Sequence[Flavour] = FLAVOURS,
) -> list[Graph]:
    """The layers and the head of a model of transformers, see `decoder_graph`.

    Args:
        language_model: Qwen2, Llama or Mistral of transformers, without its head.
        head: Its head.
        longest: Most positions of a conversation.
        metadata: Facts for the runtime, beside those about sizes.
        flavours: Which ones.
    """
    from emova_sdk.components.runtimes.decoder_modules import OrdinaryDecoder, PortableDecoder, RuntimeDecoder

    made: list[PortableDecoder] = []
    for flavour in flavours:
        kind = RuntimeDecoder if flavour == "runtime" else PortableDecoder
        made.append(kind(language_model, head, longest=longest, like=made[0] if made else None))
    found: list[Graph] = []
    for flavour, module in zip(flavours, made, strict=True):
        width, vocabulary = module.head.shape
        sizes = DecoderSizes(width, vocabulary, longest, module.kv_heads, module.head_size)
        reference = OrdinaryDecoder(language_model, head, fixed=flavour == "runtime").eval()
        facts: dict[str, Any] = {"layers": len(module.layers), "reference": reference, "metadata": metadata}
        found.append(decoder_graph(module.eval(), flavour, sizes, **facts))
    return found


def decoder_graph(
    source: Any,
    flavour: Flavour,
    sizes: DecoderSizes,
    *,
    layers: int,
    metadata: Mapping[str, str],
    reference: Any = None,
) -> Graph:
    """The layers and the head as one graph for both the beginning of a conversation and each of its words.

    ``decoder`` (flavour ``runtime``) reads ``embeds`` (rows, width), ``past`` int32 (1,) and buffers ``key_0``, ``value_0``,
    ... (1, kv_heads, capacity, head_size); ``new_key_0``, ... are the same buffers with the new positions filled in, and may
    be bound to the same memory. ``decoder_portable`` reads ``embeds`` and ``key_0``, ... (past, kv_heads, head_size), and
    gives only what is new, (rows, kv_heads, head_size). Both give ``logits`` (vocabulary,) after the last row.

    Args:
        source: See `Graph`.
        flavour: Which operators it has.
        sizes: Of the decoder.
        layers: Transformer layers.
        metadata: Facts for the runtime, beside those about sizes.
        reference: See `Graph`.
    """
    fixed, longest = flavour == "runtime", sizes.longest
    rows = Axis("rows", 1, min(32, longest), longest)
    past = Axis("capacity", 1, min(256, longest), longest) if fixed else Axis("past", 0, min(256, longest), longest)
    names = [f"{kind}_{number}" for number in range(layers) for kind in ("key", "value")]

    def sample(wanted: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        random = np.random.default_rng(sum(wanted.values()))
        new = min(wanted["rows"], longest - 1)
        cached = min(wanted.get("past", max(0, wanted.get("capacity", 0) - new)), longest - new)
        room = max(wanted.get("capacity", 0), cached + new)
        shape = (1, sizes.kv_heads, room, sizes.head_size) if fixed else (cached, sizes.kv_heads, sizes.head_size)
        inputs: dict[str, NDArray[Any]] = {"embeds": 0.5 * random.standard_normal((new, sizes.width), np.float32)}
        if fixed:
            inputs["past"] = np.array([cached], np.int32)
        return inputs | {name: random.standard_normal(shape, np.float32) for name in names}

    facts = {name: str(size) for name, size in asdict(sizes).items()} | {"layers": str(layers)}
    return Graph(
        "decoder" if fixed else "decoder_portable",
        source,
        sample({"rows": 3, "past": 5} | ({"capacity": 11} if fixed else {})),
        ("logits", *(f"new_{name}" for name in names)),
        {"embeds": {0: rows}} | {name: {2 if fixed else 0: past} for name in names},
        sample=sample,
        checks=_TURNS,
        reference=reference,
        weights="blocks",
        state={f"new_{name}": name for name in names},
        metadata={**metadata, "flavour": flavour, **facts},
    )


def embed_graph(
    source: Any, *, vocabulary: int, image_id: int, features: int, longest: int, metadata: Mapping[str, str]
) -> Graph:
    """Ids and features of pictures to what a decoder reads: the n-th ``image_id`` gets the n-th row of features.

    Args:
        source: See `Graph`; a module is an `EmbedGraph`.
        vocabulary: Number of tokens.
        image_id: The token that stands for a row of features.
        features: Width of the features.
        longest: Most positions of a conversation.
        metadata: Facts for the runtime.
    """
    rows = Axis("rows", 1, min(32, longest), longest)
    pictures = Axis("features", 0, min(16, longest), longest)

    def sample(sizes: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        random = np.random.default_rng(sum(sizes.values()))
        ids = random.integers(0, vocabulary, sizes["rows"])
        ids = np.where(ids == image_id, (image_id + 1) % vocabulary, ids)
        ids[-min(sizes["features"], sizes["rows"]) or sizes["rows"] :] = image_id
        return {"ids": ids, "features": random.standard_normal((sizes["features"], features), np.float32)}

    return Graph(
        "embed",
        source,
        sample({"rows": 7, "features": 3}),
        ("embeds",),
        {"ids": {0: rows}, "features": {0: pictures}},
        sample=sample,
        checks=({"rows": 1, "features": 0}, {"rows": 9, "features": 9}),
        metadata={**metadata, "image_id": str(image_id), "features_width": str(features)},
    )
