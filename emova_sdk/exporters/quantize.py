"""Smaller and faster variants of an exported graph. Each is measured against the original again, under its own tolerance."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

from emova_sdk.components.graph import Graph
from emova_sdk.errors import ExportError
from emova_sdk.exporters.calibration import has_convolutions, quantize_calibrated
from emova_sdk.exporters.parity import Tolerance
from emova_sdk.exporters.saturation import bound_pairs, require_safe
from emova_sdk.exporters.weight_only import READERS, quantize_weights

Precision = Literal["fp32", "fp16", "int8", "int4"]
_PRODUCTS = frozenset({"MatMul", "Gemm"})
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
BLOCK_SIZES = (16, 32, 64, 128, 256)
KeptPart = Literal["nothing", "sums", "convolutions", "activations", "weights"]
"""What is kept in a higher precision: ``sums``, ``convolutions`` too, or all ``activations`` in float32; ``weights`` in 8 bits
rather than 4."""


def checked_precision(name: str) -> Precision:
    """A precision by name.

    Raises:
        ExportError: For ``bf16``, whose graphs nothing here could compare with their originals, and for unknown names.
    """
    if name == "bf16":
        raise ExportError(
            "graphs in bf16 cannot be checked: ONNX Runtime computes them on GPUs alone, and nothing is exported unchecked",
            "export in fp16, or in int8, which is as small again by half",
        )
    for known in PRECISIONS:
        if name == known:
            return known
    raise ExportError(f"there is no precision `{name}`", f"choose one of {', '.join(PRECISIONS)}")


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(),
    "fp16": Tolerance(cosine=0.999, mismatch=0.01),
    "int8": Tolerance(cosine=0.99, mismatch=0.02),
    "int4": Tolerance(cosine=0.95, mismatch=0.10),
}
"""What counts as equal to the float32 original: for reduced precisions the angle between outputs, not their difference."""


@dataclass(frozen=True)
class Method:
    """How a precision is reached.

    Attributes:
        block_size: Weights that share a scale, where matrices are stored in blocks: 16, 32, 64, 128 or 256. Larger blocks
            make smaller files that are less exact.
        portable: Whether 8-bit convolutions are what other runtimes than ONNX Runtime read as well.

    Raises:
        ExportError: If the block size is another.
    """

    block_size: int = 32
    portable: bool = False

    def __post_init__(self) -> None:
        if self.block_size not in BLOCK_SIZES:
            sizes = ", ".join(map(str, BLOCK_SIZES))
            raise ExportError(f"weights cannot be stored in blocks of {self.block_size}", f"choose one of {sizes}")


USUAL = Method()


def quantize(
    graph: Graph, source: Path, target: Path, *, precision: Precision, kept: KeptPart = "nothing", method: Method = USUAL
) -> Path:
    """Write a variant of an exported graph.

    ``fp16`` stores and computes in half precision, with inputs, outputs and spectra in float32. ``int8`` quantises matrix
    products dynamically and, if the graph can be sampled, convolutions and the sums between them statically from its own
    samples; with ``activations`` kept, weights are only stored in 8 bits. ``int4``, and ``int8`` where the graph asks for it,
    stores the weights of matrix products in blocks that share a scale.

    Args:
        graph: The original.
        source: Its float32 export.
        target: The file to write.
        precision: Which variant.
        kept: What stays in a higher precision.
        method: How.

    Returns:
        The path of the variant.

    Raises:
        ExportError: If the graph cannot be converted.
    """
    try:
        with _quietly():
            if precision == "fp16":
                _to_half(graph, source, target)
            elif precision == "int4":
                _to_blocks(source, target, 8 if kept == "weights" else 4, method.block_size)
            elif precision == "int8" and kept == "activations":
                _to_weight_only(source, target)
            elif precision == "int8" and graph.weights == "blocks":
                _to_blocks(source, target, 8, method.block_size)
            elif precision == "int8":
                _to_int8(graph, source, target, kept=kept, portable=method.portable)
            else:
                shutil.copy(source, target)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(f"graph `{graph.name}` cannot be converted to {precision}: {reason}", "export it in fp32") from error
    finally:
        gc.collect()  # the converters' models refer to themselves, and to a copy of the weights
    return target


def reducible(path: Path, precision: Precision) -> bool:
    """Whether an exported graph has weights that a precision reduces: of products and convolutions; in 4 bits, of products."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    readers = _PRODUCTS if precision == "int4" else READERS
    return any(node.op_type in readers and not constants.isdisjoint(node.input) for node in graph.node)


def smaller_in_4_bits(path: Path, block_size: int) -> bool:
    """Whether 4 bits, which hold matrix products alone, make a smaller file than 8, which hold convolutions as well."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    graph, kept = model.graph, set(_spectrum(model))
    sizes = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    read = {
        node.input[at]: node.op_type in _PRODUCTS
        for node in graph.node
        if (at := READERS.get(node.op_type)) and node.name not in kept
    }
    products, others = (sum(sizes.get(name, 0) for name, held in read.items() if held is kind) for kind in (True, False))
    return products * (0.5 + 4 / block_size) + others * 4 < products + others


@contextmanager
def _quietly() -> Generator[None, None, None]:
    """ONNX Runtime's converters log through the root logger and one of their own; nothing of theirs concerns a caller."""
    loggers = [logging.getLogger(), logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _save(model: Any, target: Path) -> None:
    import onnx_ir
    from onnx_ir.passes.common import TopologicalSortPass

    tidy = onnx_ir.from_proto(model)
    TopologicalSortPass()(tidy)  # the converters append their casts at the end
    onnx_ir.save(tidy, str(target), external_data=f"{target.name}.data", size_threshold_bytes=1024)


def _to_half(graph: Graph, source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(source))
    state = {*graph.state.keys(), *graph.state.values()}
    # a list is understood as well as the flag that the annotation asks for
    kept: Any = [value.name for value in (*model.graph.input, *model.graph.output) if value.name not in state]
    half = convert_float_to_float16(model, keep_io_types=kept, node_block_list=_spectrum(model))
    _drop_repeated(half)
    _save(half, target)


def _drop_repeated(model: Any) -> None:
    """ONNX Runtime 1.31 casts an input again for each kept node that reads it, under one name: once is enough."""
    made: set[str] = set()
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.op_type != "Cast" or not made.issuperset(node.output):
            nodes.append(node)
        made.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _spectrum(model: Any) -> list[str]:
    """Nodes from a sound to the logarithm or root of its spectrum: reduced precisions lack their range, and STFT a kernel.

    A spectrum is made by an STFT, or by products with a constant matrix ahead of a logarithm.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    readers = [(name, node) for node in model.graph.node for name in node.input]
    found: dict[str, Any] = {}
    transforms = [node for node in model.graph.node if node.op_type == "STFT"]
    waiting = transforms or [node for node in model.graph.node if node.op_type == "Log"]
    while waiting:  # upward to the sound
        node = waiting.pop()
        found[node.name] = node
        waiting += [makers[name] for name in node.input if name in makers and makers[name].name not in found]
    waiting = list(transforms)
    while waiting:  # and downward to the logarithm
        node = waiting.pop()
        found[node.name] = node
        if node.op_type not in {"Log", "Sqrt"}:
            waiting += [reader for name, reader in readers if name in node.output and reader.name not in found]
    return list(found)


def _to_blocks(source: Path, target: Path, bits: int, block_size: int) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(str(source))
    _gemms_as_products(model, source.parent)
    settings: dict[str, Any] = {"bits": bits, "block_size": block_size, "is_symmetric": True, "accuracy_level": 4}
    quantizer = MatMulNBitsQuantizer(model, nodes_to_exclude=_spectrum(model), **settings)
    quantizer.process()
    wrapped: Any = quantizer.model
    _save(getattr(wrapped, "model", wrapped), target)


def _gemms_as_products(model: Any, folder: Path) -> None:
    """Write Gemm as MatMul and Add: the converter to blocks passes over it.

    Args:
        model: The model; weights that were not loaded with it are read.
        folder: Where they lie.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        plain = settings.get("alpha", 1.0) == settings.get("beta", 1.0) == 1.0 and not settings.get("transA", 0)
        if node.op_type != "Gemm" or not plain or node.input[1] not in weights:
            nodes.append(node)
            continue
        name = f"{node.name}_weight"
        matrix = numpy_helper.to_array(weights[node.input[1]], str(folder))
        turned = np.ascontiguousarray(matrix.T) if settings.get("transB", 0) else matrix
        model.graph.initializer.append(numpy_helper.from_array(turned, name))
        product = f"{node.name}_product" if len(node.input) > 2 else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [product], name=f"{node.name}_product"))
        if product != node.output[0]:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=node.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    left = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(left)


def _to_weight_only(source: Path, target: Path) -> None:
    import onnx

    model = onnx.load(str(source))
    quantize_weights(model, exclude=_spectrum(model))
    _save(model, target)


def _to_int8(graph: Graph, source: Path, target: Path, *, kept: KeptPart, portable: bool) -> None:
    import onnx

    interim = target.with_name(f"{target.stem}.interim.onnx")
    bare = source.with_name(f"{source.stem}.bare.onnx")
    try:
        model = onnx.load(str(source), load_external_data=False)
        if has_convolutions(model) and kept != "convolutions" and graph.calibration is not None:
            sums, original = kept != "sums" and not portable, source
            quantize_calibrated(graph, source, interim, exclude=_spectrum(model), sums=sums, portable=portable)
        else:
            original = bare
            _quantize_products(model, bare, interim)
        quantised = onnx.load(str(interim))
        bound_pairs(quantised, original)
        _save(quantised, target)
    finally:
        for file in (interim, bare):
            file.unlink(missing_ok=True)
    require_safe(target)


def _quantize_products(model: Any, bare: Path, target: Path) -> None:
    """Matrix products in 8 bits, activations measured as they come; ``bare`` is written beside the weights of the model."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _gemms_as_products(model, bare.parent)  # the quantiser does it as well, and gives the turned weights no name of their own
    excluded = [*_stacked(model), *_spectrum(model)]
    del model.graph.value_info[:]  # the shapes of weights that are turned round are in it as well
    onnx.save(model, str(bare))
    quantize_dynamic(
        str(bare),
        str(target),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=excluded,
        extra_options={"MatMulConstBOnly": True},
    )


def _stacked(model: Any) -> list[str]:
    """Matrix products with constants that are not one matrix, which the kernel for dynamic int8 does not take."""
    others = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) != 2}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in others]
