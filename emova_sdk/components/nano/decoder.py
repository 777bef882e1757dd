"""The layers of nano's language model, for one conversation at a time: graphs in its folder, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.nano.graph_files import Networks
from emova_sdk.components.nano.llm_config import FEATURES, LONGEST
from emova_sdk.components.runtimes.decoder_cache import KeyValueCache
from emova_sdk.components.runtimes.decoder_session import DecoderSession

Float = NDArray[np.float32]


class Decoder:
    """Embeddings and layers. Safe to share between threads.

    Args:
        networks: Holds the graph ``embed``,
        layers: and one of this name, of either flavour.
    """

    def __init__(self, networks: Networks, layers: str) -> None:
        self._networks, self._decoder = networks, DecoderSession(networks.session(layers))
        ids, nothing = np.arange(self._decoder.sizes.vocabulary), np.zeros((0, FEATURES), np.float32)
        parts = [ids[start : start + LONGEST] for start in range(0, len(ids), LONGEST)]
        # Looked up here, a word costs a fraction of a run.
        self._table: Float = np.concatenate([self._embedded(part, nothing) for part in parts])

    def _embedded(self, ids: NDArray[np.int64], features: Float) -> Float:
        return self._networks.run("embed", ids=ids, features=features)["embeds"]

    def embed(self, ids: Sequence[int], features: Float | None) -> Float:
        """Embed token ids; rows of ``features`` (rows, 128) take the places of the ``<image>`` tokens in order."""
        return self._table[list(ids)] if features is None else self._embedded(np.array(ids, np.int64), features)

    def new_cache(self) -> KeyValueCache:
        """Keys and values of nothing."""
        return self._decoder.new_cache()

    def run(self, embeds: Float, cache: Any) -> Float:
        """Read on, and return the logits (vocabulary,) of what comes next; the cache remembers what was read."""
        return self._decoder.run(embeds, cache)
