"""InternViT: the vision transformer of InternVL, in its 6B and 300M forms.

Pre-norm blocks with LayerScale after "How Far Are We to GPT-4V? Closing the Gap to Commercial Multimodal Models with
Open-Source Suites" (arXiv 2404.16821). The 6B form has RMSNorm, no query/key/value bias and RMS-normalised queries and
keys (over the full width, before the heads are split); the 300M form has LayerNorm and a bias. There is no final norm.
"""

from __future__ import annotations

import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional


class VitAttention(nn.Module):
    """Full self-attention over the tokens of one picture, optionally with normalised queries and keys."""

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool = True, qk_norm: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.q_norm = nn.RMSNorm(dim, eps=eps) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(dim, eps=eps) if qk_norm else nn.Identity()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(pictures, tokens, dim) -> the same shape."""
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        query, key = self.q_norm(query), self.k_norm(key)
        split = (*tokens.shape[:2], self.heads, -1)
        query, key, value = (part.reshape(split).transpose(1, 2) for part in (query, key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class VitMlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(..., dim) -> (..., dim)."""
        return self.fc2(functional.gelu(self.fc1(tokens)))


class InternBlock(nn.Module):
    """One pre-norm block; each branch is scaled per channel by `ls1` and `ls2` (LayerScale, arXiv 2103.17239)."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        *,
        norm: str,
        qkv_bias: bool,
        qk_norm: bool,
        eps: float,
        initial_scale: float,
    ) -> None:
        super().__init__()
        norm_class = nn.RMSNorm if norm == "rms_norm" else nn.LayerNorm
        self.norm1 = norm_class(dim, eps=eps)
        self.attn = VitAttention(dim, heads, qkv_bias=qkv_bias, qk_norm=qk_norm, eps=eps)
        self.norm2 = norm_class(dim, eps=eps)
        self.mlp = VitMlp(dim, hidden)
        self.initial_scale = initial_scale
        self.ls1 = nn.Parameter(initial_scale * torch.ones(dim))
        self.ls2 = nn.Parameter(initial_scale * torch.ones(dim))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(pictures, tokens, dim) -> the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens)) * self.ls1
        return tokens + self.mlp(self.norm2(tokens)) * self.ls2


class InternEmbeddings(nn.Module):
    """Patches through a convolution, a class token in front, learned positions (resized when the picture's grid differs)."""

    def __init__(self, dim: int, *, image_size: int, patch_size: int, channels: int) -> None:
        super().__init__()
        self.side = image_size // patch_size
        self.class_embedding = nn.Parameter(torch.randn(1, 1, dim))
        self.patch_embedding = nn.Conv2d(channels, dim, kernel_size=patch_size, stride=patch_size)
        self.position_embedding = nn.Parameter(torch.randn(1, self.side**2 + 1, dim))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(pictures, channels, height, width) -> (pictures, 1 + patches, dim)."""
        patches = self.patch_embedding(pixels)
        rows, columns = patches.shape[-2:]
        tokens = torch.cat([self.class_embedding.expand(len(pixels), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        return tokens + self._positions(rows, columns).to(tokens.dtype)

    def _positions(self, rows: int, columns: int) -> torch.Tensor:
        if (rows, columns) == (self.side, self.side):
            return self.position_embedding
        first, grid = self.position_embedding[:, :1], self.position_embedding[:, 1:]
        grid = grid.float().reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        grid = functional.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([first, grid.flatten(2).transpose(1, 2).to(first.dtype)], dim=1)


class InternEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, blocks: list[InternBlock]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)


class InternVit(nn.Module):
    """InternViT.

    Args:
        hidden_size: width of the tokens.
        intermediate_size: width inside the MLP.
        num_hidden_layers: blocks.
        num_attention_heads: heads.
        image_size: side of the pictures the positions were learned for, in pixels.
        patch_size: side of a patch, in pixels.
        norm_type: `"rms_norm"` (6B) or `"layer_norm"` (300M).
        qkv_bias: whether queries, keys and values have a bias.
        qk_normalization: whether queries and keys are RMS-normalised.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 3200,
        intermediate_size: int = 12800,
        num_hidden_layers: int = 45,
        num_attention_heads: int = 25,
        num_channels: int = 3,
        image_size: int = 448,
        patch_size: int = 14,
        norm_type: str = "rms_norm",
        qkv_bias: bool = False,
        qk_normalization: bool = True,
        layer_norm_eps: float = 1e-6,
        initializer_factor: float = 0.1,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.embeddings = InternEmbeddings(hidden_size, image_size=image_size, patch_size=patch_size, channels=num_channels)
        blocks = [
            InternBlock(
                hidden_size,
                num_attention_heads,
                intermediate_size,
                norm=norm_type,
                qkv_bias=qkv_bias,
                qk_norm=qk_normalization,
                eps=layer_norm_eps,
                initial_scale=initializer_factor,
            )
            for _ in range(num_hidden_layers)
        ]
        self.encoder = InternEncoder(blocks)

    def forward(self, pixels: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Tokens after the first `depth` blocks (all blocks when not given), class token first.

        Args:
            pixels: (pictures, channels, height, width), normalised.
            depth: how many blocks to run.

        Returns:
            (pictures, 1 + patches, hidden_size).
        """
        tokens = self.embeddings(pixels)
        for block in self.encoder.layers[:depth]:
            tokens = run_block(block, tokens, checkpoint=self.gradient_checkpointing and self.training)
        return tokens


def run_block(block: nn.Module, tokens: torch.Tensor, *, checkpoint: bool) -> torch.Tensor:
    """Run one block, recomputing it in the backward pass when `checkpoint` is set."""
    if checkpoint:
        return torch.utils.checkpoint.checkpoint(block, tokens, use_reentrant=False)
    return block(tokens)
