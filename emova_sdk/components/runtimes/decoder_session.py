"""Decode with the exported layers of a language model, in either flavour and runtime.

::

    decoder = DecoderSession(open_session("build/llm_core/decoder.onnx"))
    cache = decoder.new_cache()
    logits = decoder.run(embeds, cache)          # reads (rows, width); the cache grows
    earlier = cache.copy(12)                     # the first 12 positions, for a conversation that goes on differently

The session may be shared between threads; a cache belongs to one conversation at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from emova_sdk.components.runtimes.decoder_cache import ROOM, ArrayCache, BoundCache, DecoderSizes, Floats, KeyValueCache
from emova_sdk.components.runtimes.tensorrt_cache import DeviceCache
from emova_sdk.components.runtimes.tensorrt_session import TensorrtSession
from emova_sdk.errors import InputError, LoadError

_CACHES: Mapping[str, type[KeyValueCache]] = {"runtime": BoundCache, "portable": ArrayCache}
"""By the flavour of the graph, over ONNX Runtime."""


class DecoderSession:
    """The graph ``decoder`` or ``decoder_portable`` of a language model.

    Args:
        session: An `onnxruntime.InferenceSession` of it, as `open_session` opens, or a `TensorrtSession`; may be shared.

    Attributes:
        sizes: Width, vocabulary and length.

    Raises:
        LoadError: If the session is of another graph.
    """

    def __init__(self, session: Any) -> None:
        facts: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        sizes = {one.name: facts.get(f"emova.{one.name}", "") for one in fields(DecoderSizes)}
        flavour, engine = facts.get("emova.flavour", ""), isinstance(session, TensorrtSession)
        if flavour not in _CACHES or (engine and flavour != "portable") or not all(one.isdecimal() for one in sizes.values()):
            hint = "open `decoder_portable.engine` of an export" if engine else "open `decoder.onnx` of an export"
            raise LoadError("this is no exported decoder", hint)
        self._session, self.sizes = session, DecoderSizes(**{name: int(size) for name, size in sizes.items()})
        self._cache = DeviceCache if engine else _CACHES[flavour]

    def new_cache(self, capacity: int = ROOM) -> KeyValueCache:
        """An empty cache with room for some positions; more is made when it is needed."""
        return self._cache(self._session, self.sizes, capacity)

    def run(self, embeds: Floats, cache: KeyValueCache) -> Floats:
        """Read new positions and return the logits after the last of them.

        Args:
            embeds: float32 (rows, width).
            cache: What came before; the new positions are added.

        Returns:
            float32 (vocabulary,).

        Raises:
            InputError: If the conversation gets longer than the model reads; the cache stays as it was.
            BackendError: If the run fails.
        """
        width = self.sizes.width
        if embeds.ndim != 2 or embeds.shape[1] != width or not len(embeds):
            raise InputError(f"embeddings have shape {embeds.shape}, not (rows, {width})", "embed the ids first")
        cache.reserve(cache.length + len(embeds))
        logits = cache.read(np.ascontiguousarray(embeds, np.float32))
        cache.length += len(embeds)
        return logits
