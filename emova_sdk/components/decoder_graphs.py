"""A language model as graphs: embeddings of what is read, and the layers that write, in two flavours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from emova_sdk.components.graph import Axis, Graph
from emova_sdk.models.exported_decoder import OrdinaryDecoder, PortableDecoder, RuntimeDecoder

__all__ = ["EmbedGraph", "decoder_graphs", "embed_graph"]

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
    """The layers and the head as one graph for both the beginning of a conversation and each of its words.

    ``decoder`` (flavour ``runtime``) reads ``embeds`` (rows, width), ``past`` int32 (1,) and buffers ``key_0``, ``value_0``,
    ... (1, kv_heads, capacity, head_size); ``new_key_0``, ... are the same buffers with the new positions filled in, and may
    be bound to the same memory. ``decoder_portable`` reads ``embeds`` and ``key_0``, ... (past, kv_heads, head_size), and
    gives only what is new, (rows, kv_heads, head_size). Both give ``logits`` (vocabulary,) after the last row.

    Args:
        language_model: Qwen2, Llama or Mistral of transformers, without its head.
        head: Its head.
        longest: Most positions of a conversation.
        metadata: Facts for the runtime, beside those about sizes.
        flavours: Which ones.
    """
    made: list[PortableDecoder] = []
    for flavour in flavours:
        kind = RuntimeDecoder if flavour == "runtime" else PortableDecoder
        made.append(kind(language_model, head, longest=longest, like=made[0] if made else None))
    reference = [OrdinaryDecoder(language_model, head, fixed=isinstance(one, RuntimeDecoder)) for one in made]
    return [_decoder(*pair, metadata) for pair in zip(made, reference, strict=True)]


def _decoder(module: PortableDecoder, reference: OrdinaryDecoder, metadata: Mapping[str, str]) -> Graph:
    fixed, longest = reference.fixed, module.longest
    width, kv_heads, head_size = module.norm.shape[0], module.kv_heads, module.head_size  # `sample` outlives the module
    rows = Axis("rows", 1, min(32, longest), longest)
    past = Axis("capacity", 1, min(256, longest), longest) if fixed else Axis("past", 0, min(256, longest), longest)
    names = [f"{kind}_{number}" for number in range(len(module.layers)) for kind in ("key", "value")]

    def sample(sizes: Mapping[str, int]) -> dict[str, Tensor]:
        chance = torch.Generator().manual_seed(sum(sizes.values()))
        new = min(sizes["rows"], longest - 1)
        cached = min(sizes.get("past", max(0, sizes.get("capacity", 0) - new)), longest - new)
        room = max(sizes.get("capacity", 0), cached + new)
        shape = (1, kv_heads, room, head_size) if fixed else (cached, kv_heads, head_size)
        inputs = {"embeds": 0.5 * torch.randn(new, width, generator=chance)}
        if fixed:
            inputs["past"] = torch.tensor([cached], dtype=torch.int32)
        return inputs | {name: torch.randn(shape, generator=chance) for name in names}

    facts = {
        "flavour": "runtime" if fixed else "portable",
        "layers": str(len(module.layers)),
        "kv_heads": str(kv_heads),
        "head_size": str(head_size),
        "width": str(width),
        "vocabulary": str(module.head.shape[1]),
        "longest": str(longest),
    }
    return Graph(
        "decoder" if fixed else "decoder_portable",
        module.eval(),
        sample({"rows": 3, "past": 5} | ({"capacity": 11} if fixed else {})),
        ("logits", *(f"new_{name}" for name in names)),
        {"embeds": {0: rows}} | {name: {2 if fixed else 0: past} for name in names},
        sample=sample,
        checks=_TURNS,
        reference=reference.eval(),
        weights="blocks",
        state={f"new_{name}": name for name in names},
        metadata={**metadata, **facts},
    )


class EmbedGraph(nn.Module):
    """Token ids to embeddings, rows of features in the place of those that stand for a picture.

    Args:
        table: Embeddings of the tokens.
        image_id: The token that stands for a row of features.
        projector: Features to the width of the embeddings, where they are not of that width already.
    """

    def __init__(self, table: nn.Embedding, image_id: int, projector: nn.Module | None = None) -> None:
        super().__init__()
        self.table, self.image_id, self.projector = table, image_id, projector or nn.Identity()

    def forward(self, ids: Tensor, features: Tensor) -> Tensor:
        """Ids (rows,) and features (pictures' rows, width) to embeddings (rows, width)."""
        words = self.table(ids.clamp(max=self.table.num_embeddings - 1))
        seen = ids == self.image_id
        # one row of zeros more, so that there is one to gather where there is no picture
        pictures = torch.nn.functional.pad(self.projector(features), (0, 0, 0, 1))
        order = (seen.long().cumsum(0) - 1).clamp(0, pictures.shape[0] - 1)
        return torch.where(seen[:, None], pictures[order], words)


def embed_graph(
    table: nn.Embedding,
    *,
    image_id: int,
    features: int,
    longest: int,
    metadata: Mapping[str, str],
    projector: nn.Module | None = None,
) -> Graph:
    """Ids and features of pictures to what a decoder reads: the n-th ``image_id`` gets the n-th row of features.

    Args:
        table: Embeddings of the tokens.
        image_id: The token that stands for a row of features.
        features: Width of the features.
        longest: Most positions of a conversation.
        metadata: Facts for the runtime.
        projector: Features to the width of the embeddings, where they are not of that width already.
    """
    rows = Axis("rows", 1, min(32, longest), longest)
    pictures = Axis("features", 0, min(16, longest), longest)

    def sample(sizes: Mapping[str, int]) -> dict[str, Tensor]:
        chance = torch.Generator().manual_seed(sum(sizes.values()))
        ids = torch.randint(0, table.num_embeddings, (sizes["rows"],), generator=chance)
        ids = torch.where(ids == image_id, (image_id + 1) % table.num_embeddings, ids)
        ids[-min(sizes["features"], sizes["rows"]) or sizes["rows"] :] = image_id
        return {"ids": ids, "features": torch.randn(sizes["features"], features, generator=chance)}

    return Graph(
        "embed",
        EmbedGraph(table, image_id, projector).eval(),
        sample({"rows": 7, "features": 3}),
        ("embeds",),
        {"ids": {0: rows}, "features": {0: pictures}},
        sample=sample,
        checks=({"rows": 1, "features": 0}, {"rows": 9, "features": 9}),
        metadata={**metadata, "image_id": str(image_id), "features_width": str(features)},
    )
