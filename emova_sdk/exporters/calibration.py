"""Static quantisation of convolutions: activation ranges are calibrated on the graph's own samples."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from emova_sdk.components.graph import Graph
from emova_sdk.errors import ExportError

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_LITTLE = 0.1
"""Share of all convolutions' weights that may stay in float32 for accuracy."""


def has_convolutions(model: Any) -> bool:
    """Whether a model has convolutions."""
    return any(node.op_type in _CONVOLUTIONS for node in model.graph.node)


def quantize_calibrated(
    graph: Graph, source: Path, target: Path, *, exclude: Sequence[str] = (), sums: bool = False, portable: bool = False
) -> None:
    """Write products and convolutions as pairs of Quantize and Dequantize with measured ranges.

    The first and the last convolutions stay in float32 if they are a small part: their rounding is heard in all that follows.
    For ONNX Runtime activations are uint8 with a zero point of their own, which is both faster on a CPU and finer where an
    activation leans to one side; it has no 8-bit kernel for transposed convolutions, which stay. ``portable`` is what
    TensorRT reads: symmetric int8 throughout. Biases are float in both.

    Args:
        graph: Whose samples to measure.
        source: Its float32 export.
        target: The file to write.
        exclude: Names of nodes that stay in float32.
        sums: Whether sums are in 8 bits as well. Where convolutions have residual branches a third of the time otherwise goes
            into turning 8 bits into floats and back; it costs accuracy, as the sums go on in 8 bits.
        portable: For other runtimes than ONNX Runtime.

    Raises:
        ExportError: If the graph makes no samples.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    if graph.calibration is None:
        raise ExportError(f"graph `{graph.name}` has no `calibration`", "export it in fp32")
    samples = iter(graph.calibration_inputs())

    class CalibrationInputs(CalibrationDataReader):
        def get_next(self) -> Any:
            return next(samples, None)

    quantize_static(
        str(source),
        str(target),
        CalibrationInputs(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8 if portable else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "MatMul", "Gemm", *(["ConvTranspose"] if portable else []), *(["Add"] if sums else [])],
        nodes_to_exclude=[*exclude, *_spared(onnx.load(str(source), load_external_data=False))],
        extra_options={"ActivationSymmetric": portable, "WeightSymmetric": True, "QuantizeBias": False},
    )


def _spared(model: Any) -> list[str]:
    """The outermost convolutions, if they have few of the weights."""
    sizes = {tensor.name: prod(tensor.dims) for tensor in model.graph.initializer}
    weights = {node.name: sizes.get(node.input[1], 0) for node in model.graph.node if node.op_type in _CONVOLUTIONS}
    found = outermost(model)
    return found if sum(weights[name] for name in found) <= _LITTLE * sum(weights.values()) else []


def outermost(model: Any) -> list[str]:
    """Names of convolutions that no other is ahead of, or that no other follows."""
    behind: set[str] = set()
    """Tensors that depend on a convolution."""
    ahead: set[str] = set()
    """Tensors that a convolution depends on."""
    found: list[str] = []
    for node in model.graph.node:
        follows, convolves = not behind.isdisjoint(node.input), node.op_type in _CONVOLUTIONS
        if convolves and not follows:
            found.append(node.name)
        if convolves or follows:
            behind.update(node.output)
    for node in reversed(model.graph.node):
        leads, convolves = not ahead.isdisjoint(node.output), node.op_type in _CONVOLUTIONS
        if convolves and not leads and node.name not in found:
            found.append(node.name)
        if convolves or leads:
            ahead.update(node.input)
    return found
