"""Training within a budget: CPU seconds, checkpoints, and going on where one stopped."""

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


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


class Checkpoint:
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
        """Write now, under a temporary name first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".tmp")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "counters": counters}, part)
        part.replace(self.path)
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


def note(path: Path, step: int, epoch: int, budget: Budget, parts: dict[str, Tensor]) -> None:
    """Append the parts of a loss to a log, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {name: round(part.item(), 4) for name, part in parts.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "epoch": epoch, "used_s": round(budget.used, 1), **values}) + "\n")
