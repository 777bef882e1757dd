"""Key-value cache of a decoder's TensorRT engine: it stays on the GPU, and each step writes its new positions in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from emova_sdk.components.runtimes.decoder_cache import Floats, KeyValueCache
from emova_sdk.components.runtimes.tensorrt_session import Placed

_ALIGNMENT = 256
"""Bytes to which TensorRT wants addresses aligned."""


class DeviceCache(KeyValueCache):
    """Tensors (capacity, kv_heads, head_size) on the GPU.

    The portable flavour returns the keys and values of new positions alone, and their place is right behind those it reads.
    """

    def empty(self, kind: str, capacity: int) -> Any:
        import torch

        dtype = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}[kind]
        return torch.zeros((capacity, self.sizes.kv_heads, self.sizes.head_size), dtype=dtype, device=self.session.device)

    def moved(self, buffer: Any, length: int, capacity: int) -> Any:
        grown = buffer.new_zeros((capacity, *buffer.shape[1:]))
        grown[:length] = buffer[:length]
        return grown

    def read(self, embeds: Floats) -> Floats:
        import torch

        rows, past, device = len(embeds), self.length, self.session.device
        logits = torch.empty(self.sizes.vocabulary, device=device)
        inputs = {"embeds": Placed(torch.from_numpy(np.array(embeds)).to(device), embeds.shape)}
        inputs |= {name: Placed(buffer, (past, *buffer.shape[1:])) for name, buffer in self.buffers.items()}
        written = {name: _behind(buffer, past, rows) for name, buffer in self.buffers.items()}
        outputs = {"logits": Placed(logits, (self.sizes.vocabulary,))}
        self.session.run_in_place(inputs, outputs | {f"new_{name}": place for name, place in written.items()})
        for name, place in written.items():
            if place.tensor is not self.buffers[name]:
                self.buffers[name][past : past + rows] = place.tensor
        return logits.cpu().numpy()


def _behind(buffer: Any, past: int, rows: int) -> Placed:
    """Where new positions go: right behind the old ones, or where that is not aligned into memory of their own."""
    shape = (rows, *buffer.shape[1:])
    offset = past * buffer[0].numel() * buffer.element_size()
    return Placed(buffer.new_empty(shape), shape) if offset % _ALIGNMENT else Placed(buffer, shape, offset)
