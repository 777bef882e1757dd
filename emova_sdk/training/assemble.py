"""The start of the first stage: a language model and a vision tower that have not met yet become one EMOVA checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from emova_sdk.components.emova.language.checkpoints import find_checkpoint
from emova_sdk.components.emova.language.configuration import EmovaConfig, describe_tower
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
from emova_sdk.errors import ConfigError, LoadError
from emova_sdk.training.speech_tokens import insert_speech_tokens


def assemble(
    language_model: str | Path,
    vision_tower: str | Path | None,
    *,
    output: str | Path,
    tower_type: str = "Qwen2VisionTower",
    speech_units: int = 4096,
    seed: int = 42,
) -> Path:
    """Write an EMOVA checkpoint made of a language model, a tower and a fresh projector.

    Args:
        language_model: Folder or hub id of a causal language model with a fast tokenizer.
        vision_tower: Folder or hub id of a tower (safetensors and ``config.json``); None for a model that sees nothing.
        output: Folder to write; it must not exist or be empty.
        tower_type: Kind of tower.
        speech_units: Speech tokens to insert.
        seed: Of the projector's and the new rows' weights.

    Returns:
        The output folder.

    Raises:
        ConfigError: The output folder has files in it.
        LoadError: A part cannot be found, or the tower's tensors are not those of its kind.
    """
    output = Path(output)
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"`{output}` is not empty", "name a new folder")
    torch.manual_seed(seed)
    source = find_checkpoint(language_model)
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    text: Any = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    insert_speech_tokens(tokenizer, text, units=speech_units)
    tower = find_checkpoint(vision_tower) if vision_tower is not None else None
    config = EmovaConfig(
        text_config=text.config,
        vision_config=_describe(tower, tower_type) if tower is not None else None,
        tie_word_embeddings=bool(text.config.tie_word_embeddings),
    )
    model: Any = EmovaForConditionalGeneration(config).to(text.dtype)
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.lm_head.load_state_dict(text.lm_head.state_dict())
    if tower is not None:
        _load_tower(model.model.vision_tower, tower)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return output


def _describe(folder: Path, tower_type: str) -> dict[str, Any]:
    path = folder / "config.json"
    sizes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    name = str(sizes.pop("_name_or_path", "") or folder.name)
    return describe_tower(sizes, {"type": tower_type, "pretrained_model_name_or_path": name})


def _load_tower(tower: Any, folder: Path) -> None:
    """Fill a tower from files whose names may carry any one prefix."""
    stored: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        stored |= load_file(file)
    wanted: dict[str, torch.Tensor] = tower.state_dict()
    found: dict[str, torch.Tensor] = {}
    for name, tensor in wanted.items():
        ending = name.split(".", 1)[-1]
        match = next(
            (stored[key] for key in (name, ending, f"visual.{ending}", f"vision_tower.{ending}") if key in stored), None
        )
        if match is None or match.shape != tensor.shape:
            what = "is missing" if match is None else f"has shape {tuple(match.shape)}, not {tuple(tensor.shape)}"
            raise LoadError(f"tensor `{ending}` {what} in `{folder}`", "give the folder of a tower of that kind", tensor=ending)
        found[name] = match
    tower.load_state_dict(found)
