"""Training text-to-units: what the tokenizer would hear if the teacher said phones clearly."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from nano_recipe.budget import fit
from nano_recipe.networks.text_to_units import NanoTextToUnits
from nano_recipe.networks.tokenizer import STRIDE, NanoTokenizer
from nano_recipe.speech_data import RecordedUtterance, load_all
from nano_recipe.speech_units import clear_unit_ids, tokenizer_from
from nano_recipe.tokenizer import PHONE_IDS, held_out_texts, phone_owners


@dataclass(frozen=True)
class Reading:
    """Phone classes (phones,), units each lasts (phones,), units at 25 Hz (their sum,)."""

    phones: NDArray[np.int64]
    durations: NDArray[np.int64]
    ids: NDArray[np.int64]


def readings(out: Path, tokenizer: Path, split: str) -> list[Reading]:
    """The teacher's utterances of a split."""
    model = tokenizer_from(tokenizer)
    tested = held_out_texts(out)
    return [
        reading_of(u, model)
        for u in load_all(out)
        if u.plan.taught and u.plan.split == split and not (split == "train" and u.plan.text in tested)
    ]


def reading_of(utterance: RecordedUtterance, tokenizer: NanoTokenizer) -> Reading:
    """How one utterance should be read aloud."""
    owners = phone_owners(utterance.ends, -(-len(utterance.mel) // STRIDE))
    durations = np.bincount(owners, minlength=len(utterance.phones))
    kept = durations > 0
    phones = np.array([PHONE_IDS[p] for p in utterance.phones])
    ids = clear_unit_ids(tokenizer, utterance.mel, phones[owners])
    return Reading(phones[kept], durations[kept], ids)


def written(model: NanoTextToUnits, reading: Reading) -> NDArray[np.int64]:
    """Units at 25 Hz that a trained network writes for the phones of a reading at its pace."""
    with torch.inference_mode():
        states, _ = model.states(torch.from_numpy(reading.phones)[None])
        logits, _ = model.logits(states, torch.from_numpy(reading.durations)[None])
    return logits[0].argmax(-1).numpy()


def reader_from(checkpoint: Path) -> NanoTextToUnits:
    """The network of a checkpoint."""
    state = torch.load(checkpoint, weights_only=True)["model"]
    phones, width = state["phone.weight"].shape
    model = NanoTextToUnits(phones=phones, units=state["unit.1.weight"].shape[0], width=width)
    model.load_state_dict(state)
    return model.eval()


def batches(data: list[Reading], *, size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Padded phones, durations (0 for padding) and units, utterances of like length together."""
    rng = np.random.default_rng([19, epoch])
    order = sorted(range(len(data)), key=lambda i: len(data[i].ids) + rng.uniform(0, 15))
    for start in rng.permutation(range(0, len(order), size)):
        group = [data[i] for i in order[start : start + size]]
        yield (
            pad_sequence([torch.from_numpy(r.phones) for r in group], batch_first=True),
            pad_sequence([torch.from_numpy(r.durations) for r in group], batch_first=True),
            pad_sequence([torch.from_numpy(r.ids) for r in group], batch_first=True),
        )


def losses(model: NanoTextToUnits, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    """Cross entropy of the units, distance of the log durations."""
    phones, durations, ids = batch
    real = (durations > 0).float()
    states, log_durations = model.states(phones, real[..., None])
    logits, mask = model.logits(states, durations)
    wrong = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none") * mask[..., 0]
    target = torch.log(durations.clamp(min=1).float())
    off = (log_durations - target).abs() * real
    return {"units": wrong.sum() / mask.sum(), "duration": off.sum() / real.sum()}


def train_text_to_units(out: Path, *, budget_s: float, size: int = 24, tokenizer: Path | None = None) -> Path:
    """Train from scratch or from the checkpoint under `out`; return the checkpoint.

    Args:
        out: Work folder with rendered speech.
        budget_s: CPU seconds over all runs.
        size: Utterances per batch.
        tokenizer: Checkpoint of the tokenizer; `tokenizer/last.pt` by default.
    """
    data = readings(out, tokenizer or out / "tokenizer" / "last.pt", "train")
    torch.manual_seed(4)
    model = NanoTextToUnits().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    return fit(
        model, optimizer, out / "text_to_units", budget_s=budget_s, clip=2.0,
        batches=lambda epoch: batches(data, size=size, epoch=epoch), losses=lambda batch, _: losses(model, batch),
    )  # fmt: skip
