"""Muon for processors without instructions for bfloat16, in which PyTorch's own orthogonalises."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from emova_sdk.processor import processor


class Muon(torch.optim.Muon):
    """Muon (Jordan et al. 2024): momentum whose singular values are all made about one.

    It is `torch.optim.Muon`, with the same state, except that the iteration runs in float32 where bfloat16 has no instructions:
    a thirtieth of the time.
    Arguments are those of `torch.optim.Muon`.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Change the weights by their gradients."""
        if not processor().slow_in_bfloat16:
            return super().step(closure)
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)
        return loss

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        rate, momentum, state = float(group["lr"]), group["momentum"], self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        kept: Tensor = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = gradient.lerp(kept, momentum) if group["nesterov"] else kept
        update = orthogonalized(update, group["ns_coefficients"], steps=group["ns_steps"], eps=group["eps"])
        rows, columns = weight.shape
        matched = group["adjust_lr_fn"] == "match_rms_adamw"
        scale = 0.2 * max(rows, columns) ** 0.5 if matched else max(1.0, rows / columns) ** 0.5
        weight.mul_(1 - rate * group["weight_decay"]).add_(update, alpha=-rate * scale)


def orthogonalized(matrix: Tensor, coefficients: tuple[float, float, float], *, steps: int, eps: float) -> Tensor:
    """Bring the singular values of a matrix (rows, columns) near one by Newton and Schulz's iteration, of fifth order."""
    linear, cubic, quintic = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), x, beta=linear)
    return x.T if tall else x
