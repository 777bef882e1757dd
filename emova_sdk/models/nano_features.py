"""What the nano models hear: 80 log-mel bands every 10 ms."""

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16000
HOP = 160
"""Samples per frame: 100 frames a second."""
BANDS = 80
_FFT = 512
_WINDOW = 400


def mel_edges(bands: int, top: float) -> Tensor:
    """Edges of triangular mel bands from 0 to `top` Hz, float32 of shape (bands + 2,), in Hz."""
    mel = torch.linspace(0, 1127 * torch.log1p(torch.tensor(top / 700)).item(), bands + 2)
    return 700 * (torch.exp(mel / 1127) - 1)


def mel_bank(bands: int, bins: int, sample_rate: int) -> Tensor:
    """Triangular mel filters over a linear grid of `bins` frequencies, float32 of shape (bins, bands)."""
    hertz = torch.linspace(0, sample_rate / 2, bins)[:, None]
    edges = mel_edges(bands, sample_rate / 2)
    rise = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0)


class LogMel(nn.Module):
    """Sound to log-mel frames: 25 ms Hann windows centred every 10 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(_WINDOW), persistent=False)
        self.register_buffer("bank", mel_bank(BANDS, _FFT // 2 + 1, SAMPLE_RATE), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Samples (batch, samples) at 16 kHz to natural-log energies (batch, samples // 160 + 1, 80)."""
        padded = nn.functional.pad(samples, (_FFT // 2, _FFT // 2))
        spectrum = torch.stft(padded, _FFT, HOP, _WINDOW, self.window, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(power.transpose(1, 2) @ self.bank + 1e-5)
