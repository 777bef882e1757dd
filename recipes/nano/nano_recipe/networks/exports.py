"""Nano's networks cut into the parts that run one after another: what is exported, and what runs in PyTorch as well.

Between two parts the host repeats states for their durations (`emova_sdk.components.nano.features.expand`), so that no shape
depends on a value. All parts take one utterance.
"""

import torch
from torch import Tensor, nn

from emova_sdk.components.nano.shapes import FFT, HOP, WINDOW
from nano_recipe.networks.features import NanoLogMel, at_level
from nano_recipe.networks.style import NanoStyle
from nano_recipe.networks.text_to_units import NanoTextToUnits
from nano_recipe.networks.tokenizer import NanoTokenizer
from nano_recipe.networks.vocoder import NanoVocoder


class ProductLogMel(nn.Module):
    """`NanoLogMel` of one sound, its transform as a product with a matrix: runtimes are slow at STFT, or do not know it."""

    def __init__(self) -> None:
        super().__init__()
        original = NanoLogMel()
        turns = 2 * torch.pi / FFT * (torch.arange(WINDOW)[:, None] * torch.arange(FFT // 2 + 1)).double()
        waves = torch.cat([turns.cos(), turns.sin()], 1).float()
        self.waves = nn.Buffer(original.get_buffer("window")[:, None] * waves)
        self.bank = nn.Buffer(original.get_buffer("bank").repeat(2, 1))

    def forward(self, samples: Tensor) -> Tensor:
        """Samples (samples,) at 16 kHz to natural-log energies (samples // 160 + 1, 80)."""
        frames = samples.shape[0] // HOP + 1
        pieces = -(-WINDOW // HOP)
        # the last frame reaches to the end of these hops; what is added behind the sound is cut off again
        padded = nn.functional.pad(samples, (WINDOW // 2, (pieces + 1) * HOP - WINDOW // 2))
        hops = padded[: (frames + pieces - 1) * HOP].view(-1, HOP)
        windows = torch.cat([hops[piece : piece + frames] for piece in range(pieces)], 1)[:, :WINDOW]
        return torch.log((windows @ self.waves).square() @ self.bank + 1e-5)


class HearingPart(nn.Module):
    """Sound to units, front end included."""

    def __init__(self, tokenizer: NanoTokenizer) -> None:
        super().__init__()
        self.log_mel, self.exported_log_mel, self.tokenizer = NanoLogMel(), ProductLogMel(), tokenizer

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (samples,) at 16 kHz to unit ids (units,), int64, and the numbers before rounding (units, dims)."""
        audio = at_level(audio)
        mel = self.exported_log_mel(audio)[None] if torch.compiler.is_exporting() else self.log_mel(audio[None])
        frames = torch.full((1,), mel.shape[1], device=mel.device)
        latents = self.tokenizer.latents(mel, frames)
        return self.tokenizer.fsq.codes_to_ids(self.tokenizer.fsq(latents))[0], latents[0]


class ReadingPart(nn.Module):
    """Units to phones, for people to see."""

    def __init__(self, tokenizer: NanoTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, units: Tensor) -> Tensor:
        """Unit ids (units,), repeats kept, to the probabilities of phones (units, phones)."""
        return self.tokenizer.read(self.tokenizer.fsq.ids_to_codes(units)[None])[0].softmax(-1)


class StylePart(nn.Module):
    """Frames and statistics of an utterance to the logits of each axis."""

    def __init__(self, style: NanoStyle) -> None:
        super().__init__()
        self.style = style

    def forward(self, frames: Tensor, whole: Tensor) -> tuple[Tensor, ...]:
        """Frames (frames, 82) and statistics (8,), see `nano_style.style_input`, to logits (classes,) of each axis."""
        lengths = torch.full((1,), frames.shape[0], device=frames.device)
        return tuple(logits[0] for logits in self.style(frames[None], whole[None], lengths))


class UnitPart(nn.Module):
    """The part of a vocoder between units."""

    def __init__(self, vocoder: NanoVocoder) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """Unit ids (units,) to states (units, width) and log durations in frames (units,)."""
        states, log_durations = self.vocoder.states(units[None])
        return states[0], log_durations[0]


class FramePart(nn.Module):
    """The part of a vocoder between frames."""

    def __init__(self, vocoder: NanoVocoder) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, spread: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Spread states (frames, width + 4) to pitch, voicing, envelope and aperiodicity, see `nano_vocoder.VoiceFrames`."""
        found = self.vocoder.features_of(spread[None])
        return found.pitch[0], found.voicing[0], found.envelope[0], found.aperiodicity[0]


class PhonePart(nn.Module):
    """The part of text-to-units between phones."""

    def __init__(self, reader: NanoTextToUnits) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, phones: Tensor) -> tuple[Tensor, Tensor]:
        """Phone classes (phones,) to states (phones, width) and log durations in units (phones,)."""
        states, log_durations = self.reader.states(phones[None])
        return states[0], log_durations[0]


class WritingPart(nn.Module):
    """The part of text-to-units between units."""

    def __init__(self, reader: NanoTextToUnits) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Spread states (units, width + 4) to unit ids (units,), repeats kept, and their logits (units, code book)."""
        x = self.reader.to_frames(spread[None])
        for block in self.reader.frame_blocks:
            x = block(x)
        logits = self.reader.unit(x)[0]
        return logits.argmax(-1), logits
