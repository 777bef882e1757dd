"""Vision towers with their projectors, written so that an exporter can follow them: pixels in, rows of embeddings out."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emova_sdk.models.vision_tower import VisionTower


class NativeVision(nn.Module):
    """Qwen2-VL's tower over any number of pictures of any sizes, with no shape that depends on values.

    Which picture a patch belongs to, and where in it, follows from its number by comparing and dividing; patches of other
    pictures or frames are masked. Memory grows with the square of all patches together.

    Args:
        tower: A `Qwen2Tower`.
        projector: Its projector.
    """

    def __init__(self, tower: VisionTower, projector: nn.Module) -> None:
        super().__init__()
        self.network, self.projector = cast("Any", tower.network), projector
        self.merge = int(self.network.spatial_merge_size)

    def forward(self, pixels: Tensor, grids: Tensor) -> Tensor:
        """Patches (patches, values) and grids (pictures, 3), int64, to rows (patches / merge², width)."""
        places, segments = self._layout(pixels.shape[0], grids)
        hidden = self.network.patch_embed(pixels)
        cosine, sine = self.network.rotary_pos_emb(hidden, places)
        seen = segments[:, None] == segments[None]
        for block in self.network.blocks:
            hidden = hidden + _attended(block.attn, block.norm1(hidden), cosine, sine, seen)
            hidden = hidden + block.mlp(block.norm2(hidden))
        return self.projector(self.network.merger(hidden))

    def _layout(self, patches: int, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column (patches, 2) of each patch, and the number (patches,) of its picture and frame."""
        ends = grids.prod(-1).cumsum(0)
        number = torch.arange(patches, device=grids.device)
        picture = (number[:, None] >= ends[None]).sum(-1).clamp(max=grids.shape[0] - 1)
        begin = F.pad(ends, (1, 0))[picture]
        rows, columns = grids[picture, 1], grids[picture, 2]
        within = number - begin
        frame, at = within // (rows * columns), within % (rows * columns)
        merge, area = self.merge, self.merge**2
        block, inner = at // area, at % area
        row = block // (columns // merge) * merge + inner // merge
        column = block % (columns // merge) * merge + inner % merge
        return torch.stack([row, column], -1), begin + frame  # frames are fewer than patches: no two segments share a number


def _attended(attention: Any, hidden: Tensor, cosine: Tensor, sine: Tensor, seen: Tensor) -> Tensor:
    """Attention (patches, width) among the patches that `seen` (patches, patches) allows."""
    count, heads = hidden.shape[0], attention.num_heads
    joint = attention.qkv(hidden).view(count, 3, heads, -1)
    turned, value = joint[:, :2], joint[:, 2]
    left, right = turned.chunk(2, -1)
    turned = turned * cosine[:, None, None] + torch.cat([-right, left], -1) * sine[:, None, None]
    query, key = turned[:, 0].transpose(0, 1)[None], turned[:, 1].transpose(0, 1)[None]
    mixed = F.scaled_dot_product_attention(query, key, value.transpose(0, 1)[None], attn_mask=seen[None, None])
    return attention.proj(mixed[0].transpose(0, 1).reshape(count, -1))


class TileVision(nn.Module):
    """A tower of fixed size over tiles, and its projector.

    Args:
        tower: One that is not of native resolution.
        projector: Its projector.
    """

    def __init__(self, tower: VisionTower, projector: nn.Module) -> None:
        super().__init__()
        self.tower, self.projector = tower, projector

    def forward(self, pixels: Tensor) -> Tensor:
        """Tiles (tiles, channels, side, side) to rows of each (tiles, rows, width)."""
        return self.projector(self.tower.encode(pixels, None))


class OrdinaryVision(nn.Module):
    """Tower and projector as they are: what an export is compared with.

    Args:
        tower: Any tower.
        projector: Its projector.
    """

    def __init__(self, tower: VisionTower, projector: nn.Module) -> None:
        super().__init__()
        self.tower, self.projector = tower, projector

    def forward(self, pixels: Tensor, grids: Tensor) -> Tensor:
        """See `NativeVision.forward`."""
        return self.projector(self.tower(pixels, grids))
