"""Running the source of a graph, a torch module or an ONNX file, on arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.graph import Arrays, Graph
from emova_sdk.components.runtimes.onnx_session import open_session, run_session
from emova_sdk.errors import InputError

RunGraph = Callable[[Arrays], dict[str, NDArray[Any]]]
"""Inputs by name, in the graph's order, to outputs by name."""


def open_source(source: Any, graph: Graph, *, threads: int = 0) -> RunGraph:
    """Bring a source of a graph into memory; torch is imported only for a module.

    Args:
        source: ``graph.source`` or ``graph.original``.
        graph: Whose.
        threads: Of ONNX Runtime, see `open_session`.

    Raises:
        LoadError: If an ONNX file is missing or broken; when it runs, InputError if a module returns something else.
    """
    if isinstance(source, Path):
        session = open_session(source, threads=threads)
        return lambda inputs: run_session(session, inputs)
    return _by_module(source, graph.outputs)


def _by_module(module: Any, names: tuple[str, ...]) -> RunGraph:
    import torch

    module.eval()

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            found = module(*(torch.from_numpy(np.array(array)) for array in inputs.values()))  # a copy may be written to
        outputs: Any = found if isinstance(found, tuple | list) else (found,)
        if len(outputs) != len(names) or not all(isinstance(output, torch.Tensor) for output in outputs):
            given = ", ".join(type(output).__name__ for output in outputs)
            raise InputError(f"the module returns {given}", f"return one tensor for each of {', '.join(names)}")
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}

    return run
