"""Key-value caches of exported decoders over ONNX Runtime, one for each conversation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.runtimes.onnx_session import run_session
from emova_sdk.errors import BackendError, ContextLengthError, InputError

Floats = NDArray[np.float32]
ROOM = 256
"""Positions there is room for at first."""
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes of a decoder graph, as its metadata give them.

    Attributes:
        width: Of the embeddings.
        vocabulary: Number of logits.
        longest: Most positions of a conversation.
        kv_heads: Heads of keys and values.
        head_size: Numbers in each.
    """

    width: int
    vocabulary: int
    longest: int
    kv_heads: int
    head_size: int


class KeyValueCache(ABC):
    """Keys and values of one conversation, in buffers that grow by doubling.

    Args:
        session: The decoder's; may be shared.
        sizes: Of the decoder.
        capacity: Positions there is room for.

    Attributes:
        length: Positions that are filled.
    """

    def __init__(self, session: Any, sizes: DecoderSizes, capacity: int = ROOM) -> None:
        self.session, self.sizes, self.length = session, sizes, 0
        self.capacity = max(1, min(capacity, sizes.longest))
        kinds = {one.name: one.type for one in session.get_inputs() if one.name.startswith(("key_", "value_"))}
        self.buffers: dict[str, Any] = {name: self.empty(kind, self.capacity) for name, kind in kinds.items()}

    @abstractmethod
    def empty(self, kind: str, capacity: int) -> Any:
        """A buffer of a type of ONNX Runtime, e.g. ``tensor(float)``."""

    @abstractmethod
    def moved(self, buffer: Any, length: int, capacity: int) -> Any:
        """A buffer of another capacity with the same first positions."""

    @abstractmethod
    def read(self, embeds: Floats) -> Floats:
        """Run the decoder on new positions, write their keys and values behind `length`, and return the logits."""

    def copy(self, length: int) -> Self:
        """The first `length` positions, in buffers of their own."""
        self._require(length)
        twin = type(self)(self.session, self.sizes, max(ROOM, 2 * length))
        twin.buffers = {name: self.moved(value, length, twin.capacity) for name, value in self.buffers.items()}
        twin.length = length
        return twin

    def crop(self, length: int) -> None:
        """Forget all positions from `length` on."""
        self._require(length)
        self.length = length

    def reserve(self, length: int) -> None:
        """Make room for `length` positions.

        Raises:
            ContextLengthError: If the model does not read that many.
        """
        longest = self.sizes.longest
        if length > longest:
            message = f"the conversation has {length} tokens, and the model reads {longest}"
            hint = "leave out the oldest messages, or shorten what is asked"
            raise ContextLengthError(message, hint, tokens=length, limit=longest)
        if length > self.capacity:
            self.capacity = min(max(length, 2 * self.capacity), longest)
            self.buffers = {name: self.moved(value, self.length, self.capacity) for name, value in self.buffers.items()}

    def _require(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise InputError(f"{length} positions of a cache of {self.length}", "0 <= length <= cache.length")


class BoundCache(KeyValueCache):
    """Buffers (1, kv_heads, capacity, head_size) that ONNX Runtime's own attention reads and writes in place."""

    _binding: Any = None
    _bound: dict[str, Any] | None = None

    def empty(self, kind: str, capacity: int) -> Any:
        return self._on_device(np.zeros((1, self.sizes.kv_heads, capacity, self.sizes.head_size), _TYPES[kind]))

    def moved(self, buffer: Any, length: int, capacity: int) -> Any:
        kept = buffer.numpy()
        grown = np.zeros((*kept.shape[:2], capacity, kept.shape[3]), kept.dtype)
        grown[:, :, :length] = kept[:, :, :length]
        return self._on_device(grown)

    def _on_device(self, array: NDArray[Any]) -> Any:
        import onnxruntime

        device = "cuda" if "CUDAExecutionProvider" in self.session.get_providers() else "cpu"
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0)

    def read(self, embeds: Floats) -> Floats:
        logits, binding = np.empty(self.sizes.vocabulary, np.float32), self._bind()
        binding.bind_cpu_input("embeds", embeds)
        binding.bind_cpu_input("past", np.array([self.length], np.int32))
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        try:
            self.session.run_with_iobinding(binding)
        except Exception as error:
            raise BackendError(f"an exported decoder failed: {str(error).splitlines()[0]}", "export it again") from error
        return logits

    def _bind(self) -> Any:
        """A binding of the session with all buffers bound, kept until they are other ones."""
        if self._bound is not self.buffers:
            self._binding, self._bound = self.session.io_binding(), self.buffers
            for name, value in self.buffers.items():
                self._binding.bind_ortvalue_input(name, value)
                self._binding.bind_ortvalue_output(f"new_{name}", value)
        return self._binding


class ArrayCache(KeyValueCache):
    """Arrays (capacity, kv_heads, head_size) of the portable flavour, which returns the keys and values of new positions.

    A little slower than `BoundCache`: ONNX Runtime has no kernel of its own for that attention.
    """

    def empty(self, kind: str, capacity: int) -> Any:
        return np.zeros((capacity, self.sizes.kv_heads, self.sizes.head_size), _TYPES[kind])

    def moved(self, buffer: Any, length: int, capacity: int) -> Any:
        grown = np.zeros((capacity, *buffer.shape[1:]), buffer.dtype)
        grown[:length] = buffer[:length]
        return grown

    def read(self, embeds: Floats) -> Floats:
        past, end = self.length, self.length + len(embeds)
        known = {name: buffer[:past] for name, buffer in self.buffers.items()}
        found = run_session(self.session, {"embeds": embeds, **known})
        for name, buffer in self.buffers.items():
            buffer[past:end] = found[f"new_{name}"]
        return found["logits"]
