"""How long each unit lasts: the stochastic duration predictor of VITS (arXiv 2106.06103), sampling direction.

Layout is (batch, channels, time). Noise is an argument, so the same noise gives the same durations.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BOUND = 5.0
_BINS = 10
_LEAST = 1e-3


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (batch, channels, time)."""

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channels, time) to the same."""
        return super().forward(hidden.transpose(1, 2)).transpose(1, 2)


class SeparableConvs(nn.Module):
    """Three residual layers of a depthwise convolution of growing dilation and a 1x1 convolution."""

    def __init__(self, channels: int, kernel: int, layers: int = 3) -> None:
        super().__init__()
        self.depthwise, self.pointwise = nn.ModuleList(), nn.ModuleList()
        self.norms1, self.norms2 = nn.ModuleList(), nn.ModuleList()
        for layer in range(layers):
            dilation = kernel**layer
            padding = (kernel * dilation - dilation) // 2
            self.depthwise.append(nn.Conv1d(channels, channels, kernel, groups=channels, dilation=dilation, padding=padding))
            self.pointwise.append(nn.Conv1d(channels, channels, 1))
            self.norms1.append(ChannelNorm(channels))
            self.norms2.append(ChannelNorm(channels))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(batch, channels, time) and mask (batch, 1, time) to (batch, channels, time)."""
        layers = zip(self.depthwise, self.norms1, self.pointwise, self.norms2, strict=True)
        for depthwise, norm1, pointwise, norm2 in layers:
            step = F.gelu(norm1(depthwise(hidden * mask)))
            hidden = hidden + F.gelu(norm2(pointwise(step)))
        return hidden * mask


def _knots(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Raw bin sizes (..., bins) to knots (..., bins + 1) on [-bound, bound] and the sizes between them."""
    sizes = _LEAST + (1 - _LEAST * _BINS) * torch.softmax(raw, -1)
    inner = 2 * _BOUND * torch.cumsum(sizes, -1)[..., :-1] - _BOUND
    # The ends are exact by definition, whatever the sum rounds to.
    knots = F.pad(F.pad(inner, (1, 0), value=-_BOUND), (0, 1), value=_BOUND)
    return knots, knots[..., 1:] - knots[..., :-1]


def inverse_spline(values: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor) -> Tensor:
    """Inverse of a monotonic rational-quadratic spline on [-5, 5], the identity outside.

    Formula: neural spline flows, arXiv 1906.04032, section 3.1. Evaluated everywhere and selected afterwards, without
    boolean indexing, so that the function can be exported.

    Args:
        values: (...).
        widths: Raw widths (..., 10).
        heights: Raw heights (..., 10).
        slopes: Raw slopes of the 9 inner knots (..., 9); the end slopes are 1.

    Returns:
        (...).
    """
    inside = (values >= -_BOUND) & (values <= _BOUND)
    target = values.clamp(-_BOUND, _BOUND)[..., None]
    knots_x, bins_x = _knots(widths)
    knots_y, bins_y = _knots(heights)
    end = math.log(math.exp(1 - _LEAST) - 1)
    slopes = _LEAST + F.softplus(F.pad(slopes, (1, 1), value=end))

    above = target >= F.pad(knots_y[..., :-1], (0, 1), value=_BOUND + 1e-6)
    index = above.sum(-1, keepdim=True) - 1
    x, width, y, height, slope, next_slope = (
        table.gather(-1, index) for table in (knots_x, bins_x, knots_y, bins_y, slopes, slopes[..., 1:])
    )
    steep = height / width
    bend = slope + next_slope - 2 * steep
    offset = target - y
    a = offset * bend + height * (steep - slope)
    b = height * slope - offset * bend
    c = -steep * offset
    root = 2 * c / (-b - torch.sqrt(b * b - 4 * a * c))
    return torch.where(inside, (root * width + x)[..., 0], values)


class SplineCoupling(nn.Module):
    """One coupling layer: the first channel decides the spline that bends the second."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.channels = channels
        self.pre = nn.Conv1d(1, channels, 1)
        self.convs = SeparableConvs(channels, kernel)
        self.proj = nn.Conv1d(channels, 3 * _BINS - 1, 1)

    def forward(self, pair: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
        """Inverse direction: pair (batch, 2, time), mask (batch, 1, time), hidden (batch, channels, time) to a pair."""
        kept, bent = pair[:, :1], pair[:, 1:]
        shape = self.proj(self.convs(self.pre(kept) + hidden, mask)) * mask
        widths, heights, slopes = shape.transpose(1, 2)[:, None].split([_BINS, _BINS, _BINS - 1], -1)
        scale = math.sqrt(self.channels)
        bent = inverse_spline(bent, widths / scale, heights / scale, slopes)
        return torch.cat([kept, bent], 1) * mask


class Affine(nn.Module):
    """Elementwise shift and scale of the two channels, inverse direction."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros(2, 1))
        self.logs = nn.Parameter(torch.zeros(2, 1))

    def forward(self, pair: Tensor, mask: Tensor) -> Tensor:
        """(batch, 2, time) to the same."""
        return (pair - self.m) * torch.exp(-self.logs) * mask


class DurationPredictor(nn.Module):
    """Noise to log-durations, conditioned on the encoded units and the style.

    Only what sampling needs: the first coupling and the posterior of the training side are left out.
    """

    def __init__(self, channels: int, kernel: int, style_channels: int) -> None:
        super().__init__()
        self.pre, self.proj = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)
        self.convs = SeparableConvs(channels, kernel)
        self.cond = nn.Conv1d(style_channels, channels, 1)
        self.affine = Affine()
        # In the order of sampling.
        self.couplings = nn.ModuleList([SplineCoupling(channels, kernel) for _ in range(3)])

    def forward(self, hidden: Tensor, mask: Tensor, noise: Tensor, style: Tensor | None) -> Tensor:
        """Sample log-durations in frames.

        Args:
            hidden: Encoded units (batch, channels, time).
            mask: (batch, 1, time).
            noise: Scaled standard normal noise (batch, 2, time).
            style: (batch, style_channels, 1), or None for the unconditional path.

        Returns:
            (batch, 1, time).
        """
        hidden = self.pre(hidden)
        if style is not None:
            hidden = hidden + self.cond(style)
        hidden = self.proj(self.convs(hidden, mask)) * mask
        for coupling in self.couplings:
            noise = coupling(noise.flip(1), mask, hidden)
        return self.affine(noise.flip(1), mask)[:, :1]
