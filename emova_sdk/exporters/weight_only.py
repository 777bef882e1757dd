"""Weight-only int8: stored in 8 bits and computed in float32, for small files with the accuracy and speed of float32.

A runtime dequantises them once, when it opens the file and folds constants. Only operators of the standard are used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import ExportError

_SHARED = 32
"""Rows of a matrix that share a scale."""
_WORTH_WHILE = 2048
"""Weights below which a tensor stays as it is."""
READERS = {"MatMul": 1, "Gemm": 1, "Conv": 1, "ConvTranspose": 1}
"""Operators with weights, and which of their inputs these are."""


def quantize_weights(model: Any, *, exclude: Iterable[str] = ()) -> None:
    """Store the weights of products and convolutions as int8 with scales, in place.

    Args:
        model: An ``onnx.ModelProto`` with its weights.
        exclude: Names of nodes whose weights stay as they are.

    Raises:
        ExportError: If there are no such weights.
    """
    from onnx import numpy_helper

    graph, kept = model.graph, set(exclude)
    inputs = [node.input[at] for node in graph.node if (at := READERS.get(node.op_type)) and node.name not in kept]
    wanted = set(inputs) - {name for node in graph.node if node.name in kept for name in node.input}
    made: list[Any] = []
    for tensor in [one for one in graph.initializer if one.name in wanted]:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype == np.float32 and weights.size >= _WORTH_WHILE:
            graph.initializer.remove(tensor)
            made += _dequantized(graph, tensor.name, weights)
    if not made:
        raise ExportError("it has no weights that are worth quantising", "export it in fp32")
    nodes = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _dequantized(graph: Any, name: str, weights: NDArray[np.float32]) -> list[Any]:
    """Add a tensor as integers and scales; return the nodes that dequantise it."""
    from onnx import TensorProto, helper, numpy_helper

    # rows of a matrix in groups, or each output of a convolution by itself
    grouped = weights.ndim == 2 and weights.shape[0] % _SHARED == 0
    shape = (-1, _SHARED, weights.shape[1]) if grouped else (len(weights), -1)
    blocks = weights.reshape(shape)
    scales = np.maximum(np.abs(blocks).max(1, keepdims=True) / 127, np.float32(1e-12))
    whole = np.rint(blocks / scales).astype(np.int8)
    for part, value in (("int8", whole), ("scales", scales), ("shape", np.array(weights.shape, np.int64))):
        graph.initializer.append(numpy_helper.from_array(value, f"{name}.{part}"))
    return [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.float"], f"{name}.cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.float", f"{name}.scales"], [f"{name}.scaled"], f"{name}.mul"),
        helper.make_node("Reshape", [f"{name}.scaled", f"{name}.shape"], [name], f"{name}.reshape"),
    ]
