"""The eyes of emova-nano: a convolutional stem and a small transformer, 64 x 64 pixels to 4 x 4 tokens."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm attention and feed-forward, as in ViT (Dosovitskiy et al. 2021)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, tokens, width) to the same shape."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class NanoVisionTower(nn.Module):
    """Pixels to features.

    Args:
        width: Dimensions of a feature.
        layers: Transformer blocks.
        heads: Attention heads.
        channels: Of the three convolutions before the one that yields tokens.
    """

    def __init__(
        self, *, width: int = 128, layers: int = 3, heads: int = 4, channels: tuple[int, int, int] = (32, 48, 96)
    ) -> None:
        super().__init__()
        sizes = (3, *channels, width)
        stem: list[nn.Module] = []
        for before, after in pairwise(sizes):
            stem += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.GELU()]
        self.stem = nn.Sequential(*stem)
        self.place = nn.Parameter(torch.randn(16, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map float pixels (batch, 3, 64, 64) in [0, 1] to features (batch, 16, width), row by row."""
        x = self.stem(pixels * 2 - 1).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class CellHeads(nn.Module):
    """What each cell holds, read linearly off its feature: the dense targets of pretraining.

    Outputs 15 numbers a cell: occupied (1), colour (6), shape (4), size (2), offset of the centre (2).
    """

    sizes = (1, 6, 4, 2, 2)

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.read = nn.Linear(width, sum(self.sizes))

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Map (batch, 16, width) to the five groups, each (batch, 16, group)."""
        return self.read(features).split(self.sizes, dim=-1)
