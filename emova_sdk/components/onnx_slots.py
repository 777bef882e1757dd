"""The five slots over ONNX Runtime for any export: whose components run it stands in its manifest.

This is the type ``onnx`` of a config. EMOVA's exports are run by `emova_sdk.components.onnx`, nano's by the classes of
`emova_sdk.components.nano.exported`; torch is needed for neither.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import (
    Component,
    GenerationOptions,
    LLMCore,
    SpeechTokenizer,
    Stream,
    StyleModule,
    Task,
    VisionEncoder,
    Vocoder,
)
from emova_sdk.components.exported import family_of
from emova_sdk.components.nano.llm import Hearing, SpeechPath
from emova_sdk.errors import ConfigError, LoadError
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

CPU = ("CPUExecutionProvider",)

__all__ = ["BundleLLM", "BundleSpeechTokenizer", "BundleStyleModule", "BundleVisionEncoder", "BundleVocoder"]


class _Bundle(Component):
    """A component of an export behind the interface of its slot."""

    part: Any
    """What runs the export."""

    def _make(self, slot: str, bundle: str, providers: Sequence[str], threads: int, **options: Any) -> None:
        make = _class_of(bundle, slot)
        given = {name: value for name, value in options.items() if value is not None}
        unknown = sorted(set(given) - set(inspect.signature(make).parameters))
        if unknown:
            known = ", ".join(sorted(set(options) - set(unknown))) or "none of the kind"
            raise ConfigError(f"the {slot} of `{bundle}` has no option `{unknown[0]}`", f"leave it out; known are {known}")
        self.part = make(bundle, providers=providers, threads=threads, **given)

    def load(self) -> None:
        """Open the graphs. Safe to call again and from several threads."""
        self.part.load()

    def close(self) -> None:
        """Free the graphs."""
        self.part.close()


class BundleVisionEncoder(_Bundle, VisionEncoder):
    """An exported vision encoder, without torch; features are NumPy arrays.

    Args:
        bundle: Folder of an export that holds a ``vision_encoder``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use, and one for nano.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(self, bundle: str, *, providers: Sequence[str] = CPU, threads: int = 0) -> None:
        self._make("vision_encoder", bundle, providers, threads)
        self.features = self.part.features

    def encode(self, images: Sequence[Image]) -> list[VisionFeatures]:
        """Encode each picture."""
        return self.part.encode(images)


class BundleSpeechTokenizer(_Bundle, SpeechTokenizer):
    """An exported speech tokenizer, without torch.

    Args:
        bundle: Folder of an export that holds a ``speech_tokenizer``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use, and one for nano.
        reduced: Of EMOVA's: collapse runs of equal units.
        window_s: Of EMOVA's: longest sound encoded in one piece, in seconds.
        context_s: Of EMOVA's: what a window sees of its neighbours, in seconds.

    Raises:
        LoadError: If the folder is no such export.
        ConfigError: If an option is not one of its family.
    """

    def __init__(
        self,
        bundle: str,
        *,
        providers: Sequence[str] = CPU,
        threads: int = 0,
        reduced: bool | None = None,
        window_s: float | None = None,
        context_s: float | None = None,
    ) -> None:
        options = {"reduced": reduced, "window_s": window_s, "context_s": context_s}
        self._make("speech_tokenizer", bundle, providers, threads, **options)
        self.units, self.sample_rate, self.unit_rate = self.part.units, self.part.sample_rate, self.part.unit_rate

    def encode(self, clips: Sequence[Audio]) -> list[SpeechUnits]:
        """Encode each clip; `InputError` for one of another rate than `sample_rate`."""
        return self.part.encode(clips)

    def stream(self) -> Stream[Audio, SpeechUnits]:
        """Encode sound as it comes in."""
        return self.part.stream()


class BundleLLM(_Bundle, LLMCore):
    """An exported language model, without torch.

    Args:
        bundle: Folder of an export that holds an ``llm_core``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use, and one for nano.
        min_confidence: Of nano's: transcripts below this are declined.
        check_pictures: Of nano's: whether answers about pictures are checked.
        hearing: Of nano's: who writes questions down.
        speech_path: Of nano's: who writes units.
        kept_conversations: Of EMOVA's: conversations whose keys and values are kept.

    Raises:
        LoadError: If the folder is no such export.
        ConfigError: If an option is not one of its family.
    """

    def __init__(
        self,
        bundle: str,
        *,
        providers: Sequence[str] = CPU,
        threads: int = 0,
        min_confidence: float | None = None,
        check_pictures: bool | None = None,
        hearing: Hearing | None = None,
        speech_path: SpeechPath | None = None,
        kept_conversations: int | None = None,
    ) -> None:
        self._make(
            "llm_core",
            bundle,
            providers,
            threads,
            min_confidence=min_confidence,
            check_pictures=check_pictures,
            hearing=hearing,
            speech_path=speech_path,
            kept_conversations=kept_conversations,
        )
        self.units, self.vision = self.part.units, self.part.vision
        self.tools, self.sees_images = self.part.tools, self.part.sees_images

    def generate(
        self,
        messages: Sequence[Message],
        *,
        task: Task = "chat",
        style: Style | None = None,
        tools: Sequence[ToolSpec] = (),
        options: GenerationOptions = GenerationOptions(),
    ) -> Generator[LLMEvent, None, None]:
        """Answer the last message; see `LLMCore.generate`."""
        return self.part.generate(messages, task=task, style=style, tools=tools, options=options)


class BundleStyleModule(_Bundle, StyleModule):
    """An exported style module, without torch.

    Args:
        bundle: Folder of an export that holds a ``style_module``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use, and one for nano.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(self, bundle: str, *, providers: Sequence[str] = CPU, threads: int = 0) -> None:
        self._make("style_module", bundle, providers, threads)
        self.style, self.choices, self.perceives = self.part.style, self.part.choices, self.part.perceives

    def embed(self, styles: Sequence[Style]) -> NDArray[np.float32]:
        """One vector for each style, float32 (styles, ``style.size``)."""
        return self.part.embed(styles)

    def perceive(self, clips: Sequence[Audio]) -> list[PerceivedStyle]:
        """Tell how each clip is spoken."""
        return self.part.perceive(clips)


class BundleVocoder(_Bundle, Vocoder):
    """An exported vocoder, without torch, streaming as the original does.

    Args:
        bundle: Folder of an export that holds a ``vocoder``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use, and one for nano.
        seed: Of EMOVA's: of the noise, which is NumPy's and not that of torch.
        length_scale: Of EMOVA's: multiplies every duration.
        noise_scale: Of EMOVA's: of the sound's noise.
        noise_scale_duration: Of EMOVA's: of the noise in the durations.
        first_frames: Of EMOVA's: length of the first piece of a stream, in frames; each piece is twice as long as the last.
        chunk_frames: Of EMOVA's: longest piece, in frames.

    Raises:
        LoadError: If the folder is no such export.
        ConfigError: If an option is not one of its family.
    """

    def __init__(
        self,
        bundle: str,
        *,
        providers: Sequence[str] = CPU,
        threads: int = 0,
        seed: int | None = None,
        length_scale: float | None = None,
        noise_scale: float | None = None,
        noise_scale_duration: float | None = None,
        first_frames: int | None = None,
        chunk_frames: int | None = None,
    ) -> None:
        self._make(
            "vocoder",
            bundle,
            providers,
            threads,
            seed=seed,
            length_scale=length_scale,
            noise_scale=noise_scale,
            noise_scale_duration=noise_scale_duration,
            first_frames=first_frames,
            chunk_frames=chunk_frames,
        )
        self.units, self.style, self.sample_rate = self.part.units, self.part.style, self.part.sample_rate

    def synthesize(self, units: Sequence[SpeechUnits], styles: NDArray[np.float32]) -> list[Audio]:
        """Speak each sequence in the style of its row, float32 (sequences, ``style.size``)."""
        return self.part.synthesize(units, styles)

    def stream(self, style: NDArray[np.float32]) -> Stream[SpeechUnits, SpeechChunk]:
        """Speak units as they come in one style, float32 (``style.size``,)."""
        return self.part.stream(style)


# --- whose classes run what; imported when they are asked for ---

_CLASSES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("emova", "speech_tokenizer"): ("emova_sdk.components.onnx", "OnnxSpeechTokenizer"),
    ("emova", "vision_encoder"): ("emova_sdk.components.onnx", "OnnxVisionEncoder"),
    ("emova", "style_module"): ("emova_sdk.components.onnx", "OnnxStyleModule"),
    ("emova", "vocoder"): ("emova_sdk.components.onnx", "OnnxVocoder"),
    ("emova", "llm_core"): ("emova_sdk.components.onnx", "OnnxLLMCore"),
    ("nano", "vision_encoder"): ("emova_sdk.components.nano.exported", "ExportedEyes"),
    ("nano", "speech_tokenizer"): ("emova_sdk.components.nano.exported", "ExportedEar"),
    ("nano", "llm_core"): ("emova_sdk.components.nano.exported", "ExportedLLM"),
    ("nano", "style_module"): ("emova_sdk.components.nano.exported", "ExportedStyle"),
    ("nano", "vocoder"): ("emova_sdk.components.nano.exported", "ExportedMouth"),
}


def _class_of(bundle: str, slot: str) -> Callable[..., Any]:
    family = family_of(bundle, slot)
    if (family, slot) not in _CLASSES:
        known = ", ".join(name for name, of in _CLASSES if of == slot)
        raise LoadError(
            f"the {slot} of `{bundle}` is of the family `{family}`", f"what can be run is {known}", path=str(bundle)
        )
    module, name = _CLASSES[family, slot]
    return getattr(import_module(module), name)
