"""Opening exported graphs with ONNX Runtime, without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emova_sdk.components.graph import Profile
from emova_sdk.errors import BackendError, ConfigError, LoadError, MissingDependencyError
from emova_sdk.processor import same_everywhere

TENSORRT = "TensorrtExecutionProvider"


def open_session(
    path: str | Path,
    *,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    threads: int = 0,
    options: Mapping[str, str] | None = None,
    shapes: Profile | None = None,
) -> Any:
    """Open an ``.onnx`` file as an ``onnxruntime.InferenceSession``.

    Args:
        path: The file; its weights lie beside it.
        providers: Execution providers, best first. One that was asked for and cannot be loaded is an error: ONNX Runtime
            itself would go on with the CPU and say so only in its log.
        threads: Threads within an operator; 0 takes as many as this process may use.
        options: Further session configuration entries of ONNX Runtime.
        shapes: Shapes that the TensorRT provider builds its engine for, if it is asked for.

    Raises:
        LoadError: If the file or its weights are missing, broken or of an unknown version.
        ConfigError: If a provider cannot be loaded on this machine.
    """
    try:
        import onnxruntime
    except ImportError as error:
        hint = "pip install onnxruntime (or onnxruntime-gpu), never both"
        raise MissingDependencyError("running an exported graph needs `onnxruntime`", hint, package="onnxruntime") from error
    path = Path(path)
    if not path.is_file():
        raise LoadError(f"`{path}` does not exist", "export the component again", path=str(path))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what matters becomes an exception here
    settings.intra_op_num_threads = threads or usable_cores()
    for key, value in (options or {}).items():
        settings.add_session_config_entry(key, value)
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=_with_options(providers, shapes or {}))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "the file may be cut off, without its `.data` file, or written by a newer version: export it again"
        raise LoadError(f"`{path.name}` cannot be opened: {reason}", hint, path=str(path)) from error
    missing = [name for name in providers if name not in session.get_providers()]
    if missing:
        raise ConfigError(
            f"`{missing[0]}` cannot be loaded on this machine", "`emova doctor` says what it needs; or use the CPU"
        )
    return session


def exact_products(record: Mapping[str, Any]) -> dict[str, str]:
    """Session configuration for a graph of an export, so that it gives the same answer on every processor.

    One that is not known to, as an earlier version exported it, has its 8-bit products computed exactly, which takes a
    quarter more time where they would saturate.

    Args:
        record: The graph's record in the manifest.
    """
    return {} if same_everywhere(record) else {"session.x64quantprecision": "1"}


def _with_options(providers: Sequence[str], shapes: Profile) -> list[Any]:
    return [(name, tensorrt_options(shapes)) if name == TENSORRT else name for name in providers]


def tensorrt_options(shapes: Profile) -> dict[str, str]:
    """Options of ONNX Runtime's TensorRT provider: one engine for all sizes, kept for the next time.

    Without shapes it would build an engine anew whenever a size is out of the range of those it has seen.
    """
    cache = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emova-sdk" / "tensorrt")
    bounds = {
        f"trt_profile_{bound}_shapes": ",".join(f"{name}:{'x'.join(map(str, found[at]))}" for name, found in shapes.items())
        for at, bound in enumerate(("min", "opt", "max"))
    }
    keep = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": cache}
    timed = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": cache}
    return {**keep, **timed, **(bounds if shapes else {})}


def usable_cores() -> int:
    """Cores this process may run on (not those of the whole machine)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_session(session: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Run a session on NumPy arrays; return its outputs by name.

    Raises:
        BackendError: If the run fails.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except Exception as error:
        raise BackendError(
            f"an exported graph failed: {str(error).splitlines()[0]}", "verify the bundle with `emova export verify`"
        ) from error
