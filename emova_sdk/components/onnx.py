"""Exported components over ONNX Runtime: an install without torch hears, sees, thinks and speaks with these.

Each reads a folder that ``emova export onnx`` wrote; the facts it needs are in the manifest's metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emova_sdk.components.base import GenerationOptions, LLMCore, StyleModule, Task, VisionEncoder
from emova_sdk.components.exported import Exported, Open, decoder_of, family_of, profile_of
from emova_sdk.components.exported_speech import VOCODER_GRAPHS, ExportedSpeechTokenizer, ExportedVocoder
from emova_sdk.components.onnx_decoder import open_decoder
from emova_sdk.components.onnx_session import exact_products, open_session
from emova_sdk.errors import LoadError
from emova_sdk.types import Audio, Image, LLMEvent, Message, PerceivedStyle, Style, ToolSpec, VisionFeatures

__all__ = ["OnnxLLMCore", "OnnxSpeechTokenizer", "OnnxStyleModule", "OnnxVisionEncoder", "OnnxVocoder"]

_CPU = ("CPUExecutionProvider",)


def _runtime(providers: Sequence[str], threads: int) -> Open:
    def opened(file: Path, record: Mapping[str, Any]) -> Any:
        if "engine" in record:
            raise LoadError(f"`{file.name}` is a TensorRT engine", "run it with `tensorrt`", path=str(file))
        options = exact_products(record)
        return open_session(file, providers=providers, threads=threads, options=options, shapes=profile_of(record))

    return opened


class OnnxSpeechTokenizer(ExportedSpeechTokenizer):
    """Speech to units by an exported EMOVA tokenizer, without torch.

    Args:
        bundle: Folder of an export that holds a ``speech_tokenizer``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use.
        reduced: Collapse runs of equal units.
        window_s: Longest sound encoded in one piece, in seconds; longer ones are cut as by the original component.
        context_s: What a window sees of its neighbours, in seconds.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(
        self,
        bundle: str,
        *,
        providers: Sequence[str] = _CPU,
        threads: int = 0,
        reduced: bool = True,
        window_s: float = 60.0,
        context_s: float = 1.0,
    ) -> None:
        exported = Exported(bundle, "speech_tokenizer", ["tokenizer"], open=_runtime(providers, threads))
        super().__init__(exported, reduced=reduced, window_s=window_s, context_s=context_s)


class OnnxVocoder(ExportedVocoder):
    """Units to speech by an exported EMOVA vocoder, without torch, streaming as the original does.

    The noise is NumPy's: a seed gives the same speech every time, but not that of the torch component. The unconditional
    voice (a style of zeros) is not in an export.

    Args:
        bundle: Folder of an export that holds a ``vocoder``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use.
        seed: Of the noise; None draws anew each time.
        length_scale: Multiplies every duration.
        noise_scale: Of the sound's noise.
        noise_scale_duration: Of the noise in the durations.
        first_frames: Length of the first piece of a stream, in frames; each piece is twice as long as the one before.
        chunk_frames: Longest piece, in frames.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(
        self,
        bundle: str,
        *,
        providers: Sequence[str] = _CPU,
        threads: int = 0,
        seed: int | None = 0,
        length_scale: float = 1.0,
        noise_scale: float = 0.667,
        noise_scale_duration: float = 0.8,
        first_frames: int = 8,
        chunk_frames: int = 256,
    ) -> None:
        super().__init__(
            Exported(bundle, "vocoder", VOCODER_GRAPHS, open=_runtime(providers, threads)),
            seed=seed,
            length_scale=length_scale,
            noise_scale=noise_scale,
            noise_scale_duration=noise_scale_duration,
            first_frames=first_frames,
            chunk_frames=chunk_frames,
        )


class OnnxLLMCore(LLMCore):
    """An exported language model, without torch. Whose it is stands in the export; it reads and writes as its original does.

    Args:
        bundle: Folder of an export that holds an ``llm_core``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use.
        kept_conversations: Conversations whose keys and values are kept, for a model that reads whole conversations.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(self, bundle: str, *, providers: Sequence[str] = _CPU, threads: int = 0, kept_conversations: int = 4) -> None:
        make = _of_family(_LLMS, bundle, "llm_core")
        self._core = make(bundle, _runtime(providers, threads), kept_conversations)
        self.units, self.vision = self._core.units, self._core.vision
        self.tools, self.sees_images = self._core.tools, self._core.sees_images

    def load(self) -> None:
        """Open the graphs. Safe to call again and from several threads."""
        self._core.load()

    def close(self) -> None:
        """Free the graphs and what is kept of conversations."""
        self._core.close()

    def generate(
        self,
        messages: Sequence[Message],
        *,
        task: Task = "chat",
        style: Style | None = None,
        tools: Sequence[ToolSpec] = (),
        options: GenerationOptions = GenerationOptions(),
    ) -> Generator[LLMEvent, None, None]:
        """Answer the last message, as events while they are written; see `LLMCore.generate`."""
        return self._core.generate(messages, task=task, style=style, tools=tools, options=options)


class OnnxVisionEncoder(VisionEncoder):
    """An exported vision encoder, without torch; its features are NumPy arrays.

    Args:
        bundle: Folder of an export that holds a ``vision_encoder``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use.
        cache: Pictures whose features are kept.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(self, bundle: str, *, providers: Sequence[str] = _CPU, threads: int = 0, cache: int = 16) -> None:
        make = _of_family(_EYES, bundle, "vision_encoder")
        self._eyes: VisionEncoder = make(bundle, _runtime(providers, threads), cache)
        self.features = self._eyes.features

    def load(self) -> None:
        """Open the graph. Safe to call again and from several threads."""
        self._eyes.load()

    def close(self) -> None:
        """Free the graph and the kept features."""
        self._eyes.close()

    def encode(self, images: Sequence[Image]) -> list[VisionFeatures]:
        """Encode each picture; see `VisionEncoder.encode`."""
        return self._eyes.encode(images)


class OnnxStyleModule(StyleModule):
    """Exported styles, without torch.

    Args:
        bundle: Folder of an export that holds a ``style_module``.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes all this process may use.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(self, bundle: str, *, providers: Sequence[str] = _CPU, threads: int = 0) -> None:
        make = _of_family(_STYLES, bundle, "style_module")
        self._styles: StyleModule = make(bundle, _runtime(providers, threads))
        self.style, self.choices = self._styles.style, self._styles.choices

    def load(self) -> None:
        """Open the graph. Safe to call again and from several threads."""
        self._styles.load()

    def close(self) -> None:
        """Free the graph."""
        self._styles.close()

    def embed(self, styles: Sequence[Style]) -> Any:
        """Return one vector for each style; see `StyleModule.embed`."""
        return self._styles.embed(styles)

    def perceive(self, clips: Sequence[Audio]) -> list[PerceivedStyle]:
        """Hear how something is said; see `StyleModule.perceive`."""
        return self._styles.perceive(clips)


def _emova_llm(bundle: str, opened: Open, kept: int) -> LLMCore:
    from emova_sdk.components.emova.exported_llm import ExportedLLM

    layers = decoder_of(bundle)
    exported = Exported(bundle, "llm_core", ["embed", layers], open=opened)
    return ExportedLLM(exported, decoder=lambda graphs: open_decoder(graphs[layers]), kept_conversations=kept)


_LLMS: dict[str, Callable[[str, Open, int], LLMCore]] = {"emova": _emova_llm}
"""Family of an export to what makes its language model of a folder, a runtime and the number of kept conversations."""


def _emova_eyes(bundle: str, opened: Open, cache: int) -> VisionEncoder:
    from emova_sdk.components.emova.exported_vision import ExportedVision

    return ExportedVision(Exported(bundle, "vision_encoder", ["vision"], open=opened), cache=cache)


_EYES: dict[str, Callable[[str, Open, int], VisionEncoder]] = {"emova": _emova_eyes}


def _emova_styles(bundle: str, opened: Open) -> StyleModule:
    from emova_sdk.components.emova.exported_style import ExportedStyle

    return ExportedStyle(Exported(bundle, "style_module", ["style_encoder"], open=opened))


_STYLES: dict[str, Callable[[str, Open], StyleModule]] = {"emova": _emova_styles}


def _of_family(makers: Mapping[str, Any], bundle: str, slot: str) -> Any:
    family = family_of(bundle, slot)
    if family not in makers:
        known = ", ".join(makers)
        raise LoadError(f"the {slot} of `{bundle}` is of the family `{family}`", f"export one of: {known}", path=bundle)
    return makers[family]
