"""A stand-in for TensorRT 11 on a machine without it: the same calls, no more of them, and ONNX Runtime behind the pointers.

What TensorRT 11 removed (flags for precision, explicit batches, calibrators) is not there: using it is an AttributeError.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

VERSION, GPU, CAPABILITY = "11.4.0.106", "Stand-in GPU", (9, 0)
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


class Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = Severity


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(enum.Enum):
    DEVICE, HOST = range(2)


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    TF32 = 0
    REFIT = 1


class Parser:
    num_errors = 0

    def __init__(self, network: Any, log: Any) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        self.network.path = path
        return True


class Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"measured;"


class Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.profiles: list[Any] = []
        self.cache: Cache | None = None

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile.shapes)
        bad = any(
            not least <= usual <= most for bounds in profile.shapes.values() for least, usual, most in zip(*bounds, strict=True)
        )
        return -1 if bad else 0

    def create_timing_cache(self, content: bytes) -> Cache:
        return Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        if b"another GPU" in cache.content:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache | None:
        return self.cache


class Builder:
    def __init__(self, log: Any) -> None:
        self.log = log

    def create_network(self, flags: int) -> Any:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return SimpleNamespace(path="")

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(shapes=shapes, set_shape=lambda name, *bounds: shapes.update({name: bounds}))

    def build_serialized_network(self, network: Any, config: Config) -> bytes | None:
        if "refused" in network.path:
            self.log.log(Severity.ERROR, "no tactic was found")
            return None
        profiles = [{name: [list(shape) for shape in bounds] for name, bounds in shapes.items()} for shapes in config.profiles]
        return json.dumps({"onnx": network.path, "profile": profiles, "tf32": BuilderFlag.TF32 in config.flags}).encode()


class Runtime:
    def __init__(self, log: Any) -> None:
        self.log = log

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        try:
            return Engine(json.loads(plan))
        except ValueError:
            self.log.log(Severity.ERROR, "the plan is damaged")
            return None


class Engine:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.session = onnxruntime.InferenceSession(plan["onnx"], providers=["CPUExecutionProvider"])
        self.profile = plan["profile"][0] if plan["profile"] else {}
        self.values = {value.name: value for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.num_io_tensors = len(self.values)

    def create_execution_context(self) -> Any:
        return Context(self)

    def get_tensor_name(self, at: int) -> str:
        return list(self.values)[at]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self.values[name].shape)

    def get_tensor_dtype(self, name: str) -> Any:
        return TYPES[self.values[name].type]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.profile[name]]


class Context:
    """Reads and writes memory at the addresses it is given, as a GPU would."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.shapes, self.addresses = engine, {}, {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.profile.get(name, [shape, shape, shape])
        self.shapes[name] = tuple(shape)
        return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address
        self.addresses[name] = address
        return True

    def _outputs(self) -> dict[str, Any]:
        feed = {name: self._memory(name, self.shapes[name]).copy() for name in self.engine.inputs}
        return dict(zip([v.name for v in self.engine.session.get_outputs()], self.engine.session.run(None, feed), strict=True))

    def _memory(self, name: str, shape: tuple[int, ...]) -> Any:
        kind = np.dtype(self.engine.get_tensor_dtype(name))
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if not size:
            return np.empty(shape, kind)
        return np.frombuffer((ctypes.c_char * size).from_address(self.addresses[name]), kind).reshape(shape)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._outputs()[name].shape

    def execute_async_v3(self, stream: int) -> bool:
        for name, value in self._outputs().items():
            self._memory(name, value.shape)[...] = value
        return True


def install(patch: pytest.MonkeyPatch) -> Any:
    """Pretend that TensorRT 11 and a GPU are here; tensors stay on the CPU if the device is ``cpu``."""
    names = ("ILogger", "TensorIOMode", "TensorLocation", "NetworkDefinitionCreationFlag", "BuilderFlag", "Builder", "Runtime")
    module = SimpleNamespace(
        **{name: globals()[name] for name in names}, OnnxParser=Parser, __version__=VERSION, __name__="tensorrt"
    )
    module.nptype = lambda kind: kind
    patch.setitem(sys.modules, "tensorrt", module)
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "get_device_name", lambda device: GPU)
    patch.setattr(torch.cuda, "get_device_capability", lambda device: CAPABILITY)
    patch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0, synchronize=lambda: None))
    return module
