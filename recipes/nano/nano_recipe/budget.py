"""Training within a budget: CPU seconds, checkpoints, and going on where one stopped."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emova_sdk.files import write_atomically

PEAK_RATE = 2e-3
"""Of the learning rates of `fit`."""


class Budget:
    """CPU seconds (or, on a GPU, wall-clock seconds) that a stage may use.

    CPU seconds make a run on a busy machine as long as on an idle one. Seconds used before an interruption count.

    Args:
        seconds: How many.
        used: Seconds an earlier, interrupted run has used.
        clock: `process_time` counts CPU seconds of all threads.
    """

    def __init__(self, seconds: float, *, used: float = 0.0, clock: Any = time.process_time) -> None:
        self.seconds = seconds
        self._clock = clock
        self._start = clock() - used

    @property
    def used(self) -> float:
        """Seconds used so far."""
        return self._clock() - self._start

    @property
    def share(self) -> float:
        """Share of the budget used, 0 to 1: what learning-rate schedules run over."""
        return min(1.0, self.used / max(self.seconds, 1e-9))

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self.used >= self.seconds


class TrainingCheckpoint:
    """A model with its optimiser in one file, written every few minutes and read back when the stage starts again.

    Args:
        path: The file.
        every_s: Wall-clock seconds between two writings.
    """

    def __init__(self, path: Path, *, every_s: float = 120) -> None:
        self.path = path
        self._every_s = every_s
        self._last = time.monotonic()

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Put the state back; return the counters saved with it, empty when there is no file."""
        if not self.path.exists():
            return {}
        state = torch.load(self.path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return state["counters"]

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, **counters: float) -> None:
        """Write now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "counters": counters}
        write_atomically(self.path, lambda file: torch.save(state, file))
        self._last = time.monotonic()

    def save_if_due(self, model: nn.Module, optimizer: torch.optim.Optimizer, **counters: float) -> bool:
        """Write when the last writing is long ago; say whether it was."""
        due = time.monotonic() - self._last >= self._every_s
        if due:
            self.save(model, optimizer, **counters)
        return due


def scheduled(share: float, peak: float, *, warm: float = 0.03, floor: float = 0.02) -> float:
    """Learning rate at a share of the budget: a linear rise, then half a cosine down to `floor * peak`."""
    if share < warm:
        return peak * (0.05 + 0.95 * share / warm)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (share - warm) / (1 - warm))))


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    *,
    budget_s: float,
    batches: Callable[[int], Iterable[Any]],
    losses: Callable[[Any, float], dict[str, Tensor]],
    clip: float | None = None,
    facts: Mapping[str, float] | None = None,
) -> Path:
    """Train until the budget is spent, from scratch or from the checkpoint in a folder; return the checkpoint.

    Args:
        model: What is trained, in training mode.
        optimizer: Of its weights; the learning rate follows `scheduled`.
        folder: Of the checkpoint ``last.pt`` and the log ``log.jsonl``.
        budget_s: CPU seconds over all runs.
        batches: The batches of an epoch, by its number.
        losses: The parts of the loss of a batch, given the share of the budget that is used.
        clip: Largest norm of the gradient; None for any.
        facts: Further numbers for the checkpoint.
    """
    checkpoint = TrainingCheckpoint(folder / "last.pt")
    counters = checkpoint.load(model, optimizer)
    budget = Budget(budget_s, used=counters.get("used", 0.0))
    epoch, step = int(counters.get("epoch", 0)), int(counters.get("step", 0))
    while not budget.spent:
        for batch in batches(epoch):
            for setting in optimizer.param_groups:
                setting["lr"] = scheduled(budget.share, PEAK_RATE)
            parts = losses(batch, budget.share)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(parts.values())).sum().backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            step += 1
            if step % 50 == 0:
                note(folder / "log.jsonl", step, epoch, budget, parts)
            checkpoint.save_if_due(model, optimizer, used=budget.used, epoch=epoch, step=step, **(facts or {}))
            if budget.spent:
                break
        epoch += 1
    checkpoint.save(model, optimizer, used=budget.used, epoch=epoch, step=step, **(facts or {}))
    return checkpoint.path


def note(path: Path, step: int, epoch: int, budget: Budget, parts: dict[str, Tensor]) -> None:
    """Append the parts of a loss to a log, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {name: round(part.item(), 4) for name, part in parts.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "epoch": epoch, "used_s": round(budget.used, 1), **values}) + "\n")
