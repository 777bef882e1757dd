"""DeepSeekMoE: a mixture of many small experts beside a shared one (arXiv 2401.06066).

The gate is a float32 softmax with greedy top-k; in training a sequence-level balance loss (equation 17 of DeepSeek-V2,
arXiv 2405.04434) adds its gradient without changing the reported loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class _AddGradient(torch.autograd.Function):
    """Identity on its first argument; the second receives a gradient of one, as if it had been added to the loss."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        ctx.dtype, ctx.device = loss.dtype, loss.device
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return gradients[0], torch.ones((), dtype=ctx.dtype, device=ctx.device)


class GatedMlp(nn.Module):
    """SiLU-gated MLP, as in Llama."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(..., dim) -> (..., dim)."""
        return self.down_proj(functional.silu(self.gate_proj(tokens)) * self.up_proj(tokens))


class Gate(nn.Module):
    """Chooses `top_k` experts for each token.

    Args:
        dim: width of the tokens.
        experts: routed experts.
        top_k: experts per token.
        renormalise: divide the chosen weights by their sum (`norm_topk_prob`).
        scale: factor on the weights (`routed_scaling_factor`).
        balance: weight of the balance loss in training (`aux_loss_alpha`).
        per_sequence: balance within each sequence (`seq_aux`) rather than over the batch.
    """

    def __init__(
        self,
        dim: int,
        experts: int,
        top_k: int,
        *,
        renormalise: bool = False,
        scale: float = 1.0,
        balance: float = 0.0,
        per_sequence: bool = True,
    ) -> None:
        super().__init__()
        self.top_k, self.renormalise, self.scale = top_k, renormalise, scale
        self.balance, self.per_sequence = balance, per_sequence
        self.weight = nn.Parameter(torch.empty(experts, dim))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Experts, weights and balance loss.

        Args:
            tokens: (sequences, length, dim).

        Returns:
            indices (sequences * length, top_k) int64, weights (same shape) float32, and the balance loss in training.
        """
        scores = functional.linear(tokens.flatten(0, 1).float(), self.weight.float()).softmax(-1)
        weights, indices = scores.topk(self.top_k, dim=-1, sorted=False)
        if self.renormalise and self.top_k > 1:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        weights = weights * self.scale
        loss = None
        if self.training and self.balance > 0:
            loss = self._balance_loss(scores, indices, sequences=len(tokens))
        return indices, weights, loss

    def _balance_loss(self, scores: torch.Tensor, indices: torch.Tensor, *, sequences: int) -> torch.Tensor:
        experts = scores.shape[-1]
        groups = sequences if self.per_sequence else 1
        chosen = functional.one_hot(indices, experts).sum(1).float().reshape(groups, -1, experts)
        load = chosen.mean(1) * (experts / self.top_k)
        return (load * scores.reshape(groups, -1, experts).mean(1)).sum(-1).mean() * self.balance


class DeepseekMoe(nn.Module):
    """Routed experts weighted by the gate, plus shared experts that every token passes."""

    def __init__(self, dim: int, hidden: int, *, experts: int, shared_experts: int | None, gate: Gate) -> None:
        super().__init__()
        self.experts = nn.ModuleList([GatedMlp(dim, hidden) for _ in range(experts)])
        self.gate = gate
        self.shared_experts = GatedMlp(dim, hidden * shared_experts) if shared_experts else None

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(sequences, length, dim) -> the same shape."""
        indices, weights, loss = self.gate(tokens)
        if loss is not None:
            weights = _AddGradient.apply(weights, loss)
        flat = tokens.flatten(0, 1)
        mixed = self._route(flat, indices, weights.to(tokens.dtype)).view_as(tokens)
        return mixed if self.shared_experts is None else mixed + self.shared_experts(tokens)

    def _route(self, flat: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        mixed = torch.zeros_like(flat)
        for index in indices.unique().tolist():
            rows, slots = (indices == index).nonzero(as_tuple=True)
            expert = self.experts[index]
            mixed = mixed.index_add(0, rows, expert(flat[rows]) * weights[rows, slots, None])
        return mixed
