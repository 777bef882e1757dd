"""EMOVA's exported components over TensorRT engines: the classes of `onnx` with another runtime.

Each reads a folder that ``emova export tensorrt`` wrote. An engine that was built for another GPU or version is refused with
the command that builds it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emova_sdk.components.emova.exported_llm import ExportedLLM
from emova_sdk.components.emova.exported_style import ExportedStyle
from emova_sdk.components.emova.exported_vision import ExportedVision
from emova_sdk.components.exported import Exported, Open
from emova_sdk.components.exported_speech import VOCODER_GRAPHS, ExportedSpeechTokenizer, ExportedVocoder
from emova_sdk.components.tensorrt_decoder import TensorrtDecoder
from emova_sdk.components.tensorrt_session import open_engine

__all__ = ["TensorrtLLMCore", "TensorrtSpeechTokenizer", "TensorrtStyleModule", "TensorrtVisionEncoder", "TensorrtVocoder"]


def _runtime(device: str) -> Open:
    def opened(file: Path, record: Mapping[str, Any]) -> Any:
        return open_engine(file, record, device=device)

    return opened


class TensorrtSpeechTokenizer(ExportedSpeechTokenizer):
    """Speech to units by the engine of an exported EMOVA tokenizer.

    Args:
        bundle: Folder of engines that holds a ``speech_tokenizer``.
        device: The GPU, as torch names it.
        reduced: Collapse runs of equal units.
        window_s: Longest sound encoded in one piece, in seconds; longer ones are cut as by the original component.
        context_s: What a window sees of its neighbours, in seconds.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(
        self, bundle: str, *, device: str = "cuda", reduced: bool = True, window_s: float = 60.0, context_s: float = 1.0
    ) -> None:
        exported = Exported(bundle, "speech_tokenizer", ["tokenizer"], open=_runtime(device))
        super().__init__(exported, reduced=reduced, window_s=window_s, context_s=context_s)


class TensorrtVocoder(ExportedVocoder):
    """Units to speech by the engines of an exported EMOVA vocoder.

    The noise is NumPy's: a seed gives the same speech every time, but not that of the torch component. The unconditional
    voice (a style of zeros) is not in an export.

    Args:
        bundle: Folder of engines that holds a ``vocoder``.
        device: The GPU, as torch names it.
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
        device: str = "cuda",
        seed: int | None = 0,
        length_scale: float = 1.0,
        noise_scale: float = 0.667,
        noise_scale_duration: float = 0.8,
        first_frames: int = 8,
        chunk_frames: int = 256,
    ) -> None:
        super().__init__(
            Exported(bundle, "vocoder", VOCODER_GRAPHS, open=_runtime(device)),
            seed=seed,
            length_scale=length_scale,
            noise_scale=noise_scale,
            noise_scale_duration=noise_scale_duration,
            first_frames=first_frames,
            chunk_frames=chunk_frames,
        )


class TensorrtLLMCore(ExportedLLM):
    """EMOVA's language model by its engines; conversations are kept on the GPU.

    Args:
        bundle: Folder of engines that holds an ``llm_core``.
        device: The GPU, as torch names it.
        kept_conversations: Conversations whose keys and values are kept.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(self, bundle: str, *, device: str = "cuda", kept_conversations: int = 4) -> None:
        exported = Exported(bundle, "llm_core", ["embed", "decoder_portable"], open=_runtime(device))
        super().__init__(
            exported, decoder=lambda graphs: TensorrtDecoder(graphs["decoder_portable"]), kept_conversations=kept_conversations
        )


class TensorrtVisionEncoder(ExportedVision):
    """EMOVA's eyes by the engine of an exported tower and projector; features are NumPy arrays.

    Args:
        bundle: Folder of engines that holds a ``vision_encoder``.
        device: The GPU, as torch names it.
        cache: Pictures whose features are kept.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(self, bundle: str, *, device: str = "cuda", cache: int = 16) -> None:
        super().__init__(Exported(bundle, "vision_encoder", ["vision"], open=_runtime(device)), cache=cache)


class TensorrtStyleModule(ExportedStyle):
    """EMOVA's styles, voices added from recordings by the engine of an exported encoder.

    Args:
        bundle: Folder of engines that holds a ``style_module``.
        device: The GPU, as torch names it.

    Raises:
        LoadError: If the folder is no such export.
    """

    def __init__(self, bundle: str, *, device: str = "cuda") -> None:
        super().__init__(Exported(bundle, "style_module", ["style_encoder"], open=_runtime(device)))
