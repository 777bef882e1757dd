"""The layers of a Llama-shaped language model (Qwen2, Llama, Mistral), written so that an exporter can follow them.

Both classes read the parameters of a transformers model and share their storage where its layout allows. They read one
conversation: new positions, behind what is cached. ``PortableDecoder`` is plain tensor arithmetic, which every runtime
knows. ``RuntimeDecoder`` has the operators of ONNX Runtime that keep all keys and values in one fixed buffer; it computes
nothing in torch, and `OrdinaryDecoder` is what it is compared with.

RMS norm: arXiv 1910.07467; rotary positions: 2104.09864; grouped queries: 2305.13245; gated SiLU: 2002.05202.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache

_DOMAIN = "com.microsoft"
_TURNED_INSIDE = 16
"""The attention operator of ONNX Runtime turns heads whose size is a multiple of this."""


class _Layer(nn.Module):
    """Weights of one layer; matrices as (in, out), which is how a quantiser of ONNX files expects them."""

    qkv_bias: Tensor | None
    out_bias: Tensor | None

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        self.norm1 = nn.Buffer(layer.input_layernorm.weight.data)
        self.qkv = nn.Buffer(_columns(*projections))
        self.out = nn.Buffer(_columns(attention.o_proj))
        self.norm2 = nn.Buffer(layer.post_attention_layernorm.weight.data)
        self.gate_up = nn.Buffer(_columns(mlp.gate_proj, mlp.up_proj))
        self.down = nn.Buffer(_columns(mlp.down_proj))
        biases = [one.bias.data for one in projections if one.bias is not None]
        self.register_buffer("qkv_bias", torch.cat(biases) if biases else None)
        self.register_buffer("out_bias", None if attention.o_proj.bias is None else attention.o_proj.bias.data)


def _columns(*linears: nn.Linear) -> Tensor:
    """(in, out of all) contiguous, with no copy between."""
    weights = [one.weight.data for one in linears]
    made = weights[0].new_empty(weights[0].shape[1], sum(len(one) for one in weights))
    for part, weight in zip(made.split([len(one) for one in weights], 1), weights, strict=True):
        part.copy_(weight.t())
    return made


class PortableDecoder(nn.Module):
    """New positions and what is cached to logits and the new keys and values; the host puts those behind the cached ones.

    Args:
        language_model: Qwen2, Llama or Mistral of transformers, without its head; see `supports`.
        head: Its head.
        longest: Most positions of a conversation.
        like: A decoder of the same model, of whichever class, whose weights are taken rather than arranged once more.
    """

    def __init__(
        self, language_model: nn.Module, head: nn.Linear, *, longest: int, like: PortableDecoder | None = None
    ) -> None:
        super().__init__()
        config: Any = language_model.config
        parts = cast("Any", language_model)
        self.heads, self.kv_heads = int(config.num_attention_heads), int(config.num_key_value_heads)
        self.head_size = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)
        self.eps, self.longest = float(config.rms_norm_eps), longest
        self.layers = nn.ModuleList(_Layer(layer) for layer in parts.layers) if like is None else like.layers
        self.norm = nn.Buffer(parts.norm.weight.data)
        self.head = nn.Buffer(_columns(head)) if like is None else like.head
        with torch.no_grad():
            cosine, sine = parts.rotary_emb(self.norm, torch.arange(longest, device=self.norm.device)[None])
        half = self.head_size // 2
        self.cosine, self.sine = nn.Buffer(cosine[0, :, :half].clone()), nn.Buffer(sine[0, :, :half].clone())

    def forward(self, embeds: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """Read new positions.

        Args:
            embeds: (rows, width).
            *cache: Keys and values of each layer in turn, (cached, kv_heads, head_size).

        Returns:
            Logits (vocabulary,) after the last row, then for each layer new keys and values (rows, kv_heads, head_size).
        """
        rows, cached = embeds.shape[0], cache[0].shape[0]
        cosine, sine = self.cosine[cached : cached + rows, None], self.sine[cached : cached + rows, None]
        places = torch.arange(cached + rows, device=embeds.device)
        visible = places[None] <= places[cached:, None]
        hidden, new = embeds, list[Tensor]()
        for number, layer in enumerate(cast("Any", self.layers)):
            joint = self._normed(hidden, layer.norm1) @ layer.qkv
            joint = joint if layer.qkv_bias is None else joint + layer.qkv_bias
            joint = joint.view(rows, -1, self.head_size)
            turned = _rotated(joint[:, : self.heads + self.kv_heads], cosine, sine)
            query, key, value = turned[:, : self.heads], turned[:, self.heads :], joint[:, self.heads + self.kv_heads :]
            new += [key, value]
            mixed = self._attend(query, torch.cat([cache[2 * number], key]), torch.cat([cache[2 * number + 1], value]), visible)
            hidden, mixed = self._still_needed(number, hidden, mixed)
            hidden = self._rest(layer, hidden, mixed)
        return (self._normed(hidden, self.norm) @ self.head)[0], *new

    def _still_needed(self, number: int, hidden: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """After the last attention only the last row makes logits."""
        return (hidden[..., -1:, :], mixed[..., -1:, :]) if number == len(self.layers) - 1 else (hidden, mixed)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
        """Grouped-query attention of (rows, heads, size) to (places, kv_heads, size): (rows, heads * size)."""
        rows, group = query.shape[0], self.heads // self.kv_heads
        query = query.view(rows, self.kv_heads, group, self.head_size).permute(1, 2, 0, 3)
        scores = query @ keys.permute(1, 2, 0)[:, None] * self.head_size**-0.5
        weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
        mixed = weights @ values.transpose(0, 1)[:, None]
        return mixed.permute(2, 0, 1, 3).reshape(rows, -1)

    def _rest(self, layer: Any, hidden: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention in a layer."""
        mixed = mixed @ layer.out
        hidden = hidden + (mixed if layer.out_bias is None else mixed + layer.out_bias)
        gate, up = (self._normed(hidden, layer.norm2) @ layer.gate_up).chunk(2, -1)
        return hidden + (F.silu(gate) * up) @ layer.down

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """RMS norm as a quotient: ONNX Runtime makes one operator of these, and not of the product `F.rms_norm` becomes."""
        return hidden / torch.sqrt(hidden.square().mean(-1, keepdim=True) + self.eps) * weight


class RuntimeDecoder(PortableDecoder):
    """The same in operators of ONNX Runtime: keys and values live in fixed buffers that are read and written in place."""

    def forward(self, embeds: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """Read new positions.

        Args:
            embeds: (rows, width).
            *cache: Number of cached positions, int32 (1,), then buffers (1, kv_heads, capacity, head_size) with the keys
                and values of each layer in turn.

        Returns:
            Logits (vocabulary,) after the last row, then all buffers, the new positions filled in.
        """
        past, *buffers = cache
        hidden, filled = embeds[None], list[Tensor]()  # its operators take batches
        for number, layer in enumerate(cast("Any", self.layers)):
            joint = self._normed(hidden, layer.norm1) @ layer.qkv
            joint = joint if layer.qkv_bias is None else joint + layer.qkv_bias
            mixed, *both = self._grouped_query(joint, past, buffers[2 * number : 2 * number + 2])
            filled += both
            hidden, mixed = self._still_needed(number, hidden, mixed)
            hidden = self._rest(layer, hidden, mixed)
        return (self._normed(hidden, self.norm) @ self.head).flatten(), *filled

    def _turned(self, joint: Tensor, past: Tensor) -> Tensor:
        """Queries and keys of (1, rows, all heads) turned by their positions: the attention operator takes few head sizes."""
        width = (self.heads + self.kv_heads) * self.head_size
        both, value = joint.split((width, self.kv_heads * self.head_size), -1)
        turned = torch.onnx.ops.symbolic(
            f"{_DOMAIN}::RotaryEmbedding",
            (both, past.long(), self.cosine, self.sine),
            {"num_heads": self.heads + self.kv_heads, "interleaved": 0},
            dtype=_onnx_type(joint.dtype),
            shape=both.shape,
            version=1,
        )
        return torch.cat([turned, value], -1)

    def _grouped_query(self, joint: Tensor, past: Tensor, buffers: list[Tensor]) -> tuple[Tensor, ...]:
        rows, width, number = joint.shape[1], self.heads * self.head_size, _onnx_type(joint.dtype)
        inside, total = self.head_size % _TURNED_INSIDE == 0, past + rows
        joint = joint if inside else self._turned(joint, past)
        angles = (self.cosine, self.sine) if inside else ()
        mixed, *both = torch.onnx.ops.symbolic_multi_out(
            f"{_DOMAIN}::GroupQueryAttention",
            (joint, None, None, *buffers, total - 1, total, *angles),
            {
                "num_heads": self.heads,
                "kv_num_heads": self.kv_heads,
                "do_rotary": int(inside),
                "rotary_interleaved": 0,
                "scale": self.head_size**-0.5,
            },
            dtypes=(number,) * 3,
            shapes=((1, rows, width), buffers[0].shape, buffers[1].shape),
            version=1,
        )
        return mixed, *both


def _onnx_type(dtype: torch.dtype) -> int:
    return {torch.float32: 1, torch.float16: 10, torch.bfloat16: 16}[dtype]


def _rotated(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """(rows, heads, size) turned by angles (rows, 1, size / 2)."""
    left, right = vectors.chunk(2, -1)
    return torch.cat([left * cosine - right * sine, right * cosine + left * sine], -1)


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


class OrdinaryDecoder(nn.Module):
    """The transformers model itself behind the arguments of an exported decoder: what exports are compared with.

    Args:
        language_model: As for `PortableDecoder`.
        head: Its head.
        fixed: Take and give the fixed buffers of `RuntimeDecoder`; otherwise as `PortableDecoder`.
    """

    def __init__(self, language_model: nn.Module, head: nn.Module, *, fixed: bool) -> None:
        super().__init__()
        self.language_model, self.head, self.fixed = language_model, head, fixed

    def forward(self, embeds: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """See `PortableDecoder.forward` and `RuntimeDecoder.forward`; buffers are zero behind what is filled."""
        if self.fixed:
            cached = int(cache[0])
            earlier = [buffer[:, :, :cached] for buffer in cache[1:]]
        else:
            cached = cache[0].shape[0]
            earlier = [one.transpose(0, 1)[None] for one in cache]
        logits, after = self._run(embeds, earlier)
        if self.fixed:
            room = cache[1].shape[2]
            return logits, *(F.pad(one, (0, 0, 0, room - one.shape[2])) for one in after)
        return logits, *(one[0].transpose(0, 1)[cached:] for one in after)

    def _run(self, embeds: Tensor, earlier: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        kept = DynamicCache()
        for number in range(len(earlier) // 2):
            kept.update(earlier[2 * number], earlier[2 * number + 1], number)
        output = cast("Any", self.language_model)(inputs_embeds=embeds[None], past_key_values=kept, use_cache=True)
        states = [tensor for layer in cast("Any", kept.layers) for tensor in (layer.keys, layer.values)]
        return self.head(output.last_hidden_state[0, -1]), states
