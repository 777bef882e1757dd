"""Words from a language model's engine: its cache stays on the GPU, where each step writes its new positions in place.

It does what `onnx_decoder.OnnxDecoder` does, with the flavour ``portable`` of the graph: that gives only the keys and values of
the new positions, and their place is right behind those that were read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.onnx_decoder import RowCache
from emova_sdk.components.tensorrt_session import Placed, TensorrtSession
from emova_sdk.errors import InputError, LoadError

__all__ = ["DeviceCache", "TensorrtDecoder"]

Floats = NDArray[np.float32]
_ROOM = 256
_ALIGNMENT = 256
"""Bytes to which TensorRT wants addresses aligned."""


class DeviceCache(RowCache):
    """Keys and values of one conversation on the GPU."""

    def empty(self, like: Any, capacity: int) -> Any:
        """A tensor of the kind and on the device of another one."""
        return like.new_zeros((capacity, *like.shape[1:]))


class TensorrtDecoder:
    """The engine ``decoder_portable`` of a language model.

    Args:
        session: Its engine; may be shared.

    Attributes:
        width: Of the embeddings.
        vocabulary: Number of logits.
        longest: Most positions of a conversation.

    Raises:
        LoadError: If the engine is of another graph.
    """

    def __init__(self, session: TensorrtSession) -> None:
        facts = session.facts
        if facts.get("flavour") != "portable":
            raise LoadError("this is no engine of a decoder", "open the engine `decoder_portable` of an export")
        self.width, self.vocabulary, self.longest = (int(facts[name]) for name in ("width", "vocabulary", "longest"))
        self._row = (int(facts["kv_heads"]), int(facts["head_size"]))
        self._session, self._device = session, session.device
        self._types = {value.name: value.type for value in session.get_inputs()}
        self._names = [name for name in self._types if name != "embeds"]

    def new_cache(self, capacity: int = _ROOM) -> DeviceCache:
        """An empty cache with room for some positions; more is made when it is needed."""
        import torch

        room = max(1, min(capacity, self.longest))
        kinds = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}
        return DeviceCache(
            {name: torch.zeros((room, *self._row), dtype=kinds[self._types[name]], device=self._device) for name in self._names}
        )

    def run(self, embeds: Floats, cache: DeviceCache) -> Floats:
        """Read new positions and return the logits after the last of them.

        Args:
            embeds: float32 (rows, width).
            cache: What came before; the new positions are added.

        Returns:
            float32 (vocabulary,).

        Raises:
            InputError: If the conversation gets longer than the model reads; the cache stays as it was.
            BackendError: If the engine fails.
        """
        import torch

        if embeds.ndim != 2 or embeds.shape[1] != self.width or not len(embeds):
            raise InputError(f"embeddings have shape {embeds.shape}, not (rows, {self.width})", "embed the ids first")
        rows, past = len(embeds), cache.length
        cache.reserve(past + rows, self.longest)
        read = torch.from_numpy(np.ascontiguousarray(embeds, np.float32)).to(self._device)
        logits = torch.empty(self.vocabulary, device=self._device)
        inputs = {"embeds": Placed(read, (rows, self.width))}
        inputs |= {name: Placed(buffer, (past, *self._row)) for name, buffer in cache.buffers.items()}
        written = {name: self._behind(buffer, past, rows) for name, buffer in cache.buffers.items()}
        outputs = {"logits": Placed(logits, (self.vocabulary,))}
        self._session.run_in_place(inputs, outputs | {f"new_{name}": place for name, place in written.items()})
        for name, place in written.items():
            if place.tensor is not cache.buffers[name]:
                cache.buffers[name][past : past + rows] = place.tensor
        cache.length += rows
        return logits.cpu().numpy()

    def _behind(self, buffer: Any, past: int, rows: int) -> Placed:
        """Where new positions go: right behind the old ones, or where that is not aligned into memory of their own."""
        shape = (rows, *self._row)
        offset = past * self._row[0] * self._row[1] * buffer.element_size()
        return Placed(buffer.new_empty(shape), shape) if offset % _ALIGNMENT else Placed(buffer, shape, offset)
