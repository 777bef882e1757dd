"""EMOVA's unit-to-speech network: VITS (arXiv 2106.06103) that reads units and follows a style vector.

Synthesis in four steps, each a method, so that a caller can stream, export or compare them one by one:
`encode` units, sample `log_durations`, spread the prior over frames (`spread`), then `flow.reverse` and `generator`.
Layout (batch, channels, time). All noise is an argument. Weight norm is folded into plain weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emova_sdk.models.durations import ChannelNorm, DurationPredictor
from emova_sdk.models.flow import Flow, PosteriorEncoder
from emova_sdk.models.hifigan import Generator
from emova_sdk.models.style_encoder import Spectrogram, StyleEncoder


@dataclass(frozen=True)
class VitsConfig:
    """Shape of the network; the defaults are those of the released checkpoint.

    `unit_offset` is the row of the symbol table that unit 0 has; the rows before it were text symbols.
    """

    n_symbols: int = 4274
    unit_offset: int = 178
    n_units: int = 4096
    n_speakers: int = 1344
    sampling_rate: int = 22050
    filter_length: int = 1024
    hop_length: int = 256
    win_length: int = 1024
    inter_channels: int = 192
    hidden_channels: int = 192
    filter_channels: int = 768
    n_heads: int = 2
    n_layers: int = 6
    kernel_size: int = 3
    p_dropout: float = 0.1
    window_size: int = 4
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2)
    upsample_initial_channel: int = 512
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 4, 4)
    gin_channels: int = 256

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VitsConfig":
        """Build from plain values, as a JSON file holds them.

        Raises:
            TypeError: A name is unknown.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise TypeError(f"unknown setting `{min(unknown)}`")
        return cls(**{name: _frozen(value) for name, value in values.items()})

    @property
    def bins(self) -> int:
        """Bins of the linear spectrogram."""
        return self.filter_length // 2 + 1

    @property
    def samples_per_frame(self) -> int:
        """Samples that the generator makes of one latent frame."""
        return math.prod(self.upsample_rates)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


class RelativeAttention(nn.Module):
    """Self-attention with learned vectors for near relative positions (arXiv 1803.02155), shared by the heads."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        width = channels // heads
        self.query, self.key = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)
        self.value, self.out = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)
        self.relative_keys = nn.Parameter(torch.zeros(1, 2 * window + 1, width))
        self.relative_values = nn.Parameter(torch.zeros(1, 2 * window + 1, width))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(batch, channels, time) and mask (batch, 1, time) to (batch, channels, time)."""
        query, key, value = (
            proj(hidden).unflatten(1, (self.heads, -1)).transpose(2, 3) for proj in (self.query, self.key, self.value)
        )
        query = query / math.sqrt(query.shape[-1])
        steps = torch.arange(hidden.shape[-1], device=hidden.device)
        shift = steps - steps[:, None]
        near = shift.abs() <= self.window

        # score[i, j] += query[i] . relative_keys[j - i + window] where |j - i| <= window
        slot = (shift + self.window).clamp(0, 2 * self.window)
        relative = query @ self.relative_keys.transpose(1, 2)
        relative = relative.gather(-1, slot.expand(*relative.shape[:2], -1, -1))
        scores = query @ key.transpose(2, 3) + torch.where(near, relative, 0.0)
        pairs = mask[:, :, :, None] * mask[:, :, None]
        weights = torch.softmax(scores.masked_fill(pairs == 0, -1e4), -1)

        # out[i] += sum over offsets r of weights[i, i + r] * relative_values[r + window]
        neighbour = steps[:, None] + torch.arange(-self.window, self.window + 1, device=hidden.device)
        exists = (neighbour >= 0) & (neighbour < hidden.shape[-1])
        index = neighbour.clamp(min=0).minimum(steps[-1:])
        banded = weights.gather(-1, index.expand(*weights.shape[:2], -1, -1))
        mixed = weights @ value + torch.where(exists, banded, 0.0) @ self.relative_values
        return self.out(mixed.transpose(2, 3).flatten(1, 2))


class UnitLayer(nn.Module):
    """Attention and convolutional feed-forward, post-norm."""

    def __init__(self, config: VitsConfig) -> None:
        super().__init__()
        channels, kernel = config.hidden_channels, config.kernel_size
        self.attention = RelativeAttention(channels, config.n_heads, config.window_size)
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv1d(channels, config.filter_channels, kernel)
        self.conv2 = nn.Conv1d(config.filter_channels, channels, kernel)
        self.padding = ((kernel - 1) // 2, kernel // 2)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(batch, channels, time) and mask (batch, 1, time) to (batch, channels, time)."""
        hidden = self.norm1(hidden + self.attention(hidden, mask))
        wide = F.relu(self.conv1(F.pad(hidden * mask, self.padding)))
        return self.norm2(hidden + self.conv2(F.pad(wide * mask, self.padding)) * mask)


class UnitEncoder(nn.Module):
    """Unit ids to the mean and log-deviation of the prior, one of each per unit."""

    def __init__(self, config: VitsConfig) -> None:
        super().__init__()
        self.scale, self.offset = math.sqrt(config.hidden_channels), config.unit_offset
        self.emb = nn.Embedding(config.n_symbols, config.hidden_channels)
        self.layers = nn.ModuleList([UnitLayer(config) for _ in range(config.n_layers)])
        self.proj = nn.Conv1d(config.hidden_channels, 2 * config.inter_channels, 1)

    def forward(self, units: Tensor, lengths: Tensor) -> "EncodedUnits":
        """Units (batch, time), anything at or past a row's length, and lengths (batch,)."""
        steps = torch.arange(units.shape[1], device=units.device)
        inside = steps < lengths[:, None]
        symbols = torch.where(inside, units + self.offset, 0)
        mask = inside[:, None].to(self.emb.weight.dtype)
        hidden = (self.emb(symbols) * self.scale).transpose(1, 2) * mask
        for layer in self.layers:
            hidden = layer(hidden, mask)
        hidden = hidden * mask
        mean, logstd = (self.proj(hidden) * mask).chunk(2, 1)
        return EncodedUnits(hidden, mean, logstd, mask)


class EncodedUnits(NamedTuple):
    """What the unit encoder returns: hidden, mean and log-deviation (batch, channels, time), mask (batch, 1, time)."""

    hidden: Tensor
    mean: Tensor
    logstd: Tensor
    mask: Tensor


class Vits(nn.Module):
    """The whole network.

    Args:
        config: Its shape.
        posterior: Whether to build the posterior encoder, which only training needs.
    """

    def __init__(self, config: VitsConfig, *, posterior: bool = False) -> None:
        super().__init__()
        self.config = config
        hidden, inter, style = config.hidden_channels, config.inter_channels, config.gin_channels
        self.unit_encoder = UnitEncoder(config)
        self.durations = DurationPredictor(hidden, 3, style)
        self.flow = Flow(inter, hidden, style)
        self.generator = Generator(
            inter,
            style,
            initial=config.upsample_initial_channel,
            rates=config.upsample_rates,
            kernels=config.upsample_kernel_sizes,
            block_kernels=config.resblock_kernel_sizes,
            block_dilations=config.resblock_dilation_sizes,
        )
        self.spectrogram = Spectrogram(
            filter_length=config.filter_length, hop_length=config.hop_length, win_length=config.win_length
        )
        self.style_encoder = StyleEncoder(config.bins, hidden, style)
        self.posterior_encoder = PosteriorEncoder(config.bins, hidden, inter, style) if posterior else None

    def encode(self, units: Tensor, lengths: Tensor) -> EncodedUnits:
        """Units (batch, time), int64, and lengths (batch,) to the prior of each unit."""
        return self.unit_encoder(units, lengths)

    def log_durations(
        self, encoded: EncodedUnits, noise: Tensor, style: Tensor | None, *, noise_scale: float | Tensor = 0.8
    ) -> Tensor:
        """Sample log-durations (batch, 1, time) from standard normal noise (batch, 2, time)."""
        return self.durations(encoded.hidden, encoded.mask, noise * noise_scale, style)

    def spread(
        self, encoded: EncodedUnits, durations: Tensor, noise: Tensor, *, noise_scale: float | Tensor = 0.667
    ) -> tuple[Tensor, Tensor]:
        """Repeat the prior of each unit for its duration and sample it.

        Args:
            encoded: From `encode`.
            durations: Frames of each unit (batch, time), int64.
            noise: Standard normal (batch, channels, frames); its length is that of the result.
            noise_scale: Multiplies the noise.

        Returns:
            Latents of the prior (batch, channels, frames) and mask (batch, 1, frames).
        """
        return spread(encoded.mean, encoded.logstd, durations, noise, noise_scale)


def spread(
    mean: Tensor, logstd: Tensor, durations: Tensor, noise: Tensor, noise_scale: float | Tensor
) -> tuple[Tensor, Tensor]:
    """See `Vits.spread`; mean and log-deviation (batch, channels, time)."""
    ends = durations.cumsum(1)
    frames = torch.arange(noise.shape[-1], device=noise.device)
    owner = (frames[None, :, None] >= ends[:, None]).sum(-1).clamp(max=durations.shape[1] - 1)
    mask = (frames < ends[:, -1:])[:, None].to(noise.dtype)
    index = owner[:, None].expand(-1, noise.shape[1], -1)
    # Past a row's frames both are 0, as an alignment matrix would give.
    mean, logstd = mean.gather(2, index) * mask, logstd.gather(2, index) * mask
    return mean + noise * torch.exp(logstd) * noise_scale, mask


def frames_of(log_durations: Tensor, mask: Tensor, *, length_scale: float | Tensor = 1.0) -> Tensor:
    """Log-durations and mask (batch, 1, time) to frames of each unit (batch, time), int64; at least 1 for a real one."""
    return torch.ceil(torch.exp(log_durations) * mask * length_scale)[:, 0].long()


class PriorGraph(nn.Module):
    """The first half of synthesis as one function of tensors, for export: units to durations and prior.

    Randomness and scales are inputs, nothing depends on values but `durations`, which the host sums to know the frames.
    """

    def __init__(self, vits: Vits) -> None:
        super().__init__()
        self.unit_encoder, self.durations = vits.unit_encoder, vits.durations

    def forward(  # noqa: PLR0917 - exporters pass tensors by position
        self, units: Tensor, lengths: Tensor, style: Tensor, noise: Tensor, noise_scale: Tensor, length_scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict durations.

        Args:
            units: (batch, time) int64; anything at or past a row's length.
            lengths: (batch,) int64.
            style: (batch, style_channels) float32.
            noise: Standard normal (batch, 2, time).
            noise_scale: (1,), 0.8 as released.
            length_scale: (1,), 1 as released.

        Returns:
            Durations (batch, time) int64, mean and log-deviation (batch, channels, time).
        """
        encoded = self.unit_encoder(units, lengths)
        logs = self.durations(encoded.hidden, encoded.mask, noise * noise_scale, style[..., None])
        return frames_of(logs, encoded.mask, length_scale=length_scale), encoded.mean, encoded.logstd


class LatentGraph(nn.Module):
    """The second half of synthesis before the waveform, for export; its length is that of the noise."""

    def __init__(self, vits: Vits) -> None:
        super().__init__()
        self.flow = vits.flow

    def forward(  # noqa: PLR0917 - exporters pass tensors by position
        self, durations: Tensor, mean: Tensor, logstd: Tensor, style: Tensor, noise: Tensor, noise_scale: Tensor
    ) -> Tensor:
        """Spread the prior over frames and turn it into latents.

        Args:
            durations: (batch, time) int64.
            mean: (batch, channels, time).
            logstd: (batch, channels, time).
            style: (batch, style_channels) float32.
            noise: Standard normal (batch, channels, frames), frames being the largest sum of durations.
            noise_scale: (1,), 0.667 as released.

        Returns:
            Latents for the generator (batch, channels, frames), zero past a row's own frames.
        """
        prior, mask = spread(mean, logstd, durations, noise, noise_scale)
        return self.flow.reverse(prior, mask, style[..., None]) * mask


class WaveGraph(nn.Module):
    """The waveform generator, for export."""

    def __init__(self, vits: Vits) -> None:
        super().__init__()
        self.generator = vits.generator

    def forward(self, latents: Tensor, style: Tensor) -> Tensor:
        """Latents (batch, channels, frames) and style (batch, style_channels) to samples (batch, samples)."""
        return self.generator(latents, style[..., None])[:, 0]
