"""The waveform generator: HiFi-GAN (arXiv 2010.05646), style conditioned, with the slopes EMOVA uses.

Its receptive field is finite, so a waveform may be made in pieces that equal the whole: see `context_frames`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Pairs of convolutions (dilated, then plain) with residual sums; weight norm is folded."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            [
                nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)
                for dilation in dilations
            ]
        )
        self.convs2 = nn.ModuleList([nn.Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in dilations])

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channels, time) to the same."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            hidden = hidden + plain(F.leaky_relu(dilated(F.leaky_relu(hidden, 0.1)), 0.1))
        return hidden


class Generator(nn.Module):
    """Latent frames to samples.

    Args:
        channels: Of the latents.
        style_channels: Channels of the style.
        initial: Channels before the first upsampling; halved by each.
        rates: Factor of each upsampling; their product is the samples per frame.
        kernels: Kernel of each upsampling.
        block_kernels: Kernels of the residual blocks that follow each upsampling, averaged.
        block_dilations: Dilations of each residual block.
    """

    def __init__(
        self,
        channels: int,
        style_channels: int,
        *,
        initial: int,
        rates: Sequence[int],
        kernels: Sequence[int],
        block_kernels: Sequence[int],
        block_dilations: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        self.conv_pre = nn.Conv1d(channels, initial, 7, padding=3)
        self.cond = nn.Conv1d(style_channels, initial, 1)
        self.ups, self.stages = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(rates, kernels, strict=True):
            width = initial // 2
            self.ups.append(nn.ConvTranspose1d(initial, width, kernel, rate, padding=(kernel - rate) // 2))
            self.stages.append(
                nn.ModuleList([ResidualBlock(width, k, d) for k, d in zip(block_kernels, block_dilations, strict=True)])
            )
            initial = width
        self.conv_post = nn.Conv1d(initial, 1, 7, padding=3, bias=False)

    def forward(self, latents: Tensor, style: Tensor | None) -> Tensor:
        """Latents (batch, channels, frames), style (batch, style_channels, 1) or None, to (batch, 1, samples)."""
        hidden = self.conv_pre(latents)
        if style is not None:
            hidden = hidden + self.cond(style)
        for upsample, blocks in zip(self.ups, self.stages, strict=True):
            hidden = upsample(F.leaky_relu(hidden, 0.1))
            total = blocks[0](hidden)
            for block in blocks[1:]:
                total = total + block(hidden)
            hidden = total / len(blocks)
        # The last slope is 0.01, not 0.1.
        return torch.tanh(self.conv_post(F.leaky_relu(hidden, 0.01)))

    @property
    def context_frames(self) -> int:
        """Frames on each side that a frame's samples depend on: 13 as released."""
        left = right = self.conv_post.kernel_size[0] // 2
        for upsample, blocks in zip(reversed(self.ups), reversed(self.stages), strict=True):
            reach = max(_reach(block) for block in blocks)
            kernel, rate, padding = upsample.kernel_size[0], upsample.stride[0], upsample.padding[0]
            left = (left + reach - padding + kernel - 1) // rate
            right = (right + reach + padding - 1) // rate + 1
        return max(left, right) + self.conv_pre.kernel_size[0] // 2


def _reach(block: ResidualBlock) -> int:
    """Samples on each side that a residual block's output depends on."""
    return sum((conv.kernel_size[0] - 1) * conv.dilation[0] // 2 for convs in (block.convs1, block.convs2) for conv in convs)
