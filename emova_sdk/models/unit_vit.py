"""UNIT: a plain vision transformer with a cropped position table (UNIT, arXiv 2409.04095; module names of RADIO and timm).

Pixels are normalised a second time inside the network: the released weights were trained with the image processor's
normalisation and with this one, so both must run.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from emova_sdk.models.internvit import VitAttention, VitMlp, run_block


class UnitBlock(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, *, mlp_ratio: float, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = VitAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = VitMlp(dim, int(dim * mlp_ratio))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(pictures, tokens, dim) -> the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class ClassToken(nn.Module):
    """The learned tokens in front of the patches: class tokens, then registers."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(tokens, dim) * dim**-0.5)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(pictures, patches, dim) -> (pictures, tokens + patches, dim)."""
        return torch.cat([self.token.expand(len(patches), -1, -1), patches], dim=1)


class PatchGenerator(nn.Module):
    """Patches through a bias-free linear map, positions cut out of a larger table, class tokens in front.

    Positions: the square table is resized bilinearly (corners aligned) to the longer side of the picture's grid, then
    its top left corner of the grid's shape is used.
    """

    def __init__(self, dim: int, *, patch_size: int, channels: int, table_side: int, tokens: int) -> None:
        super().__init__()
        self.patch_size, self.table_side = patch_size, table_side
        self.pos_embed = nn.Parameter(torch.randn(1, table_side**2, dim) * dim**-0.5)
        self.embedder = nn.Linear(channels * patch_size**2, dim, bias=False)
        self.cls_token = ClassToken(tokens, dim)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(pictures, channels, height, width) -> (pictures, tokens + patches, dim)."""
        rows, columns = (side // self.patch_size for side in pixels.shape[-2:])
        patches = functional.unfold(pixels, self.patch_size, stride=self.patch_size).transpose(1, 2)
        tokens = self.embedder(patches)
        return self.cls_token(tokens + self._positions(rows, columns).to(tokens.dtype))

    def _positions(self, rows: int, columns: int) -> torch.Tensor:
        if (rows, columns) == (self.table_side, self.table_side):
            return self.pos_embed
        side = max(rows, columns)
        table = self.pos_embed.float().reshape(1, self.table_side, self.table_side, -1).permute(0, 3, 1, 2)
        table = functional.interpolate(table, size=(side, side), mode="bilinear", align_corners=True)
        return table[..., :rows, :columns].flatten(2).transpose(1, 2)


class UnitTransformer(nn.Module):
    """Patch generator, blocks and the norm after them."""

    def __init__(
        self, dim: int, depth: int, heads: int, *, mlp_ratio: float, eps: float, pooling: str, generator: PatchGenerator
    ) -> None:
        super().__init__()
        self.patch_generator = generator
        self.blocks = nn.ModuleList([UnitBlock(dim, heads, mlp_ratio=mlp_ratio, eps=eps) for _ in range(depth)])
        # timm names the norm after its pooling: average pooling norms the pooled vector, token pooling the sequence.
        self.norm = nn.Identity() if pooling == "avg" else nn.LayerNorm(dim, eps=eps)
        self.fc_norm = nn.LayerNorm(dim, eps=eps) if pooling == "avg" else nn.Identity()


class InputConditioner(nn.Module):
    """(pixels - mean) / std with the network's own constants, which are kept in the checkpoint."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.register_buffer("norm_mean", self.constant(mean))
        self.register_buffer("norm_std", self.constant(std))

    @staticmethod
    def constant(values: tuple[float, ...]) -> torch.Tensor:
        """(channels, 1, 1) from one value for each channel."""
        return torch.tensor(values).view(-1, 1, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(pictures, channels, height, width) -> the same shape."""
        return (pixels - self.norm_mean) / self.norm_std


class UnitModel(nn.Module):
    """The network of the UNIT repository: conditioner and transformer."""

    def __init__(self, conditioner: InputConditioner, transformer: UnitTransformer) -> None:
        super().__init__()
        self.input_conditioner = conditioner
        self.model = transformer


class UnitVit(nn.Module):
    """UNIT vision transformer.

    Args:
        embed_dim: width of the tokens.
        depth: blocks.
        num_heads: heads.
        image_size: side of the pictures, in pixels.
        patch_size: side of a patch, in pixels.
        table_size: side of the position table, in pixels.
        cls_tokens: class tokens in front of the patches.
        registers: further tokens in front of the patches.
        pooling: timm's pooling: `"avg"` or `"token"`; decides which norm exists.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 1280,
        depth: int = 50,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        image_size: int = 448,
        patch_size: int = 14,
        table_size: int | None = None,
        cls_tokens: int = 1,
        registers: int = 0,
        num_channels: int = 3,
        pooling: str = "avg",
        layer_norm_eps: float = 1e-6,
        mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073),
        std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711),
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.skipped = cls_tokens + registers
        generator = PatchGenerator(
            embed_dim,
            patch_size=patch_size,
            channels=num_channels,
            table_side=(table_size or image_size) // patch_size,
            tokens=self.skipped,
        )
        transformer = UnitTransformer(
            embed_dim,
            depth,
            num_heads,
            mlp_ratio=mlp_ratio,
            eps=layer_norm_eps,
            pooling=pooling,
            generator=generator,
        )
        self.unit_model = UnitModel(InputConditioner(tuple(mean), tuple(std)), transformer)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Summary of a picture and the features of its patches.

        Args:
            pixels: (pictures, channels, height, width), normalised by the image processor.

        Returns:
            summary (pictures, embed_dim), the first class token, and patches (pictures, patches, embed_dim).
        """
        network = self.unit_model.model
        tokens = network.patch_generator(self.unit_model.input_conditioner(pixels))
        for block in network.blocks:
            tokens = run_block(block, tokens, checkpoint=self.gradient_checkpointing and self.training)
        tokens = network.norm(tokens)
        return tokens[:, 0], tokens[:, self.skipped :]
