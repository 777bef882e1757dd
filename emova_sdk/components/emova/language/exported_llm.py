"""EMOVA's language model from an export, without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import Space
from emova_sdk.components.emova.language.generation import as_floats
from emova_sdk.components.emova.language.language_model import EmovaLLMBase, ModelInfo
from emova_sdk.components.emova.language.prompts import IMAGE_ID
from emova_sdk.components.emova.language.templates import template
from emova_sdk.components.emova.language.text_tokenizer import TextTokenizer
from emova_sdk.components.runtimes.decoder_session import DecoderSession
from emova_sdk.components.runtimes.export_folder import ExportFolder
from emova_sdk.errors import LoadError
from emova_sdk.types import VisionFeatures

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _ExportedEngine:
    """Graphs in memory."""

    exported: ExportFolder
    decoder: DecoderSession
    image_token: int

    def new_cache(self) -> Any:
        """An empty cache."""
        return self.decoder.new_cache()

    def embed(self, ids: Sequence[int], features: Sequence[VisionFeatures]) -> Floats:
        """Embeddings (ids, width); an id of `IMAGE_ID` takes the next row of the features."""
        places = np.array([self.image_token if one == IMAGE_ID else one for one in ids], np.int64)
        empty = np.zeros((0, self.exported.number("features_width")), np.float32)
        rows = np.concatenate([empty, *(as_floats(one.embeddings) for one in features)])
        return self.exported.run("embed", ids=places, features=rows)["embeds"]

    def read(self, embeds: Floats, cache: Any) -> Floats:
        """Logits (vocabulary,)."""
        return self.decoder.run(embeds, cache)

    def head(self, ids: Sequence[int] | None) -> Callable[[Floats], Floats]:
        """What takes logits from a state, which they are: those of these tokens, or of all but the picture's."""

        def logits_of(state: Floats) -> Floats:
            if ids is not None:
                return state[ids]
            if self.image_token < len(state):
                state[self.image_token] = -np.inf
            return state

        return logits_of


class ExportedLLM(EmovaLLMBase):
    """EMOVA's language model from an export: the same conversations, caches and events as `EmovaLLM`.

    Template, wording and the way earlier turns are written are those of the component that was exported.

    Args:
        exported: An export with the graphs ``embed`` and ``decoder`` or ``decoder_portable``.
        kept_conversations: Conversations whose keys and values are kept.

    Raises:
        LoadError: If the export lacks its tokenizer or facts, or they are broken.
    """

    def __init__(self, exported: ExportFolder, *, kept_conversations: int = 4) -> None:
        self.exported, self._graphs = exported, (exported.choose("embed"), exported.choose("decoder", "decoder_portable"))
        path = exported.assets / "llm.json"
        try:
            told = json.loads(path.read_text("utf-8"))
            tokenizer = TextTokenizer(exported.assets / "tokenizer.json", bos_token_id=told["bos_token_id"])
            info = ModelInfo(
                tokenizer,
                template(told["template"]),
                tuple(int(one) for one in told["stops"]),
                int(told["longest"]),
                str(told["unit_space"]),
                Space(*told["vision"]) if told["vision"] else None,
            )
            self._image_token = int(told["image_token"])
            wording, history = told["wording"], told["history"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LoadError(f"`{path}` does not describe a language model: {error}", "export again", path=str(path)) from error
        super().__init__(info, wording=wording, history=history, kept_conversations=kept_conversations)
        self._engine: _ExportedEngine | None = None

    def load(self) -> None:
        """Open the graphs. Safe to call again and from several threads."""
        if self._engine is None:
            self.exported.open(*self._graphs)
            decoder = DecoderSession(self.exported.session(self._graphs[1]))
            self._engine = _ExportedEngine(self.exported, decoder, self._image_token)

    def close(self) -> None:
        """Free the graphs and the kept conversations."""
        self._engine = None
        self.exported.close()
        self._caches.clear()

    def _loaded(self) -> _ExportedEngine:
        self.load()
        return cast("_ExportedEngine", self._engine)
