"""The five interfaces of the SDK. Reading this file is understanding it.

A voice assistant is five slots on a wire::

    audio ──▶ SpeechTokenizer ──units──▶ ┌─────────┐ ──units──▶ Vocoder ──▶ audio
    image ──▶ VisionEncoder ──features─▶ │ LLMCore │              ▲
    text ──────────────────────────────▶ └─────────┘ ──style──▶ StyleModule

Rules that hold for every component (the conformance kit in `emova_sdk.testing` checks them):

* The constructor is cheap: it validates its options and reads at most a small config file, so that the facts (spaces,
  rates) are known and the fit of all slots can be checked before any weights are loaded. `load` brings in the weights;
  every method that needs them calls it.
* A batch is a list, and its items do not influence each other. Nothing at the boundary is padded.
* A stream is a `Stream`: however the input is cut into chunks, the outputs together are those of the whole.
* Components are synchronous and may be called from several threads. Streams and generators belong to one caller.
* Closing a generator cancels the work. `close` frees what `load` took; a component may be loaded again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from emova_sdk.arguments import checked_fields
from emova_sdk.components.graph import Graph
from emova_sdk.components.trials import Trial
from emova_sdk.errors import BackendError, InputError
from emova_sdk.types import (
    Audio,
    Image,
    LLMEvent,
    Message,
    PerceivedStyle,
    SpeechChunk,
    SpeechUnits,
    Style,
    ToolSpec,
    VisionFeatures,
)

Task = Literal["chat", "transcribe", "speak"]
In = TypeVar("In")
Out = TypeVar("Out")


class Space(NamedTuple):
    """What an id or a vector means. Two components are compatible if their spaces are equal.

    Attributes:
        name: E.g. ``emova-fsq-8888``.
        size: Number of ids, or dimensions of a vector.
    """

    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.name}[{self.size}]"


class Stream(ABC, Generic[In, Out]):
    """State between chunks. Used by one caller, and only once: until `finish`."""

    @abstractmethod
    def push(self, chunk: In) -> list[Out]:
        """Process the next chunk and return the results that are ready, in order, possibly none."""

    @abstractmethod
    def finish(self) -> list[Out]:
        """Return the remaining results."""

    def drain(self) -> Generator[Out, None, None]:
        """Like `finish`, but yield each result as soon as it is ready."""
        yield from self.finish()


class CollectingStream(Stream[In, Out]):
    """A stream for a model that needs its whole input: collects the chunks, and processes them in `finish`."""

    def __init__(self, work: Callable[[list[In]], list[Out]]) -> None:
        self._work = work
        self._chunks: list[In] = []

    def push(self, chunk: In) -> list[Out]:
        self._chunks.append(chunk)
        return []

    def finish(self) -> list[Out]:
        return self._work(self._chunks)


@checked_fields
@dataclass(frozen=True)
class GenerationOptions:
    """Options of generation by an `LLMCore`.

    Attributes:
        max_tokens: Largest number of generated tokens.
        temperature: 0 takes the most probable token; above 0 samples.
        top_p: Smallest probability mass sampled from, in (0, 1].
        seed: Makes sampling repeatable.
        tool_choice: ``auto``, ``any`` (some tool must be called) or a tool's name, if the core supports it.
        json_schema: JSON Schema requested for the answer's text, if the core supports it.
    """

    max_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    tool_choice: str = "auto"
    json_schema: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise InputError(f"`{self}` is out of range", "max_tokens >= 1, temperature >= 0, 0 < top_p <= 1")


class Component(ABC):  # noqa: B024 - the slots below declare what is abstract
    """A model in one of the five slots."""

    def load(self) -> None:  # noqa: B027 - a component without weights has nothing to do
        """Load the weights. Safe to call again and from several threads.

        Raises:
            LoadError: If a file is missing, broken or does not match.
        """

    def close(self) -> None:  # noqa: B027 - there may be nothing to close
        """Free the memory that `load` took. Safe to call again."""

    def graphs(self) -> list[Graph]:
        """What exporters can export: empty when nothing can be. Brings into memory what it needs, without `load`."""
        return []

    def trials(self) -> list[Trial]:
        """End-to-end trials by which an export is compared with this component: empty when it has none."""
        return []

    def assets(self) -> Mapping[str, Path | str | bytes]:
        """Files, or their content, that a runtime needs beside the graphs, by their names in the slot's folder of an export."""
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class VisionEncoder(Component):
    """Images to features that a language model reads."""

    features: Space

    @abstractmethod
    def encode(self, images: Sequence[Image]) -> list[VisionFeatures]:
        """Encode each image; ``embeddings`` has ``features.size`` columns."""


class SpeechTokenizer(Component):
    """Speech to discrete units, which carry what is said and as little as possible of how it is said."""

    units: Space
    sample_rate: int
    """Rate it reads, in Hz. Other rates are refused: resampling is the pipeline's business."""
    unit_rate: float
    """Units per second before repeats are collapsed."""

    @abstractmethod
    def encode(self, clips: Sequence[Audio]) -> list[SpeechUnits]:
        """Encode each clip; `InputError` if its sample rate is not `sample_rate`."""

    def check_rate(self, clip: Audio) -> None:
        """Raise `InputError` for a clip of another rate than `sample_rate`."""
        if clip.sample_rate != self.sample_rate:
            message = f"the clip has {clip.sample_rate} Hz, and this tokenizer reads {self.sample_rate} Hz"
            raise InputError(message, f"call `audio.resample({self.sample_rate})` first")

    def stream(self) -> Stream[Audio, SpeechUnits]:
        """Encode audio as it arrives. Unless overridden, everything is encoded in ``finish``."""
        return CollectingStream(lambda clips: self.encode([Audio.concat(clips, sample_rate=self.sample_rate)]))


class LLMCore(Component):
    """A language model that reads text, speech units and image features, and writes text, styles, units and tool calls."""

    units: Space | None
    """Units it reads and writes, or None for a model of text alone."""
    vision: Space | None
    """Features it reads, or None for a model that sees nothing."""
    tools: bool
    """Whether it can call tools."""
    sees_images: bool = False
    """Whether it reads `Image` parts as they are; a pipeline then leaves its vision encoder out."""

    @abstractmethod
    def generate(
        self,
        messages: Sequence[Message],
        *,
        task: Task = "chat",
        style: Style | None = None,
        tools: Sequence[ToolSpec] = (),
        options: GenerationOptions = GenerationOptions(),
    ) -> Generator[LLMEvent, None, None]:
        """Answer the last message as a stream of events; closing the generator stops the work.

        Args:
            messages: The conversation so far; audio as `SpeechUnits`, images as `VisionFeatures` (or `Image`).
            task: ``chat`` answers; ``transcribe`` transcribes the last message's units (`Transcript`);
                ``speak`` reads the last message's text aloud (`UnitsDelta`).
            style: Style of the answer; None leaves emotion and pitch to the model.
            tools: Tools the model may call.
            options: Length and sampling.
        """


class StyleModule(Component):
    """Styles to vectors a vocoder follows, and, where it can, sound to the style that is heard in it."""

    style: Space
    choices: Mapping[str, tuple[str, ...]]
    """Values it can speak for each axis: ``speaker``, ``emotion``, ``pitch``, ``speed``."""
    perceives: bool = False
    """Whether `perceive` works."""

    @abstractmethod
    def embed(self, styles: Sequence[Style]) -> NDArray[np.float32]:
        """Return one vector for each style, float32 (styles, ``style.size``); `InputError` for a value not in `choices`."""

    def perceive(self, clips: Sequence[Audio]) -> list[PerceivedStyle]:  # noqa: ARG002 - the signature of those that do perceive
        """Perceive the style of each clip, of any sample rate; `BackendError` if this module does not perceive."""
        raise BackendError(f"`{type(self).__name__}` does not perceive styles", "use a style module with `perceives = True`")


class Vocoder(Component):
    """Units and a style to speech."""

    units: Space
    style: Space
    sample_rate: int
    """Rate it speaks at, in Hz."""

    @abstractmethod
    def synthesize(self, units: Sequence[SpeechUnits], styles: NDArray[np.float32]) -> list[Audio]:
        """Speak each sequence in the style of its row, ``styles`` being float32 of shape (sequences, ``style.size``)."""

    @abstractmethod
    def stream(self, style: NDArray[np.float32]) -> Stream[SpeechUnits, SpeechChunk]:
        """Speak units as they arrive, in one style, float32 of shape (``style.size``,)."""


# the name used in config files, entry points and arguments, and its interface
SLOTS: dict[str, type[Component]] = {
    "vision_encoder": VisionEncoder,
    "speech_tokenizer": SpeechTokenizer,
    "llm_core": LLMCore,
    "style_module": StyleModule,
    "vocoder": Vocoder,
}
