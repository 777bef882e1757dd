"""What nano's components and their exports are tried on: recorded speech, typed questions, units and styles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import LLMCore, Space, Task
from emova_sdk.components.trials import Trial, sequences_agree, sounds_agree
from emova_sdk.types import Audio, Message, Part, SpeechUnits, Style, TextDelta, Transcript, UnitsDelta

_TEXTS = ("what color is the small star", "i am so happy about my birthday", "how much is two plus three")
_QUESTIONS = (*_TEXTS, "hello", "what time is it", "i am sad because my dog died", "what can you do", "thank you")


def _clips() -> list[Audio]:
    """Recordings of nano's voices, whole and in part."""
    whole = [Audio.example(name) for name in ("question", "happy", "sad")]
    return whole + [Audio(clip.samples[: len(clip.samples) * 2 // 3], clip.sample_rate) for clip in whole]


def tokenizer_trials() -> list[Trial]:
    """Units that are heard in speech."""

    def run(tokenizer: Any) -> list[list[int]]:
        return [units.ids.tolist() for units in tokenizer.encode(_clips())]

    return [Trial("hearing", run, partial(sequences_agree, "units agreeing"))]


def style_trials() -> list[Trial]:
    """Labels that are perceived in speech."""

    def run(module: Any) -> list[list[str]]:
        return [[label] for perceived in module.perceive(_clips()) for label in perceived.style.to_dict().values()]

    return [Trial("perceiving", run, partial(sequences_agree, "labels agreeing"))]


def vocoder_trials(units: Space, styles: Mapping[str, NDArray[np.float32]]) -> list[Trial]:
    """Speech in each style; a style has a row for each speaker."""
    rng = np.random.default_rng(3)
    sequences = [SpeechUnits.of(rng.integers(0, units.size, length)) for length in (30, 36)]

    def run(vocoder: Any, *, rows: NDArray[np.float32]) -> list[Audio]:
        return vocoder.synthesize(sequences[: len(rows)], rows)

    return [Trial(f"speech, {name}", partial(run, rows=rows), sounds_agree) for name, rows in styles.items()]


def llm_trials() -> list[Trial]:
    """Answers to typed questions, transcripts of spoken ones, and units of texts."""
    words, units = (partial(sequences_agree, f"{what} agreeing") for what in ("words", "units"))

    def transcripts(core: LLMCore) -> list[Sequence[Any]]:
        spoken = [SpeechUnits.of(_written(core, text, "speak")) for text in _TEXTS]
        return [_written(core, one, "transcribe") if len(one) else [] for one in spoken]

    return [
        Trial("answering", lambda core: [_written(core, text, "chat") for text in _QUESTIONS], words),
        Trial("transcribing", transcripts, words),
        Trial("reading aloud", lambda core: [_written(core, text, "speak") for text in _QUESTIONS], units),
    ]


def _written(core: LLMCore, part: Part, task: Task) -> Sequence[Any]:
    with closing(core.generate([Message("user", (part,), Style())], task=task)) as writing:
        events = list(writing)
    if task == "speak":
        return [unit for event in events if isinstance(event, UnitsDelta) for unit in event.units.ids.tolist()]
    return [word for event in events if isinstance(event, TextDelta | Transcript) for word in event.text.split()]
