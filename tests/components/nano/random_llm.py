"""A language model of nano's shape with random weights: what it says is noise, how it says it must be right."""

from __future__ import annotations

from pathlib import Path

import torch

from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.llm_config import read_config
from emova_sdk.components.nano.weights import PRESET
from emova_sdk.training.nano_graphs import write_graphs
from emova_sdk.training.nano_model import NanoModel, save_model


def write_random_llm(folder: Path, *, seed: int = 0) -> Path:
    """Write config, weights and graphs."""
    language, sizes, _ = read_config(PRESET / "llm_core")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_model(folder, NanoModel.fresh(language, sizes), language)
    write_graphs(NanoLLM(path=str(folder), speech_path="language_model").graphs())
    return folder
