"""A component's graph to an ONNX file that stock ONNX Runtime runs, with nothing of the SDK in it.

The file is written by ``torch.onnx.export(dynamo=True)`` with named dynamic axes. What was declared dynamic is checked to
be so in the file, stack traces and paths of the exporting machine are removed, and the weights lie beside the graph
(``NAME.onnx.data``), whatever their size.
"""

from __future__ import annotations

import gc
import inspect
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from emova_sdk.components.graph import Graph
from emova_sdk.errors import ExportError, MissingDependencyError

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
        ExportError: If the module cannot be traced, or an axis did not stay dynamic.
        MissingDependencyError: If the exporter's packages are not installed.
    """
    path = Path(path)
    program = _traced(graph, opset)
    _require_dynamic(graph, program.model)
    _tidy(program.model, graph)
    program.save(str(path), external_data=True)
    _let_go(program)
    return path


def _let_go(program: Any) -> None:
    """Free what is only the exporter's of the weights: it keeps its last graph, and traces refer to themselves."""
    for value in program.model.graph.initializers.values():
        value.const_value = None
    program.exported_program = None
    gc.collect()


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
                graph.module.eval(),
                tuple(tensor.clone() for tensor in graph.inputs.values()),
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
    kinds = [one.kind for one in inspect.signature(graph.module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return flat
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*flat[:named], flat[named:])


def _require_dynamic(graph: Graph, model: Any) -> None:
    """The only protection from an axis that was silently fixed to the example's size."""
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
