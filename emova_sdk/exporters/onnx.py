"""Write a graph as an ONNX file that stock ONNX Runtime runs without the SDK.

A torch module is traced by ``torch.onnx.export(dynamo=True)`` with named dynamic axes; an ONNX file is read. Axes that were
declared dynamic are checked to be dynamic in the file, stack traces and paths of the exporting machine are removed, and
weights are written beside the graph (``NAME.onnx.data``) in float32.
"""

from __future__ import annotations

import gc
import inspect
import logging
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from emova_sdk.components.graph import Graph
from emova_sdk.errors import ExportError, MissingDependencyError
from emova_sdk.exporters.saturation import read_weights

OPSET = 20
"""Default operator set: the newest at which TensorRT builds attention in float32."""


def export_onnx(graph: Graph, path: str | Path, *, opset: int = OPSET) -> Path:
    """Write a graph in float32.

    Args:
        graph: What to export.
        path: The ``.onnx`` file; its weights go to the same name with ``.data`` added.
        opset: ONNX operator set.

    Returns:
        The path.

    Raises:
        ExportError: If the source cannot be traced or read, or an axis did not stay dynamic.
        MissingDependencyError: If the exporter's packages are not installed.
    """
    path = Path(path)
    if isinstance(graph.source, Path):
        model = _read(graph, graph.source)
        _require_dynamic(graph, model)
        _tidy(model, graph)
        import_module("onnx_ir").save(model, str(path), external_data=f"{path.name}.data")
        return path
    program = _traced(graph, opset)
    _require_dynamic(graph, program.model)
    _tidy(program.model, graph)
    program.save(str(path), external_data=True)
    _free_weights(program)
    return path


def _free_weights(program: Any) -> None:
    """Free the exporter's copies of the weights: it keeps its last graph, and traces are reference cycles."""
    for value in program.model.graph.initializers.values():
        value.const_value = None
    program.exported_program = None
    gc.collect()


def _read(graph: Graph, source: Path) -> Any:
    """An ONNX file with its weights in float32, wherever they lie and however they are arranged."""
    try:
        import onnx
        import onnx_ir
        from onnx_ir.passes.common import RemoveUnusedNodesPass
        from onnxscript.optimizer import fold_constants
    except ImportError as error:
        hint = "pip install 'emova-sdk[export]'"
        raise MissingDependencyError("writing ONNX needs `onnx` and `onnxscript`", hint, package="onnxscript") from error
    try:
        model = onnx.load(str(source), load_external_data=False)
        read_weights(model, source)
        found = onnx_ir.from_proto(model)
        # weights that are cast, turned or joined in the graph are no weights to a quantiser
        fold_constants(found, input_size_limit=sys.maxsize, output_size_limit=sys.maxsize)
        RemoveUnusedNodesPass()(found)
    except Exception as error:
        reason = str(error).strip().splitlines()
        message = f"graph `{graph.name}` cannot be read from `{source}`: {reason[0] if reason else type(error).__name__}"
        raise ExportError(message, "install or copy the component again") from error
    names = [value.name for value in found.graph.inputs], [value.name for value in found.graph.outputs]
    if names != (list(graph.inputs), list(graph.outputs)):
        message = f"`{source}` has the inputs and outputs {names}, not those of graph `{graph.name}`"
        raise ExportError(message, "name them as the graph does, in its order")
    return found


def _traced(graph: Graph, opset: int) -> Any:
    try:
        import torch

        import_module("onnxscript")  # torch needs it to write ONNX
    except ImportError as error:
        hint = "pip install 'emova-sdk[export]'"
        raise MissingDependencyError(
            "writing ONNX needs `torch`, `onnx` and `onnxscript`", hint, package="onnxscript"
        ) from error
    shapes = _shapes(graph)
    try:
        with warnings.catch_warnings(), _quietly(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            program = torch.onnx.export(
                graph.source.eval(),
                tuple(torch.from_numpy(np.array(array)) for array in graph.inputs.values()),
                dynamo=True,
                opset_version=opset,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=shapes if any(shapes) else None,
                verbose=False,
            )
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise ExportError(
            f"graph `{graph.name}` cannot be traced: {reason[0] if reason else type(error).__name__}",
            "keep data-dependent shapes, random numbers and Python branches on values out of `forward`",
        ) from error
    if program is None:
        raise ExportError(f"the exporter returned nothing for graph `{graph.name}`", "export with another torch release")
    return program


@contextmanager
def _quietly() -> Generator[None, None, None]:
    """The exporter logs each time that torchvision, which nothing here needs, is not installed."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


def _shapes(graph: Graph) -> tuple[Any, ...]:
    """Names of the dynamic axes, nested as the arguments of ``forward`` are."""
    flat = tuple({dimension: axis.name for dimension, axis in graph.dynamic.get(name, {}).items()} for name in graph.inputs)
    kinds = [one.kind for one in inspect.signature(graph.source.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return flat
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*flat[:named], flat[named:])


def _require_dynamic(graph: Graph, model: Any) -> None:
    """Guard against an axis that was silently fixed to the example's size."""
    inputs = {value.name: value for value in model.graph.inputs}
    for name, axes in graph.dynamic.items():
        if name not in inputs:
            raise ExportError(f"input `{name}` of graph `{graph.name}` is gone: it has no effect on the outputs", "drop it")
        for dimension, axis in axes.items():
            if isinstance(inputs[name].shape[dimension], int):
                raise ExportError(
                    f"axis `{axis.name}` of `{name}` in graph `{graph.name}` became a constant",
                    "give each axis an example size of its own, at least 2",
                )


def _tidy(model: Any, graph: Graph) -> None:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.update({"emova.graph": graph.name, **{f"emova.{key}": value for key, value in graph.metadata.items()}})


def files_of(path: str | Path) -> list[Path]:
    """The files an exported graph consists of."""
    path = Path(path)
    return [file for file in (path, path.with_name(path.name + ".data")) if file.exists()]
