"""The speech half of the nano recipe, stage by stage: tokenizer, style, text_to_units, vocoder, and the export."""

from pathlib import Path
from typing import Any, Literal, get_args

import torch

from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vocoder import NanoUnitVocoder
from emova_sdk.errors import InputError
from nano_recipe.graphs import write_part_graphs
from nano_recipe.network_files import save_weights
from nano_recipe.networks.style import NanoStyle
from nano_recipe.networks.vocoder import NanoVocoder
from nano_recipe.speech_units import tokenizer_from, write_units
from nano_recipe.style import train_style
from nano_recipe.text_to_units import reader_from, train_text_to_units
from nano_recipe.tokenizer import train_tokenizer
from nano_recipe.vocoder import train_vocoder

SpeechStage = Literal["tokenizer", "style", "text_to_units", "vocoder"]
STAGES: tuple[SpeechStage, ...] = get_args(SpeechStage)

DIALOGUE_SHARDS = 200
"""Number of the first shard of dialogue lines."""
EVERYDAY_SHARDS = 300
"""Number of the first shard of everyday sentences."""
MANNER_SHARDS = 400
"""Number of the first shard of speakers with a manner of their own."""
EXPANSION, SHARPENING, DYNAMICS, GAIN = 1.1, 0.2, 0.7, -0.6
"""Chosen by ear of the judge, on development sentences: how much predicted melody, formants and movement of the envelope are
exaggerated, and the level in nepers of power."""


def run_speech_stage(name: SpeechStage, out: Path, *, budget_s: float) -> None:
    """Run one stage from nothing or from where it stopped.

    Args:
        name: One of `STAGES`; each needs those before it, except that `style` needs nothing but speech.
        out: Work folder: rendered speech, checkpoints, logs.
        budget_s: CPU seconds for the stage.

    Raises:
        InputError: If there is no such stage.
    """
    if name == "tokenizer":
        train_tokenizer(out, budget_s=budget_s)
        write_units(out)
    elif name == "style":
        train_style(out, budget_s=budget_s)
    elif name == "vocoder":
        train_vocoder(out, budget_s=budget_s)
    elif name == "text_to_units":
        train_text_to_units(out, budget_s=budget_s)
    else:
        raise InputError(f"there is no speech stage `{name}`", f"the stages are {', '.join(STAGES)}")


def _checkpoint(out: Path, stage: str) -> tuple[dict[str, Any], dict[str, float]]:
    state = torch.load(out / stage / "last.pt", weights_only=True)
    return state["model"], state["counters"]


def unit_space(levels: tuple[int, ...]) -> dict[str, Any]:
    """Name and size of nano's unit space, as configs have it."""
    size = 1
    for level in levels:
        size *= level
    return {"name": "emova-nano-fsq-" + "".join(str(level) for level in levels), "size": size}


def export_speech(out: Path, preset: Path) -> list[Path]:
    """Write the trained parts as float16 safetensors with their configs and graphs; return the folders.

    Args:
        out: Work folder with checkpoints of all speech stages.
        preset: Folder of the preset; one folder for each part is made in it.
    """
    return [
        export_tokenizer(out, preset / "speech_tokenizer"),
        export_style(out, preset / "style_module"),
        export_vocoder(out, preset / "vocoder"),
        export_text_to_units(out, preset / "text_to_units"),
    ]


def export_tokenizer(out: Path, folder: Path) -> Path:
    """Write the speech tokenizer."""
    model = tokenizer_from(out / "tokenizer" / "last.pt")
    shape = {"width": model.norm.weight.shape[0], "blocks": len(model.blocks), "levels": list(model.fsq.levels)}
    config = {
        "kind": "nano-speech-tokenizer", "units": unit_space(model.fsq.levels), "sample_rate": 16000, "unit_rate": 25.0,
        "network": shape,
    }  # fmt: skip
    save_weights(model, folder, config)
    return write_part_graphs(NanoSpeechTokenizer, folder)


def export_style(out: Path, folder: Path, *, temperature: dict[str, float] | None = None) -> Path:
    """Write the style module."""
    state, _ = _checkpoint(out, "style")
    sizes = {"width": state["conv_in.weight"].shape[0], "statistics": state["center"].shape[0]}
    model = NanoStyle(**sizes)
    model.load_state_dict(state)
    config = {"kind": "nano-style", "network": sizes, "temperature": temperature or {}}
    save_weights(model, folder, config)
    return write_part_graphs(NanoStyleModule, folder)


def export_vocoder(out: Path, folder: Path) -> Path:
    """Write the vocoder."""
    state, counters = _checkpoint(out, "vocoder")
    width, frame_width = state["unit.weight"].shape[1], state["to_frames.weight"].shape[0]
    model = NanoVocoder(units=state["unit.weight"].shape[0], width=width, frame_width=frame_width)
    model.load_state_dict(state)
    levels = tokenizer_from(out / "tokenizer" / "last.pt").fsq.levels
    config = {
        "kind": "nano-vocoder", "units": unit_space(levels), "sample_rate": 16000,
        "median": round(counters["median_pitch"], 2),
        "expansion": EXPANSION, "sharpening": SHARPENING, "dynamics": DYNAMICS, "gain": GAIN,
        "network": {"width": width, "frame_width": frame_width},
    }  # fmt: skip
    save_weights(model, folder, config)
    return write_part_graphs(NanoUnitVocoder, folder)


def export_text_to_units(out: Path, folder: Path) -> Path:
    """Write text-to-units."""
    model = reader_from(out / "text_to_units" / "last.pt")
    levels = tokenizer_from(out / "tokenizer" / "last.pt").fsq.levels
    shape = {"width": model.phone.embedding_dim}
    save_weights(model, folder, {"kind": "nano-text-to-units", "units": unit_space(levels), "network": shape})
    return write_part_graphs(TextToUnits, folder)
