"""Training style perception on styled speech of many voices."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from emova_sdk.acoustics import pitch_track
from emova_sdk.components.nano.familiar import Familiar
from emova_sdk.components.nano.voice_statistics import voice_statistics
from nano_recipe.budget import fit
from nano_recipe.networks.style import AXES, NanoStyle, style_input
from nano_recipe.speech_data import RecordedUtterance, load_all
from nano_recipe.tokenizer import warped

COPIES = 2
"""Changed copies of each utterance whose statistics are learnt from."""


@dataclass(frozen=True)
class StyleExample:
    """One styled utterance: log-mel, pitch, strength, class of each axis, voice; statistics of it and of changed copies."""

    mel: Tensor
    pitch: Tensor
    strength: Tensor
    classes: tuple[int, ...]
    voice: str
    statistics: Tensor


def heard(utterance: RecordedUtterance) -> StyleExample:
    """Analyse one utterance."""
    plan = utterance.plan
    values = {"emotion": plan.emotion, "pitch": plan.pitch, "speed": plan.speed, "speaker": plan.gender}
    pitch, strength = map(torch.from_numpy, pitch_track((utterance.samples / 32767).astype(np.float32)))
    classes = tuple(AXES[axis].index(values[axis]) for axis in AXES)
    mel = torch.from_numpy(utterance.mel.astype(np.float32))
    rng = np.random.default_rng([23, crc32(plan.id.encode())])
    copies = [(mel, pitch, strength), *(augmented(mel, pitch, strength, rng) for _ in range(COPIES))]
    return StyleExample(mel, pitch, strength, classes, plan.voice, torch.stack([statistics(*copy) for copy in copies]))


def statistics(mel: Tensor, pitch: Tensor, strength: Tensor) -> Tensor:
    """All that the network is told of an utterance as a whole, float32 (73,)."""
    whole = style_input(mel, pitch, strength)[1]
    return torch.cat([whole, torch.from_numpy(voice_statistics(mel.numpy(), pitch.numpy(), strength.numpy()))])


def styled_speech(out: Path, split: str) -> list[StyleExample]:
    """The utterances of a split that were given a style."""
    kinds = ("styled", "manner")
    return [heard(u) for u in load_all(out) if u.plan.split == split and u.plan.kind in kinds and len(u.mel) > 60]


def collated(group: list[StyleExample], rng: np.random.Generator | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pad a batch; with a generator, add channel, noise and cuts."""
    copies = [(h.mel, h.pitch, h.strength) if rng is None else augmented(h.mel, h.pitch, h.strength, rng) for h in group]
    frames = [style_input(*copy)[0] for copy in copies]
    lengths = torch.tensor([len(one) for one in frames])
    whole = torch.stack([h.statistics[0 if rng is None else int(rng.integers(len(h.statistics)))] for h in group])
    return pad_sequence(frames, batch_first=True), whole, lengths, torch.tensor([h.classes for h in group])


def augmented(mel: Tensor, pitch: Tensor, strength: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Another vocal tract, microphone and room for an utterance."""
    bands = torch.linspace(-1, 1, mel.shape[1])
    # Another vocal tract: the voices are few, and their timbre is learnt by heart otherwise.
    mel = warped(mel, float(rng.uniform(0.87, 1.15))) if rng.random() < 0.8 else mel
    mel = mel + float(rng.normal(0, 0.35)) * bands + float(rng.normal(0, 0.35)) * bands.square()
    # Smooth random colour: another microphone.
    bumps = torch.from_numpy(rng.normal(0, 0.45, 12).astype(np.float32))
    mel = mel + F.interpolate(bumps[None, None], mel.shape[1], mode="linear", align_corners=True)[0, 0]
    if rng.random() < 0.5:
        level = float(mel.mean(1).max()) - float(rng.uniform(3.0, 8.0))
        grain = torch.from_numpy(rng.standard_normal(tuple(mel.shape), np.float32))
        mel = torch.logaddexp(mel, level + 0.5 * float(rng.normal()) * bands + 0.6 * grain)
    shift = float(np.exp(rng.normal(0, 0.04)))
    return mel, pitch * shift, strength * float(rng.uniform(0.8, 1.0))


def train_style(out: Path, *, budget_s: float, size: int = 32, data: list[StyleExample] | None = None, seed: int = 3) -> Path:
    """Train from scratch or from the checkpoint under `out`; return the checkpoint, with the voices that it knows beside it.

    Args:
        out: Work folder with rendered speech.
        budget_s: CPU seconds over all runs, without the analysis.
        size: Utterances per batch.
        data: Training utterances, read from `out` by default.
        seed: Of the weights.
    """
    data = styled_speech(out, "train") if data is None else data
    (out / "style").mkdir(parents=True, exist_ok=True)
    Familiar.of([h.statistics[0].numpy() for h in data]).save(out / "style")  # of other voices nothing will be said
    torch.manual_seed(seed)
    model = NanoStyle(statistics=data[0].statistics.shape[1]).train()
    model.normalize(torch.cat([h.statistics for h in data]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)

    def batches(epoch: int) -> Iterator[tuple[Tensor, ...]]:
        rng = np.random.default_rng([17, epoch])
        order = sorted(range(len(data)), key=lambda i: len(data[i].mel) + rng.uniform(0, 60))
        for start in rng.permutation(range(0, len(order), size)):
            yield collated([data[i] for i in order[start : start + size]], rng)

    return fit(
        model, optimizer, out / "style", budget_s=budget_s, batches=batches, losses=lambda batch, _: losses(model, batch)
    )


def losses(model: NanoStyle, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Cross entropy of each axis."""
    frames, whole, lengths, classes = batch
    logits = model(frames, whole, lengths)
    return {
        axis: F.cross_entropy(logit, classes[:, index], label_smoothing=0.03)
        for index, (axis, logit) in enumerate(zip(AXES, logits, strict=True))
    }
