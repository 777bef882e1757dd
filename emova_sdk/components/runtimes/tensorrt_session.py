"""Opening TensorRT engines, and running them on NumPy arrays as an ONNX Runtime session runs its graph.

Two packages have one interface: ``tensorrt`` builds engines for the GPU of the machine it runs on, ``tensorrt-rtx`` builds them
anywhere for every RTX GPU. Device memory and streams are torch's: it is installed with this package and nothing else is needed.
"""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import BackendError, ConfigError, InputError, LoadError, MissingDependencyError

Target = Literal["trt", "rtx"]
TARGETS: tuple[Target, ...] = get_args(Target)
_MODULES: dict[Target, str] = {"trt": "tensorrt", "rtx": "tensorrt_rtx"}
PACKAGES: dict[Target, str] = {"trt": "tensorrt", "rtx": "tensorrt-rtx"}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineRecord:
    """What an engine was built for; it is kept in the manifest beside the engine.

    Attributes:
        target: ``trt`` for TensorRT, ``rtx`` for TensorRT-RTX.
        version: Version of that package.
        platform: Operating system and processor, e.g. ``linux-x86_64``.
        gpu: Name of the GPU, or an empty string where any of the compute capabilities will do.
        compute_capabilities: E.g. ``("9.0",)``.
        onnx: File of the ONNX export to its SHA-256.
        rebuild: The command that builds it again.
    """

    target: Target
    version: str
    platform: str
    gpu: str
    compute_capabilities: tuple[str, ...]
    onnx: Mapping[str, str]
    rebuild: str

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EngineRecord:
        """Read what `to_dict` gave.

        Raises:
            LoadError: If it is incomplete.
        """
        try:
            facts: dict[str, Any] = {**data, "compute_capabilities": tuple(data["compute_capabilities"])}
            engine = cls(**facts)
            if engine.target not in TARGETS:
                raise ValueError(engine.target)  # noqa: TRY301 - said in words below
        except (TypeError, KeyError, ValueError) as error:
            raise LoadError(f"the manifest does not say what the engine was built for: {error}", "build it again") from error
        return engine

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {**asdict(self), "compute_capabilities": list(self.compute_capabilities)}


@dataclass(frozen=True)
class Machine:
    """Where an engine is to be built or run: its attributes are those of `EngineRecord`."""

    version: str
    platform: str
    gpu: str
    compute_capability: str


def tensorrt(target: Target) -> Any:
    """Import TensorRT of either kind.

    Raises:
        MissingDependencyError: If it is not installed or its libraries are missing.
    """
    try:
        return import_module(_MODULES[target])
    except (ImportError, OSError) as error:
        package = PACKAGES[target]
        hint = {"trt": "on a machine with an NVIDIA GPU: pip install tensorrt", "rtx": "pip install 'emova-sdk[tensorrt-rtx]'"}
        reason = "" if isinstance(error, ModuleNotFoundError) and error.name == _MODULES[target] else f": {error}"
        raise MissingDependencyError(f"`{package}` cannot be imported{reason}", hint[target], package=package) from error


def machine(target: Target, *, device: str = "cuda") -> Machine:
    """Look at this machine; without a GPU its name and compute capability are empty.

    Raises:
        MissingDependencyError: If TensorRT of that kind is not installed.
    """
    version = str(tensorrt(target).__version__)
    system = f"{platform.system()}-{platform.machine()}".lower()
    if not gpu_is_there():
        return Machine(version, system, "", "")
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return Machine(version, system, torch.cuda.get_device_name(device), f"{major}.{minor}")


def gpu_is_there() -> bool:
    """Whether torch, through which engines get their memory, is installed and sees an NVIDIA GPU."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def require_same(name: str, engine: EngineRecord, here: Machine) -> None:
    """Refuse an engine that was built for something else, with the command that builds it again.

    Raises:
        LoadError: Saying what it was built for and what is here.
        ConfigError: If there is no GPU.
    """
    package = PACKAGES[engine.target]
    if not here.gpu:
        raise ConfigError(f"`{name}` needs an NVIDIA GPU, and torch sees none", "run the ONNX export with `onnx` instead")
    differing = [
        (f"by {package} {engine.version}", here.version) if engine.version != here.version else None,
        (f"on {engine.platform}", here.platform) if engine.platform != here.platform else None,
        (f"for {engine.gpu}", here.gpu) if engine.gpu not in {"", here.gpu} else None,
        (f"for compute capability {' or '.join(engine.compute_capabilities)}", here.compute_capability)
        if here.compute_capability not in engine.compute_capabilities
        else None,
    ]
    for built, found in filter(None, differing):
        raise LoadError(f"`{name}` was built {built}, and here is {found}", f"build it again: {engine.rebuild}", path=name)


def open_engine(path: str | Path, record: Mapping[str, Any], *, device: str = "cuda") -> TensorrtSession:
    """Open an engine.

    Args:
        path: Its file.
        record: Its graph's record in the manifest.
        device: The GPU, as torch names it.

    Raises:
        LoadError: If the file is missing or broken, or the engine was built for another GPU or version.
        MissingDependencyError: If TensorRT is not installed.
        ConfigError: If there is no GPU.
    """
    path = Path(path)
    if "engine" not in record:
        raise LoadError(
            f"`{path.name}` is no TensorRT engine", "run it with `onnx`, or build engines with `emova export tensorrt`"
        )
    engine = EngineRecord.from_dict(record["engine"])
    require_same(path.name, engine, machine(engine.target, device=device))
    trt = tensorrt(engine.target)
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise LoadError(f"`{path}` cannot be read: {error}", f"build it again: {engine.rebuild}", path=str(path)) from error
    log = logger(trt)
    opened = trt.Runtime(log).deserialize_cuda_engine(plan)
    if opened is None:
        hint = f"build it again: {engine.rebuild}"
        raise LoadError(f"`{path.name}` cannot be opened: {log.reason()}", hint, path=str(path))
    return TensorrtSession(trt, opened, device=device, facts=record["metadata"])


def logger(trt: Any) -> Any:
    """A TensorRT logger that keeps errors and passes the rest to Python's ``logging``."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                self.errors.append(message)
            _LOG.debug("%s", message)

        def reason(self) -> str:
            return self.errors[-1].strip() if self.errors else "TensorRT gives no reason"

    return Log()


@dataclass(frozen=True)
class Value:
    """An input or output as ONNX Runtime describes it, but for its shape, which has -1 where it is dynamic."""

    name: str
    shape: tuple[int, ...]
    type: str


@dataclass(frozen=True)
class Placed:
    """An input or output in the memory of a tensor.

    Attributes:
        tensor: A contiguous tensor of torch on the engine's device, of the engine's type.
        shape: What the engine sees of it.
        offset: Where that begins, in bytes; a multiple of 256.
    """

    tensor: Any
    shape: tuple[int, ...]
    offset: int = 0


class TensorrtSession:
    """Runs an engine by the methods of an ``onnxruntime.InferenceSession`` that the components use.

    Calls from several threads take turns: an execution context has one set of shapes.

    Args:
        trt: The module the engine belongs to.
        engine: A deserialised engine.
        device: Where its memory is, as torch names it.
        facts: What the graph's metadata say.

    Attributes:
        device: Where its memory is.
        facts: What the graph's metadata say.
    """

    def __init__(self, trt: Any, engine: Any, *, device: str = "cuda", facts: Mapping[str, str] | None = None) -> None:
        self._trt, self._engine, self.device, self.facts = trt, engine, device, dict(facts or {})
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BackendError("the engine's memory cannot be allocated", "narrow its axes with `--axis`, or free the GPU")
        names = [engine.get_tensor_name(at) for at in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        self._lock = threading.Lock()

    def get_inputs(self) -> list[Value]:
        """The inputs."""
        return [self._value(name) for name in self._inputs]

    def get_outputs(self) -> list[Value]:
        """The outputs."""
        return [self._value(name) for name in self._outputs]

    def _value(self, name: str) -> Value:
        kind = {"float32": "float", "float64": "double"}.get(self._type(name).name, self._type(name).name)
        return Value(name, tuple(self._engine.get_tensor_shape(name)), f"tensor({kind})")

    def _type(self, name: str) -> np.dtype[Any]:
        return np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))

    def get_modelmeta(self) -> SimpleNamespace:
        """The graph's metadata, named as in the ONNX file."""
        return SimpleNamespace(custom_metadata_map={f"emova.{name}": value for name, value in self.facts.items()})

    def get_providers(self) -> list[str]:
        """What runs it."""
        return [self._trt.__name__]

    def run(self, names: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the engine.

        Args:
            names: Outputs that are wanted; all of them by default.
            inputs: Every input by name, of the engine's types.

        Raises:
            InputError: If an input is missing, or of a shape or type the engine was not built for.
            BackendError: If the engine fails.
        """
        import torch

        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise InputError(f"the engine needs the input `{missing[0]}`", f"its inputs are {', '.join(self._inputs)}")
        with self._lock, torch.inference_mode():
            held = {name: self._bound_input(name, inputs[name]) for name in self._inputs}
            held |= {name: self._bound_output(name) for name in self._outputs}
            self._execute()
            return [held[name].cpu().numpy() for name in names or self._outputs]

    def run_in_place(self, inputs: Mapping[str, Placed], outputs: Mapping[str, Placed]) -> None:
        """Run the engine on memory of the device, which it reads and writes where it is.

        Args:
            inputs: Every input by name.
            outputs: Every output by name, with room for it.

        Raises:
            InputError: If an input is of a shape the engine was not built for.
            BackendError: If the engine fails.
        """
        with self._lock:
            for name, place in inputs.items():
                self._set_shape(name, place.shape)
            for name, place in (*inputs.items(), *outputs.items()):
                self._context.set_tensor_address(name, place.tensor.data_ptr() + place.offset)
            self._execute()

    def _bound_input(self, name: str, array: NDArray[Any]) -> Any:
        import torch

        wanted = self._type(name)
        if array.dtype != wanted:
            raise InputError(f"input `{name}` is {array.dtype}, and the engine reads {wanted}", "convert it")
        self._set_shape(name, array.shape)
        on_host = self._engine.get_tensor_location(name) == self._trt.TensorLocation.HOST
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to("cpu" if on_host else self.device)
        return self._at_address(name, tensor)

    def _set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(name, shape):
            least, _, most = (tuple(bound) for bound in self._engine.get_tensor_profile_shape(name, 0))
            message = f"input `{name}` has shape {shape}, and the engine was built for {least} to {most}"
            raise InputError(message, "build it with a wider `--axis`, or pass less at a time")

    def _bound_output(self, name: str) -> Any:
        import torch

        shape = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise BackendError(
                f"the size of output `{name}` depends on values", "export the graph with sizes that depend on shapes"
            )
        kind = torch.from_numpy(np.zeros(0, self._type(name))).dtype
        return self._at_address(name, torch.empty(shape, dtype=kind, device=self.device))

    def _at_address(self, name: str, tensor: Any) -> Any:
        """TensorRT wants an address even of an empty tensor."""
        kept = tensor if tensor.numel() else tensor.new_empty(1)
        self._context.set_tensor_address(name, kept.data_ptr())
        return kept.reshape(tensor.shape) if tensor.numel() else kept[:0].reshape(tensor.shape)

    def _execute(self) -> None:
        import torch

        stream = torch.cuda.current_stream(self.device)
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise BackendError("the engine failed", "verify it with `emova export verify`")
        stream.synchronize()
