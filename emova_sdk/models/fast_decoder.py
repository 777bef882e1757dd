"""Decoding one conversation at a time, fast: the layers of a Llama-shaped language model without the model around them.

At batch 1 and small sizes, a transformers forward pass spends most of its time outside the matrix products. `FastDecoder`
runs the same arithmetic over the model's own parameters with preallocated keys and values, fused query/key/value and
gate/up products, and rotary tables computed once. On a CPU the weights are stored transposed, which a matrix-vector product
reads about twice as fast when it widens; parameters become views of that storage, so nothing is held twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

_ROPE_TYPES = {"default", "llama3", "linear", "yarn"}
_ARCHITECTURES = {"Qwen2Model", "LlamaModel", "MistralModel"}
_SCRATCH = 64


class KeyValues:
    """Keys and values of one conversation, in buffers that grow by doubling.

    Attributes:
        length: positions that are filled.
    """

    def __init__(self, layers: int, heads: int, head_size: int, *, like: torch.Tensor, capacity: int = 256) -> None:
        self.length = 0
        self.buffer = like.new_empty(layers, 2, heads, capacity, head_size)

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self.buffer.shape[3]

    def reserve(self, length: int) -> None:
        """Make room for `length` positions, keeping what is filled."""
        if length <= self.capacity:
            return
        grown = self.buffer.new_empty(*self.buffer.shape[:3], max(length, 2 * self.capacity), self.buffer.shape[4])
        grown[:, :, :, : self.length] = self.buffer[:, :, :, : self.length]
        self.buffer = grown

    def copy(self, length: int) -> KeyValues:
        """The first `length` positions, in buffers of their own."""
        layers, _, heads, _, head_size = self.buffer.shape
        twin = KeyValues(layers, heads, head_size, like=self.buffer, capacity=max(256, 2 * length))
        twin.buffer[:, :, :, :length] = self.buffer[:, :, :, :length]
        twin.length = length
        return twin


@dataclass
class _Layer:
    """Parameters of one layer, fused."""

    norm1: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    out: torch.Tensor
    out_bias: torch.Tensor | None
    norm2: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class FastDecoder:
    """The layers of a language model, run for one conversation at a time.

    Building it moves the model's weights into fused storage; the model stays usable and its parameters keep their values.

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
        start, stop = cache.length, cache.length + len(embeds)
        cache.reserve(stop)
        if stop > self._angles[0].shape[0]:
            self._angles = self._table(max(stop, 2 * self._angles[0].shape[0]))
        cos, sin = self._angles[0][start:stop], self._angles[1][start:stop]
        mask = None
        if len(embeds) > 1 and start > 0:
            mask = torch.ones(len(embeds), stop, dtype=torch.bool, device=embeds.device).tril_(start)
        hidden = embeds
        for layer, (keys, values) in zip(self.layers, cache.buffer, strict=True):
            mixed = self._attend(layer, hidden, keys, values, (start, stop), (cos, sin), mask)
            hidden = hidden + functional.linear(mixed, layer.out, layer.out_bias)
            normed = functional.rms_norm(hidden, self.norm.shape, layer.norm2, self.eps)
            gate, up = functional.linear(normed, layer.gate_up).chunk(2, -1)
            hidden = hidden + functional.linear(functional.silu(gate) * up, layer.down)
        cache.length = stop
        return functional.rms_norm(hidden[-1], self.norm.shape, self.norm, self.eps)

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """(hidden_size,) -> (vocabulary,)."""
        return functional.linear(state, self.head_weight)

    def _attend(  # noqa: PLR0917 - one call, made for every layer and token
        self,
        layer: _Layer,
        hidden: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        place: tuple[int, int],
        angles: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        start, stop = place
        normed = functional.rms_norm(hidden, self.norm.shape, layer.norm1, self.eps)
        joint = functional.linear(normed, layer.qkv, layer.qkv_bias).view(len(hidden), -1, self.head_size).transpose(0, 1)
        turned = joint[: self.heads + self.kv_heads]
        half = self.head_size // 2
        swapped = torch.cat((-turned[..., half:], turned[..., :half]), -1)
        turned = turned * angles[0] + swapped * angles[1]
        keys[:, start:stop] = turned[self.heads :]
        values[:, start:stop] = joint[self.heads + self.kv_heads :]
        query = turned[None, : self.heads]
        mixed = functional.scaled_dot_product_attention(
            query,
            keys[None, :, :stop],
            values[None, :, :stop],
            attn_mask=mask,
            is_causal=mask is None and len(hidden) > 1,
            enable_gqa=self.heads != self.kv_heads,
        )
        return mixed[0].transpose(0, 1).reshape(len(hidden), -1)

    def _table(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of positions 0 to `length`, each (length, head_size)."""
        positions = torch.arange(length, device=self.norm.device)[None]
        cos, sin = self._rotary(self.norm, positions)
        return cos[0], sin[0]


def _fuse(layer: Any, *, transposed: bool) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    biases = [one.bias for one in projections]
    return _Layer(
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
