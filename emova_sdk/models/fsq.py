"""Finite scalar quantisation: a few bounded numbers, each rounded to a few levels, make one unit id.

Paper: "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505). The constants are those of EMOVA's
speech tokenizer, whose units this code book must reproduce: see `FSQ`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FSQ(nn.Module):
    """A code book without parameters: one id per vector of `len(levels)` numbers.

    With L levels and `eps` per dimension: half = (L - 1)(1 - eps) / 2, offset = 1/2 for even L else 0,
    shift = tan(offset / half), bounded = tanh(z + shift) * half - offset, q = round(bounded) (half to even),
    code = q / (L // 2). The id is mixed radix, dimension 0 the least significant digit.

    Args:
        levels: Levels per dimension, e.g. `(8, 8, 8, 8)` for 4096 units. Each at least 2.
        eps: How far the outermost levels stay inside the open interval of tanh.
    """

    def __init__(self, levels: Sequence[int], *, eps: float = 1e-3) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"FSQ needs at least one dimension and two levels in each, got `{list(levels)}`")
        self.levels = tuple(int(level) for level in levels)
        """Levels per dimension."""
        self.size = math.prod(self.levels)
        """Number of ids."""
        count = torch.tensor(self.levels, dtype=torch.float64)
        half = (count - 1) * (1 - eps) / 2
        offset = torch.where(count % 2 == 0, 0.5, 0.0).double()
        basis = torch.cumprod(torch.tensor((1, *self.levels[:-1])), 0)
        self.register_buffer("scale", half.float(), persistent=False)
        self.register_buffer("offset", offset.float(), persistent=False)
        self.register_buffer("shift", torch.tan(offset / half).float(), persistent=False)
        self.register_buffer("middle", torch.tensor(self.levels) // 2, persistent=False)
        self.register_buffer("count", torch.tensor(self.levels), persistent=False)
        self.register_buffer("basis", basis, persistent=False)

    def bound(self, latents: Tensor) -> Tensor:
        """Squash latents (..., dims) into the range that rounds to the levels; float, same shape."""
        return torch.tanh(latents + self.shift) * self.scale - self.offset

    def forward(self, latents: Tensor) -> Tensor:
        """Quantise latents (..., dims) to codes in [-1, 1), same shape and dtype.

        Rounding passes the gradient straight through (the derivative of rounding is taken as 1).
        """
        bounded = self.bound(latents)
        rounded = torch.round(bounded)
        if bounded.requires_grad:
            rounded = bounded + (rounded - bounded).detach()
        return rounded / self.middle

    def settled(self, latents: Tensor, *, margin: float = 0.1) -> Tensor:
        """Which of latents (..., dims) have no number within `margin` of a level of where it is rounded otherwise, (...)."""
        place = self.bound(latents)
        return ((place - place.floor() - 0.5).abs() > margin).all(-1)

    def codes_to_ids(self, codes: Tensor) -> Tensor:
        """Codes (..., dims) as made by `forward` to ids (...), int64."""
        digits = torch.round(codes * self.middle).long() + self.middle
        return (digits * self.basis).sum(-1)

    def ids_to_codes(self, ids: Tensor) -> Tensor:
        """Ids (...) in [0, size) to codes (..., dims), float32."""
        digits = (ids.unsqueeze(-1) // self.basis) % self.count
        return (digits - self.middle).to(self.scale.dtype) / self.middle

    def encode(self, latents: Tensor) -> Tensor:
        """Latents (..., dims) to ids (...), int64; no gradient."""
        return self.codes_to_ids(self.forward(latents.detach()))
