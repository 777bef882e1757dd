"""8-bit products that are the same on every processor.

On x86-64 with AVX2 or AVX-512 and without VNNI, ONNX Runtime multiplies unsigned activations by signed weights in pairs and
adds the two products of a pair in 16 bits, which saturate: a graph that is right on a newer processor is wrong there. Here
weights are rounded so that no pair can get that far, whatever the activations are, and graphs are checked for it.

A pair is two neighbours along the summed dimension: rows of a matrix; of a convolution, channels at one place of the kernel,
place after place.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import ExportError
from emova_sdk.processor import KINDS

LARGEST_SUM = (2**15 - 1) // 255
"""Of two weights of one sign in a pair: times the largest activation, 255, it still fits into 16 bits."""
_EXACT = ("x86-64 with VNNI", "ARM64")
_ROWS = {"MatMulInteger": 1, "QLinearMatMul": 3, "MatMul": 1, "Gemm": 1, "QGemm": 3}
_KERNELS = {"Conv": 1, "QLinearConv": 3}
_NO_PRODUCTS = frozenset({"Cast", "DequantizeLinear", "ConvTranspose", "Gather", "GatherBlockQuantized", "MatMulNBits"})
"""What reads 8-bit constants and multiplies none of them in 8 bits, or, in blocks, keeps the products of a pair apart."""


@dataclass(frozen=True)
class IntegerWeights:
    """8-bit weights of one node.

    Attributes:
        node: Its name.
        tensor: The ``TensorProto`` of the weights.
        scales: Name of the tensor of their scales, if the node's quantisation is known.
        layout: ``rows`` (summed over the dimension before the last), ``columns`` (over the last), ``kernel``
            (of a convolution) or ``unknown``.
    """

    node: str
    tensor: Any
    scales: str
    layout: str

    def values(self) -> NDArray[Any]:
        """The integers, (matrices, summed, outputs)."""
        from onnx import numpy_helper

        return self.arranged(numpy_helper.to_array(self.tensor).astype(np.int32))

    def arranged(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array like the weights in the order in which products are paired, (matrices, summed, outputs)."""
        if self.layout == "kernel":
            array = np.moveaxis(array, 1, -1).reshape(len(array), -1).T
        elif self.layout == "columns":
            array = np.swapaxes(array, -1, -2)
        return array.reshape(-1, *array.shape[-2:]) if array.ndim > 1 else array.reshape(1, -1, 1)

    def restored(self, array: NDArray[Any]) -> NDArray[Any]:
        """The reverse of `arranged`."""
        shape = tuple(self.tensor.dims)
        if self.layout == "kernel":
            return np.moveaxis(array[0].T.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
        if self.layout == "columns":
            array = np.swapaxes(array, -1, -2)
        return array.reshape(shape)


def paired_sums(values: NDArray[Any]) -> NDArray[Any]:
    """The larger sum of one sign in each pair of weights: (matrices, summed, outputs) to (matrices, pairs, outputs)."""
    pairs = np.pad(values, ((0, 0), (0, values.shape[1] % 2), (0, 0))).reshape(len(values), -1, 2, values.shape[-1])
    return np.maximum(np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2))


# --- rounding weights so that no pair saturates ---


def bound_pairs(model: Any, original: Path) -> None:
    """Round the weights of a quantised model again, with scales that are as small as its pairs allow.

    An output's scale grows only as far as its largest pair needs: on the whole less than half a bit is lost, where weights
    of 7 bits lose one.

    Args:
        model: An ``onnx.ModelProto`` with its weights, changed in place.
        original: File with the weights before they were quantised; they are read one at a time.
    """
    import onnx
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    floats_of = {tensor.name: tensor for tensor in onnx.load(str(original), load_external_data=False).graph.initializer}
    for weights in list(integer_weights(model)):
        name = weights.tensor.name.removesuffix("_quantized")
        if weights.layout == "unknown" or name not in floats_of or weights.scales not in tensors:
            continue
        scales = tensors[weights.scales]
        shape = tuple(scales.dims)
        floats = weights.arranged(numpy_helper.to_array(floats_of[name], str(original.parent)))
        per_output = np.maximum(paired_sums(floats).max((0, 1)) / (LARGEST_SUM - 1), np.float32(1e-12))
        if int(np.prod(shape)) == 1:  # all outputs share one
            per_output = np.full_like(per_output, per_output.max())
        rounded = np.rint(floats / per_output).astype(np.int8)
        found = per_output[:1] if int(np.prod(shape)) == 1 else per_output
        weights.tensor.CopyFrom(numpy_helper.from_array(weights.restored(rounded), weights.tensor.name))
        scales.CopyFrom(numpy_helper.from_array(found.astype(np.float32).reshape(shape), scales.name))


# --- looking at a graph ---


def integer_weights(model: Any) -> Iterator[IntegerWeights]:
    """The signed 8-bit weights of a model that are multiplied in 8 bits, node by node."""
    from onnx import TensorProto

    nodes = list(_nodes(model.graph))
    constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    stored = {node.output[0]: node for node in nodes if node.op_type == "DequantizeLinear" and node.input[0] in constants}
    for node in nodes:
        at = _ROWS.get(node.op_type, _KERNELS.get(node.op_type))
        for position, name in enumerate(node.input):
            source = stored.get(name)
            tensor = constants.get(source.input[0] if source is not None else name)
            if tensor is None or not _multiplies(node, source) or len(tensor.dims) < 2:
                continue
            layout = _layout(node) if position == at else "unknown"
            yield IntegerWeights(
                node.name, tensor, source.input[1] if source is not None else _scales(tensor.name, node), layout
            )


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _multiplies(node: Any, source: Any) -> bool:
    if source is not None:  # of what reads floats made of 8 bits, these are fused into a product of 8 bits
        return node.op_type in {"MatMul", "Gemm", "Conv"}
    return node.op_type not in _NO_PRODUCTS


def _layout(node: Any) -> str:
    if node.op_type in _KERNELS:
        return "kernel"
    turned = any(one.name == "transB" and one.i for one in node.attribute)
    return "columns" if turned else "rows"


def _scales(weights: str, node: Any) -> str:
    if node.op_type in {"QLinearMatMul", "QLinearConv", "QGemm"}:
        return str(node.input[4])
    return f"{weights.removesuffix('_quantized')}_scale"


def widest_pair(model: Any) -> int | None:
    """The largest sum of one sign in a pair of a model's 8-bit weights; None if nothing is multiplied in 8 bits.

    Where it is not known which weights are paired, any two are taken for a pair.
    """
    found: list[int] = []
    for weights in integer_weights(model):
        values = weights.values()
        if weights.layout == "unknown":
            values = np.sort(values.reshape(-1))
            values = np.concatenate([values[:2], values[-2:]]).reshape(1, -1, 1)
        found.append(int(paired_sums(values).max()))
    return max(found, default=None)


def load_small(path: Path) -> Any:
    """A model with its 8-bit weights alone: all others stay on disk.

    Raises:
        ExportError: If the `onnx` package is missing, or weights lie outside the model's folder or are cut off.
    """
    try:
        import onnx
    except ImportError as error:
        raise ExportError("looking into a graph needs `onnx`", "pip install 'emova-sdk[export]'") from error
    model = onnx.load(str(path), load_external_data=False)
    read_weights(model, path, kinds={onnx.TensorProto.INT8})
    return model


def read_weights(model: Any, path: Path, *, kinds: Container[int] | None = None) -> None:
    """Load the external data of a model; unlike onnx's own loader through links too, which a hub's cache consists of.

    Args:
        model: An ``onnx.ModelProto`` without its external data.
        path: Its file.
        kinds: Types of the tensors to load; all by default.

    Raises:
        ExportError: If weights lie outside the model's folder or are cut off.
    """
    from onnx.external_data_helper import uses_external_data

    for tensor in model.graph.initializer:
        if uses_external_data(tensor) and (kinds is None or tensor.data_type in kinds):
            _read_beside(tensor, path)


def _read_beside(tensor: Any, path: Path) -> None:
    from onnx.helper import tensor_dtype_to_np_dtype

    size = math.prod(tensor.dims) * tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    facts = {entry.key: entry.value for entry in tensor.external_data}
    location = PurePosixPath(facts.get("location", "").replace("\\", "/"))
    if not location.parts or location.is_absolute() or ".." in location.parts or ":" in location.parts[0]:
        raise ExportError(f"weights of `{path.name}` are said to lie at `{location}`, outside its folder", "export it again")
    try:
        offset, length = int(facts.get("offset", 0)), int(facts.get("length", size))
        with (path.parent / location).open("rb") as file:
            file.seek(offset)
            data = file.read(length) if length == size else b""
    except (OSError, ValueError, OverflowError) as error:
        raise ExportError(
            f"weights of `{path.name}` in `{location}` cannot be read: {error}", "copy the export again"
        ) from error
    if len(data) != size:
        raise ExportError(f"weights of `{path.name}` in `{location}` are not whole", "copy the export again")
    tensor.raw_data = data
    tensor.data_location = tensor.DEFAULT
    del tensor.external_data[:]


def processors(path: Path) -> dict[str, Any]:
    """On which processors an exported graph gives the same answer, and why: a graph's ``processors`` in the manifest."""
    model = load_small(path)
    widest = widest_pair(model)
    if widest is None:
        blocks = any(node.op_type == "MatMulNBits" for node in model.graph.node)
        why = "weights in blocks: the products of a pair are kept apart" if blocks else "nothing is multiplied in 8 bits"
        return {"safe": list(KINDS), "because": why}
    reached = f"a pair of 8-bit products reaches {widest * 255}, and {2**15 - 1} is allowed"
    return {"safe": list(KINDS if widest <= LARGEST_SUM else _EXACT), "because": reached}


def require_safe(path: Path) -> None:
    """Check that a graph gives the same answer on every processor.

    Raises:
        ExportError: If a pair of its 8-bit products can leave 16 bits.
    """
    found = processors(path)
    if found["safe"] != list(KINDS):
        raise ExportError(f"`{path.name}` would differ between processors: {found['because']}", "export in a higher precision")
