"""Training the speech tokenizer: phones by CTC and by frame, on units made predictable from the start.

The loss has five parts: CTC behind the units; CTC before them (the encoder learns before the code book settles); the phone of
each unit where a synthesiser told the times; the pull of each latent towards the mean latent of its phone, so that units can be
predicted from text; and the change between neighbours, so that units repeat and can be collapsed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from emova_sdk.components.nano.dictionary import PHONES
from emova_sdk.processor import processor
from nano_recipe.budget import fit
from nano_recipe.networks.tokenizer import STRIDE, NanoTokenizer
from nano_recipe.speech_data import RecordedUtterance, load_all, shard_count

PHONE_IDS = {"sil": 0, **{phone: index + 1 for index, phone in enumerate(PHONES)}}
"""Class of each phone; silence is also CTC's blank."""

UNKNOWN = -100
"""Label of a unit whose phone is not known."""

PULL_S = 225.0
"""CPU seconds at least until units are pulled with full strength: before they tell phones apart, all would become one."""


@dataclass(frozen=True)
class PhoneExample:
    """One training utterance: mel (frames, 80), phone classes, and the class of each unit or `UNKNOWN`."""

    mel: NDArray[np.float16]
    phones: tuple[int, ...]
    labels: NDArray[np.int64]
    name: str
    voice: str


def phone_owners(ends: tuple[float, ...], units: int) -> NDArray[np.int64]:
    """Which phone each 40 ms unit belongs to; a phone shorter than a unit still gets the one nearest its middle if it can.

    Args:
        ends: End of each phone, seconds.
        units: How many units.
    """
    bounds = np.array((0.0, *ends)) * 25
    owner = np.minimum(np.searchsorted(bounds[1:], np.arange(units)), len(ends) - 1)
    counts = np.bincount(owner, minlength=len(ends))
    for index in np.flatnonzero(counts == 0):
        place = min(units - 1, round((bounds[index] + bounds[index + 1]) / 2))
        if counts[owner[place]] > 1:
            counts[owner[place]] -= 1
            owner[place], counts[index] = index, 1
    return np.sort(owner)


def unit_labels(phones: tuple[str, ...], ends: tuple[float, ...], units: int) -> NDArray[np.int64]:
    """Phone class of each of so many units, or `UNKNOWN` where no times are known."""
    if not ends:
        return np.full(units, UNKNOWN, np.int64)
    return np.array([PHONE_IDS[phone] for phone in phones])[phone_owners(ends, units)]


def examples(out: Path, split: str) -> list[PhoneExample]:
    """The rendered utterances of a split; training leaves out every text that is tested on."""
    found = [u for u in load_all(out) if u.plan.split == split and u.plan.kind != "manner"]
    tested = held_out_texts(out)
    return [_example(u) for u in found if split == "test" or u.plan.text not in tested]


def held_out_texts(out: Path) -> set[str]:
    """Texts of test utterances that are not among the fixed, slotless phrases, and the dialogue's test sentences."""
    from nano_recipe.dialogue import sentences

    del out
    return {s.text for s in sentences("test") if s.novel}


def _example(utterance: RecordedUtterance) -> PhoneExample:
    units = -(-len(utterance.mel) // STRIDE)
    return PhoneExample(
        utterance.mel,
        tuple(PHONE_IDS[p] for p in utterance.phones if p != "sil"),
        unit_labels(utterance.phones, utterance.ends, units),
        utterance.plan.id,
        utterance.plan.voice,
    )


def augmented(mel: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Another tempo, vocal tract, channel and noise for one utterance: (frames, 80) and its unit labels."""
    if rng.random() < 0.6:
        frames = max(24, int(len(mel) / rng.uniform(0.85, 1.2)))
        mel = F.interpolate(mel.T[None], frames, mode="linear", align_corners=False)[0].T
        units = -(-frames // STRIDE)
        labels = labels[(torch.arange(units) * len(labels) / units).long()]
    if rng.random() < 0.6:
        mel = warped(mel, float(rng.uniform(0.86, 1.16)))
    bands = torch.linspace(-1, 1, mel.shape[1])
    mel = mel + float(rng.normal(0, 1.0)) * bands + float(rng.normal(0, 0.7)) * bands.square()
    if rng.random() < 0.5:
        level = float(torch.quantile(mel.mean(1), 0.9)) - float(rng.uniform(1.5, 6.0))
        noise = (
            level
            + float(rng.normal(0, 1.0)) * bands
            + 0.6 * torch.from_numpy(rng.standard_normal(tuple(mel.shape), np.float32))
        )
        mel = torch.logaddexp(mel, noise)
    mel = mel.clone()
    for _ in range(2):
        width, place = int(rng.integers(0, 12)), int(rng.integers(0, 70))
        mel[:, place : place + width] = mel.mean()
    if rng.random() < 0.5:
        place = int(rng.integers(0, max(1, len(mel) - 12)))
        mel[place : place + int(rng.integers(1, 9))] = mel.mean()
    return mel, labels


def warped(mel: Tensor, factor: float) -> Tensor:
    """Scale the frequency axis of log-mel frames, as a longer or shorter vocal tract does."""
    centre = 700 * (torch.exp(torch.linspace(0.0, 2840.0, mel.shape[1] + 2)[1:-1] / 1127) - 1)
    source = 1127 * torch.log1p((centre / factor) / 700) / 2840.0 * (mel.shape[1] + 1) - 1
    source = source.clamp(0, mel.shape[1] - 1)
    low = source.floor().long().clamp(max=mel.shape[1] - 2)
    share = source - low
    return mel[:, low] * (1 - share) + mel[:, low + 1] * share


def batches(data: list[PhoneExample], *, seconds: float, epoch: int) -> Iterator[list[PhoneExample]]:
    """Utterances of like length together, about `seconds` of sound in each batch, in an order drawn from the epoch."""
    rng = np.random.default_rng([7, epoch])
    order = sorted(range(len(data)), key=lambda i: len(data[i].mel) + rng.uniform(0, 40))
    groups: list[list[PhoneExample]] = [[]]
    frames = 0
    for index in order:
        if groups[-1] and frames + len(data[index].mel) > seconds * 100:
            groups.append([])
            frames = 0
        groups[-1].append(data[index])
        frames += len(data[index].mel)
    for group in rng.permutation(len(groups)):
        yield groups[group]


def collated(group: list[PhoneExample], rng: np.random.Generator | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Pad a batch: mel, frames, unit labels, flat phone targets, target lengths."""
    pairs = [(torch.from_numpy(e.mel).float(), torch.from_numpy(e.labels)) for e in group]
    if rng is not None:
        pairs = [augmented(mel, labels, rng) for mel, labels in pairs]
    mel = torch.nn.utils.rnn.pad_sequence([m for m, _ in pairs], batch_first=True)
    frames = torch.tensor([len(m) for m, _ in pairs])
    units = -(-mel.shape[1] // STRIDE)
    labels = torch.full((len(group), units), UNKNOWN)
    for row, (_, known) in enumerate(pairs):
        labels[row, : min(units, len(known))] = known[:units]
    targets = torch.tensor([p for e in group for p in e.phones])
    return mel, frames, labels, targets, torch.tensor([len(e.phones) for e in group])


def phone_weights(data: list[PhoneExample]) -> Tensor:
    """How much a unit of each phone class counts, (classes,): rare phones more, by the root of how rare; 1 on average.

    Without this, phones such as `ng`, `oy` and `th` find no units of their own and are said like their neighbours.
    """
    labels = np.concatenate([np.empty(0, np.int64), *(example.labels for example in data)])
    counts = np.bincount(labels[labels != UNKNOWN], minlength=len(PHONE_IDS)).astype(np.float64)
    weights = np.minimum(np.sqrt(counts.mean() / np.maximum(counts, 1)), 5.0)
    return torch.from_numpy(weights * counts.sum() / max(1.0, float(weights @ counts))).float()


def losses(model: NanoTokenizer, batch: tuple[Tensor, ...], *, pull: float, weights: Tensor) -> dict[str, Tensor]:
    """The five parts, weighted.

    Args:
        model: What is trained.
        batch: See `collated`.
        pull: 0 to 1, how strongly units are made predictable.
        weights: How much a unit of each phone class counts, see `phone_weights`.
    """
    mel, frames, labels, targets, lengths = batch
    halved = mel.device.type != "cpu" or not processor().slow_in_bfloat16
    with torch.autocast(mel.device.type, torch.bfloat16, enabled=halved):
        hidden, mask = model.hidden(mel, frames)
    hidden = hidden.float()
    latent = model.to_latent(hidden)
    codes = model.fsq(latent)
    units = mask.sum(1)
    read, early, single = model.read(codes), model.early_reader(hidden), model.unit_reader(codes)

    def ctc(logits: Tensor) -> Tensor:
        return F.ctc_loss(F.log_softmax(logits, -1).transpose(0, 1), targets, units, lengths, zero_infinity=True)

    known = labels != UNKNOWN
    # Where no times are known the early reader's own opinion, sharpened, stands in for the label.
    opinion = F.softmax(early.detach() * 1.5, -1)
    truth = torch.where(known[..., None], F.one_hot(labels.clamp(min=0), opinion.shape[-1]).float(), opinion)
    inside = mask.float()
    weighted = truth * weights
    frame = -(weighted * F.log_softmax(single, -1)).sum(-1)
    frame_early = -(weighted * F.log_softmax(early, -1)).sum(-1) * known
    bounded = torch.tanh(latent)
    flat, weight = bounded[mask], truth[mask]
    mean = (weight.T @ flat) / (weight.sum(0)[:, None] + 1e-3)
    distance = (flat - weight @ mean.detach()).square().sum(-1)
    jump = (bounded[:, 1:] - bounded[:, :-1]).abs().sum(-1) * mask[:, 1:]
    count = inside.sum()
    return {
        "ctc": ctc(read),
        "early": 0.3 * ctc(early) + 0.5 * frame_early.sum() / count,
        "frame": 0.7 * (frame * inside).sum() / count,
        "pull": pull * 2.5 * distance.mean(),
        "jump": pull * 0.25 * jump.sum() / count,
    }


def pull_at(share: float, budget_s: float) -> float:
    """How strongly units are made predictable, 0 to 1, at a share of a budget of CPU seconds."""
    return min(1.0, share / 0.15, share * budget_s / PULL_S)


def train_tokenizer(
    out: Path,
    *,
    budget_s: float,
    seconds: float = 64,
    width: int = 128,
    blocks: int = 4,
    data: list[PhoneExample] | None = None,
) -> Path:
    """Train from scratch or from the checkpoint under `out`; return the checkpoint.

    Args:
        out: Work folder with rendered speech.
        budget_s: CPU seconds over all runs.
        seconds: Of sound per batch.
        width: Channels of the encoder.
        blocks: Conformer blocks.
        data: Training examples, read from `out` by default.
    """
    torch.manual_seed(1)
    model = NanoTokenizer(width=width, blocks=blocks).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    found, shards = data or [], 0
    weights = phone_weights(found)

    def drawn(epoch: int) -> Iterator[tuple[Tensor, ...]]:
        nonlocal found, shards, weights
        rng = np.random.default_rng([11, epoch])
        if data is None and (count := shard_count(out)) != shards:  # rendering may still be going on
            found, shards = examples(out, "train"), count
            weights = phone_weights(found)
        for group in batches(found, seconds=seconds, epoch=epoch):
            yield collated(group, rng)

    def parts(batch: tuple[Tensor, ...], share: float) -> dict[str, Tensor]:
        return losses(model, batch, pull=pull_at(share, budget_s), weights=weights)

    return fit(model, optimizer, out / "tokenizer", budget_s=budget_s, clip=3.0, batches=drawn, losses=parts)
