"""A language model of nano's shape with random weights: what it says is noise, how it says it must be right."""

from __future__ import annotations

from pathlib import Path

import torch
from nano_recipe.graphs import write_graphs
from nano_recipe.model import NanoModel, save_model

from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.llm_config import read_config
from emova_sdk.components.nano.weights import PRESET


def write_random_llm(folder: Path, *, seed: int = 0) -> Path:
    """Write config, weights and graphs."""
    language, sizes, _ = read_config(PRESET / "llm_core")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_model(folder, NanoModel.fresh(language, sizes), language)
    write_graphs(NanoLLM(path=str(folder), speech_path="language_model").graphs())
    return folder
