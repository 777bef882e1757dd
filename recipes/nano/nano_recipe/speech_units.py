"""Rendered speech written down in units of a trained tokenizer: what the parts that speak learn from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emova_sdk.files import write_atomically
from nano_recipe.networks.tokenizer import NanoTokenizer
from nano_recipe.speech_data import RecordedUtterance, load_all
from nano_recipe.tokenizer import augmented


def tokenizer_from(checkpoint: Path) -> NanoTokenizer:
    """The tokenizer of a training checkpoint, ready to encode."""
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)["model"]
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    model = NanoTokenizer(width=state["norm.weight"].shape[0], blocks=blocks)
    # Checkpoints from before the reader's last blocks read as they did: those blocks begin as nothing.
    model.load_state_dict(state, strict=any(name.startswith("context_blocks") for name in state))
    return model.eval()


def unit_ids(model: NanoTokenizer, mel: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Units of one utterance, mel of shape (frames, 80), 25 a second."""
    with torch.inference_mode():
        return model(torch.from_numpy(mel.astype(np.float32))[None])[0].numpy()


ELSEWHERE = 1
"""How often each training utterance is written down once more, see `heard_elsewhere`."""
CLARITY = 0.5
"""How far from what was heard a clear unit may be: squared distance of codes for each nat of certainty of its phone."""


def clear_unit_ids(model: NanoTokenizer, mel: NDArray[np.float16], phones: NDArray[np.int64]) -> NDArray[np.int64]:
    """Units of an utterance as a clear speaker would make them: near what is heard, and read as the phones that were meant.

    What is heard is often a neighbour of what was said, and a voice that learns from that mumbles. Where the phones and
    their times are known, the unit is the code that is both near the latent and read as the phone.

    Args:
        model: Tokenizer.
        mel: float16 of shape (frames, 80).
        phones: Class of the phone of each unit, int64 of shape (ceil(frames / 4),).

    Returns:
        int64 of shape (ceil(frames / 4),).
    """
    with torch.inference_mode():
        codes = model.fsq.ids_to_codes(torch.arange(model.fsq.size))
        readable = torch.log_softmax(model.unit_reader(codes), -1)
        heard = torch.from_numpy(mel.astype(np.float32))[None]
        latents = model.latents(heard, torch.tensor([len(mel)]))[0]
        distance = torch.cdist(model.fsq.bound(latents) / cast("Tensor", model.fsq.middle), codes).square()
        return (distance - CLARITY * readable.T[torch.from_numpy(phones)]).argmin(-1).numpy()


def runs(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Reduced units and the length of each run."""
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    return ids[starts], np.diff(np.r_[starts, len(ids)])


SNAP = 3
"""Frames (10 ms) by which the end of a run may be off the end of a phone to be meant by it."""
SHORTEST = 2
"""Frames of a run at least."""


def snapped(durations: NDArray[np.int64], ends: Sequence[float]) -> NDArray[np.int64]:
    """Durations of runs in frames of 10 ms, with ends moved to where phones end.

    Units come every 40 ms, phones end in between. A voice that learns from the former alone cannot know when exactly a sound
    begins, and slurs all transitions.

    Args:
        durations: Units of each run, int64 of shape (runs,).
        ends: End of each phone, seconds; empty when not known.

    Returns:
        int64 of shape (runs,), with the same sum in time.
    """
    bounds = 4 * np.cumsum(durations)
    times = np.rint(100 * np.array(ends)).astype(np.int64)
    found, before = bounds.copy(), 0
    for place, bound in enumerate(bounds[:-1] if len(times) else ()):
        near = int(times[np.abs(times - bound).argmin()])
        latest = int(bounds[-1]) - SHORTEST * (len(bounds) - 1 - place)
        found[place] = before = min(max(near if abs(near - bound) <= SNAP else int(bound), before + SHORTEST), latest)
    return np.diff(found, prepend=0)


def write_units(out: Path, *, checkpoint: Path | None = None) -> dict[str, Any]:
    """Write `units/train.jsonl` and `units/test.jsonl` for all rendered utterances; return the statistics.

    Args:
        out: Work folder.
        checkpoint: Of the tokenizer; `tokenizer/last.pt` by default.
    """
    model = tokenizer_from(checkpoint or out / "tokenizer" / "last.pt")
    folder = out / "units"
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {"train": [], "test": []}
    counts: dict[str, float] = {"utterances": 0, "units": 0, "reduced": 0, "seconds": 0.0}
    rng = np.random.default_rng(29)
    for utterance in load_all(out):
        if utterance.plan.kind == "manner":  # said without phones, for hearing style only
            continue
        row = unit_row(model, utterance)
        split = utterance.plan.split
        rows = [row, *(heard_elsewhere(model, utterance, row, rng) for _ in range(ELSEWHERE if split == "train" else 0))]
        lines[split] += [json.dumps(one) + "\n" for one in rows]
        counts["utterances"] += 1
        counts["reduced"] += len(row["units"])
        counts["units"] += sum(row["durations"])
        counts["seconds"] += row["seconds"]
    for split, written in lines.items():
        write_atomically(folder / f"{split}.jsonl", "".join(written))
    return counts


def heard_elsewhere(
    model: NanoTokenizer, utterance: RecordedUtterance, row: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    """The row of an utterance as another vocal tract, channel and room would have it heard; nobody learns to speak from it."""
    mel, _ = augmented(torch.from_numpy(utterance.mel.astype(np.float32)), torch.zeros(1, dtype=torch.long), rng)
    ids, durations = runs(unit_ids(model, mel.numpy()))
    return {**row, "units": ids.tolist(), "durations": durations.tolist(), "kind": "elsewhere"}


def unit_row(model: NanoTokenizer, utterance: RecordedUtterance) -> dict[str, Any]:
    """One utterance as a JSON object."""
    plan = utterance.plan
    ids, durations = runs(unit_ids(model, utterance.mel))
    return {
        "id": plan.id, "text": plan.text, "phones": list(utterance.phones), "units": ids.tolist(),
        "durations": durations.tolist(),
        "kind": plan.kind, "voice": plan.voice, "speaker_gender": plan.gender, "emotion": plan.emotion, "pitch": plan.pitch,
        "speed": plan.speed, "split": plan.split, "seconds": len(utterance.samples) / 16000,
    }  # fmt: skip
