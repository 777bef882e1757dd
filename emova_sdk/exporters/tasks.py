"""Do exported components do the same work? Their originals and they hear, judge, answer and speak; what comes out is compared.

Graph by graph numbers may agree and the speech be silence all the same. Here whole components run, the exported ones from the
folder that was just written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.exported import open_component
from emova_sdk.components.nano.features import log_mel
from emova_sdk.components.runtimes.export_folder import family_of
from emova_sdk.errors import ParityError
from emova_sdk.exporters.quantize import Precision
from emova_sdk.types import Audio, LLMEvent, Message, SpeechUnits, Style, TextDelta, Transcript, UnitsDelta

__all__ = ["TaskParity", "compare_tasks", "sound_parity", "task_error", "work"]

_TEXTS = ("what color is the small star", "i am so happy about my birthday", "how much is two plus three")
_QUESTIONS = (*_TEXTS, "hello", "what time is it", "i am sad because my dog died", "what can you do", "thank you")
_EMOTIONS = ("neutral", "happy", "sad", "angry")
_AGREEING: Mapping[Precision, float] = {"fp32": 0.99, "fp16": 0.97, "int8": 0.9, "int4": 0.75}
"""Least share of equal units, words or labels."""
_DISTANT: Mapping[Precision, float] = {"fp32": 0.02, "fp16": 0.15, "int8": 0.5, "int4": 0.8}
"""Largest mean difference of log-mel spectra, in nepers."""
_CLIPPED, _QUIET = 1e-3, 0.5
_BAND = 15
"""Frames by which one sound may be ahead of the other."""


@dataclass(frozen=True)
class TaskParity:
    """How an exported component does a task.

    Attributes:
        task: E.g. ``speech, sad``.
        measure: What was measured, e.g. ``mel distance``.
        value: What was found.
        allowed: What was allowed.
        passed: Whether it was kept to.
        cases: How many pieces of work, or labels, it was measured on.
    """

    task: str
    measure: str
    value: float
    allowed: str
    passed: bool
    cases: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def work(slot: str, original: Any, folder: Path, *, precision: Precision) -> list[TaskParity]:
    """Compare what a component and its export do, where they are nano's.

    Args:
        slot: E.g. ``vocoder``.
        original: The component that was exported.
        folder: The export.
        precision: The lowest of the slot's graphs.
    """
    if slot not in _TASKS or family_of(str(folder), slot) != "nano":
        return []
    with open_component(slot, str(folder)) as exported:
        return compare_tasks(slot, original, exported, precision=precision)


def task_error(slot: str, found: TaskParity) -> ParityError:
    """The error for a task that went wrong."""
    return ParityError(
        f"{slot}, {found.task}: {found.measure} is {found.value:.3g}; allowed is {found.allowed}",
        "export in a higher precision",
        output=found.task,
        max_abs_diff=found.value,
        atol=float(found.allowed.rsplit(" ", 1)[-1]),
    )


def compare_tasks(slot: str, original: Any, exported: Any, *, precision: Precision) -> list[TaskParity]:
    """Let a component of nano and its export do the same work.

    Args:
        slot: E.g. ``vocoder``.
        original: The component that was exported.
        exported: The one that runs the export.
        precision: Of the export: what is allowed depends on it.
    """
    work = _TASKS.get(slot)
    return work(original, exported, precision) if work else []


def _share(task: str, measure: str, values: Sequence[float], precision: Precision) -> TaskParity:
    least = _AGREEING[precision]
    value = float(np.mean(values))
    return TaskParity(task, measure, value, f">= {least:g}", value >= least, len(values))


def _likeness(left: Sequence[Any], right: Sequence[Any]) -> float:
    """Share of two sequences that is common to both, 0 to 1."""
    return SequenceMatcher(None, list(left), list(right), autojunk=False).ratio()


# --- what they work on: speech by nano's own voice, with every emotion ---


def _clips() -> list[Audio]:
    from emova_sdk.components.nano.style import NanoStyleModule
    from emova_sdk.components.nano.vocoder import NanoUnitVocoder

    styles = NanoStyleModule().embed([Style(emotion=emotion) for emotion in _EMOTIONS])
    units = [_units()[number % len(_TEXTS)] for number in range(len(styles))]
    with NanoUnitVocoder() as voice:
        return voice.synthesize(units, styles)


def _units() -> list[SpeechUnits]:
    from emova_sdk.components.nano.text_to_units import TextToUnits

    reader = TextToUnits()
    return [reader(text) for text in _TEXTS]


# --- the work ---


def _hear(original: Any, exported: Any, precision: Precision) -> list[TaskParity]:
    clips = _clips()
    pairs = zip(original.encode(clips), exported.encode(clips), strict=True)
    alike = [_likeness(left.ids.tolist(), right.ids.tolist()) for left, right in pairs]
    return [_share("hearing", "units agreeing", alike, precision)]


def _judge(original: Any, exported: Any, precision: Precision) -> list[TaskParity]:
    clips = _clips()
    axes = [
        left.style.to_dict()[axis] == right.style.to_dict()[axis]
        for left, right in zip(original.perceive(clips), exported.perceive(clips), strict=True)
        for axis in left.style.to_dict()
    ]
    return [_share("perceiving", "labels agreeing", axes, precision)]


def _answer(original: Any, exported: Any, precision: Precision) -> list[TaskParity]:
    asked = [[Message("user", (text,), Style())] for text in _QUESTIONS]
    said = [[Message("user", (units,), Style())] for units in _units()]
    found: list[TaskParity] = []
    for task, measure, questions, kind in (
        ("answering", "words agreeing", asked, "chat"),
        ("transcribing", "words agreeing", said, "transcribe"),
        ("reading aloud", "units agreeing", asked, "speak"),
    ):
        pairs = [(_written(original, one, kind), _written(exported, one, kind)) for one in questions]
        found.append(_share(task, measure, [_likeness(*pair) for pair in pairs], precision))
    return found


def _written(core: Any, messages: list[Message], task: str) -> list[Any]:
    events: list[LLMEvent] = []
    with closing(core.generate(messages, task=task)) as writing:
        events.extend(writing)
    if task == "speak":
        return [unit for event in events if isinstance(event, UnitsDelta) for unit in event.units.ids.tolist()]
    return [word for event in events if isinstance(event, TextDelta | Transcript) for word in event.text.split()]


def _speak(original: Any, exported: Any, precision: Precision) -> list[TaskParity]:
    from emova_sdk.components.nano.style import NanoStyleModule

    found: list[TaskParity] = []
    for emotion in _EMOTIONS:
        styles = NanoStyleModule().embed([Style(speaker=speaker, emotion=emotion) for speaker in ("female", "male")])
        units = _units()[: len(styles)]
        pairs = list(zip(original.synthesize(units, styles), exported.synthesize(units, styles), strict=True))
        found += sound_parity(f"speech, {emotion}", pairs, precision)
    return found


def sound_parity(task: str, pairs: Sequence[tuple[Audio, Audio]], precision: Precision) -> list[TaskParity]:
    """Mel distance, level and clipping of pairs of sounds."""
    samples = np.concatenate([right.samples for _, right in pairs])
    before = np.concatenate([left.samples for left, _ in pairs])
    finite = bool(np.isfinite(samples).all())
    level = _level(samples) / max(_level(before), 1e-9) if finite else 0.0
    clipped = float(np.mean(np.abs(samples) >= 0.999)) if finite else 1.0
    apart = float(np.mean([_distance(left.samples, right.samples) for left, right in pairs])) if finite else float("inf")
    most = _DISTANT[precision]
    return [
        TaskParity(task, "mel distance", apart, f"<= {most:g}", apart <= most, len(pairs)),
        TaskParity(task, "level", level, f">= {_QUIET:g}", level >= _QUIET, len(pairs)),
        TaskParity(task, "clipped", clipped, f"<= {_CLIPPED:g}", clipped <= _CLIPPED, len(pairs)),
    ]


def _level(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0


def _distance(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Mean difference of log-mel spectra along the best alignment: a duration may differ by a frame and nobody hears it."""
    first, second = log_mel(left), log_mel(right)
    apart = np.abs(first[:, None] - second[None]).mean(2)
    band = abs(len(first) - len(second)) + _BAND
    cost = np.full((len(first) + 1, len(second) + 1), np.inf)
    cost[0, 0] = 0
    for row in range(len(first)):
        for column in range(max(0, row - band), min(len(second), row + band + 1)):
            before = min(cost[row, column], cost[row, column + 1], cost[row + 1, column])
            cost[row + 1, column + 1] = before + apart[row, column]
    return float(cost[-1, -1]) / max(len(first), len(second), 1)


_TASKS: Mapping[str, Callable[[Any, Any, Precision], list[TaskParity]]] = {
    "speech_tokenizer": _hear,
    "llm_core": _answer,
    "style_module": _judge,
    "vocoder": _speak,
}
