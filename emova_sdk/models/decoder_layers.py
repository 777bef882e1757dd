"""The layers of a Llama-shaped language model with fused weights, and the keys and values they read and write.

Query, key and value are one product, gate and up another; rotary tables are computed once. On a CPU the weights are stored
transposed, which a matrix-vector product reads about twice as fast when it widens; parameters become views of that storage,
so nothing is held twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional

_SCRATCH = 64


class KeyValues:
    """Keys and values of one conversation, in buffers that grow by doubling.

    Attributes:
        length: positions that are filled.
    """

    def __init__(self, layers: int, heads: int, head_size: int, *, like: torch.Tensor, capacity: int = 256) -> None:
        self.length = 0
        self.buffer = like.new_zeros(layers, 2, heads, capacity, head_size)

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self.buffer.shape[3]

    def reserve(self, length: int) -> None:
        """Make room for `length` positions, keeping what is filled."""
        if length <= self.capacity:
            return
        grown = self.buffer.new_zeros(*self.buffer.shape[:3], max(length, 2 * self.capacity), self.buffer.shape[4])
        grown[:, :, :, : self.length] = self.buffer[:, :, :, : self.length]
        self.buffer = grown

    def copy(self, length: int) -> KeyValues:
        """The first `length` positions, in buffers of their own."""
        layers, _, heads, _, head_size = self.buffer.shape
        twin = KeyValues(layers, heads, head_size, like=self.buffer, capacity=max(256, 2 * length))
        twin.buffer[:, :, :, :length] = self.buffer[:, :, :, :length]
        twin.length = length
        return twin


class Layer(NamedTuple):
    """Parameters of one layer, fused."""

    norm1: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    out: torch.Tensor
    out_bias: torch.Tensor | None
    norm2: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class FusedLayers:
    """Weights of a language model's layers and what they compute before and after the attention.

    Args:
        language_model: Qwen2, Llama or Mistral of transformers, without its head.
        head: the head.
    """

    def __init__(self, language_model: nn.Module, head: nn.Linear) -> None:
        config: Any = language_model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.norm = cast("torch.Tensor", cast("Any", language_model.norm).weight)
        self._rotary: Any = language_model.rotary_emb
        transposed = self.norm.device.type == "cpu"
        self.layers = [_fuse(layer, transposed=transposed) for layer in cast("Any", language_model).layers]
        self.head = head
        tied = head.weight is cast("Any", language_model).embed_tokens.weight
        if transposed and not tied:
            _store(head.weight, _transposed(head.weight.data))
        # A tied table must stay row by row for the embedding; the head then reads a second, transposed copy of a small
        # table, and the table itself when it is large.
        small = head.weight.numel() <= 16_000_000
        self.head_weight = _transposed(head.weight.data) if transposed and tied and small else head.weight.data
        self._angles = self._table(_SCRATCH)

    def tables(self, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the first positions, `longest` at least, each (positions, head_size)."""
        if longest > self._angles[0].shape[0]:
            self._angles = self._table(max(longest, 2 * self._angles[0].shape[0]))
        return self._angles

    def project(
        self, layer: Layer, hidden: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values (heads, positions, head_size) of (positions, hidden_size)."""
        normed = functional.rms_norm(hidden, self.norm.shape, layer.norm1, self.eps)
        joint = functional.linear(normed, layer.qkv, layer.qkv_bias).view(len(hidden), -1, self.head_size).transpose(0, 1)
        turned = joint[: self.heads + self.kv_heads]
        half = self.head_size // 2
        swapped = torch.cat((-turned[..., half:], turned[..., :half]), -1)
        turned = turned * angles[0] + swapped * angles[1]
        return turned[: self.heads], turned[self.heads :], joint[self.heads + self.kv_heads :]

    def mix(self, layer: Layer, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """What follows the attention of a layer: (positions, hidden_size) and the mixed values to the same."""
        hidden = hidden + functional.linear(mixed, layer.out, layer.out_bias)
        normed = functional.rms_norm(hidden, self.norm.shape, layer.norm2, self.eps)
        gate, up = functional.linear(normed, layer.gate_up).chunk(2, -1)
        return hidden + functional.linear(functional.silu(gate) * up, layer.down)

    def _table(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of positions 0 to `length`, each (length, head_size)."""
        positions = torch.arange(length, device=self.norm.device)[None]
        cos, sin = self._rotary(self.norm, positions)
        return cos[0], sin[0]


def _fuse(layer: Any, *, transposed: bool) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    biases = [one.bias for one in projections]
    return Layer(
        norm1=layer.input_layernorm.weight.data,
        qkv=_fused([one.weight for one in projections], transposed=transposed),
        qkv_bias=None if biases[0] is None else torch.cat([bias.data for bias in biases]),
        out=_fused([attention.o_proj.weight], transposed=transposed),
        out_bias=None if attention.o_proj.bias is None else attention.o_proj.bias.data,
        norm2=layer.post_attention_layernorm.weight.data,
        gate_up=_fused([mlp.gate_proj.weight, mlp.up_proj.weight], transposed=transposed),
        down=_fused([mlp.down_proj.weight], transposed=transposed),
    )


def _fused(weights: list[nn.Parameter], *, transposed: bool) -> torch.Tensor:
    """One matrix of several, whose parameters become views of it; transposed in memory where that is read faster."""
    joint = torch.cat([weight.data for weight in weights]) if len(weights) > 1 else weights[0].data
    wide = joint.shape[0] > joint.shape[1]
    joint = _transposed(joint) if transposed and wide else joint
    start = 0
    for weight in weights:
        rows = weight.shape[0]
        _store(weight, joint[start : start + rows])
        start += rows
    return joint


def _transposed(matrix: torch.Tensor) -> torch.Tensor:
    """The same matrix, its columns contiguous."""
    return matrix.t().contiguous().t()


def _store(parameter: nn.Parameter, storage: torch.Tensor) -> None:
    parameter.data = storage
