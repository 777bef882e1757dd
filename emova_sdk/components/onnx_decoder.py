"""Words from an exported language model, without torch: its layers over ONNX Runtime, one cache for each conversation.

::

    decoder = OnnxDecoder(open_session("build/llm_core/decoder.onnx"))
    cache = decoder.new_cache()
    logits = decoder.run(embeds, cache)          # reads (rows, width); the cache grows
    earlier = cache.copy(12)                     # the first 12 positions, for a conversation that goes on differently

The session may be shared between threads; a cache belongs to one conversation at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import BackendError, InputError, LoadError

__all__ = ["DecoderCache", "OnnxDecoder"]

Floats = NDArray[np.float32]
_ROOM = 256
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class DecoderCache:
    """Keys and values of one conversation, in buffers that a graph reads and writes in place; they grow by doubling.

    Attributes:
        length: Positions that are filled.
    """

    def __init__(self, layout: _Layout, capacity: int) -> None:
        self.length = 0
        self._layout = layout
        self.capacity = min(capacity, layout.longest)
        self.buffers = {name: layout.empty(self.capacity) for name in layout.names}
        self._bound: Any = None

    def binding(self, session: Any) -> Any:
        """A binding of the session with all buffers bound, kept until they are other ones."""
        if self._bound is None:
            self._bound = session.io_binding()
            for name, value in self.buffers.items():
                self._bound.bind_ortvalue_input(name, value)
                self._bound.bind_ortvalue_output(f"new_{name}", value)
        return self._bound

    def copy(self, length: int) -> DecoderCache:
        """The first `length` positions, in buffers of their own."""
        if not 0 <= length <= self.length:
            raise InputError(f"{length} positions of a cache of {self.length}", "0 <= length <= cache.length")
        twin = DecoderCache(self._layout, max(_ROOM, 2 * length))
        twin.buffers = {name: self._moved(value, length, twin.capacity) for name, value in self.buffers.items()}
        twin.length = length
        return twin

    def crop(self, length: int) -> None:
        """Forget all positions from `length` on."""
        if not 0 <= length <= self.length:
            raise InputError(f"{length} positions of a cache of {self.length}", "0 <= length <= cache.length")
        self.length = length

    def reserve(self, length: int) -> None:
        """Make room for `length` positions.

        Raises:
            InputError: If the model does not read that many.
        """
        if length > self._layout.longest:
            hint = "start a new session, or shorten what is asked"
            raise InputError(f"the conversation has {length} tokens, and the model reads {self._layout.longest}", hint)
        if length <= self.capacity:
            return
        self.capacity = min(max(length, 2 * self.capacity), self._layout.longest)
        self.buffers = {name: self._moved(value, self.length, self.capacity) for name, value in self.buffers.items()}
        self._bound = None

    def _moved(self, buffer: Any, length: int, capacity: int) -> Any:
        """A buffer of another size with the same first positions."""
        grown = self._layout.array(capacity)
        grown[:, :, :length] = buffer.numpy()[:, :, :length]
        return self._layout.on_device(grown)


class _Layout:
    """What the caches of one graph look like, and where they are."""

    def __init__(self, session: Any, *, longest: int, device: str) -> None:
        import onnxruntime

        inputs = {one.name: one for one in session.get_inputs()}
        first = inputs["key_0"]
        self.names = [name for name in inputs if name.startswith(("key_", "value_"))]
        self.longest, self.device = longest, device
        self._heads, self._size, self._dtype = first.shape[1], first.shape[3], _TYPES[first.type]
        self._value = onnxruntime.OrtValue

    def array(self, capacity: int) -> NDArray[Any]:
        return np.zeros((1, self._heads, capacity, self._size), self._dtype)

    def on_device(self, array: NDArray[Any]) -> Any:
        return self._value.ortvalue_from_numpy(array, self.device, 0)

    def empty(self, capacity: int) -> Any:
        return self.on_device(self.array(capacity))


class OnnxDecoder:
    """The graph ``decoder`` of a language model.

    Args:
        session: An `onnxruntime.InferenceSession` of it, as `open_session` opens; may be shared.

    Attributes:
        width: Of the embeddings.
        vocabulary: Number of logits.
        longest: Most positions of a conversation.

    Raises:
        LoadError: If the session is of another graph.
    """

    def __init__(self, session: Any) -> None:
        facts: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        if facts.get("emova.flavour") != "runtime":
            hint = "open the file `decoder.onnx` of an export"
            raise LoadError("this is no exported decoder for ONNX Runtime", hint)
        self.width, self.vocabulary = int(facts["emova.width"]), int(facts["emova.vocabulary"])
        self.longest = int(facts["emova.longest"])
        self._session = session
        device = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
        self._layout = _Layout(session, longest=self.longest, device=device)

    def new_cache(self, capacity: int = _ROOM) -> DecoderCache:
        """An empty cache with room for some positions; more is made when it is needed."""
        return DecoderCache(self._layout, max(1, capacity))

    def run(self, embeds: Floats, cache: DecoderCache) -> Floats:
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
        if embeds.ndim != 2 or embeds.shape[1] != self.width or not len(embeds):
            raise InputError(f"embeddings have shape {embeds.shape}, not (rows, {self.width})", "embed the ids first")
        cache.reserve(cache.length + len(embeds))
        logits = np.empty(self.vocabulary, np.float32)
        binding = cache.binding(self._session)
        binding.bind_cpu_input("embeds", np.ascontiguousarray(embeds, np.float32))
        binding.bind_cpu_input("past", np.array([cache.length], np.int32))
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise BackendError(f"an exported decoder failed: {str(error).splitlines()[0]}", "export it again") from error
        cache.length += len(embeds)
        return logits
