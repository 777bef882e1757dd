"""A component whose graphs are ONNX files: exported, reduced and verified where torch is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.runtimes.graph_source import open_source
from emova_sdk.errors import ExportError, LoadError
from emova_sdk.exporters.export import export_components
from emova_sdk.exporters.onnx import export_onnx
from emova_sdk.exporters.tensorrt import export_engines
from emova_sdk.exporters.verify import verify_export
from emova_sdk.testing import run_checks
from emova_sdk.testing.fakes import FakeVisionEncoder

TIME = Axis("time", 2, 9, 40)
RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "kernel": (RANDOM.standard_normal((64, 32, 3)) / 10).astype(np.float16),
    "table": (RANDOM.standard_normal((16, 64)) / 8).astype(np.float16),  # a projection, turned round in the graph
}


def _nodes() -> list[Any]:
    """A convolution and a product whose weights are cast, and one of them transposed, in the graph."""
    return [
        helper.make_node("Cast", ["kernel"], ["kernel.float"], "cast_kernel", to=TensorProto.FLOAT),
        helper.make_node("Cast", ["table"], ["table.float"], "cast_table", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["table.float"], ["table.turned"], "turn", perm=[1, 0]),
        helper.make_node("Transpose", ["x"], ["channels"], "channels", perm=[0, 2, 1]),
        helper.make_node("Conv", ["channels", "kernel.float"], ["heard"], "conv", pads=[1, 1]),
        helper.make_node("Transpose", ["heard"], ["rows"], "rows", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "table.turned"], ["y"], "product"),
    ]


def write(folder: Path) -> Path:
    """A graph whose weights lie in a safetensors file in half precision."""
    folder.mkdir(exist_ok=True)
    save_file(WEIGHTS, folder / "model.safetensors")
    content = (folder / "model.safetensors").read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    stored = []
    for name, (first, last) in ((n, t["data_offsets"]) for n, t in json.loads(content[8:begin]).items()):
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=WEIGHTS[name].shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "model.safetensors", "offset": begin + first, "length": last - first}.items():
            tensor.external_data.add(key=key, value=str(value))
        stored.append(tensor)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time", 32])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "time", 16])]
    graph = helper.make_graph(_nodes(), "eyes", inputs, outputs, stored)
    (folder / "eyes.onnx").write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    )
    return folder / "eyes.onnx"


def sample(sizes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(sum(sizes.values()))
    return {"x": rng.standard_normal((sizes.get("batch", 2), sizes["time"], 32)).astype(np.float32)}


class Eyes(FakeVisionEncoder):
    def __init__(self, source: Path, **changes: Any) -> None:
        self.source, self.changes = source, changes

    def graphs(self) -> list[Graph]:
        facts: dict[str, Any] = {
            "name": "eyes",
            "source": self.source,
            "inputs": sample({"time": 7}),
            "outputs": ("y",),
            "dynamic": {"x": {0: Axis("batch", 1, 1, 4), 1: TIME}},
            "sample": sample,
            "calibration": lambda: [sample({"time": 40})],
        }
        return [Graph(**facts | self.changes)]


@pytest.fixture
def eyes(tmp_path: Path) -> Eyes:
    return Eyes(write(tmp_path / "preset"))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_it_is_exported_in_every_precision_and_verified_without_torch(
    eyes: Eyes, tmp_path: Path, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it is an error from here on
    manifest = export_components({"vision_encoder": eyes}, tmp_path / "out", precision=precision)
    [record] = manifest["components"]["vision_encoder"]
    # of a convolution and a product 4 bits hold the product alone: 8 bits are smaller
    assert record["precision"] == {"int4": "int8"}.get(precision, precision)
    assert all(one["passed"] for one in record["parity"])
    model = onnx.load(str(tmp_path / "out" / record["file"]))
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    stored = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "int8": TensorProto.INT8}
    assert kinds == {stored[record["precision"]]}
    verify_export({"vision_encoder": eyes}, tmp_path / "out")
    verify_export(None, tmp_path / "out")


def test_an_engine_is_built_of_it_without_torch(eyes: Eyes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the package tensorrt-rtx, which the extra `dev` brings on Linux x86-64")
    monkeypatch.setitem(sys.modules, "torch", None)
    export_components({"vision_encoder": eyes}, tmp_path / "onnx")
    manifest = export_engines(tmp_path / "onnx", tmp_path / "engines", target="rtx")
    [record] = manifest["components"]["vision_encoder"]
    assert (tmp_path / "engines" / record["file"]).stat().st_size > 10_000


def test_an_export_computes_what_the_file_computes(eyes: Eyes, tmp_path: Path) -> None:
    [graph] = eyes.graphs()
    path = export_onnx(graph, tmp_path / "eyes.onnx")
    assert [node.op_type for node in onnx.load(str(path)).graph.node] == ["Transpose", "Conv", "Transpose", "MatMul"]
    inputs = sample({"time": 11})
    expected = open_source(graph.source, graph)(inputs)["y"]
    found = open_source(path, graph)(inputs)["y"]
    assert expected.std() > 0.1
    assert np.abs(found - expected).max() < 1e-6


def test_the_conformance_kit_takes_a_file_for_a_module(eyes: Eyes) -> None:
    results = {one.name: one for one in run_checks(eyes)}
    for name in ("graphs_can_be_exported", "graphs_follow_their_axes"):
        assert results[name].passed, results[name].message
    results = {one.name: one for one in run_checks(Eyes(eyes.source, outputs=("z",)))}
    assert "names the outputs ['z'] and gives ['y']" in results["graphs_can_be_exported"].message


def test_a_file_of_another_graph_or_without_its_weights_is_refused(eyes: Eyes, tmp_path: Path) -> None:
    [other] = Eyes(eyes.source, outputs=("z",)).graphs()
    with pytest.raises(ExportError, match="not those of graph `eyes`"):
        export_onnx(other, tmp_path / "eyes.onnx")
    model = onnx.load(str(eyes.source), load_external_data=False)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7
    (fixed := eyes.source.with_name("fixed.onnx")).write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="axis `time` of `x`"):
        export_onnx(Eyes(fixed).graphs()[0], tmp_path / "eyes.onnx")
    weights = eyes.source.with_name("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ExportError, match="are not whole"):
        export_onnx(eyes.graphs()[0], tmp_path / "eyes.onnx")
    with pytest.raises(LoadError, match="cannot be opened"):
        open_source(eyes.source, eyes.graphs()[0])
