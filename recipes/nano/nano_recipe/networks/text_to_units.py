"""Phones to speech units, all at once: the speaking path that does not depend on the language model."""

import torch
from torch import Tensor, nn

from emova_sdk.components.nano.shapes import LONGEST_PHONE
from nano_recipe.networks.blocks import ConvBlock, length_regulate


class NanoTextToUnits(nn.Module):
    """Phones to units at 25 Hz.

    Args:
        phones: Phone classes, silence included.
        units: Size of the code book.
        width: Channels.
    """

    def __init__(self, *, phones: int = 40, units: int = 256, width: int = 128) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.phone = nn.Embedding(phones, width)
        self.phone_blocks = nn.ModuleList(ConvBlock(width, kernel=5) for _ in range(4))
        self.duration = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.to_frames = nn.Linear(width + 4, width)
        self.frame_blocks = nn.ModuleList(ConvBlock(width, kernel=5) for _ in range(3))
        self.unit = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, units))

    def states(self, phones: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Phone classes (batch, phones) to states (batch, phones, width) and log durations in units of 40 ms."""
        x = self.dropout(self.phone(phones))
        for block in self.phone_blocks:
            x = block(x, mask)
        return x, self.duration(x).squeeze(-1)

    def logits(self, states: Tensor, durations: Tensor) -> tuple[Tensor, Tensor]:
        """States and int64 durations (batch, phones) to unit logits (batch, units, code book) and their mask."""
        spread, mask = length_regulate(states, durations)
        x = self.dropout(self.to_frames(spread))
        for block in self.frame_blocks:
            x = block(x, mask)
        return self.unit(x), mask

    def forward(self, phones: Tensor) -> tuple[Tensor, Tensor]:
        """One sequence of phone classes (1, phones) to reduced unit ids (units,) and the 40 ms frames each lasts, (units,)."""
        states, log_durations = self.states(phones)
        durations = torch.exp(log_durations).round().long().clamp(1, LONGEST_PHONE)
        ids = self.logits(states, durations)[0][0].argmax(-1)
        return torch.unique_consecutive(ids, return_counts=True)
