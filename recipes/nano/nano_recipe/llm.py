"""Training of emova-nano's language model in the paper's three stages, at its scale.

1. ``prealign``: pictures and captions, which teach the projector and the model what a feature says.
2. ``align``: omni-modal alignment on image-text and speech-text pairs at once, text being the bridge; there are no pairs of
   image and speech. ``modalities`` leaves one of the two out, for the ablation against bi-modal alignment.
3. ``instruct``: whole turns in the JSON reply format, with emotion and pitch in and out: questions about pictures, small
   talk and tools, typed and spoken, and saying answers aloud.

A stage goes on from the weights of the one before. Data is drawn anew for each step; only speech comes from a file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from emova_sdk.components.nano.language import Language
from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.scene_qa import save_sight
from emova_sdk.components.nano.weights import PRESET
from emova_sdk.errors import InputError
from emova_sdk.processor import processor
from nano_recipe import dialogue
from nano_recipe.budget import Budget, TrainingCheckpoint
from nano_recipe.examples import NEEDS, Example, Examples, described, read_speech
from nano_recipe.graphs import write_part_graphs
from nano_recipe.model import NanoModel, load_model, save_model
from nano_recipe.muon import Muon
from nano_recipe.network_files import read_tower
from nano_recipe.networks.vision import NanoVisionTower
from nano_recipe.scenes import CELLS, Scene, draw, random_scene

LlmStage = Literal["prealign", "align", "instruct"]
Modalities = Literal["both", "image", "speech"]
SIZES = {
    "hidden_size": 224,
    "intermediate_size": 576,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TOKENS_A_STEP = 1_024
POOL = 192
"""Examples sorted by length at a time, so that little is padded."""
SPLICED = 12_000
"""Questions put together from words of others."""
PEAK_RATE = {"prealign": 2e-3, "align": 2e-3, "instruct": 2e-3}
MIXTURES: Mapping[LlmStage, Mapping[str, float]] = {
    "prealign": {"caption": 0.4, "look": 0.6},
    "align": {"caption": 0.05, "look": 0.65, "transcribe": 0.2, "speak": 0.1},
    "instruct": {"look": 0.5, "talk": 0.3, "hear": 0.1, "speak": 0.1},
}
"""Share of examples of each kind."""


def align_projector(
    model: NanoModel, language: Language, tower: NanoVisionTower, *, budget: Budget, share: float, seed: int
) -> None:
    """Teach the projector to turn the feature of a cell into the sum of the embeddings of the words that describe it.

    Pictures then speak the language model's own words from the start. Takes ``share`` of the budget.
    """
    rng = np.random.default_rng((seed, 17))
    optimizer = torch.optim.AdamW(model.projector.parameters(), lr=3e-3)
    embeddings: Any = model.core.get_input_embeddings()
    table: Tensor = embeddings.weight.detach()
    while budget.share < share:
        scenes = [random_scene(rng) for _ in range(24)]
        targets = torch.zeros(len(scenes), CELLS * CELLS, table.shape[1])
        for row, scene in enumerate(scenes):
            for place in range(CELLS * CELLS):
                ids = [language.id(f"<row_{place // CELLS + 1}>"), language.id(f"<column_{place % CELLS + 1}>")]
                targets[row, place] = table[ids].sum(0)
            for shape in scene.shapes:
                targets[row, shape.row * CELLS + shape.column] = table[described(language, shape)].sum(0)
        loss = F.mse_loss(model.projector(see(scenes, tower, rng)), targets.flatten(0, 1)) / table.var()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def batches(
    examples: Examples, mixture: Mapping[str, float], tower: NanoVisionTower
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield ids (rows, length), labels (-100 where nothing is learnt) and features (rows of all pictures, 128), without end."""
    rng = examples.rng
    kinds = list(mixture)
    shares = np.array([mixture[kind] for kind in kinds])
    while True:
        pool = [examples.draw(str(kind)) for kind in rng.choice(kinds, size=POOL, p=shares / shares.sum())]
        pool.sort(key=lambda example: len(example.ids))
        groups: list[list[Example]] = [[]]
        for example in pool:
            if (len(groups[-1]) + 1) * len(example.ids) > TOKENS_A_STEP:
                groups.append([])
            groups[-1].append(example)
        for place in rng.permutation(len(groups)):
            yield collate(groups[int(place)], tower, rng)


def collate(group: list[Example], tower: NanoVisionTower, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pad examples to one length and look at their pictures."""
    length = max(len(example.ids) for example in group)
    ids = torch.zeros(len(group), length, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(group):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        learnt = torch.tensor(example.learnt)
        labels[row, : len(example.ids)][learnt] = ids[row, : len(example.ids)][learnt]
    scenes = [example.scene for example in group if example.scene is not None]
    if not scenes:
        return ids, labels, None
    return ids, labels, see(scenes, tower, rng)


def see(scenes: Sequence[Scene], tower: NanoVisionTower, rng: np.random.Generator) -> Tensor:
    """Draw scenes and look at them: features (rows of all pictures, 128)."""
    pixels = np.stack([draw(scene, rng=rng).pixels for scene in scenes])
    with torch.no_grad():
        return tower(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).flatten(0, 1)


def sequence_loss(model: NanoModel, ids: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
    """Mean cross-entropy of the learnt tokens; the head is applied only where something is learnt."""
    hidden = model.hidden(ids, features)
    targets = labels[:, 1:]
    chosen = targets != -100
    logits = model.core.lm_head(hidden[:, :-1][chosen])
    return F.cross_entropy(logits.float(), targets[chosen])


def rate_at(share: float, peak: float, *, decay: float) -> float:
    """Learning rate: a short rise, a plateau, and a straight way down over the last ``decay`` of the budget."""
    if share < 0.02:
        return peak * (0.1 + 0.9 * share / 0.02)
    return peak * min(1.0, max(0.02, (1 - share) / max(decay, 1e-6)))


def train_stage(
    out: Path,
    stage: LlmStage,
    *,
    budget_s: float,
    tower: Path,
    units: int,
    speech: Path | None = None,
    start: Path | None = None,
    modalities: Modalities = "both",
    decay: float = 0.25,
    seed: int = 0,
    bfloat16: bool | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> Path:
    """Train one stage and write the model to ``out/llm_core``.

    Args:
        out: Folder of this stage's checkpoint and result; an interrupted run goes on from there.
        stage: Which stage.
        budget_s: CPU seconds.
        tower: Folder of the pretrained vision encoder.
        units: Number of speech units.
        speech: JSON lines of rendered utterances; without it, kinds that need speech are left out.
        start: ``llm_core`` folder of the stage before.
        modalities: Which pairs to align; ``both`` is omni-modal.
        decay: Share of the budget over which the learning rate falls; 0 keeps it up for a stage that follows.
        seed: Of the data and the initial weights.
        bfloat16: Whether to compute in bfloat16, the weights staying float32; None if the processor has instructions for it.
        report: Called every 50 steps with step, share and loss.

    Returns:
        The folder written.
    """
    if stage not in get_args(LlmStage):
        raise InputError(f"there is no stage `{stage}`", f"the stages are {', '.join(get_args(LlmStage))}")
    torch.manual_seed(seed)
    language = Language(dialogue.vocabulary(), units)
    model = NanoModel.fresh(language, SIZES)
    if start is not None:
        load_model(start, language, SIZES, model)
    optimizer: Any = Optimizer(model)  # saved and read back like one of torch
    checkpoint = TrainingCheckpoint(out / f"llm_{stage}.pt")
    done = checkpoint.load(model, optimizer)
    step, budget = int(done.get("step", 0)), Budget(budget_s, used=done.get("used", 0.0))
    examples = Examples(language, np.random.default_rng((seed, step, len(stage))), speech=read_speech(speech))
    eyes = read_tower(tower)
    if stage == "prealign" and not done:
        align_projector(model, language, eyes, budget=budget, share=0.3, seed=seed)
    supply = batches(examples, usable(MIXTURES[stage], examples, modalities), eyes)
    losses: list[float] = []
    halved = not processor().slow_in_bfloat16 if bfloat16 is None else bfloat16
    while not budget.spent:
        ids, labels, features = next(supply)
        with torch.autocast("cpu", torch.bfloat16, enabled=halved):
            loss = sequence_loss(model, ids, labels, features)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(rate_at(budget.share, PEAK_RATE[stage], decay=decay))
        step += 1
        losses.append(loss.item())
        if report and step % 50 == 0:
            report({"step": step, "share": budget.share, "loss": float(np.mean(losses[-50:]))})
        if checkpoint.save_if_due(model, optimizer, step=step, used=budget.used):
            save_model(out / "llm_core", model, language)
    checkpoint.save(model, optimizer, step=step, used=budget.used)
    save_model(out / "llm_core", model, language)
    return write_part_graphs(NanoLLM, out / "llm_core")


def usable(mixture: Mapping[str, float], examples: Examples, modalities: Modalities) -> dict[str, float]:
    """Leave out the kinds of example for which there is no data or that are not wanted."""
    kept = dict(mixture)
    for kind in mixture:
        unwanted = modalities != "both" and NEEDS[kind] not in (None, modalities)
        if unwanted or (NEEDS[kind] == "speech" and not examples.speech) or (kind == "speak" and not examples.speakable):
            del kept[kind]
    if not kept:
        raise InputError("there is no data for this stage", "render speech first, or train the stage with pictures")
    return kept


class Optimizer:
    """Muon (Jordan et al. 2024) for the matrices of the layers, AdamW for the rest: far fewer steps than AdamW alone."""

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_parameters())
        matrices = [p for name, p in named if p.ndim == 2 and "layers" in name]
        others = [p for name, p in named if p.ndim != 2 or "layers" not in name]
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, lr=1e-3, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0),
        )

    def step(self, rate: float) -> None:
        """Change the weights by their gradients, and forget these."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """States of both."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Put the states back."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def write_sight(folder: Path, tower: Path) -> None:
    """Write the check of pictures beside a language model: what reads features, and the questions it knows."""
    weights = load_file(tower / "model.safetensors")
    cells = {name.removeprefix("heads."): value for name, value in weights.items() if name.startswith(("heads.", "scene."))}
    questions = {intent: dialogue.QUESTIONS[intent] for intent in sorted(dialogue.PICTURE_INTENTS)}
    slots = {name: dialogue.SLOTS[name] for name in ("color", "shape", "size", "relation")}
    save_sight(folder, questions=questions, slots=slots, cells=cells)


def hears(out: Path) -> bool:
    """Whether there is speech whose units tell sounds apart: a tokenizer that saw too little has one for a sentence."""
    speech = read_speech(out / "units" / "train.jsonl")
    return 2 * sum(len(said.units) > 1 for said in speech) > len(speech)


def write_spoken(out: Path, *, units: int, seed: int = 0) -> Path:
    """Write the speech that the stages learn from, said and spliced, to ``llm/speech.jsonl``, and the grammar beside."""
    from nano_recipe.concatenative_augmentation import Splicer, add_spliced, write_grammar

    clips = read_speech(out / "units" / "train.jsonl")
    splicer = Splicer([(clip.text, clip.units, clip.voice) for clip in clips], units=units)
    write_grammar(out / "llm_core", splicer.emissions)
    return add_spliced(clips, splicer, out / "llm" / "speech.jsonl", count=SPLICED, seed=seed)


SHARES: Mapping[LlmStage, float] = {"prealign": 0.1, "align": 0.3, "instruct": 0.6}
"""Of the budget, for each stage."""


def train_llm(
    out: Path, *, budget_s: float, units: int = 256, seed: int = 0, report: Callable[[dict[str, float]], None] | None = None
) -> Path:
    """Train all three stages and write ``out/llm_core``; an interrupted run goes on from there.

    Reads ``out/vision_encoder`` (the shipped one when it is not there) and ``out/units/train.jsonl``. Without speech, or with
    units that do not tell sounds apart, the model learns to see, to answer typed words and to call tools.

    Args:
        out: Work folder.
        budget_s: CPU seconds for all stages.
        units: Number of speech units.
        seed: Of data and weights.
        report: Called every 50 steps with step, share of the stage's budget and loss.
    """
    tower = out / "vision_encoder"
    tower = tower if tower.exists() else PRESET / "vision_encoder"
    work, result = out / "llm", out / "llm_core"
    said = write_spoken(out, units=units, seed=seed) if hears(out) else None
    write_sight(result, tower)
    start: Path | None = None
    for stage, share in SHARES.items():
        start = train_stage(
            work / stage,
            stage,
            budget_s=budget_s * share,
            tower=tower,
            units=units,
            speech=said,
            start=start,
            decay=0.35 if stage == "instruct" else 0.0,
            seed=seed,
            report=report,
        )
    result.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(work / "instruct" / "llm_core" / name, result / name)
    return write_part_graphs(NanoLLM, result)
