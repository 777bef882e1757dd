"""Projectors: the networks that carry vision features into the width of the language model.

The names are those of EMOVA's configurations (`MLPProjector`, `CAbstractorMMProjector`, ...); `build_projector` reads such
a configuration. All map (pictures, tokens, mm_hidden_size) to (pictures, fewer tokens, hidden_size); the MLP
also takes a flat (tokens, mm_hidden_size). The C-Abstractor is from Honeybee (arXiv 2312.06742); the
self-mining resampler is cross-attention from the mean of each neighbourhood to its members.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def _mlp(in_features: int, out_features: int, depth: int) -> nn.Sequential:
    """`depth` linear layers with exact GELUs between them, numbered 0, 2, 4, ... as in the checkpoints."""
    layers: list[nn.Module] = [nn.Linear(in_features, out_features)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(out_features, out_features)]
    return nn.Sequential(*layers)


def _to_map(tokens: torch.Tensor) -> torch.Tensor:
    """(pictures, side * side, channels) -> (pictures, channels, side, side)."""
    side = isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).unflatten(2, (side, side))


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map (pictures, channels, rows, columns)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Same shape out."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNorm2d(nn.Module):
    """Bias-free convolution, channel norm (named `bn` in the checkpoints), optional SiLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, groups: int = 1, act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = LayerNorm2d(channels_out, eps=1e-5)
        self.act = act

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(pictures, channels_in, rows, columns) -> (pictures, channels_out, rows, columns)."""
        maps = self.bn(self.conv(maps))
        return functional.silu(maps) if self.act else maps


class SqueezeExcite(nn.Module):
    """Channel gate from the mean of the map (arXiv 1709.01507), SiLU inside."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Same shape out."""
        gate = self.fc2(functional.silu(self.fc1(maps.mean((2, 3), keepdim=True))))
        return maps * gate.sigmoid()


class Bottleneck(nn.Module):
    """RegNet-style residual block: 1x1, depthwise 3x3, squeeze-excite, 1x1."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm2d(channels_in, channels_out, 1)
        self.conv2 = ConvNorm2d(channels_out, channels_out, 3, groups=channels_out)
        self.se = SqueezeExcite(channels_out, round(0.25 * channels_in))
        self.conv3 = ConvNorm2d(channels_out, channels_out, 1, act=False)
        changes = channels_in != channels_out
        self.downsample = ConvNorm2d(channels_in, channels_out, 1, act=False) if changes else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(pictures, channels_in, rows, columns) -> (pictures, channels_out, rows, columns)."""
        branch = self.conv3(self.se(self.conv2(self.conv1(maps))))
        return functional.silu(branch + self.downsample(maps))


class ConvStage(nn.Module):
    """`depth` bottlenecks named b1, b2, ...; nothing when depth is 0."""

    def __init__(self, channels_in: int, channels_out: int, depth: int) -> None:
        super().__init__()
        for index in range(depth):
            self.add_module(f"b{index + 1}", Bottleneck(channels_in if index == 0 else channels_out, channels_out))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(pictures, channels_in, rows, columns) -> (pictures, channels_out, rows, columns)."""
        for block in self.children():
            maps = block(maps)
        return maps


class GridProjector(nn.Module):
    """A projector that sees the tokens as a square map: optional norm and positions, `downsampler`, MLP.

    Subclasses set `downsampler`, a module from map to map.
    """

    downsampler: nn.Module

    def __init__(
        self, mm_hidden_size: int, *, width: int, hidden_size: int, tokens: int, mlp_depth: int, norm: bool, positions: bool
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(mm_hidden_size) if norm else None
        self.pos_emb = nn.Parameter(torch.zeros(tokens, mm_hidden_size)) if positions else None
        self.mlp = _mlp(width, hidden_size, mlp_depth)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(pictures, tokens, mm_hidden_size) -> (pictures, fewer tokens, hidden_size)."""
        if self.norm is not None:
            tokens = self.norm(tokens)
        if self.pos_emb is not None:
            tokens = tokens + self.pos_emb
        return self.mlp(self.downsampler(_to_map(tokens)).flatten(2).transpose(1, 2))


class CAbstractor(GridProjector):
    """Convolutional abstractor: stage, adaptive average pooling to `downsample_size`, stage, MLP."""

    def __init__(
        self,
        mm_hidden_size: int,
        *,
        conv_hidden_size: int,
        conv_block_depth: int,
        downsample_size: tuple[int, int],
        **rest: Any,
    ) -> None:
        width = conv_hidden_size if conv_block_depth else mm_hidden_size
        super().__init__(mm_hidden_size, width=width, **rest)
        self.downsampler = nn.Sequential(
            ConvStage(mm_hidden_size, conv_hidden_size, conv_block_depth),
            nn.AdaptiveAvgPool2d(downsample_size),
            ConvStage(conv_hidden_size, conv_hidden_size, conv_block_depth),
        )


class AvgPoolProjector(GridProjector):
    """Adaptive average pooling to `downsample_size`, then the MLP."""

    def __init__(self, mm_hidden_size: int, *, downsample_size: tuple[int, int], **rest: Any) -> None:
        super().__init__(mm_hidden_size, width=mm_hidden_size, **rest)
        self.downsampler = nn.AdaptiveAvgPool2d(downsample_size)


def neighbourhoods(maps: torch.Tensor, ratio: int) -> torch.Tensor:
    """(pictures, channels, R * ratio, C * ratio) -> (pictures, R, C, ratio * ratio, channels), members row-major."""
    pictures, channels, rows, columns = maps.shape
    grid = maps.reshape(pictures, channels, rows // ratio, ratio, columns // ratio, ratio)
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)


class SelfMining(nn.Module):
    """Each neighbourhood's mean asks its members: cross-attention without output projection or residual.

    Heads are 64 channels wide. Keys and values come from the normed members and, with `concat`, from the normed mean too.
    """

    head_size = 64

    def __init__(self, dim: int, ratio: int, *, concat: bool) -> None:
        super().__init__()
        self.ratio, self.concat = ratio, concat
        self.norm_media = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(pictures, dim, R * ratio, C * ratio) -> (pictures, dim, R, C)."""
        members = neighbourhoods(maps, self.ratio)
        media = self.norm_media(members.mean(3, keepdim=True))
        context = self.norm_context(members)
        if self.concat:
            context = torch.cat([context, media], dim=3)
        key, value = self.to_kv(context).chunk(2, dim=-1)
        heads = [part.unflatten(-1, (-1, self.head_size)).transpose(3, 4) for part in (self.to_q(media), key, value)]
        mixed = functional.scaled_dot_product_attention(*heads)
        return mixed.transpose(3, 4).flatten(3).permute(0, 3, 1, 2)


class SelfMiningProjector(GridProjector):
    """Self-mining resampler, then the MLP."""

    def __init__(self, mm_hidden_size: int, *, ratio: int, concat: bool, **rest: Any) -> None:
        super().__init__(mm_hidden_size, width=mm_hidden_size, **rest)
        self.downsampler = SelfMining(mm_hidden_size, ratio, concat=concat)


PROJECTORS = ("MLPProjector", "CAbstractorMMProjector", "SelfMiningMMProjector", "AvgPoolMMProjector")


def pooled_shape(settings: Mapping[str, Any], side: int) -> tuple[int, int]:
    """Rows and columns a projector with `settings` returns for a picture of `side` x `side` tokens."""
    kind = settings["type"]
    if kind in ("CAbstractorMMProjector", "AvgPoolMMProjector"):
        return _size(settings, side)
    if kind == "SelfMiningMMProjector":
        return side // _ratio(settings), side // _ratio(settings)
    return side, side


def build_projector(settings: Mapping[str, Any]) -> nn.Module:
    """Build the projector that a configuration describes.

    Args:
        settings: `type` (one of `PROJECTORS`), `mm_hidden_size`, `hidden_size` and the type's own options.

    Raises:
        ValueError: the type is not one of `PROJECTORS`.
    """
    kind = settings.get("type", "MLPProjector")
    width, hidden = settings.get("mm_hidden_size", 0), settings.get("hidden_size", 0)
    depth = settings.get("mlp_depth", 2)
    if kind == "MLPProjector":
        return _mlp(width, hidden, depth)
    if kind not in PROJECTORS:
        raise ValueError(f"unknown projector `{kind}`; known: {', '.join(PROJECTORS)}")
    return _grid_projector(kind, settings)


def _grid_projector(kind: str, settings: Mapping[str, Any]) -> nn.Module:
    tokens = settings.get("num_input_token", 0)
    side = isqrt(tokens)
    rest: dict[str, Any] = {
        "hidden_size": settings["hidden_size"],
        "tokens": tokens,
        "mlp_depth": settings.get("mlp_depth", 2),
        "norm": settings.get("add_pre_norm", False),
        "positions": settings.get("add_pos_embed", False),
    }
    width = settings["mm_hidden_size"]
    if kind == "CAbstractorMMProjector":
        return CAbstractor(
            width,
            conv_hidden_size=settings.get("conv_hidden_size", 1024),
            conv_block_depth=settings.get("conv_block_depth", 2),
            downsample_size=_size(settings, side),
            **rest,
        )
    if kind == "AvgPoolMMProjector":
        return AvgPoolProjector(width, downsample_size=_size(settings, side), **rest)
    return SelfMiningProjector(width, ratio=_ratio(settings), concat=settings.get("kv_concat_x", True), **rest)


def _ratio(settings: Mapping[str, Any]) -> int:
    return isqrt(int(settings.get("downsample_rate", 4)))


def _size(settings: Mapping[str, Any], side: int) -> tuple[int, int]:
    size = settings.get("downsample_size")
    if size is None:
        return side // _ratio(settings), side // _ratio(settings)
    return (size, size) if isinstance(size, int) else (size[0], size[1])
