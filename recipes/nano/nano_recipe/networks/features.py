"""What the nano models hear: 80 log-mel bands every 10 ms."""

import torch
from torch import Tensor, nn

from emova_sdk.components.nano.shapes import BANDS, FFT, HOP, SAMPLE_RATE, WINDOW


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
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("bank", mel_bank(BANDS, FFT // 2 + 1, SAMPLE_RATE), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Samples (batch, samples) at 16 kHz to natural-log energies (batch, samples // 160 + 1, 80)."""
        padded = nn.functional.pad(samples, (FFT // 2, FFT // 2))
        spectrum = torch.stft(padded, FFT, HOP, WINDOW, self.window, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(power.transpose(1, 2) @ self.bank + 1e-5)


def at_level(samples: Tensor) -> Tensor:
    """Scale sound so that it peaks between 0.3 and 0.7, the level of the training data; sound in between is left as it is."""
    peak = samples.abs().max().clamp(min=1e-6)
    return samples * (peak.clamp(0.3, 0.7) / peak)


LOWEST, HIGHEST = 60.0, 450.0
"""Range of the pitch tracker, Hz."""
_PITCH_WINDOW = 960


def pitch_track(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Track the pitch by normalised autocorrelation (Boersma, IFA Proceedings 1993), every 10 ms.

    Args:
        samples: (samples,) at 16 kHz.

    Returns:
        Pitch in Hz, median-smoothed, meaningful where voiced, and the strength of periodicity in [0, 1], each of shape
        (samples // 160 + 1,), the frames of `LogMel`.
    """
    window = torch.hann_window(_PITCH_WINDOW)
    padded = nn.functional.pad(samples, (_PITCH_WINDOW // 2, _PITCH_WINDOW // 2))
    frames = padded.unfold(0, _PITCH_WINDOW, HOP)
    frames = (frames - frames.mean(1, keepdim=True)) * window
    correlation = torch.fft.irfft(torch.fft.rfft(frames, 2048).abs().square(), 2048)
    ideal = torch.fft.irfft(torch.fft.rfft(window, 2048).abs().square(), 2048)
    first, last = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST)
    normal = correlation / correlation[:, :1].clamp(min=1e-7) * (ideal[0] / ideal[: correlation.shape[1]].clamp(min=1e-3))
    lags = normal[:, first - 1 : last + 1]
    middle = lags[:, 1:-1]
    peaks = torch.where((middle >= lags[:, :-2]) & (middle >= lags[:, 2:]), middle, torch.zeros(()))
    # The shortest period that is nearly as good as the best one: a multiple of the period correlates as well.
    good = peaks >= 0.88 * peaks.amax(1, keepdim=True)
    place = good.to(torch.uint8).argmax(1, keepdim=True)
    left, peak, right = (lags.gather(1, place + shift)[:, 0] for shift in (0, 1, 2))
    offset = 0.5 * (left - right) / (left - 2 * peak + right).clamp(max=-1e-6)
    pitch = SAMPLE_RATE / (place[:, 0] + first + offset.clamp(-0.5, 0.5))
    loud = correlation[:, 0] > 1e-4 * correlation[:, 0].max().clamp(min=1e-4)
    smooth = nn.functional.pad(pitch[None, None], (2, 2), mode="replicate")[0, 0].unfold(0, 5, 1).median(1).values
    return smooth, (peak * loud).clamp(0, 1)
