"""Pretraining of the eyes of emova-nano: what does each cell of a drawn scene hold?

The generator knows every shape, so each of the 16 features is taught what its own cell holds (occupied, colour, shape, size,
offset of the centre). Question answering over the features is learnt afterwards, by the language model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.files import write_atomically
from nano_recipe.budget import Budget, TrainingCheckpoint, scheduled
from nano_recipe.dialogue import COLORS, SHAPES, SIZES
from nano_recipe.graphs import write_part_graphs
from nano_recipe.networks.vision import CellHeads, NanoVisionTower
from nano_recipe.ood_images import no_scene
from nano_recipe.scenes import CELLS, Scene, draw, random_scene

BATCH = 64
FRESH = 20
"""Newly drawn scenes in each step; the others come from a pool of recent ones."""
TEST_SEED = 7_000_003


def cell_targets(scene: Scene) -> NDArray[np.float32]:
    """What each cell holds: float32 (16, 6) of occupied, colour, shape, size, and the centre's offset in cells."""
    targets = np.zeros((CELLS * CELLS, 6), np.float32)
    for shape in scene.shapes:
        place = shape.row * CELLS + shape.column
        offset = shape.x * CELLS - shape.column - 0.5, shape.y * CELLS - shape.row - 0.5
        kinds = COLORS.index(shape.color), SHAPES.index(shape.shape), SIZES.index(shape.size)
        targets[place] = (1, *kinds, *offset)
    return targets


class ScenePool:
    """An endless supply of drawn scenes with targets, a part of each batch new."""

    def __init__(self, rng: np.random.Generator, size: int = 6_000) -> None:
        self._rng = rng
        self._size = size
        self._pixels = np.empty((size, 64, 64, 3), np.uint8)
        self._targets = np.empty((size, CELLS * CELLS, 6), np.float32)
        self._filled = 0
        self._drawn = 0

    def batch(self, size: int = BATCH, fresh: int = FRESH) -> tuple[Tensor, Tensor]:
        """Return float pixels (size, 3, 64, 64) in [0, 1] and targets (size, 16, 6)."""
        for _ in range(max(fresh, size - self._filled)):
            scene, place = random_scene(self._rng), self._drawn % self._size
            self._pixels[place], self._targets[place] = draw(scene, rng=self._rng).pixels, cell_targets(scene)
            self._drawn += 1
            self._filled = min(self._drawn, self._size)
        chosen = self._rng.integers(0, self._filled, size)
        pixels = torch.from_numpy(self._pixels[chosen]).permute(0, 3, 1, 2).float() / 255
        return pixels.contiguous(), torch.from_numpy(self._targets[chosen])


def cell_loss(predicted: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    """Sum of the losses of the five groups; the attributes count only where there is a shape."""
    occupied, color, shape, size, offset = predicted
    there = targets[..., 0] > 0.5
    loss = F.binary_cross_entropy_with_logits(occupied[..., 0], targets[..., 0]) * 4
    for group, column in ((color, 1), (shape, 2), (size, 3)):
        loss = loss + F.cross_entropy(group[there], targets[..., column][there].long())
    return loss + F.mse_loss(offset[there], targets[..., 4:][there]) * 4


@torch.inference_mode()
def cell_accuracy(tower: NanoVisionTower, heads: CellHeads, *, scenes: int = 500, seed: int = TEST_SEED) -> dict[str, float]:
    """Measure on scenes never trained on: each attribute over shapes, and the share of scenes without any error."""
    rng = np.random.default_rng(seed)
    pixels, targets = ScenePool(rng, scenes).batch(scenes, scenes)
    right: dict[str, list[Tensor]] = {"occupied": [], "color": [], "shape": [], "size": [], "scene": []}
    for some, truth in zip(pixels.split(100), targets.split(100), strict=True):
        occupied, *kinds, _ = heads(tower(some))
        there = truth[..., 0] > 0.5
        good = (occupied[..., 0] > 0) == there
        right["occupied"].append(good.flatten())
        for name, group, column in zip(("color", "shape", "size"), kinds, (1, 2, 3), strict=True):
            same = group.argmax(-1) == truth[..., column].long()
            right[name].append(same[there])
            good = good & (same | ~there)
        right["scene"].append(good.all(-1))
    return {name: float(torch.cat(parts).float().mean()) for name, parts in right.items()}


def train_vision(
    out: Path, *, budget_s: float, seed: int = 0, report: Callable[[dict[str, float]], None] | None = None
) -> dict[str, float]:
    """Pretrain the tower and write ``out/vision_encoder`` (weights in half precision, config, cell heads, figures).

    Args:
        out: Folder of the checkpoints and the result; an interrupted run goes on from there.
        budget_s: CPU seconds.
        seed: Of the scenes and the initial weights.
        report: Called every 100 steps with step, share of the budget and loss.
    """
    torch.manual_seed(seed)
    tower, heads = NanoVisionTower(), CellHeads()
    model = torch.nn.ModuleDict({"tower": tower, "heads": heads})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02, betas=(0.9, 0.98))
    checkpoint = TrainingCheckpoint(out / "vision.pt")
    done = checkpoint.load(model, optimizer)
    step, budget = int(done.get("step", 0)), Budget(budget_s, used=done.get("used", 0.0))
    pool = ScenePool(np.random.default_rng((seed, step)))
    while not budget.spent:
        pixels, targets = pool.batch()
        loss = cell_loss(heads(tower(pixels)), targets)
        for group in optimizer.param_groups:
            group["lr"] = scheduled(budget.share, 1.5e-3)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if report and step % 100 == 0:
            report({"step": step, "share": budget.share, "loss": loss.item()})
        checkpoint.save_if_due(model, optimizer, step=step, used=budget.used)
    checkpoint.save(model, optimizer, step=step, used=budget.used)
    return _write(out / "vision_encoder", tower, heads, pictures=min(3000, int(30 * budget_s)))


def learn_scenes(tower: NanoVisionTower, *, pictures: int = 3000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Learn to tell drawn scenes from other pictures by a tower's features.

    Args:
        tower: Trained; it stays as it is.
        pictures: How many to learn from, half of them scenes.
        seed: Of the pictures.

    Returns:
        Weight (1, 256) and bias (1,) of a logistic regression on `summaries`.
    """
    rng = np.random.default_rng((seed, 29))
    half = max(32, pictures // 2)
    inputs = torch.cat([summaries(tower, [draw(random_scene(rng), rng=rng).pixels for _ in range(half)]),
                        summaries(tower, [no_scene(rng) for _ in range(half)])])  # fmt: skip
    truth = torch.cat([torch.ones(half), torch.zeros(half)])
    center, scale = inputs.mean(0), inputs.std(0) + 1e-3
    inputs = (inputs - center) / scale
    weight, bias = torch.zeros(inputs.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], lr=0.03, weight_decay=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(inputs @ weight + bias, truth).backward()
        optimizer.step()
    flat = weight.detach() / scale
    return flat[None], bias.detach() - flat @ center


@torch.inference_mode()
def summaries(tower: NanoVisionTower, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Mean and maximum over the features of each picture: (pictures, 256)."""
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    features = torch.cat([tower(some) for some in pixels.split(64)])
    return torch.cat([features.mean(1), features.amax(1)], 1)


def _write(folder: Path, tower: NanoVisionTower, heads: CellHeads, *, pictures: int) -> dict[str, float]:
    folder.mkdir(parents=True, exist_ok=True)
    tower.eval()
    figures = cell_accuracy(tower, heads)
    scene = dict(zip(("scene.weight", "scene.bias"), learn_scenes(tower, pictures=pictures), strict=True))
    weights = {f"tower.{name}": value.half().contiguous() for name, value in tower.state_dict().items()}
    weights |= {f"heads.{name}": value.half().contiguous() for name, value in heads.state_dict().items()}
    weights |= {name: value.half().contiguous() for name, value in scene.items()}
    write_atomically(folder / "model.safetensors", save(weights))
    config = {"width": 128, "layers": 3, "heads": 4, "channels": [32, 48, 96], "space": "emova-nano-vision"}
    write_atomically(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_atomically(folder / "figures.json", json.dumps(figures, indent=2) + "\n")
    write_part_graphs(NanoVisionEncoder, folder)
    return figures
