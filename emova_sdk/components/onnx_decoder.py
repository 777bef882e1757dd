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
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.onnx_session import run_session
from emova_sdk.errors import BackendError, ContextLengthError, InputError, LoadError

__all__ = ["DecoderCache", "OnnxDecoder", "PortableDecoder", "RowCache", "open_decoder"]

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
            ContextLengthError: If the model does not read that many.
        """
        if length > self._layout.longest:
            message = f"the conversation has {length} tokens, and the model reads {self._layout.longest}"
            hint = "leave out the oldest messages, or shorten what is asked"
            raise ContextLengthError(message, hint, tokens=length, limit=self._layout.longest)
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
        facts = _facts(session, "runtime", "decoder.onnx")
        self.width, self.vocabulary, self.longest = facts["width"], facts["vocabulary"], facts["longest"]
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
        _check_rows(embeds, self.width)
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


# --- the portable flavour ---


class RowCache:
    """Keys and values of one conversation, arrays of (capacity, kv_heads, head_size) that grow by doubling.

    Attributes:
        length: Positions that are filled.
    """

    def __init__(self, buffers: Mapping[str, Any], length: int = 0) -> None:
        self.buffers, self.length = dict(buffers), length

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return int(next(iter(self.buffers.values())).shape[0])

    def copy(self, length: int) -> Self:
        """The first `length` positions, in buffers of their own."""
        self._require(length)
        return type(self)({name: self._grown(buffer, length, self.capacity) for name, buffer in self.buffers.items()}, length)

    def crop(self, length: int) -> None:
        """Forget all positions from `length` on."""
        self._require(length)
        self.length = length

    def reserve(self, length: int, longest: int) -> None:
        """Make room for `length` positions, of at most `longest`.

        Raises:
            InputError: If the model does not read that many.
        """
        if length > longest:
            message = f"the conversation has {length} tokens, and the model reads {longest}"
            hint = "leave out the oldest messages, or shorten what is asked"
            raise ContextLengthError(message, hint, tokens=length, limit=longest)
        if length > self.capacity:
            capacity = min(max(length, 2 * self.capacity), longest)
            self.buffers = {name: self._grown(buffer, self.length, capacity) for name, buffer in self.buffers.items()}

    def _require(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise InputError(f"{length} positions of a cache of {self.length}", "0 <= length <= cache.length")

    def _grown(self, buffer: Any, length: int, capacity: int) -> Any:
        grown = self.empty(buffer, capacity)
        grown[:length] = buffer[:length]
        return grown

    def empty(self, like: Any, capacity: int) -> Any:
        """An array of the kind of another one, with room for other positions."""
        return np.zeros((capacity, *like.shape[1:]), like.dtype)


class PortableDecoder:
    """The graph ``decoder_portable`` of a language model, which reads the positions so far and gives the new ones.

    It does what `OnnxDecoder` does, a little slower: ONNX Runtime has no kernel of its own for its attention.

    Args:
        session: An `onnxruntime.InferenceSession` of it; may be shared.

    Attributes:
        width: Of the embeddings.
        vocabulary: Number of logits.
        longest: Most positions of a conversation.

    Raises:
        LoadError: If the session is of another graph.
    """

    def __init__(self, session: Any) -> None:
        facts = _facts(session, "portable", "decoder_portable.onnx")
        self.width, self.vocabulary, self.longest = facts["width"], facts["vocabulary"], facts["longest"]
        self._row, self._session = (facts["kv_heads"], facts["head_size"]), session
        self._kinds = {one.name: _TYPES[one.type] for one in session.get_inputs() if one.name != "embeds"}

    def new_cache(self, capacity: int = _ROOM) -> RowCache:
        """An empty cache with room for some positions; more is made when it is needed."""
        room = max(1, min(capacity, self.longest))
        return RowCache({name: np.zeros((room, *self._row), kind) for name, kind in self._kinds.items()})

    def run(self, embeds: Floats, cache: RowCache) -> Floats:
        """Read new positions and return the logits after the last of them; see `OnnxDecoder.run`."""
        _check_rows(embeds, self.width)
        past, end = cache.length, cache.length + len(embeds)
        cache.reserve(end, self.longest)
        known = {name: buffer[:past] for name, buffer in cache.buffers.items()}
        found = run_session(self._session, {"embeds": np.ascontiguousarray(embeds, np.float32), **known})
        for name, buffer in cache.buffers.items():
            buffer[past:end] = found[f"new_{name}"]
        cache.length = end
        return found["logits"]


def open_decoder(session: Any) -> OnnxDecoder | PortableDecoder:
    """The decoder of a session of either flavour.

    Raises:
        LoadError: If the session is of another graph.
    """
    portable = session.get_modelmeta().custom_metadata_map.get("emova.flavour") == "portable"
    return PortableDecoder(session) if portable else OnnxDecoder(session)


def _facts(session: Any, flavour: str, file: str) -> dict[str, int]:
    """Sizes that the metadata of a decoder's file tell."""
    found: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    sizes = {name: found.get(f"emova.{name}", "") for name in ("width", "vocabulary", "longest", "kv_heads", "head_size")}
    if found.get("emova.flavour") != flavour or not all(size.isdecimal() for size in sizes.values()):
        raise LoadError(f"this is no exported decoder of the flavour `{flavour}`", f"open the file `{file}` of an export")
    return {name: int(size) for name, size in sizes.items()}


def _check_rows(embeds: Floats, width: int) -> None:
    if embeds.ndim != 2 or embeds.shape[1] != width or not len(embeds):
        raise InputError(f"embeddings have shape {embeds.shape}, not (rows, {width})", "embed the ids first")
