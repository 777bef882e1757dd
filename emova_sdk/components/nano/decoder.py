"""Nano's language model, run by ONNX Runtime from the graphs in its folder, and constrained decoding with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import GenerationOptions
from emova_sdk.components.nano.llm_config import FEATURES, LONGEST
from emova_sdk.components.runtimes.decoder_cache import KeyValueCache
from emova_sdk.components.runtimes.decoder_session import DecoderSession
from emova_sdk.components.runtimes.graph_sessions import GraphSessions
from emova_sdk.errors import InputError

Float = NDArray[np.float32]


class NanoDecoder:
    """Embeddings and layers. Safe to share between threads.

    Args:
        networks: Holds the graph ``embed``,
        layers: and one of this name, of either flavour.
    """

    def __init__(self, networks: GraphSessions, layers: str) -> None:
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


class ConstrainedDecoder:
    """Reads and writes one sequence; each token is chosen among those that may stand in its place.

    Args:
        decoder: The model.
        allowed: Ids of the tokens that may stand in each kind of place.
        image: Id of ``<image>``, in whose places the picture's features are read.
        picture: Features, float32 (rows, 128).
        options: Sampling.
    """

    def __init__(
        self,
        decoder: NanoDecoder,
        allowed: Mapping[str, NDArray[np.int64]],
        *,
        image: int,
        picture: Float | None,
        options: GenerationOptions,
    ) -> None:
        self._decoder, self._allowed, self._image = decoder, allowed, image
        self._picture, self._options = picture, options
        self._cache: Any = None
        self._unread: list[int] = []
        self._rng = np.random.default_rng(options.seed or 0) if options.temperature > 0 else None
        self.length = 0

    def read(self, ids: Sequence[int]) -> None:
        """Read tokens, picture features in the places of ``<image>``.

        The model runs when something is to be written behind them: once for all that was read since, never for an end.
        """
        if self.length + len(ids) > LONGEST:
            raise InputError(f"the request is longer than {LONGEST} tokens", "say less at once")
        self._unread += ids
        self.length += len(ids)

    def write(self, kind: str, *, also: Sequence[int] = ()) -> tuple[int, float]:
        """Choose the next token among those that may stand here, read it, and return it with its log-probability."""
        if not self._unread or self.length >= LONGEST:
            raise InputError(f"the answer is longer than {LONGEST} tokens", "ask for less at once")
        logits = self._run()
        allowed = self._allowed[kind] if kind in self._allowed else np.array(also)
        number = int(allowed[self._choose(logits[allowed])])
        highest = logits.max()
        log_probability = float(logits[number] - highest - np.log(np.exp(logits - highest).sum()))
        self.read([number])
        return number, log_probability

    def _run(self) -> Float:
        pictures = self._picture if self._image in self._unread else None
        self._cache = self._cache or self._decoder.new_cache()
        embeds = self._decoder.embed(self._unread, pictures)
        self._unread = []
        return self._decoder.run(embeds, self._cache)

    def _choose(self, scores: Float) -> int:
        if self._rng is None:
            return int(scores.argmax())
        odds = np.exp((scores - scores.max()).astype(np.float64) / self._options.temperature)
        odds /= odds.sum()
        order = np.argsort(-odds, kind="stable")
        before = odds[order].cumsum() - odds[order]
        likely = np.where(before < self._options.top_p, odds[order], 0)
        return int(self._rng.choice(order, p=likely / likely.sum()))
