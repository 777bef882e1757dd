"""The ear of emova-nano: log-mel frames to 25 discrete units a second, close to phones.

A small conformer (Gulati et al., arXiv 2005.08100) before finite scalar quantisation, and phone readers behind it. One
reader sees a single unit, so that a unit by itself says which phone it belongs to; the other sees its neighbours and is
trained with CTC. Both are there for training and measurement; units need only the encoder.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emova_sdk.models.fsq import FSQ
from nano_recipe.networks.blocks import ConvBlock
from nano_recipe.networks.features import BANDS

STRIDE = 4
"""Frames of 10 ms per unit."""


class ConformerBlock(nn.Module):
    """Half feed-forward, self-attention, gated depthwise convolution, half feed-forward; all pre-norm, residual."""

    def __init__(self, width: int, *, heads: int = 4, kernel: int = 15, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.forward_in = _feed_forward(width, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.conv_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.depth_norm = nn.LayerNorm(width)
        self.conv_out = nn.Linear(width, width)
        self.forward_out = _feed_forward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, time, width) to the same; `mask` (batch, time) is True where there is sound."""
        x = x + 0.5 * self.forward_in(x)
        batch, time, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        x = x + self.dropout(self.attention_out(heard.transpose(1, 2).reshape(batch, time, width)))
        gated = F.glu(self.gate(self.conv_norm(x)), dim=-1) * mask[..., None]
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        x = x + self.dropout(self.conv_out(F.silu(self.depth_norm(mixed))))
        return x + 0.5 * self.forward_out(x)


def _feed_forward(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(3 * width, width)
    )


class NanoTokenizer(nn.Module):
    """Log-mel to units.

    Args:
        width: Channels.
        blocks: Conformer blocks.
        levels: FSQ levels per dimension.
        phones: Phone classes of the readers, silence included; CTC's blank is silence, class 0.
        dropout: In training.
    """

    def __init__(
        self,
        *,
        width: int = 128,
        blocks: int = 4,
        levels: Sequence[int] = (4, 4, 4, 4),
        phones: int = 40,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv1d(BANDS, width, 5, stride=2, padding=2)
        self.conv_down = nn.Conv1d(width, width, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(ConformerBlock(width, dropout=dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.early_reader = nn.Linear(width, phones)
        self.to_latent = nn.Linear(width, len(levels))
        self.fsq = FSQ(levels)
        self.unit_reader = nn.Sequential(nn.Linear(len(levels), 128), nn.SiLU(), nn.Linear(128, phones))
        self.context_in = nn.Conv1d(len(levels), width, 3, padding=1)
        self.context_mid = nn.Conv1d(width, width, 5, padding=2)
        self.context_blocks = nn.ModuleList(ConvBlock(width, kernel=7) for _ in range(3))
        self.context_out = nn.Linear(width, phones)
        for block in self.context_blocks:  # begin as if they were not there: the units settle first
            nn.init.zeros_(block.narrow.weight)
            nn.init.zeros_(block.narrow.bias)

    def hidden(self, mel: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (batch, frames, 80) with `frames` (batch,) real ones to states (batch, units, width) and their mask."""
        layers, mask = self.layers(mel, frames)
        return self.norm(layers[-1]), mask

    def layers(self, mel: Tensor, frames: Tensor) -> tuple[list[Tensor], Tensor]:
        """The same, before the last norm: states behind the convolutions and behind each block, and the mask of all."""
        real = torch.arange(mel.shape[1], device=mel.device) < frames[:, None]
        x = _normalised(mel, real)
        x = F.silu(self.conv_in(x.transpose(1, 2)))
        half = torch.arange(x.shape[2], device=mel.device) < ((frames + 1) // 2)[:, None]
        x = F.silu(self.conv_down(x * half[:, None]))
        mask = torch.arange(x.shape[2], device=mel.device) < ((frames + 3) // 4)[:, None]
        found = [x.transpose(1, 2) * mask[..., None]]
        for block in self.blocks:
            found.append(block(found[-1], mask))
        return found, mask

    def latents(self, mel: Tensor, frames: Tensor) -> Tensor:
        """Log-mel to what is quantised, (batch, units, dims)."""
        return self.to_latent(self.hidden(mel, frames)[0])

    def read(self, codes: Tensor) -> Tensor:
        """Phone logits (batch, units, phones) of code sequences (batch, units, dims), with context."""
        x = F.silu(self.context_in(codes.transpose(1, 2)))
        x = x + F.silu(self.context_mid(x))
        x = x.transpose(1, 2)
        for block in self.context_blocks:
            x = block(x)
        return self.context_out(x)

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel (batch, frames, 80), nothing padded, to unit ids (batch, ceil(frames / 4)), int64."""
        frames = torch.full((mel.shape[0],), mel.shape[1], device=mel.device)
        return self.fsq.codes_to_ids(self.fsq(self.latents(mel, frames)))


def _normalised(mel: Tensor, real: Tensor) -> Tensor:
    """Zero mean and unit variance per band over the real frames; padding becomes zero."""
    weight = real[..., None].to(mel.dtype)
    count = weight.sum(1, keepdim=True)
    mean = (mel * weight).sum(1, keepdim=True) / count
    variance = ((mel - mean).square() * weight).sum(1, keepdim=True) / count
    return (mel - mean) / torch.sqrt(variance + 0.1) * weight
