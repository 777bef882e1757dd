"""The neutral voice of emova-nano: reduced units to durations and, every 10 ms, pitch, envelope and aperiodicity.

Regressing the features of an analysis of speech needs no adversary and learns in minutes; style is applied to the
features afterwards, and sound is made from them by harmonic and noise synthesis.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from emova_sdk.components.nano.shapes import APERIODICITY, ENVELOPE, FRAME_BLOCKS, FRAME_KERNEL, UNIT_BLOCKS, UNIT_KERNEL
from nano_recipe.networks.blocks import ConvBlock, length_regulate


class VoiceFrames(NamedTuple):
    """Features of (batch, frames).

    Attributes:
        pitch: Natural log of the pitch over its median, (batch, frames).
        voicing: Logit of being voiced, (batch, frames).
        envelope: Natural log power in `ENVELOPE` bands, (batch, frames, bands).
        aperiodicity: 0 to 1 in `APERIODICITY` bands, (batch, frames, bands).
    """

    pitch: Tensor
    voicing: Tensor
    envelope: Tensor
    aperiodicity: Tensor


class NanoVocoder(nn.Module):
    """Units to voice features.

    Args:
        units: Size of the code book.
        width: Channels between units.
        frame_width: Channels between frames.
    """

    def __init__(self, *, units: int = 256, width: int = 144, frame_width: int = 160) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.unit = nn.Embedding(units, width)
        self.unit_blocks = nn.ModuleList(ConvBlock(width, kernel=UNIT_KERNEL) for _ in range(UNIT_BLOCKS))
        self.duration = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.to_frames = nn.Linear(width + 4, frame_width)
        self.frame_blocks = nn.ModuleList(ConvBlock(frame_width, kernel=FRAME_KERNEL) for _ in range(FRAME_BLOCKS))
        self.features = nn.Sequential(nn.LayerNorm(frame_width), nn.Linear(frame_width, 2 + ENVELOPE + APERIODICITY))
        self.envelope_mean: Tensor
        self.envelope_scale: Tensor
        self.register_buffer("envelope_mean", torch.zeros(ENVELOPE))
        self.register_buffer("envelope_scale", torch.ones(ENVELOPE))

    def states(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Unit ids (batch, units) to states (batch, units, width) and log durations in frames."""
        x = self.unit(ids)
        for block in self.unit_blocks:
            x = block(x, mask)
        x = self.dropout(x)
        return x, self.duration(x).squeeze(-1)

    def frames(self, states: Tensor, durations: Tensor) -> tuple[VoiceFrames, Tensor]:
        """States (batch, units, width) and int64 durations (batch, units) to features and mask (batch, frames, 1)."""
        spread, mask = length_regulate(states, durations)
        return self.features_of(spread, mask), mask

    def features_of(self, spread: Tensor, mask: Tensor | None = None) -> VoiceFrames:
        """States spread over frames, with their places (batch, frames, width + 4), to features."""
        x = self.dropout(self.to_frames(spread))
        for block in self.frame_blocks:
            x = block(x, mask)
        pitch, voicing, envelope, noise = self.features(x).split((1, 1, ENVELOPE, APERIODICITY), -1)
        scaled = envelope * self.envelope_scale + self.envelope_mean
        return VoiceFrames(pitch.squeeze(-1) * 0.2, voicing.squeeze(-1), scaled, torch.sigmoid(noise))
