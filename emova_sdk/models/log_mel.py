"""The log-mel front end of EMOVA's speech tokenizer: 16 kHz samples to normalised mel frames.

Everything is float32 and free of gradient; the order of the steps matters and is that of `LogMel.forward`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emova_sdk.acoustics import triangles


def mel_filterbank(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangular mel filters with Slaney's scale and area normalisation, float32 (n_mels, n_fft // 2 + 1).

    The scale is linear (200/3 Hz per mel) below 1 kHz and logarithmic (step ln(6.4) / 27) above it; each filter is
    multiplied by 2 / (its width in Hz). Range 0 to `sample_rate / 2`.
    """
    top = 15 + np.log(max(sample_rate / 2, 1000.0) / 1000.0) * 27 / np.log(6.4)
    top = top if sample_rate / 2 >= 1000 else sample_rate / 2 * 3 / 200
    mels = np.linspace(0.0, top, n_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    bins = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)
    widths = edges[2:] - edges[:-2]
    return torch.from_numpy(triangles(bins, edges).T * 2 / widths[:, None]).float()


class LogMel(nn.Module):
    """Samples to log-mel frames, normalised per mel bin and utterance.

    Args:
        sample_rate: Hz.
        n_fft: Size of the Fourier transform in samples.
        win_length: Length of the symmetric Hann window, centred in `n_fft`.
        hop_length: Samples per frame.
        n_mels: Mel bins.
        preemphasis: y[t] = x[t] - preemphasis * x[t - 1].
        pad_frames_to: The number of frames is padded with zeros to a multiple of this.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        n_fft: int = 512,
        win_length: int = 320,
        hop_length: int = 160,
        n_mels: int = 128,
        preemphasis: float = 0.97,
        pad_frames_to: int = 16,
    ) -> None:
        super().__init__()
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length, hop_length
        self.preemphasis, self.pad_frames_to = preemphasis, pad_frames_to
        self.register_buffer("window", torch.hann_window(win_length, periodic=False), persistent=False)
        self.register_buffer("filters", mel_filterbank(sample_rate, n_fft, n_mels), persistent=False)

    @property
    def shortest(self) -> int:
        """The fewest samples that can be processed: reflection needs more than half a transform."""
        return self.n_fft // 2 + 1

    @torch.no_grad()
    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of zero-padded clips.

        Args:
            audio: (batch, samples) float32; at least `shortest` samples.
            lengths: (batch,) true lengths in samples. A length beyond `samples` marks every frame as valid.

        Returns:
            Features (batch, n_mels, frames), float32, and the number of valid frames (batch,), int64.
        """
        peak = audio.abs().amax(-1, keepdim=True)
        audio = audio / (peak + 1e-5)
        audio = torch.cat([audio[:, :1], audio[:, 1:] - self.preemphasis * audio[:, :-1]], 1)
        mel = torch.log(self.filters @ self._power(audio) + 2**-24)
        valid = (lengths.long() + self.hop_length - 1) // self.hop_length
        mask = (torch.arange(mel.shape[-1], device=mel.device) < valid[:, None])[:, None]
        mel = _normalise(mel, mask.to(mel.dtype)) * mask
        return F.pad(mel, (0, -mel.shape[-1] % self.pad_frames_to)), valid

    def _power(self, audio: Tensor) -> Tensor:
        """Power spectrum (batch, bins, frames) of samples (batch, samples)."""
        spectrum = torch.stft(
            audio, self.n_fft, self.hop_length, self.win_length, self.window, center=True, return_complex=True
        )
        return torch.view_as_real(spectrum).pow(2).sum(-1)


def _normalise(mel: Tensor, mask: Tensor) -> Tensor:
    """Zero mean and unit (unbiased) deviation per bin, measured over the valid frames, applied to all."""
    count = mask.sum(-1, keepdim=True)
    mean = (mel * mask).sum(-1, keepdim=True) / count
    variance = ((mel - mean).pow(2) * mask).sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return (mel - mean) / (variance.sqrt() + 1e-5)
