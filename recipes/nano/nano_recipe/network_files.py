"""Nano's networks in PyTorch, read from their files and written to them (float16 on disk, float32 in memory)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from emova_sdk.components.nano.graph_files import WEIGHTS
from emova_sdk.components.nano.language import Language
from emova_sdk.components.nano.llm_config import LONGEST
from emova_sdk.components.nano.llm_config import read_config as read_llm_config
from emova_sdk.components.nano.weights import PRESET, read_config
from emova_sdk.components.runtimes.decoder_modules import EmbedGraph, PortableDecoder, RuntimeDecoder
from emova_sdk.errors import LoadError
from emova_sdk.files import write_atomically
from nano_recipe.model import NanoModel, load_model
from nano_recipe.networks.exports import (
    FramePart,
    HearingPart,
    PhonePart,
    ReadingPart,
    StylePart,
    UnitPart,
    WritingPart,
)
from nano_recipe.networks.style import NanoStyle
from nano_recipe.networks.text_to_units import NanoTextToUnits
from nano_recipe.networks.tokenizer import NanoTokenizer
from nano_recipe.networks.vision import NanoVisionTower
from nano_recipe.networks.vocoder import NanoVocoder


def modules_of(place: str, folder: Path) -> dict[str, nn.Module]:
    """The modules of a part's graphs, by the graphs' names, filled from the weights in its folder.

    Args:
        place: Which part, by the name of its folder in a preset.
        folder: Where its files are.

    Raises:
        LoadError: If a file is missing or broken.
    """
    read = {
        "vision_encoder": _vision,
        "speech_tokenizer": _tokenizer,
        "llm_core": _language,
        "style_module": _style,
        "vocoder": _vocoder,
        "text_to_units": _reader,
    }[place]
    return {name: module.eval() for name, module in read(folder).items()}


def _vision(folder: Path) -> Mapping[str, nn.Module]:
    return {"vision": read_tower(folder)}


def _tokenizer(folder: Path) -> Mapping[str, nn.Module]:
    network = read_tokenizer(folder)
    return {"hearing": HearingPart(network), "reading": ReadingPart(network)}


def _style(folder: Path) -> Mapping[str, nn.Module]:
    network = NanoStyle(**read_config(folder, kind="nano-style")["network"])
    load_weights(network, folder)
    return {"style": StylePart(network)}


def _vocoder(folder: Path) -> Mapping[str, nn.Module]:
    config = read_config(folder, kind="nano-vocoder")
    network = NanoVocoder(units=config["units"]["size"], **config["network"])
    load_weights(network, folder)
    return {"units": UnitPart(network), "frames": FramePart(network)}


def _reader(folder: Path) -> Mapping[str, nn.Module]:
    config = read_config(folder, kind="nano-text-to-units")
    network = NanoTextToUnits(units=config["units"]["size"], width=config["network"]["width"])
    load_weights(network, folder)
    return {"reader_phones": PhonePart(network), "reader_units": WritingPart(network)}


def _language(folder: Path) -> Mapping[str, nn.Module]:
    language, sizes, _ = read_llm_config(folder)
    return language_modules(load_model(folder, language, sizes).eval().requires_grad_(False), language)


def language_modules(model: NanoModel, language: Language) -> dict[str, nn.Module]:
    """The modules of a language model's graphs."""
    core, head = model.core.model.language_model, model.core.lm_head
    runtime = RuntimeDecoder(core, head, longest=LONGEST)
    portable = PortableDecoder(core, head, longest=LONGEST, like=runtime)
    embed = EmbedGraph(core.embed_tokens, language.id("<image>"), model.projector)
    return {"embed": embed, "decoder": runtime, "decoder_portable": portable}


def read_tokenizer(folder: Path = PRESET / "speech_tokenizer") -> NanoTokenizer:
    """Read a speech tokenizer's network.

    Raises:
        LoadError: If a file is missing or broken.
    """
    shape: dict[str, Any] = read_config(folder, kind="nano-speech-tokenizer")["network"]
    network = NanoTokenizer(width=shape["width"], blocks=shape["blocks"], levels=shape["levels"])
    load_weights(network, folder)
    return network


def read_tower(folder: Path) -> NanoVisionTower:
    """Read a pretrained vision tower, for features that are not trained on.

    Raises:
        LoadError: If the file is missing or broken.
    """
    if not (folder / WEIGHTS).exists():
        raise LoadError(f"there is no vision encoder in `{folder}`", "train the vision stage first")
    tower = NanoVisionTower()
    load_weights(tower, folder, prefix="tower.")
    return tower


def load_weights(module: nn.Module, folder: Path, *, prefix: str = "") -> None:
    """Fill a network from `model.safetensors`, and set it to inference.

    Args:
        module: The network.
        folder: Where the file lies.
        prefix: Of the names that are the network's.

    Raises:
        LoadError: If the file is missing, broken or of another network.
    """
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
        module.load_state_dict({n.removeprefix(prefix): v.float() for n, v in tensors.items() if n.startswith(prefix)})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise LoadError(f"`{path}` cannot be loaded: {error}", "train or install emova-nano again", path=str(path)) from error
    module.eval().requires_grad_(False)


def save_weights(module: nn.Module, folder: Path, config: dict[str, Any]) -> None:
    """Write a network in float16 and its config."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous() for name, value in module.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(weights))
    write_atomically(folder / "config.json", json.dumps(config, indent=2) + "\n")
