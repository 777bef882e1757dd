"""The convolution block that nano's small speech networks are built of."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBlock(nn.Module):
    """ConvNeXt in one dimension (Liu et al., arXiv 2201.03545): depthwise convolution, norm, two pointwise layers, residual."""

    def __init__(self, width: int, *, kernel: int, expansion: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (batch, time, width) to the same; `mask` (batch, time, 1) is 0 where there is only padding."""
        x = x if mask is None else x * mask
        mixed = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.narrow(F.gelu(self.widen(self.norm(mixed))))


def length_regulate(states: Tensor, durations: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat each state for its duration, with its place.

    Args:
        states: (batch, units, width).
        durations: int64 (batch, units), 0 for padding.

    Returns:
        (batch, frames, width + 4): the state, the frame's share of the way through the unit and the rest, the log of the unit's
        duration, and the log of the frames since its start; and the mask (batch, frames, 1).
    """
    ends = durations.cumsum(1)
    total = int(ends[:, -1].max())
    frame = torch.arange(total, device=states.device)[None].expand(states.shape[0], total).contiguous()
    owner = torch.searchsorted(ends, frame, right=True).clamp(max=states.shape[1] - 1)
    length = durations.gather(1, owner).to(states.dtype)
    since = (frame - (ends - durations).gather(1, owner)).to(states.dtype)
    mask = (frame < ends[:, -1:]).to(states.dtype)[..., None]
    share = (since + 0.5) / length.clamp(min=1)
    place = torch.stack([share, 1 - share, torch.log1p(length), torch.log1p(since.clamp(min=0))], -1)
    spread = states.gather(1, owner[..., None].expand(-1, -1, states.shape[2]))
    return torch.cat([spread, place], -1) * mask, mask
