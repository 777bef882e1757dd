"""Exports of large models: what is held and written of their weights, and what 8-bit convolutions look like."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2Model

from emova_sdk.cli.app import run
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.runtimes.decoder_graphs import decoder_graphs
from emova_sdk.errors import ExportError
from emova_sdk.exporters.calibration import outermost
from emova_sdk.exporters.export import export_components
from emova_sdk.exporters.onnx import export_onnx
from emova_sdk.exporters.parity import compare, require
from emova_sdk.exporters.quantize import TOLERANCES, Method, quantize, reducible
from emova_sdk.exporters.verify import verify_export
from emova_sdk.testing.fakes import FakeVisionEncoder

TIME = Axis("time", 2, 9, 40)


class Product(nn.Module):
    """A product with a large matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 512, generator=torch.Generator().manual_seed(0)) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


class Arranged(nn.Module):
    """The same with a copy of the matrix, as exporters like it."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.weight = nn.Buffer(product.weight.data.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


class Watching(FakeVisionEncoder):
    """Notes at each comparison whether the arranged copy is still in memory."""

    def __init__(self) -> None:
        self.product, self.held = Product(), list[bool]()

    def load(self) -> None:
        raise AssertionError("an exporter needs the graphs alone")

    def graphs(self) -> list[Graph]:
        arranged = Arranged(self.product)
        copy = weakref.ref(arranged.weight)

        class Watched(nn.Module):
            def forward(module, x: torch.Tensor) -> torch.Tensor:  # noqa: N805
                self.held.append(copy() is not None)
                return self.product(x)

        def sample(sizes: Any) -> dict[str, torch.Tensor]:
            return {"x": torch.randn(sizes["time"], 64, generator=torch.Generator().manual_seed(sizes["time"]))}

        inputs, dynamic = sample({"time": 7}), {"x": {0: TIME}}
        return [Graph("product", arranged, inputs, ("y",), dynamic, sample=sample, reference=Watched())]


@pytest.mark.parametrize(
    "precision", [pytest.param("fp32", marks=pytest.mark.slow), "int8", pytest.param("int4", marks=pytest.mark.slow)]
)
def test_no_second_copy_of_the_weights_is_held_or_left_behind(tmp_path: Path, precision: Any) -> None:
    eyes = Watching()
    manifest = export_components({"vision_encoder": eyes}, tmp_path / "out", precision=precision)
    verify_export({"vision_encoder": eyes}, tmp_path / "out")
    assert eyes.held
    assert not any(eyes.held)
    record = manifest["components"]["vision_encoder"][0]
    assert (record["precision"], record["kept"]) == (precision, [])
    files = sorted(file.name for file in (tmp_path / "out" / "vision_encoder").iterdir())
    assert files == sorted(Path(name).name for name in record["files"])
    assert len(files) == 3
    stored = sum(facts["bytes"] for name, facts in record["files"].items() if name.endswith(".data"))
    assert stored <= 1.1 * 4 * eyes.product.weight.numel()


def test_both_flavours_of_a_decoder_share_their_weights() -> None:
    config = Qwen2Config(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    runtime, portable = decoder_graphs(Qwen2Model(config).eval(), nn.Linear(32, 50, bias=False), longest=64, metadata={})
    for left, right in (
        (runtime.source.head, portable.source.head),
        (runtime.source.layers[1].down, portable.source.layers[1].down),
    ):
        assert left.data_ptr() == right.data_ptr()
    layer = runtime.reference.language_model.layers[0].self_attn
    joint = torch.cat([layer.q_proj.weight, layer.k_proj.weight, layer.v_proj.weight]).t()
    assert torch.equal(runtime.source.layers[0].qkv, joint)


class Table(nn.Module):
    """Nothing but a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(300, 16)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids)


class Readers(FakeVisionEncoder):
    def graphs(self) -> list[Graph]:
        ids = torch.arange(7)
        return [Graph("table", Table().eval(), {"ids": ids}, ("rows",), {"ids": {0: TIME}})]


@pytest.mark.parametrize(("strict", "precision"), [(False, "int8"), (True, "int8"), (False, "int4")])
def test_what_has_nothing_to_reduce_is_not_converted_and_says_so(tmp_path: Path, strict: bool, precision: Any) -> None:
    manifest = export_components({"vision_encoder": Readers()}, tmp_path / "out", precision=precision, strict=strict)
    record = manifest["components"]["vision_encoder"][0]
    assert record["precision"] == "fp32"
    assert record["kept"][0]["because"].startswith("it has no products")
    assert not reducible(tmp_path / "out" / record["file"], precision)


# --- blocks and convolutions ---


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_of_flat_rows_become_blocks_too(tmp_path: Path, bias: bool) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 96, bias=bias), nn.GELU(), nn.Linear(96, 64, bias=bias)).eval()

    def sample(sizes: Any) -> dict[str, torch.Tensor]:
        return {"input": torch.randn(sizes["time"], 64, generator=torch.Generator().manual_seed(sizes["time"]))}

    graph = Graph("flat", module, sample({"time": 7}), ("y",), {"input": {0: TIME}}, sample=sample)
    whole = export_onnx(graph, tmp_path / "flat.onnx")
    path = quantize(graph, whole, tmp_path / "small.onnx", precision="int4")
    kinds = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert kinds.count("MatMulNBits") == 2
    assert "Gemm" not in kinds
    assert path.with_name("small.onnx.data").stat().st_size < 0.3 * whole.with_name("flat.onnx.data").stat().st_size
    require(compare(graph, path, tolerance=TOLERANCES["int4"]), graph.name)


@pytest.mark.slow
def test_larger_blocks_make_smaller_files_and_others_are_refused(tmp_path: Path) -> None:
    graph = Watching().graphs()[0]
    whole = export_onnx(graph, tmp_path / "product.onnx")
    bytes_of: dict[int, int] = {}
    for size in (16, 64):
        path = quantize(graph, whole, tmp_path / f"{size}.onnx", precision="int4", method=Method(block_size=size))
        node = next(node for node in onnx.load(str(path)).graph.node if node.op_type == "MatMulNBits")
        assert next(one.i for one in node.attribute if one.name == "block_size") == size
        bytes_of[size] = path.with_name(f"{size}.onnx.data").stat().st_size
    assert bytes_of[64] < 0.8 * bytes_of[16]
    with pytest.raises(ExportError, match="blocks of 33"):
        Method(block_size=33)


def test_the_command_takes_a_block_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run(["export", "onnx", "-c", "fake", "--precision", "int4", "--block-size", "12", "--out", out]) == 1
    assert "choose one of 16, 32, 64, 128, 256" in capsys.readouterr().err


class Convolutions(nn.Module):
    """Four convolutions of which the outer two are small."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv1d(4, 32, 1), nn.Conv1d(32, 1, 3, padding=1)
        self.inner = nn.ModuleList([nn.Conv1d(32, 32, 3, padding=1) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        for one in self.inner:
            hidden = hidden + one(nn.functional.leaky_relu(hidden, 0.1))
        return self.last(hidden)[:, 0]


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Path]:
    def sample(sizes: Any) -> dict[str, torch.Tensor]:
        return {"x": torch.randn(2, 4, sizes["time"], generator=torch.Generator().manual_seed(sizes["time"]))}

    graph = Graph(
        "convolutions", Convolutions().eval(), sample({"time": 7}), ("y",), {"x": {2: TIME}}, sample=sample,
        calibration=lambda: [sample({"time": 40}), sample({"time": 39})],
    )  # fmt: skip
    return graph, export_onnx(graph, tmp_path_factory.mktemp("convolutions") / "whole.onnx")


@pytest.mark.parametrize(("portable", "kind"), [(False, np.uint8), (True, np.int8)])
def test_inner_convolutions_become_integers_and_the_outermost_stay(
    convolutions: tuple[Graph, Path], tmp_path: Path, portable: bool, kind: Any
) -> None:
    graph, whole = convolutions
    assert len(outermost(onnx.load(str(whole)))) == 2
    path = quantize(graph, whole, tmp_path / "small.onnx", precision="int8", method=Method(portable=portable))
    model = onnx.load(str(path))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kinds = {constants[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert kinds == {np.dtype(kind)}
    floats = [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in constants]
    assert sorted(constants[node.input[1]].shape for node in floats) == [(1, 32, 3), (32, 4, 1)]
    require(compare(graph, path, tolerance=TOLERANCES["int8"]), graph.name)


def test_sums_between_convolutions_are_in_8_bits_unless_kept(convolutions: tuple[Graph, Path], tmp_path: Path) -> None:
    graph, whole = convolutions

    def summed_in_floats(path: Path) -> int:
        nodes = onnx.load(str(path)).graph.node
        integers = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
        sums = [node for node in nodes if node.op_type == "Add"]
        return sum(not integers.issuperset(node.input) for node in sums)

    small = quantize(graph, whole, tmp_path / "small.onnx", precision="int8")
    finer = quantize(graph, whole, tmp_path / "finer.onnx", precision="int8", kept="sums")
    assert summed_in_floats(small) < summed_in_floats(finer)
    found = [compare(graph, path, tolerance=TOLERANCES["int8"]) for path in (small, finer)]
    assert min(one.cosine for one in found[0]) < min(one.cosine for one in found[1])
