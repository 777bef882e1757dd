"""Style perception of emova-nano: how something is said, from spectrum and pitch.

The units carry no style on purpose, so that a separate small network has to hear it.
"""

import torch
from torch import Tensor, nn

from emova_sdk.components.nano.shapes import BANDS, STYLE_AXES, VOICED
from nano_recipe.networks.blocks import ConvBlock

AXES = STYLE_AXES
STATISTICS = 8
"""How many numbers `style_input` tells of an utterance."""


def style_input(mel: Tensor, pitch: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
    """Per-frame and whole-utterance inputs of the network.

    Args:
        mel: Log-mel (frames, 80).
        pitch: Hz (frames,).
        strength: Periodicity in [0, 1] (frames,).

    Returns:
        (frames, 82): the spectrum relative to its mean level, log pitch relative to its median, strength; and
        (8,): median, quartile range, decile range, slope, movement and roughness of log pitch, voiced share, spread of level.
    """
    voiced = strength > VOICED
    log_pitch = torch.log(pitch.clamp(min=40))
    known = log_pitch[voiced] if int(voiced.sum()) >= 5 else log_pitch
    marks = torch.quantile(known, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]))
    relative = torch.where(voiced, log_pitch - marks[2], torch.zeros(()))
    both = voiced[1:] & voiced[:-1]
    steps = torch.where(both, log_pitch.diff(), torch.zeros(()))
    third = max(1, len(known) // 3)
    energy = mel.mean(1)
    whole = torch.stack([
        (marks[2] - 5.0) * 2, (marks[3] - marks[1]) * 5, (marks[4] - marks[0]) * 3,
        (known[-third:].mean() - known[:third].mean()) * 5,
        steps.abs().mean() * 50, _roughness(steps) * 50, voiced.float().mean() * 2, energy.std() * 0.3,
    ])  # fmt: skip
    frames = torch.cat([(mel - energy.mean()) * 0.3, relative[:, None] * 5, strength[:, None] * 2], 1)
    return frames, whole


def _roughness(steps: Tensor) -> Tensor:
    return (steps.diff().abs().mean() - steps.abs().mean()) if len(steps) > 1 else steps.sum()


class NanoStyle(nn.Module):
    """Frames and statistics to logits of each axis.

    Emotion is judged by the statistics alone: from frames a network learns the voices of training by heart.

    Args:
        width: Channels.
        statistics: Numbers that describe the whole utterance, those of `style_input` first.
    """

    def __init__(self, *, width: int = 80, statistics: int = STATISTICS) -> None:
        super().__init__()
        self.statistics = statistics
        self.center: Tensor
        self.scale: Tensor
        self.register_buffer("center", torch.zeros(statistics))
        self.register_buffer("scale", torch.ones(statistics))
        self.conv_in = nn.Conv1d(BANDS + 2, width, 5, stride=2, padding=2)
        self.near = nn.ModuleList(ConvBlock(width, kernel=7, expansion=2) for _ in range(2))
        self.down = nn.Conv1d(width, width, 4, stride=2, padding=1)
        self.far = nn.ModuleList(ConvBlock(width, kernel=9, expansion=2) for _ in range(2))
        self.norm = nn.LayerNorm(2 * width + statistics)
        self.dense = nn.Sequential(nn.Linear(2 * width + statistics, 96), nn.GELU(), nn.Dropout(0.2))
        self.manner = nn.Sequential(
            nn.Linear(statistics, 96), nn.GELU(), nn.Dropout(0.3), nn.Linear(96, 96), nn.GELU(), nn.Dropout(0.3)
        )
        self.heads = nn.ModuleDict({axis: nn.Linear(96, len(values)) for axis, values in AXES.items()})

    def normalize(self, statistics: Tensor) -> None:
        """Take mean and spread of (utterances, statistics) as what is usual."""
        self.center.copy_(statistics.mean(0))
        self.scale.copy_(statistics.std(0) + 1e-3)

    def forward(self, frames: Tensor, whole: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map frames (batch, frames, 82), statistics (batch, statistics) and frame counts (batch,) to logits of each axis."""
        whole = ((whole - self.center) / self.scale).clamp(-5, 5)
        if self.training:
            whole = whole + 0.15 * torch.randn_like(whole)
        manner = self.manner(whole)
        x = nn.functional.gelu(self.conv_in(frames.transpose(1, 2))).transpose(1, 2)
        mask = _mask(x.shape[1], (lengths + 1) // 2)
        for block in self.near:
            x = block(x, mask)
        x = nn.functional.gelu(self.down((x * mask).transpose(1, 2))).transpose(1, 2)
        mask = _mask(x.shape[1], (lengths + 1) // 4)
        for block in self.far:
            x = block(x, mask)
        count = mask.sum(1).clamp(min=1)
        mean = (x * mask).sum(1) / count
        spread = torch.sqrt(((x - mean[:, None]).square() * mask).sum(1) / count + 1e-4)
        dense = self.dense(self.norm(torch.cat([mean, spread, whole], 1)))
        return tuple(self.heads[axis](manner if axis == "emotion" else dense) for axis in AXES)


def _mask(size: int, lengths: Tensor) -> Tensor:
    return (torch.arange(size, device=lengths.device) < lengths[:, None]).float()[..., None]
