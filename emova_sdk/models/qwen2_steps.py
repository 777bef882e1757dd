"""A Qwen2 decoder for one sequence, stripped to the matrix products: what a small model on a CPU spends its time on.

The transformers class spends several times longer on bookkeeping than on arithmetic when a token passes six small layers.
`Qwen2Steps` reads the same weights and computes the same logits (Qwen2: RMS norm, rotary positions, grouped-query attention,
gated SiLU; arXiv 2407.10671).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Qwen2Steps(nn.Module):
    """Qwen2 weights, arranged for single steps.

    Args:
        weights: State dict of a transformers ``Qwen2Model``; the head is tied to ``embed_tokens``.
        heads: Attention heads, as ``shared`` is the number of key and value heads.
        eps: Of the norms.
        theta: Base of the rotary angles.
        longest: Most positions.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        *,
        heads: int,
        shared: int,
        eps: float = 1e-6,
        theta: float = 1e4,
        longest: int = 1024,
    ) -> None:
        super().__init__()
        self.heads, self.shared, self.eps, self.longest = heads, shared, eps, longest
        self.embed = nn.Buffer(weights["embed_tokens.weight"].detach().clone())
        self.norm = nn.Buffer(weights["norm.weight"].detach().clone())
        count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
        self.layers: list[tuple[Tensor, ...]] = []
        for layer in range(count):
            part = {name.removeprefix(f"layers.{layer}."): value.detach() for name, value in weights.items()}
            qkv = [f"self_attn.{kind}_proj" for kind in "qkv"]
            self.layers.append(
                (
                    part["input_layernorm.weight"].clone(),
                    torch.cat([part[f"{name}.weight"] for name in qkv]),
                    torch.cat([part[f"{name}.bias"] for name in qkv]),
                    part["self_attn.o_proj.weight"].clone(),
                    part["post_attention_layernorm.weight"].clone(),
                    torch.cat([part["mlp.gate_proj.weight"], part["mlp.up_proj.weight"]]),
                    part["mlp.down_proj.weight"].clone(),
                )
            )
        self.head_size = self.layers[0][3].shape[1] // heads
        places = torch.arange(longest).float()[:, None]
        angles = places / theta ** (torch.arange(0, self.head_size, 2).float() / self.head_size)
        self.cosine = nn.Buffer(torch.cat([angles.cos()] * 2, -1))
        half = angles.sin()
        self.sine = nn.Buffer(torch.cat([-half, half], -1))

    def forward(self, embeds: Tensor, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Read rows and return the logits after the last.

        Args:
            embeds: (rows, width) embeddings that come next.
            cache: Keys and values (heads, places, head size) of each layer; empty at first, extended here.

        Returns:
            (vocabulary,).
        """
        rows = embeds.shape[0]
        start = cache[0][0].shape[1] if cache else 0
        cosine, sine = self.cosine[start : start + rows], self.sine[start : start + rows]
        x = embeds
        for number, (norm1, qkv, bias, out, norm2, gate_up, down) in enumerate(self.layers):
            mixed = F.linear(F.rms_norm(x, (x.shape[1],), norm1, self.eps), qkv, bias)
            mixed = mixed.view(rows, self.heads + 2 * self.shared, self.head_size).transpose(0, 1)
            turned, value = mixed[: self.heads + self.shared], mixed[self.heads + self.shared :]
            turned = turned * cosine + turned.roll(self.head_size // 2, -1) * sine
            query, key = turned[: self.heads], turned[self.heads :]
            if number < len(cache):
                key = torch.cat([cache[number][0], key], 1)
                value = torch.cat([cache[number][1], value], 1)
                cache[number] = key, value
            else:
                cache.append((key, value))
            seen = self._attend(query, key, value, start)
            x = x + F.linear(seen.transpose(0, 1).reshape(rows, -1), out)
            gate, up = F.linear(F.rms_norm(x, (x.shape[1],), norm2, self.eps), gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, down)
        return F.linear(F.rms_norm(x[-1], (x.shape[1],), self.norm, self.eps), self.embed)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, start: int) -> Tensor:
        """Grouped-query attention of (heads, rows, size) to (shared, places, size); later places are hidden."""
        rows, places = query.shape[1], key.shape[1]
        group = self.heads // self.shared
        query = query.reshape(self.shared, group * rows, self.head_size)
        scores = query @ key.transpose(1, 2) * self.head_size**-0.5
        if rows > 1:
            hidden = torch.ones(rows, places, dtype=torch.bool, device=scores.device).triu(start + 1)
            scores = scores.view(self.shared, group, rows, places).masked_fill(hidden, float("-inf")).view_as(scores)
        return (scores.softmax(-1) @ value).reshape(self.heads, rows, self.head_size)
