"""Perceptual loss between spectral envelopes, measured in the speech tokenizer's features.

Perceptual losses compare what a trained network makes of two signals, layer by layer (Johnson et al., arXiv 1603.08155). The
network here is nano's speech tokenizer, so that the vocoder spends its capacity on what distinguishes phones.
"""

import numpy as np
import torch
from torch import Tensor

from emova_sdk.acoustics import mel_bank
from emova_sdk.components.nano.shapes import ENVELOPE, SAMPLE_RATE
from emova_sdk.components.nano.vocoder import full_envelope
from nano_recipe.networks.features import BANDS
from nano_recipe.networks.tokenizer import NanoTokenizer


class PerceptualLoss:
    """Distance in the layers of a trained tokenizer.

    Args:
        tokenizer: Its network; frozen from here on.
    """

    def __init__(self, tokenizer: NanoTokenizer) -> None:
        self._tokenizer = tokenizer.eval().requires_grad_(False)
        grid = full_envelope(np.eye(ENVELOPE, dtype=np.float32))[:, ::2]  # 257 frequencies are as good as 513 and faster
        self._grid = torch.from_numpy(np.ascontiguousarray(grid))
        self._bank = torch.from_numpy(mel_bank(BANDS, grid.shape[1], SAMPLE_RATE))

    def distance(self, spoken: Tensor, meant: Tensor, frames: Tensor) -> Tensor:
        """Mean over the layers of the difference of what is heard, relative to what should be.

        Args:
            spoken: Natural log power in `ENVELOPE` bands, (batch, frames, bands).
            meant: What it should sound like, same shape.
            frames: Real frames of each, (batch,).

        Returns:
            A scalar, 0 where they sound the same.
        """
        found, mask = self._tokenizer.layers(self._log_mel(spoken), frames)
        with torch.no_grad():
            wanted, _ = self._tokenizer.layers(self._log_mel(meant), frames)
        inside = mask[..., None].float()
        shares = [((a - b).abs() * inside).sum() / (b.abs() * inside).sum() for a, b in zip(found, wanted, strict=True)]
        return torch.stack(shares).mean()

    def _log_mel(self, envelope: Tensor) -> Tensor:
        """Log-mel frames of a sound with this envelope and no pitch."""
        return torch.log(torch.exp((envelope @ self._grid).clamp(-25, 15)) @ self._bank + 1e-5)
