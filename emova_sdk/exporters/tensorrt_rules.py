"""What TensorRT can read, told from the ONNX file alone: the parser says the same later, in words of its own.

The list of operators is that of TensorRT-RTX 1.7, whose ONNX parser (``OnnxParser.supports_operator``) is that of TensorRT 11.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emova_sdk.errors import ExportError

_NAMES = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization BlackmanWindow Cast
CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear
Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HammingWindow
HannWindow HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization
LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization
Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RMSNormalization RNN
RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence
RoiAlign RotaryEmbedding Round STFT Scan ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice
Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh TensorScatter ThresholdedRelu Tile TopK
Transpose Trilu Unsqueeze Where Xor
"""
OPERATORS = frozenset(_NAMES.split())
"""Operators of ONNX that TensorRT reads."""

_INTEGER_PRODUCTS = {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
_NEWEST_FLOAT32_ATTENTION = 22
"""Newest operator set whose exports hold no `Attention` operator, for which TensorRT has kernels in half precision alone."""


def check_onnx(path: str | Path, name: str) -> None:
    """Refuse what TensorRT cannot read.

    Args:
        path: An ONNX file; its weights are not read.
        name: The graph's name, for the message.

    Raises:
        ExportError: Saying what it holds and how to export it instead.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    for problem, hint in _problems(model):
        raise ExportError(f"graph `{name}` {problem}", hint)


def _problems(model: Any) -> Iterator[tuple[str, str]]:
    for node in model.graph.node:
        if node.domain not in {"", "ai.onnx"}:
            hint = "export it in fp32 or fp16: operators of ONNX Runtime alone are for its CPU and CUDA providers"
            yield f"holds `{node.domain}.{node.op_type}`, and TensorRT reads operators of ONNX alone", hint
        elif node.op_type in _INTEGER_PRODUCTS:
            hint = "export it in fp32 or fp16, or give its graph a `calibration`"
            yield f"holds `{node.op_type}`: TensorRT reads int8 as calibrated, symmetric pairs of Quantize and Dequantize", hint
        elif node.op_type not in OPERATORS:
            yield f"holds `{node.op_type}`, which TensorRT does not know", "write it with other operators"
    yield from _quantized(model)
    yield from _attention(model)


def _quantized(model: Any) -> Iterator[tuple[str, str]]:
    """Zero points are int8 zeros, and nothing is stored as int32: other pairs of Quantize and Dequantize are refused."""
    import onnx

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    allowed = {onnx.TensorProto.INT8, onnx.TensorProto.INT4, onnx.TensorProto.FLOAT8E4M3FN}
    hint = "quantise it as symmetric int8 with float biases, as `emova export onnx --precision int8 --portable` does"
    for node in model.graph.node:
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        stored = constants.get(node.input[0])
        if stored is not None and node.op_type == "DequantizeLinear" and stored.data_type not in allowed:
            yield f"stores `{stored.name}` as {onnx.TensorProto.DataType.Name(stored.data_type).lower()}", hint
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and (zero.data_type not in allowed or _nonzero(zero)):
            yield f"quantises `{node.input[0]}` asymmetrically", hint


def _nonzero(tensor: Any) -> bool:
    import onnx

    return tensor.data_location != onnx.TensorProto.EXTERNAL and bool(onnx.numpy_helper.to_array(tensor).any())


def _attention(model: Any) -> Iterator[tuple[str, str]]:
    import onnx

    opset = max((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), default=0)
    attentions = [node for node in model.graph.node if node.op_type == "Attention"]
    if opset <= _NEWEST_FLOAT32_ATTENTION or not attentions:
        return
    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.input)}
    if any(kinds.get(node.input[0]) == onnx.TensorProto.FLOAT for node in attentions):
        yield "holds `Attention` in float32, for which TensorRT has no kernel", "export it with opset 20, or in fp16"
