"""EMOVA's speech-to-unit network: log-mel front end, SPIRAL encoder, FSQ bottleneck, optional CTC phone head.

Not causal: features are normalised over the whole utterance and attention is full. Layout between blocks is
(batch, time, channels). Weight norm of the position convolution is folded into a plain weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emova_sdk.models.fsq import FSQ
from emova_sdk.models.log_mel import LogMel


@dataclass(frozen=True)
class ConvShape:
    """One convolution of a stage: channels out, kernel, stride, and whether a ReLU follows the norm."""

    channels: int
    kernel: int
    stride: int
    relu: bool


@dataclass(frozen=True)
class StageShape:
    """Convolutions followed by a transformer of width `dim`."""

    convs: tuple[ConvShape, ...]
    dim: int
    heads: int
    ffn: int
    layers: int
    pos_conv_kernel: int = 128
    pos_conv_groups: int = 16


@dataclass(frozen=True)
class PhoneShape:
    """The CTC phone head: `layers` convolutions and a classifier of `n_phones` + 1 classes."""

    channels: int = 512
    kernel: int = 5
    layers: int = 4
    n_phones: int = 240
    blank_index: int = 240


_RELEASED_STAGES = (
    StageShape((ConvShape(384, 5, 2, True), ConvShape(512, 5, 2, True), ConvShape(512, 1, 1, False)), 512, 8, 2048, 2),
    StageShape((ConvShape(1536, 5, 1, True), ConvShape(768, 1, 1, False)), 768, 12, 3072, 10),
)


@dataclass(frozen=True)
class SpiralConfig:
    """Shape of the network; the defaults are those of the released checkpoint."""

    sample_rate: int = 16000
    n_fft: int = 512
    win_length: int = 320
    hop_length: int = 160
    n_mels: int = 128
    preemphasis: float = 0.97
    pad_frames_to: int = 16
    stages: tuple[StageShape, ...] = _RELEASED_STAGES
    fsq_levels: tuple[int, ...] = (8, 8, 8, 8)
    fsq_eps: float = 1e-3
    ctc_decoder: PhoneShape | None = PhoneShape()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SpiralConfig":
        """Build from plain values, as a JSON file holds them.

        Raises:
            TypeError: A name is unknown or missing.
        """
        known = dict(values)
        unknown = set(known) - {field.name for field in fields(cls)}
        if unknown:
            raise TypeError(f"unknown setting `{min(unknown)}`")
        if "stages" in known:
            known["stages"] = tuple(_stage(stage) for stage in known["stages"])
        if "fsq_levels" in known:
            known["fsq_levels"] = tuple(known["fsq_levels"])
        if known.get("ctc_decoder") is not None:
            known["ctc_decoder"] = PhoneShape(**known["ctc_decoder"])
        return cls(**known)

    @property
    def samples_per_unit(self) -> int:
        """Samples that one unit stands for: 640 in the released network (25 units per second)."""
        stride = 1
        for stage in self.stages:
            for conv in stage.convs:
                stride *= conv.stride
        return self.hop_length * stride


def _stage(values: Mapping[str, Any]) -> StageShape:
    return StageShape(**{**values, "convs": tuple(ConvShape(**conv) for conv in values["convs"])})


def _valid(lengths: Tensor, steps: int) -> Tensor:
    """Mask (batch, steps), true where a step lies inside its row's length."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


class ConvNorm(nn.Module):
    """Convolution over time, LayerNorm over channels, ReLU if asked for."""

    def __init__(self, channels_in: int, shape: ConvShape) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, shape.channels, shape.kernel, shape.stride)
        self.norm = nn.LayerNorm(shape.channels)
        self.relu, self.stride = shape.relu, shape.stride
        # "Same" padding as TensorFlow computes it, for a length that the stride divides. The original took the
        # number of channels for the length here; the two agree when the stride divides the channels, too.
        total = max(shape.kernel - (channels_in % shape.stride or shape.stride), 0)
        self.padding = (total // 2, total - total // 2)

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, channels_in) and lengths to (batch, time / stride, channels) and lengths."""
        if self.conv.kernel_size[0] > 1:
            hidden = hidden * _valid(lengths, hidden.shape[1])[..., None]
            hidden = self.conv(F.pad(hidden.transpose(1, 2), self.padding)).transpose(1, 2)
        else:
            hidden = F.linear(hidden, self.conv.weight[..., 0], self.conv.bias)
        hidden = self.norm(hidden)
        lengths = (lengths + self.stride - 1) // self.stride
        return (F.relu(hidden) if self.relu else hidden), lengths


class Attention(nn.Module):
    """Multi-head self-attention with biased projections (Vaswani et al., arXiv 1706.03762)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim) and key mask (batch, 1, 1, time), true to attend, to (batch, time, dim)."""
        query, key, value = (
            proj(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Pre-norm attention and feed-forward (GELU by erf; the tanh form moves the output by 1e-3)."""

    def __init__(self, dim: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, ffn), nn.Linear(ffn, dim)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, dim) to the same."""
        hidden = hidden + self.self_attn(self.self_attn_layer_norm(hidden), mask)
        return hidden + self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden))))


class Transformer(nn.Module):
    """Convolutional position (wav2vec 2.0, arXiv 2006.11477), pre-norm layers, a final norm."""

    def __init__(self, shape: StageShape) -> None:
        super().__init__()
        kernel = shape.pos_conv_kernel
        self.pos_conv = nn.Conv1d(shape.dim, shape.dim, kernel, padding=kernel // 2, groups=shape.pos_conv_groups)
        self.layers = nn.ModuleList([TransformerLayer(shape.dim, shape.heads, shape.ffn) for _ in range(shape.layers)])
        self.layer_norm = nn.LayerNorm(shape.dim)

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, dim) and lengths to the same."""
        mask = _valid(lengths, hidden.shape[1])
        hidden = hidden * mask[..., None]
        position = self.pos_conv(hidden.transpose(1, 2)).transpose(1, 2)
        # An even kernel gives one step too many; the last one goes.
        hidden = hidden + F.gelu(position[:, : hidden.shape[1]])
        for layer in self.layers:
            hidden = layer(hidden, mask[:, None, None])
        return self.layer_norm(hidden), lengths


class Spiral(nn.Module):
    """Features to one vector per unit (SPIRAL, arXiv 2201.10207, as EMOVA configures it)."""

    def __init__(self, config: SpiralConfig) -> None:
        super().__init__()
        channels, blocks = config.n_mels, []
        for stage in config.stages:
            for conv in stage.convs:
                blocks.append(ConvNorm(channels, conv))
                channels = conv.channels
            blocks.append(Transformer(stage))
        self.blocks = nn.ModuleList(blocks)
        self.dim = channels

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n_mels, frames) and valid frames (batch,) to (batch, units, dim) and valid units (batch,)."""
        hidden = features.transpose(1, 2).to(self.blocks[0].conv.weight.dtype)
        for block in self.blocks:
            hidden, lengths = block(hidden, lengths)
        return hidden, lengths


class PhoneHead(nn.Module):
    """Unit codes to phone scores for CTC; the last class is the blank. Not needed for units."""

    def __init__(self, channels_in: int, shape: PhoneShape) -> None:
        super().__init__()
        widths = [channels_in] + [shape.channels] * shape.layers
        self.convs = nn.ModuleList([nn.Conv1d(a, b, shape.kernel, padding=shape.kernel // 2) for a, b in pairwise(widths)])
        self.classifier = nn.Conv1d(shape.channels, shape.n_phones + 1, 1)
        self.blank = shape.blank_index

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Codes (batch, units, dims) and valid units (batch,) to logits (batch, units, phones + 1)."""
        mask = _valid(lengths, codes.shape[1])[:, None]
        hidden = codes.transpose(1, 2)
        for conv in self.convs:
            hidden = F.relu(conv(hidden * mask))
        return self.classifier(hidden).transpose(1, 2)


class SpiralTokenizer(nn.Module):
    """Samples to unit ids: `LogMel`, `Spiral`, a projection to a few numbers, `FSQ`."""

    def __init__(self, config: SpiralConfig) -> None:
        super().__init__()
        self.config = config
        self.log_mel = LogMel(
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            win_length=config.win_length,
            hop_length=config.hop_length,
            n_mels=config.n_mels,
            preemphasis=config.preemphasis,
            pad_frames_to=config.pad_frames_to,
        )
        self.encoder = Spiral(config)
        self.pre_quant = nn.Linear(self.encoder.dim, len(config.fsq_levels))
        self.quantizer = FSQ(config.fsq_levels, eps=config.fsq_eps)
        self.phones = PhoneHead(len(config.fsq_levels), config.ctc_decoder) if config.ctc_decoder else None

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (batch, n_mels, frames) and valid frames to ids (batch, units), int64, and valid units (batch,).

        Ids past a row's valid units belong to padding.
        """
        latents, lengths = self.latents(features, lengths)
        return self.quantizer.encode(latents), lengths

    def latents(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features to the numbers before quantisation (batch, units, dims), float32, and valid units (batch,)."""
        hidden, lengths = self.encoder(features, lengths)
        return self.pre_quant(hidden.to(self.pre_quant.weight.dtype)).float(), lengths

    def tokenize(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Zero-padded samples (batch, samples) and lengths to ids (batch, units) and valid units (batch,)."""
        return self(*self.log_mel(audio, lengths))
