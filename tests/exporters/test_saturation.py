"""8-bit products are the same on every processor: proven on the weights of exported graphs, without the processors."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper
from saturating import product

from emova_sdk.components.runtimes.onnx_session import exact_products, open_session
from emova_sdk.errors import ExportError
from emova_sdk.exporters.saturation import (
    LARGEST_SUM,
    bound_pairs,
    integer_weights,
    load_small,
    paired_sums,
    processors,
    require_safe,
    widest_pair,
)
from emova_sdk.processor import KINDS

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.integers(-127, 128, (63, 16)).astype(np.int8)
ACTIVATIONS = RANDOM.integers(0, 256, (5, 63)).astype(np.uint8)


def saved(path: Path, nodes: list[Any], shape: list[Any], kind: int, constants: dict[str, Any]) -> Path:
    """A model of one input `x` and one output `y`."""
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_empty_tensor_value_info("y")]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "made", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def product_of(path: Path, weights: Any) -> Path:
    node = helper.make_node("MatMulInteger", ["x", "w_quantized"], ["y"], "product")
    return saved(path, [node], ["rows", len(weights)], TensorProto.UINT8, {"w_quantized": weights})


def run(path: Path, x: Any, **options: Any) -> Any:
    return open_session(path, threads=1, **options).run(None, {"x": x})[0]


def test_onnx_runtime_multiplies_exactly_or_as_the_model_of_saturation_says(tmp_path: Path) -> None:
    exact, saturated = product(ACTIVATIONS, WEIGHTS), product(ACTIVATIONS, WEIGHTS, saturating=True)
    assert (exact == ACTIVATIONS.astype(int) @ WEIGHTS.astype(int)).all()
    assert np.mean(exact != saturated) > 0.3, "the example saturates"
    found = run(product_of(tmp_path / "p.onnx", WEIGHTS), ACTIVATIONS)
    assert (found == exact).all() or (found == saturated).all()


def test_a_convolution_pairs_channels_place_after_place(tmp_path: Path) -> None:
    # three channels and three places: pairs reach over from one place to the next
    kernel = RANDOM.integers(-127, 128, (8, 3, 3)).astype(np.int8)
    sound = RANDOM.integers(0, 256, (1, 3, 20)).astype(np.uint8)
    one = np.float32(1)
    constants = {"s": one, "z": np.uint8(0), "w": kernel, "ws": np.full(8, 1 / 512, np.float32), "wz": np.zeros(8, np.int8)}
    names = ["x", "s", "z", "w", "ws", "wz", "s", "z"]
    path = saved(
        tmp_path / "c.onnx", [helper.make_node("QLinearConv", names, ["y"], "c")], [1, 3, 20], TensorProto.UINT8, constants
    )
    (weights,) = integer_weights(onnx.load(str(path)))
    assert (weights.restored(weights.arranged(kernel)) == kernel).all()
    windows = np.lib.stride_tricks.sliding_window_view(sound[0], 3, axis=1).transpose(1, 2, 0).reshape(18, 9)
    expected = [
        np.clip(np.rint(product(windows, weights.values()[0], saturating=saturating) / 512), 0, 255).T
        for saturating in (False, True)
    ]
    assert (expected[0] != expected[1]).any(), "the example saturates"
    found = run(path, sound)[0]
    assert (found == expected[0]).all() or (found == expected[1]).all()


def test_what_is_not_known_to_be_safe_is_multiplied_exactly_everywhere(tmp_path: Path) -> None:
    path = product_of(tmp_path / "old.onnx", WEIGHTS)
    assert (run(path, ACTIVATIONS, options=exact_products({"name": "old"})) == product(ACTIVATIONS, WEIGHTS)).all()
    assert exact_products({"processors": {"safe": list(KINDS)}}) == {}


FLOATS = arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-8, 8, width=32))


@settings(max_examples=60, deadline=None)
@given(FLOATS)
def test_no_activation_can_make_bounded_weights_saturate(weights: Any) -> None:
    rounded = bounded("MatMulInteger", weights)
    values = rounded.values()
    assert paired_sums(values).max() <= LARGEST_SUM
    rows = np.stack([np.where(values[0, :, at] * sign > 0, 255, 0) for at in range(values.shape[2]) for sign in (1, -1)])
    assert (product(rows, values[0]) == product(rows, values[0], saturating=True)).all()


def bounded(operator: str, weights: Any, **attributes: Any) -> Any:
    """Weights of one node after `bound_pairs`."""
    node = helper.make_node(operator, ["x", "w_quantized"], ["y"], "n", **attributes)
    stored = {"w_quantized": np.zeros(weights.shape, np.int8), "w_scale": np.ones(weights.shape[1], np.float32)}
    graph = helper.make_graph([node], "g", [], [], [numpy_helper.from_array(v, k) for k, v in stored.items()])
    model = helper.make_model(graph)
    with TemporaryDirectory() as folder:
        original = Path(folder) / "original.onnx"
        onnx.save(helper.make_model(helper.make_graph([], "g", [], [], [numpy_helper.from_array(weights, "w")])), str(original))
        bound_pairs(model, original)
    scale = numpy_helper.to_array(model.graph.initializer[1])
    (found,) = integer_weights(model)
    assert np.abs(found.values()[0] * scale - weights).max() <= 0.51 * scale.max(), "nothing is clipped"
    return found


def test_scales_grow_no_more_than_pairs_need() -> None:
    # an output with one large weight in each pair loses nothing, one whose pairs are two large ones loses a bit
    weights = np.array([[1.0, 1.0], [-0.9, 1.0], [0.1, -1.0], [1.0, -1.0]], np.float32)
    values = bounded("MatMulInteger", weights).values()[0]
    assert np.abs(values).max(0).tolist() == [115, 64]
    assert paired_sums(values[None]).max() <= LARGEST_SUM


def test_a_graph_that_would_differ_between_processors_is_refused_and_says_why(tmp_path: Path) -> None:
    path = product_of(tmp_path / "wide.onnx", WEIGHTS)
    found = processors(path)
    assert found["safe"] == ["x86-64 with VNNI", "ARM64"]
    assert "32767 is allowed" in found["because"]
    with pytest.raises(ExportError, match="differ between processors"):
        require_safe(path)
    require_safe(product_of(tmp_path / "narrow.onnx", WEIGHTS // 2))
    assert processors(product_of(tmp_path / "narrow.onnx", WEIGHTS // 2))["safe"] == list(KINDS)


def test_where_the_pairs_are_not_known_any_two_weights_are_one() -> None:
    weights = np.zeros((4, 4), np.int8)
    weights[0, 0] = weights[3, 3] = 100
    graph = helper.make_graph(
        [helper.make_node("Novel", ["x", "w"], ["y"])], "g", [], [], [numpy_helper.from_array(weights, "w")]
    )
    assert widest_pair(helper.make_model(graph)) == 200
    graph.node[0].op_type = "MatMulInteger"
    assert widest_pair(helper.make_model(graph)) == 100


def with_weights_beside(folder: Path) -> Path:
    """A graph whose weights lie in `weights.data`, the second tensor of two."""
    model = onnx.load(product_of(folder / "p.onnx", WEIGHTS))
    tensor = model.graph.initializer[0]
    (folder / "weights.data").write_bytes(b"other" + tensor.raw_data)
    refer(tensor, "weights.data", len(tensor.raw_data))
    (folder / "p.onnx").write_bytes(model.SerializeToString())
    return folder / "p.onnx"


def refer(tensor: Any, location: str, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in {"location": location, "offset": "5", "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)


def test_weights_are_read_through_the_links_of_a_hub_cache(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for number, file in enumerate((path, tmp_path / "weights.data")):
        file.rename(tmp_path / "blobs" / str(number))
        (tmp_path / "snapshot" / file.name).symlink_to(f"../blobs/{number}")
    linked = tmp_path / "snapshot" / "p.onnx"
    assert (numpy_helper.to_array(load_small(linked).graph.initializer[0]) == WEIGHTS).all()
    assert processors(linked) == processors(product_of(tmp_path / "whole.onnx", WEIGHTS))


@pytest.mark.parametrize("location", ["../weights.data", "/weights.data", "a/../../weights.data", ""])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    path = with_weights_beside(tmp_path)
    model = onnx.load(path, load_external_data=False)
    refer(model.graph.initializer[0], location, WEIGHTS.size)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="outside its folder"):
        load_small(path)


def test_weights_that_are_cut_off_or_missing_are_refused(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path)
    (tmp_path / "weights.data").write_bytes(b"other and a few")
    with pytest.raises(ExportError, match="not whole"):
        load_small(path)
    (tmp_path / "weights.data").unlink()
    with pytest.raises(ExportError, match="cannot be read"):
        load_small(path)
