"""The normalising flow of VITS (arXiv 2106.06103) and its posterior encoder. Layout (batch, channels, time)."""

import torch
from torch import Tensor, nn


class WaveNet(nn.Module):
    """Gated convolutions with residual and skip paths; weight norm is folded.

    Args:
        channels: Channels in and out.
        kernel: Kernel of the gated convolutions, dilation 1.
        layers: How many.
        style_channels: Channels of the condition.
    """

    def __init__(self, channels: int, kernel: int, layers: int, style_channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.cond_layer = nn.Conv1d(style_channels, 2 * channels * layers, 1)
        self.in_layers = nn.ModuleList([nn.Conv1d(channels, 2 * channels, kernel, padding=kernel // 2) for _ in range(layers)])
        widths = [2 * channels] * (layers - 1) + [channels]
        self.res_skip_layers = nn.ModuleList([nn.Conv1d(channels, width, 1) for width in widths])

    def forward(self, hidden: Tensor, mask: Tensor, style: Tensor | None) -> Tensor:
        """(batch, channels, time) to the same; style (batch, style_channels, 1) or None."""
        layers = len(self.in_layers)
        conditions = [None] * layers if style is None else self.cond_layer(style).chunk(layers, 1)
        total = torch.zeros_like(hidden)
        for index, (convolve, split) in enumerate(zip(self.in_layers, self.res_skip_layers, strict=True)):
            gates = convolve(hidden)
            if conditions[index] is not None:
                gates = gates + conditions[index]
            left, right = gates.chunk(2, 1)
            mixed = split(torch.tanh(left) * torch.sigmoid(right))
            if index == layers - 1:
                total = total + mixed
            else:
                residual, skip = mixed.chunk(2, 1)
                hidden, total = (hidden + residual) * mask, total + skip
        return total * mask


class MeanCoupling(nn.Module):
    """Coupling that only shifts: the first half of the channels decides the shift of the second."""

    def __init__(self, channels: int, hidden: int, kernel: int, layers: int, style_channels: int) -> None:
        super().__init__()
        self.pre = nn.Conv1d(channels // 2, hidden, 1)
        self.enc = WaveNet(hidden, kernel, layers, style_channels)
        self.post = nn.Conv1d(hidden, channels // 2, 1)

    def forward(self, latents: Tensor, mask: Tensor, style: Tensor | None, *, reverse: bool) -> Tensor:
        """(batch, channels, time) to the same, in either direction."""
        kept, moved = latents.chunk(2, 1)
        shift = self.post(self.enc(self.pre(kept) * mask, mask, style)) * mask
        moved = (moved - shift) * mask if reverse else shift + moved * mask
        return torch.cat([kept, moved], 1)


class Flow(nn.Module):
    """Couplings with all channels flipped between them.

    Args:
        channels: Of the latents, even.
        hidden: Width of the couplings.
        style_channels: Channels of the style.
        couplings: How many.
        kernel: Of their gated convolutions.
        layers: Of each coupling.
    """

    def __init__(
        self, channels: int, hidden: int, style_channels: int, *, couplings: int = 4, kernel: int = 5, layers: int = 4
    ) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(
            [MeanCoupling(channels, hidden, kernel, layers, style_channels) for _ in range(couplings)]
        )
        self.context_frames = couplings * layers * (kernel // 2)
        """Frames on each side that a latent depends on (32 as released): enough for an exact evaluation in pieces."""

    def forward(self, latents: Tensor, mask: Tensor, style: Tensor | None) -> Tensor:
        """Posterior to prior, as in training: (batch, channels, frames) and mask (batch, 1, frames) to the same."""
        for coupling in self.couplings:
            latents = coupling(latents, mask, style, reverse=False).flip(1)
        return latents

    def reverse(self, latents: Tensor, mask: Tensor, style: Tensor | None) -> Tensor:
        """Prior to posterior, as in synthesis: (batch, channels, frames) and mask (batch, 1, frames) to the same."""
        for coupling in reversed(self.couplings):
            latents = coupling(latents.flip(1), mask, style, reverse=True)
        return latents


class PosteriorEncoder(nn.Module):
    """Linear spectrogram to latents; the training side only.

    Args:
        bins: Of the spectrogram.
        hidden: Width.
        channels: Of the latents.
        style_channels: Channels of the style.
    """

    def __init__(self, bins: int, hidden: int, channels: int, style_channels: int) -> None:
        super().__init__()
        self.pre = nn.Conv1d(bins, hidden, 1)
        self.enc = WaveNet(hidden, 5, 16, style_channels)
        self.proj = nn.Conv1d(hidden, 2 * channels, 1)

    def forward(self, spectrogram: Tensor, mask: Tensor, noise: Tensor, style: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Sample latents.

        Args:
            spectrogram: (batch, bins, frames).
            mask: (batch, 1, frames).
            noise: Standard normal (batch, channels, frames).
            style: (batch, style_channels, 1) or None.

        Returns:
            Latents, mean and log of the deviation, each (batch, channels, frames).
        """
        hidden = self.enc(self.pre(spectrogram) * mask, mask, style)
        mean, logstd = (self.proj(hidden) * mask).chunk(2, 1)
        return (mean + noise * torch.exp(logstd)) * mask, mean, logstd
