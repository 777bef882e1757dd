"""The whole nano recipe: its stages in order, how they share a budget, and the preset that they yield.

A work folder holds everything: rendered speech, checkpoints, logs, and at the end ``preset``, a config with the weights.
A stage that was finished with at least the same budget is not run again; an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, get_args

from emova_sdk.components.nano.familiar import FILE
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.files import exists, is_folder, write_atomically
from nano_recipe import speech_data, voices
from nano_recipe.budget import Budget
from nano_recipe.graphs import write_preset_graphs
from nano_recipe.llm import hears, train_llm
from nano_recipe.speech_stages import DIALOGUE_SHARDS, EVERYDAY_SHARDS, MANNER_SHARDS, export_speech, run_speech_stage
from nano_recipe.vision import train_vision

Stage = Literal["data", "tokenizer", "style", "vocoder", "vision", "llm"]
Report = Callable[[dict[str, float]], None]

SHARES: Mapping[Stage, float] = {
    "data": 0.2,
    "tokenizer": 0.24,
    "style": 0.06,
    "vocoder": 0.12,
    "vision": 0.1,
    "llm": 0.28,
}
"""Of the budget of all stages, in their order."""
SENTENCES, DIALOGUE, EVERYDAY, MANNERS = 0.5, 0.2, 0.15, 0.15
"""Of the data budget: for words in any order and the domain's templates, for its dialogues, for everyday sentences from outside
it, and for many manners of speaking."""
VOICE = 0.6
"""Of the vocoder's budget, for the vocoder itself; the rest, before it, is for reading text aloud."""

DEAF = "learnt without speech: no units tell sounds apart; give the tokenizer a bigger budget for a model that hears"

_NEEDS: Mapping[Stage, tuple[Stage, str]] = {
    "tokenizer": ("data", "speech/shard-*.npz"),
    "style": ("data", "speech/shard-*.npz"),
    "vocoder": ("tokenizer", "tokenizer/last.pt"),
}
_BUILT_ON: Mapping[Stage, Mapping[Stage, tuple[str, ...]]] = {
    "tokenizer": {"vocoder": ("vocoder", "text_to_units"), "llm": ("llm", "llm_core")},
    "vision": {"llm": ("llm", "llm_core")},
}
"""Stages that learn from what a stage has learnt, and their folders."""
_PARTS = {
    "speech_tokenizer": "tokenizer/last.pt",
    "style_module": "style/last.pt",
    "vocoder": "vocoder/last.pt",
    "text_to_units": "text_to_units/last.pt",
    "vision_encoder": "vision_encoder/model.safetensors",
    "llm_core": "llm_core/model.safetensors",
}
_FINISHED = "stages.json"
"""Which stages of a work folder are finished, and with what budget."""
_SLOTS = ("vision_encoder", "speech_tokenizer", "llm_core", "style_module", "vocoder")


@dataclass(frozen=True)
class StageResult:
    """What became of a stage.

    Attributes:
        stage: Which.
        seconds: CPU seconds it took now, programs it called and other processes included.
        skipped: Whether it had been finished before with at least this budget.
        note: What to know about the outcome, e.g. what the budget was too small for; empty for nothing.
    """

    stage: Stage
    seconds: float
    skipped: bool = False
    note: str = ""


def divided(stage: str, budget_s: float) -> dict[Stage, float]:
    """Return the budget of each stage to run, in CPU seconds: of one stage, or of ``all``.

    Raises:
        InputError: If there is no such stage, or no budget.
    """
    if budget_s <= 0:
        raise InputError(f"a budget of `{budget_s:g}` seconds is none", "give a positive number of CPU seconds")
    if stage == "all":
        return {name: budget_s * share for name, share in SHARES.items()}
    for name in get_args(Stage):
        if name == stage:
            return {name: budget_s}
    raise InputError(f"there is no stage `{stage}`", f"the stages are {', '.join(get_args(Stage))} and all")


def run_stage(stage: Stage, out: Path, *, budget_s: float, workers: int = 1, report: Report | None = None) -> StageResult:
    """Run one stage from nothing or from where it stopped.

    Args:
        stage: Which.
        out: Work folder.
        budget_s: CPU seconds over all runs of this stage. Reading data and analysing it come on top.
        workers: Processes that render speech.
        report: Called now and then by the stages ``vision`` and ``llm`` with step, share of the budget and loss.

    Raises:
        ConfigError: If a stage that it needs was not run.
        MissingDependencyError: If speech is to be rendered and the programs for that are missing.
    """
    done = _finished(out)
    if done.get(stage, 0.0) >= budget_s:
        return StageResult(stage, 0.0, skipped=True)
    needed, pattern = _NEEDS.get(stage, (stage, ""))
    if pattern and not any(out.glob(pattern)):
        hint = f"run `emova train nano --stage {needed}` with the same `--out` first, or `--stage all`"
        raise ConfigError(f"the stage `{stage}` needs what the stage `{needed}` writes to `{out}`", hint)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / _FINISHED, json.dumps(done, indent=1))  # also marks the folder, before anything else is in it
    began = _cpu_seconds()
    _run(stage, out, budget_s, workers, report)
    note = DEAF if stage == "llm" and not hears(out) else ""
    for later, folders in _BUILT_ON.get(stage, {}).items():
        done.pop(later, None)
        _set_aside(out, folders)
    write_atomically(out / _FINISHED, json.dumps({**done, stage: budget_s}, indent=1))
    return StageResult(stage, _cpu_seconds() - began, note=note)


def _run(stage: Stage, out: Path, budget_s: float, workers: int, report: Report | None) -> None:
    match stage:
        case "data":
            _render(out, budget_s, workers)
        case "vision":
            train_vision(out, budget_s=budget_s, report=report)
        case "llm":
            train_llm(out, budget_s=budget_s, report=report)
        case "vocoder":
            run_speech_stage("text_to_units", out, budget_s=(1 - VOICE) * budget_s)
            run_speech_stage("vocoder", out, budget_s=VOICE * budget_s)
        case _:
            run_speech_stage(stage, out, budget_s=budget_s)


def _render(out: Path, budget_s: float, workers: int) -> None:
    voices.require_programs()
    if workers <= 1:
        _render_share(out, budget_s, 0, 1)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        shares = [pool.submit(_render_share, out, budget_s / workers, worker, workers) for worker in range(workers)]
        for share in shares:
            share.result()


def _render_share(out: Path, budget_s: float, worker: int, workers: int) -> None:
    """Render all kinds of speech, each as far as its budget goes: any prefix of a plan is a usable data set."""
    for plans, first, share in (
        (speech_data.make_plan(), 0, SENTENCES),
        (speech_data.make_dialogue_plan(), DIALOGUE_SHARDS, DIALOGUE),
        (speech_data.make_everyday_plan(), EVERYDAY_SHARDS, EVERYDAY),
        (speech_data.make_manner_plan(), MANNER_SHARDS, MANNERS),
    ):
        budget = Budget(share * budget_s, clock=_cpu_seconds)
        speech_data.render_all(out, plans, budget=budget, first=first, worker=worker, workers=workers)


def _cpu_seconds() -> float:
    """CPU seconds of this process and of those it waited for."""
    return sum(os.times()[:4])


def _finished(out: Path) -> dict[str, float]:
    try:
        return json.loads((out / _FINISHED).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        hint = "delete it; the stages go on from their checkpoints"
        raise InputError(f"`{out / _FINISHED}` is not JSON: {error}", hint) from error


def require_work_folder(out: Path) -> None:
    """Refuse a folder that holds other things than a training.

    Raises:
        InputError: If files in it might be replaced, or it is a file itself.
    """
    if exists(out) and not is_folder(out):
        raise InputError(f"`{out}` is a file", "choose a folder to work in")
    if is_folder(out) and any(out.iterdir()) and not exists(out / _FINISHED):
        raise InputError(f"`{out}` holds other files already", "choose another folder, or work in it with `--force`")


def _set_aside(out: Path, folders: tuple[str, ...]) -> None:
    """Keep what was learnt from an earlier tokenizer or encoder under another name: it does not fit the new one."""
    for folder in folders:
        if (out / folder).exists():
            kept = out / f"{folder}.earlier"
            shutil.rmtree(kept, ignore_errors=True)
            (out / folder).rename(kept)


def missing_parts(out: Path) -> list[str]:
    """Return the parts of a preset for which nothing has been trained yet."""
    return [name for name, file in _PARTS.items() if not (out / file).exists()]


def assemble_preset(out: Path) -> Path:
    """Write what was trained as a preset: ``preset/assistant.toml`` with the weights, and ``assistant.toml`` that leads there.

    Args:
        out: Work folder.

    Returns:
        The folder of the preset, which may be moved elsewhere.

    Raises:
        ConfigError: If a part is missing.
    """
    missing = missing_parts(out)
    if missing:
        raise ConfigError(f"`{out}` has no trained {', '.join(missing)} yet", "run the other stages first")
    preset = out / "preset"
    export_speech(out, preset)
    shutil.copy(out / "style" / FILE, preset / "style_module" / FILE)
    for name in ("vision_encoder", "llm_core"):
        shutil.copytree(out / name, preset / name, dirs_exist_ok=True)
    tables = [f'[{slot}]\ntype = "nano"\npath = "./{slot}"\n' for slot in _SLOTS]
    tables[_SLOTS.index("llm_core")] += 'text_to_units = "./text_to_units"\n'
    write_preset_graphs(preset)
    write_atomically(preset / "assistant.toml", "\n".join(["# Trained by `emova train nano`.", *tables]))
    write_atomically(out / "assistant.toml", 'extends = "preset/assistant.toml"\n')
    return preset
