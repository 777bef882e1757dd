"""End-to-end trials of EMOVA's components and their exports, on synthetic inputs that suit any weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import GenerationOptions, Space
from emova_sdk.components.emova.speech.vocoder_sampling import Sampling
from emova_sdk.components.trials import Trial, sequences_agree, sounds_agree, speech_like, vectors_agree
from emova_sdk.types import Audio, Image, Message, SpeechUnits, TextDelta, UnitsDelta

_SECONDS = (0.9, 1.7, 2.6)
_SIZES = ((64, 48), (56, 112), (90, 31))
_WITHOUT_NOISE = Sampling(noise_scale=0.0, noise_scale_duration=0.0)
"""Noise is drawn by torch in the original and by NumPy in its export."""
_EXACT: Mapping[str, float] = {"fp32": 0.99}
"""Whole answers are compared in float32 alone: with other numbers an answer may go on otherwise and be as good."""


def _clips(rate: int) -> list[Audio]:
    return [speech_like(seconds, rate, seed=seed) for seed, seconds in enumerate(_SECONDS)]


def _units(space: Space, count: int) -> list[SpeechUnits]:
    rng = np.random.default_rng(5)
    return [SpeechUnits.of(rng.integers(0, space.size, length)) for length in (18, 31, 44)[:count]]


def tokenizer_trials(rate: int) -> list[Trial]:
    """Units that are heard in sounds."""

    def run(tokenizer: Any) -> list[list[int]]:
        return [units.reduced().ids.tolist() for units in tokenizer.encode(_clips(rate))]

    return [Trial("hearing", run, partial(sequences_agree, "units agreeing"))]


def vocoder_trials(units: Space, style: Space) -> list[Trial]:
    """Speech without noise."""
    rows = np.random.default_rng(6).standard_normal((2, style.size)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    def run(vocoder: Any) -> list[Audio]:
        return vocoder.synthesize(_units(units, len(rows)), rows, sampling=_WITHOUT_NOISE)

    return [Trial("speech", run, sounds_agree)]


def style_trials() -> list[Trial]:
    """Vectors of recordings."""

    def run(module: Any) -> list[NDArray[np.float32]]:
        return list(module.embed_recordings(_clips(22_050)))

    return [Trial("voices of recordings", run, partial(vectors_agree, "cosine of style vectors"))]


def vision_trials() -> list[Trial]:
    """Features of pictures of several shapes."""
    rng = np.random.default_rng(7)
    pictures = [Image(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in _SIZES]

    def run(encoder: Any) -> list[NDArray[np.float32]]:
        return [_as_array(features.embeddings) for features in encoder.encode(pictures)]

    return [Trial("seeing", run, partial(vectors_agree, "cosine of picture features"))]


def llm_trials(units: Space | None) -> list[Trial]:
    """The likeliest token after each of a given text's, and a short answer."""
    spoken = [] if units is None else [Message("user", tuple(_units(units, 1)))]
    talk = [Message("user", ("Good morning! How are you today?",)), Message("assistant", ("Very well.",)), *spoken]

    def answer(core: Any) -> list[list[Any]]:
        with closing(core.generate(talk, options=GenerationOptions(max_tokens=12))) as writing:
            events = list(writing)
        text = [event.text for event in events if isinstance(event, TextDelta)]
        written = [unit for event in events if isinstance(event, UnitsDelta) for unit in event.units.ids.tolist()]
        return [[*"".join(text).split(), *written]]

    agree = partial(sequences_agree, "tokens agreeing")
    return [
        Trial("next tokens", lambda core: [[token] for token in core.next_tokens(talk)], agree),
        Trial("answering", answer, partial(sequences_agree, "words and units agreeing", limits=_EXACT)),
    ]


def _as_array(values: Any) -> NDArray[np.float32]:
    """Features of torch or NumPy, as NumPy."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, np.float32)
