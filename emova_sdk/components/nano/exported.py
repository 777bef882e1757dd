"""Nano's components from an export: the same logic, its networks in ONNX Runtime, no torch.

All take the folder of the export, the execution providers of ONNX Runtime, best first, and the threads within an operator.
0 takes one: in networks this small the pools of several sessions would only wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.exported import Exported, Open, decoder_of, profile_of
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.llm import Hearing, NanoLLM, SpeechPath
from emova_sdk.components.nano.llm_config import FEATURES, LONGEST, Decoder
from emova_sdk.components.nano.networks import Run, in_onnx
from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.components.nano.vocoder import NanoUnitVocoder
from emova_sdk.components.onnx_decoder import DecoderCache, OnnxDecoder, PortableDecoder, RowCache, open_decoder
from emova_sdk.components.onnx_session import exact_products, open_session, run_session

__all__ = ["ExportedEar", "ExportedEyes", "ExportedLLM", "ExportedMouth", "ExportedStyle"]


CPU = ("CPUExecutionProvider",)


def in_runtime(providers: Sequence[str], threads: int) -> Open:
    """Opens graphs with ONNX Runtime."""

    def opened(file: Path, record: Mapping[str, Any]) -> Any:
        options = exact_products(record)
        return open_session(file, providers=providers, threads=threads or 1, options=options, shapes=profile_of(record))

    return opened


class _FromExport:
    """Opens the graphs of an export in the place of weights; offers none itself."""

    exported: Exported

    def graphs(self) -> list[Graph]:
        """None: what is exported is not exported again."""
        return []

    def close(self) -> None:
        """Free the graphs."""
        super().close()  # type: ignore[misc]
        self.exported.close()

    def _open(self) -> Mapping[str, Run]:
        return in_onnx(self.exported)


class ExportedEar(_FromExport, NanoSpeechTokenizer):
    """Nano's speech tokenizer from an export."""

    def __init__(self, bundle: str, *, providers: Sequence[str] = CPU, threads: int = 0) -> None:
        self.exported = Exported(bundle, "speech_tokenizer", ["hearing", "reading"], open=in_runtime(providers, threads))
        super().__init__(path=str(self.exported.assets))


class ExportedEyes(_FromExport, NanoVisionEncoder):
    """Nano's vision encoder from an export; its features are NumPy arrays."""

    def __init__(self, bundle: str, *, providers: Sequence[str] = CPU, threads: int = 0) -> None:
        self.exported = Exported(bundle, "vision_encoder", ["vision"], open=in_runtime(providers, threads))
        super().__init__(path=str(self.exported.assets))

    def _embeddings(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows


class ExportedStyle(_FromExport, NanoStyleModule):
    """Nano's style module from an export."""

    def __init__(self, bundle: str, *, providers: Sequence[str] = CPU, threads: int = 0) -> None:
        self.exported = Exported(bundle, "style_module", ["style"], open=in_runtime(providers, threads))
        super().__init__(path=str(self.exported.assets))


class ExportedMouth(_FromExport, NanoUnitVocoder):
    """Nano's vocoder from an export."""

    def __init__(self, bundle: str, *, providers: Sequence[str] = CPU, threads: int = 0) -> None:
        self.exported = Exported(bundle, "vocoder", ["units", "frames"], open=in_runtime(providers, threads))
        super().__init__(path=str(self.exported.assets))


class _ExportedReader(_FromExport, TextToUnits):
    """Text-to-units from the export of a language model."""

    def __init__(self, exported: Exported) -> None:
        self.exported = exported
        super().__init__(path=str(exported.assets / "text_to_units"))


class ExportedLLM(NanoLLM):
    """Nano's language model from an export."""

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
    ) -> None:
        self._layers = decoder_of(bundle)
        self.exported = Exported(bundle, "llm_core", ["embed", self._layers], open=in_runtime(providers, threads))
        self._bundle, self._runtime = bundle, in_runtime(providers, threads)
        super().__init__(
            path=str(self.exported.assets),
            text_to_units=str(self.exported.assets / "text_to_units"),
            min_confidence=min_confidence,
            check_pictures=check_pictures,
            hearing=hearing,
            speech_path=speech_path,
        )

    def graphs(self) -> list[Graph]:
        """None: what is exported is not exported again."""
        return []

    def close(self) -> None:
        """Free the graphs."""
        super().close()
        self.exported.close()

    def _text_to_units(self, folder: str) -> TextToUnits:  # noqa: ARG002
        graphs = ["reader_phones", "reader_units"]
        return _ExportedReader(Exported(self._bundle, "llm_core", graphs, open=self._runtime))

    def _open(self) -> Decoder:
        sessions = self.exported.open()
        return _Decoder(sessions["embed"], open_decoder(sessions[self._layers]))


class _Decoder:
    """Embeddings and layers of an export: `llm_config.Decoder` over ONNX Runtime."""

    def __init__(self, embed: Any, decoder: OnnxDecoder | PortableDecoder) -> None:
        self._embed, self._decoder = embed, decoder
        ids, nothing = np.arange(self._decoder.vocabulary), np.zeros((0, FEATURES), np.float32)
        parts = [ids[start : start + LONGEST] for start in range(0, len(ids), LONGEST)]
        # Looked up here, a word costs a fraction of a run.
        self._table: NDArray[np.float32] = np.concatenate([self._embedded(part, nothing) for part in parts])

    def _embedded(self, ids: NDArray[np.int64], features: NDArray[np.float32]) -> NDArray[np.float32]:
        return run_session(self._embed, {"ids": ids, "features": features})["embeds"]

    def embed(self, ids: Sequence[int], features: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Embed token ids; see `Decoder.embed`."""
        return self._table[list(ids)] if features is None else self._embedded(np.array(ids, np.int64), features)

    def new_cache(self) -> DecoderCache | RowCache:
        """Keys and values of nothing."""
        return self._decoder.new_cache()

    def run(self, embeds: NDArray[np.float32], cache: Any) -> NDArray[np.float32]:
        """Read on; see `Decoder.run`."""
        return self._decoder.run(embeds, cache)
