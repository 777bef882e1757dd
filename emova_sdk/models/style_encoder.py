"""How a recording sounds, as one unit vector: the reference encoder that makes EMOVA's style vectors."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Spectrogram(nn.Module):
    """Samples to a linear magnitude spectrogram, periodic Hann window, not centred.

    Args:
        filter_length: Size of the Fourier transform.
        hop_length: Samples per frame.
        win_length: Length of the window.
    """

    def __init__(self, *, filter_length: int, hop_length: int, win_length: int) -> None:
        super().__init__()
        self.filter_length, self.hop_length, self.win_length = filter_length, hop_length, win_length
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)

    @property
    def shortest(self) -> int:
        """The fewest samples that can be processed: reflection needs more than it adds."""
        return max((self.filter_length - self.hop_length) // 2 + 1, self.hop_length)

    def forward(self, audio: Tensor) -> Tensor:
        """Samples (batch, samples), float32, to sqrt(|S|^2 + 1e-6), (batch, bins, frames)."""
        margin = (self.filter_length - self.hop_length) // 2
        audio = F.pad(audio[:, None], (margin, margin), mode="reflect")[:, 0]
        spectrum = torch.stft(
            audio,
            self.filter_length,
            self.hop_length,
            self.win_length,
            self.window,
            center=False,
            return_complex=True,
        )
        return torch.sqrt(torch.view_as_real(spectrum).pow(2).sum(-1) + 1e-6)


class StyleEncoder(nn.Module):
    """Spectrogram to a style vector of length 1 (after Meta-StyleSpeech, arXiv 2106.03153).

    Args:
        bins: Of the linear spectrogram.
        hidden: Width.
        style_channels: Size of the vector.
        heads: Of the attention.
    """

    def __init__(self, bins: int, hidden: int, style_channels: int, *, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.hidden = heads, hidden
        self.spectral1, self.spectral2 = nn.Linear(bins, hidden), nn.Linear(hidden, hidden)
        self.temporal = nn.ModuleList([nn.Conv1d(hidden, 2 * hidden, 5, padding=2) for _ in range(2)])
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.value, self.out = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.fc = nn.Linear(hidden, style_channels)

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> Tensor:
        """Spectrogram (batch, bins, frames) and valid frames (batch,) to unit vectors (batch, style_channels)."""
        hidden = F.mish(self.spectral2(F.mish(self.spectral1(spectrogram.transpose(1, 2)))))
        for conv in self.temporal:
            hidden = hidden + F.glu(conv(hidden.transpose(1, 2)), 1).transpose(1, 2)
        mask = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        hidden = self.fc(self._attend(hidden * mask[..., None], mask))
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(mean, dim=-1)

    def _attend(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Self-attention with a residual sum and no norm, (batch, time, hidden) to the same."""
        query, key, value = (
            proj(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.query, self.key, self.value)
        )
        # The original divides by the root of the whole width, not of one head's.
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None], scale=1 / math.sqrt(self.hidden)
        )
        return self.out(mixed.transpose(1, 2).flatten(2)) + hidden
