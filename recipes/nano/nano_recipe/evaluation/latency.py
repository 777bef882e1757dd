"""How soon nano answers: whole spoken turns, from the end of the question to the first and the last sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emova_sdk.errors import InputError
from emova_sdk.pipeline import Pipeline
from emova_sdk.types import Audio, Timings
from nano_recipe import dialogue
from nano_recipe.dialogue import PICTURE_INTENTS
from nano_recipe.scenes import draw, random_scene
from nano_recipe.speech_data import RecordedUtterance

WARM = 2
"""Turns before the clock counts: the first ones load the weights."""


def judge_turns(utterances: Sequence[RecordedUtterance], *, preset: Path | None = None, turns: int = 30) -> dict[str, Any]:
    """Ask rendered questions, those about pictures with a scene, and report quantiles of the wall clock on this machine.

    Args:
        utterances: Rendered questions.
        preset: Folder with an ``assistant.toml``; the shipped nano by default.
        turns: How many are asked.

    Raises:
        InputError: If there are no questions.
    """
    questions = [(said, dialogue.parse_question(said.plan.text)) for said in utterances]
    asked = [(said, question) for said, question in questions if question is not None][: turns + WARM]
    if len(asked) <= WARM:
        raise InputError("there are no rendered questions to answer", "render more with a bigger `--budget-s`")
    rng = np.random.default_rng(31)
    found: list[Timings] = []
    with Pipeline.from_config("emova-nano" if preset is None else preset) as nano:
        for said, question in asked:
            sound = Audio((said.samples / 32767).astype(np.float32), 16000)
            parts = [draw(random_scene(rng), rng=rng)] if question.intent in PICTURE_INTENTS else []
            found.append(nano.session().ask(sound, *parts).timings)
    return {**_quantiles(found[WARM:]), "turns": len(found) - WARM, "threads": torch.get_num_threads()}


def _quantiles(timings: Sequence[Timings]) -> dict[str, float]:
    first = [t.first_audio_s for t in timings if t.first_audio_s is not None]
    factor = [t.real_time_factor for t in timings if t.real_time_factor is not None]
    return {
        f"{name}_{mark}": round(float(np.quantile(values, level)), 3)
        for name, values in (("first_audio_s", first), ("real_time_factor", factor))
        for mark, level in (("median", 0.5), ("p95", 0.95))
        if values
    }
