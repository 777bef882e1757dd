"""What the nano models hear: 80 log-mel bands every 10 ms."""

import torch
from torch import Tensor, nn

from emova_sdk.acoustics import mel_bank
from emova_sdk.components.nano.shapes import BANDS, FFT, HOP, SAMPLE_RATE, WINDOW


class NanoLogMel(nn.Module):
    """Sound to log-mel frames: 25 ms Hann windows centred every 10 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("bank", torch.from_numpy(mel_bank(BANDS, FFT // 2 + 1, SAMPLE_RATE)), persistent=False)

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
