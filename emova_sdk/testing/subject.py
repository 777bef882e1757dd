"""What the conformance rules work on: a component, how to make another, and inputs that suit it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import (
    SLOTS,
    Component,
    GenerationOptions,
    LLMCore,
    SpeechTokenizer,
    StyleModule,
    VisionEncoder,
    Vocoder,
)
from emova_sdk.components.trials import speech_like
from emova_sdk.types import (
    Audio,
    Image,
    Message,
    PerceivedStyle,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    ToolCall,
    Transcript,
    UnitsDelta,
    UserStyle,
    VisionFeatures,
)


class CheckFailed(AssertionError):  # noqa: N818 - pytest shows it like any failed assertion
    """A rule does not hold for a component."""


@dataclass(frozen=True)
class Samples:
    """Inputs for the checks; what is left out is made up.

    Attributes:
        clips: Sounds, of any rate; at least two.
        images: Pictures; at least two.
        units: Unit sequences of the component's space; at least two.
        styles: Style vectors of the component's space, float32 (2 or more, size).
        text: What a language model is asked.
        atol: Largest difference at which two sounds or feature matrices count as equal.
        max_tokens: How much a language model may write in one answer.
        original: What a component that runs from an export was exported from: it has to pass its trials.
        precision: The lowest of that export's graphs; what is allowed depends on it.
    """

    clips: tuple[Audio, ...] = ()
    images: tuple[Image, ...] = ()
    units: tuple[SpeechUnits, ...] = ()
    styles: NDArray[np.float32] | None = None
    text: str = "hello, how are you today?"
    atol: float = 1e-4
    max_tokens: int = 48
    original: Component | None = None
    precision: str = "fp32"


@dataclass(frozen=True)
class Operation:
    """Something a component does to a list of independent inputs."""

    name: str
    call: Callable[[Component, list[Any]], Sequence[Any]]
    inputs: list[Any]


class Subject:
    """A component under test; made when first needed, and shared by the rules that do not need a fresh one."""

    def __init__(self, component: Component | Callable[[], Component], samples: Samples) -> None:
        self.factory = None if isinstance(component, Component) else component
        self._given = component if isinstance(component, Component) else None
        self.samples = samples

    @cached_property
    def component(self) -> Any:
        """The shared component."""
        return self._given if self.factory is None else self.fresh()

    @property
    def slot(self) -> str:
        """The slot its class belongs to."""
        made = self.factory if isinstance(self.factory, type) else type(self.component)
        for slot, interface in SLOTS.items():
            if issubclass(made, interface):
                return slot
        raise TypeError(f"`{made.__name__}` is not a component of any slot: derive it from one of emova_sdk's five interfaces")

    def fresh(self) -> Any:
        """Return a component that nothing has touched, where there is a way to make one."""
        if self.factory is None:
            return self.component
        made = self.factory()
        if not isinstance(made, Component):
            raise CheckFailed(f"the factory returned a {type(made).__name__}, not a component")
        return made

    # --- inputs that suit it ---

    def clips(self, rate: int) -> list[Audio]:
        """Return three sounds of different length at ``rate`` Hz."""
        if self.samples.clips:
            return [clip.resample(rate) for clip in self.samples.clips]
        return [speech_like(seconds, rate, seed=seed) for seed, seconds in enumerate((1.31, 0.47, 2.05))]

    def images(self) -> list[Image]:
        """Return three pictures of different size and content."""
        if self.samples.images:
            return list(self.samples.images)
        rng = np.random.default_rng(7)
        return [
            Image(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for height, width in ((48, 64), (33, 31), (70, 20))
        ]

    def units(self, size: int) -> list[SpeechUnits]:
        """Return three unit sequences of different length, with repeats, from a space of ``size`` ids."""
        if self.samples.units:
            return list(self.samples.units)
        rng = np.random.default_rng(11)
        return [SpeechUnits.of(np.repeat(rng.integers(0, size, length), rng.integers(1, 3, length))) for length in (17, 5, 23)]

    def style_rows(self, size: int) -> NDArray[np.float32]:
        """Return at least three style vectors."""
        if self.samples.styles is not None:
            return np.resize(self.samples.styles, (max(3, len(self.samples.styles)), size)).astype(np.float32)
        return (0.3 * np.random.default_rng(13).standard_normal((3, size))).astype(np.float32)

    def conversations(self) -> list[list[Message]]:
        """Return conversations a language model of this kind can answer."""
        llm, text = self.component, self.samples.text
        asked = Message("user", (text,))
        found = [[asked], [asked, Message("assistant", ("Fine.",), interrupted=True), Message("user", ("go on",))]]
        found.append([Message("system", ("Be brief.",)), asked])
        if llm.units is not None:
            style = PerceivedStyle(Style(emotion="sad"), {"emotion": 0.9})
            found += [[Message("user", (units,), style=style)] for units in self.units(llm.units.size)[:2]]
        if llm.vision is not None:
            rows = np.random.default_rng(17).standard_normal((4, llm.vision.size)).astype(np.float32)
            found.append([Message("user", (VisionFeatures(rows, (2, 2)), "what is this?"))])
        return found

    # --- what it does ---

    def operations(self) -> list[Operation]:
        """Return what the component does to lists of inputs."""
        return _OPERATIONS[self.slot](self)

    def options(self) -> GenerationOptions:
        """Return how a language model writes during the checks."""
        return GenerationOptions(max_tokens=self.samples.max_tokens)

    def written(self, component: LLMCore, messages: list[Message], **options: Any) -> dict[str, Any]:
        """Let a language model answer; return what it wrote, deltas joined, so that two answers can be compared."""
        with closing(component.generate(messages, options=self.options(), **options)) as events:
            return joined_events(list(events))


def joined_events(events: list[Any]) -> dict[str, Any]:
    """Return what events say together, however they were cut."""
    units = [event.units.ids for event in events if isinstance(event, UnitsDelta)]
    return {
        "text": "".join(event.text for event in events if isinstance(event, TextDelta)),
        "units": np.concatenate(units) if units else np.zeros(0, np.int64),
        "transcript": [event.text for event in events if isinstance(event, Transcript)],
        "user_style": [event.perceived.style for event in events if isinstance(event, UserStyle)],
        "style": [event.style for event in events if isinstance(event, StyleChosen)],
        "tools": [(event.name, dict(event.arguments)) for event in events if isinstance(event, ToolCall)],
    }


def _tokenizer_operations(subject: Subject) -> list[Operation]:
    tokenizer = cast("SpeechTokenizer", subject.component)
    return [
        Operation(
            "encode", lambda part, clips: cast("SpeechTokenizer", part).encode(clips), subject.clips(tokenizer.sample_rate)
        )
    ]


def _vision_operations(subject: Subject) -> list[Operation]:
    return [Operation("encode", lambda part, images: cast("VisionEncoder", part).encode(images), subject.images())]


def _style_operations(subject: Subject) -> list[Operation]:
    module = cast("StyleModule", subject.component)
    found = [Operation("embed", lambda part, styles: list(cast("StyleModule", part).embed(styles)), speakable(module)[:6])]
    if module.perceives:
        clips = [clip for rate in (16_000, 22_050) for clip in subject.clips(rate)]
        found.append(Operation("perceive", lambda part, heard: cast("StyleModule", part).perceive(heard), clips))
    return found


def _vocoder_operations(subject: Subject) -> list[Operation]:
    vocoder = cast("Vocoder", subject.component)
    sequences = subject.units(vocoder.units.size)
    pairs = list(zip(sequences, subject.style_rows(vocoder.style.size), strict=False))

    def call(part: Component, given: list[Any]) -> Sequence[Any]:
        styles = np.array([style for _, style in given], np.float32).reshape(len(given), vocoder.style.size)
        return cast("Vocoder", part).synthesize([units for units, _ in given], styles)

    return [Operation("synthesize", call, pairs)]


def _llm_operations(subject: Subject) -> list[Operation]:
    def call(part: Component, given: list[Any]) -> Sequence[Any]:
        return [subject.written(cast("LLMCore", part), messages) for messages in given]

    return [Operation("generate", call, subject.conversations())]


_OPERATIONS: dict[str, Callable[[Subject], list[Operation]]] = {
    "speech_tokenizer": _tokenizer_operations,
    "vision_encoder": _vision_operations,
    "style_module": _style_operations,
    "vocoder": _vocoder_operations,
    "llm_core": _llm_operations,
}


# --- making and comparing values ---


def speakable(module: StyleModule) -> list[Style]:
    """Return every style a module claims to speak, at most 400, spread over all."""
    choices = module.choices
    styles = [
        Style(speaker, cast("Any", emotion), cast("Any", pitch), cast("Any", speed))
        for speaker in choices["speaker"]
        for emotion in choices["emotion"]
        for pitch in choices["pitch"]
        for speed in choices["speed"]
    ]
    return styles[:: 1 + len(styles) // 400]


def same(left: Any, right: Any, atol: float) -> bool:
    """Whether two outputs are equal: ids and texts exactly, sounds and vectors within ``atol``."""
    if isinstance(left, Audio) and isinstance(right, Audio):
        return left.sample_rate == right.sample_rate and _close(left.samples, right.samples, atol)
    if isinstance(left, VisionFeatures) and isinstance(right, VisionFeatures):
        return left.grid == right.grid and _close(as_array(left.embeddings), as_array(right.embeddings), atol)
    if isinstance(left, PerceivedStyle) and isinstance(right, PerceivedStyle):
        close = all(abs(left.scores[axis] - right.scores.get(axis, -9)) <= max(atol, 1e-3) for axis in left.scores)
        return close and left.style == right.style
    if isinstance(left, dict) and isinstance(right, dict):
        return all(same(value, cast("Any", right)[key], atol) for key, value in cast("dict[str, Any]", left).items())
    if isinstance(left, np.ndarray):
        return _close(left, right, atol) if left.dtype.kind == "f" else np.array_equal(left, right)
    return bool(left == right)


def _close(left: NDArray[Any], right: NDArray[Any], atol: float) -> bool:
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=1e-4, atol=atol))


def as_array(value: Any) -> NDArray[Any]:
    """Return a torch tensor (of any device and type) or an array as a NumPy array."""
    return value if isinstance(value, np.ndarray) else value.detach().float().cpu().numpy()


def require(holds: bool, message: str) -> None:
    """Fail the check with ``message`` unless ``holds``."""
    if not holds:
        raise CheckFailed(message)


def refuses(call: Callable[[], Any], what: str, error: type[Exception]) -> None:
    """Fail the check unless ``call`` raises ``error``."""
    try:
        call()
    except error:
        return
    except Exception as other:
        raise CheckFailed(f"{what} raised {type(other).__name__}: {other}, not {error.__name__}") from other
    raise CheckFailed(f"{what} was accepted; it must raise {error.__name__}")


def in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run calls at the same time, begun together, and return what they returned."""
    start = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


def cuts(length: int, seed: int) -> list[list[int]]:
    """Return ways to cut ``length`` items: whole, in two, single items first, odd pieces, at random, with empty pieces."""
    rng = np.random.default_rng(seed)
    singles = min(length, 60)
    found = [[length], [length // 2, length - length // 2], [1] * singles + [length - singles], [0, length, 0]]
    found.extend([min(piece, length - at) for at in range(0, length, piece)] for piece in (7, 641))
    marks = np.sort(rng.integers(0, length + 1, 5))
    found.append(np.diff(marks, prepend=0, append=length).tolist())
    return found
