"""Nano's components from an export: the same logic, its networks in the export's runtime, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.decoder_cache import KeyValueCache
from emova_sdk.components.decoder_session import DecoderSession
from emova_sdk.components.exported import ExportFolder
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.llm_config import FEATURES, LONGEST, Decoder
from emova_sdk.components.nano.networks import Run, in_onnx
from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.components.nano.vocoder import NanoUnitVocoder

__all__ = [
    "ExportedNanoLLM",
    "ExportedNanoStyle",
    "ExportedNanoTokenizer",
    "ExportedNanoVisionEncoder",
    "ExportedNanoVocoder",
]


class _FromExport:
    """Runs the graphs of an export in place of those of a component's own files; offers none itself."""

    needs: ClassVar[tuple[str, ...]]
    """Names of its graphs."""
    place: ClassVar[str] = ""
    """Where its other files lie within those of the export."""

    def __init__(self, exported: ExportFolder, **options: Any) -> None:
        for name in self.needs:
            exported.choose(name)
        self.exported = exported
        super().__init__(path=str(exported.assets / self.place), **options)  # type: ignore[call-arg] # of the same component

    def graphs(self) -> list[Graph]:
        """None: what is exported is not exported again."""
        return []

    def close(self) -> None:
        """Free the graphs."""
        super().close()  # type: ignore[misc] # of the component it is mixed into
        self.exported.close()

    def _open(self) -> Mapping[str, Run]:
        return in_onnx(self.exported, self.needs)


class ExportedNanoTokenizer(_FromExport, NanoSpeechTokenizer):
    """Nano's speech tokenizer from an export."""

    needs = ("hearing", "reading")


class ExportedNanoVisionEncoder(_FromExport, NanoVisionEncoder):
    """Nano's vision encoder from an export; its features are NumPy arrays."""

    needs = ("vision",)

    def _embeddings(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows


class ExportedNanoStyle(_FromExport, NanoStyleModule):
    """Nano's style module from an export."""

    needs = ("style",)


class ExportedNanoVocoder(_FromExport, NanoUnitVocoder):
    """Nano's vocoder from an export."""

    needs = ("units", "frames")


class _ExportedReader(_FromExport, TextToUnits):
    """Text-to-units from the export of a language model."""

    needs, place = ("reader_phones", "reader_units"), "text_to_units"


class ExportedNanoLLM(_FromExport, NanoLLM):
    """Nano's language model from an export."""

    needs = ("embed",)

    def __init__(self, exported: ExportFolder, **options: Any) -> None:
        self._layers = exported.choose("decoder", "decoder_portable")
        super().__init__(exported, text_to_units=str(exported.assets / _ExportedReader.place), **options)

    def _text_to_units(self, folder: str) -> TextToUnits:  # noqa: ARG002 - it lies in the export
        return _ExportedReader(self.exported)

    def _open(self) -> Decoder:  # type: ignore[override] # the layers are run step by step, not as networks
        self.exported.open("embed", self._layers)
        return _ExportedDecoder(self.exported, DecoderSession(self.exported.session(self._layers)))


class _ExportedDecoder:
    """Embeddings and layers of an export as a `llm_config.Decoder`."""

    def __init__(self, exported: ExportFolder, decoder: DecoderSession) -> None:
        self._exported, self._decoder = exported, decoder
        ids, nothing = np.arange(decoder.sizes.vocabulary), np.zeros((0, FEATURES), np.float32)
        parts = [ids[start : start + LONGEST] for start in range(0, len(ids), LONGEST)]
        # Looked up here, a word costs a fraction of a run.
        self._table: NDArray[np.float32] = np.concatenate([self._embedded(part, nothing) for part in parts])

    def _embedded(self, ids: NDArray[np.int64], features: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._exported.run("embed", ids=ids, features=features)["embeds"]

    def embed(self, ids: Sequence[int], features: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Embed token ids; see `Decoder.embed`."""
        return self._table[list(ids)] if features is None else self._embedded(np.array(ids, np.int64), features)

    def new_cache(self) -> KeyValueCache:
        """An empty cache."""
        return self._decoder.new_cache()

    def run(self, embeds: NDArray[np.float32], cache: Any) -> NDArray[np.float32]:
        """Read on; see `Decoder.run`."""
        return self._decoder.run(embeds, cache)
