"""A reduced precision where it holds: what fails stays in float32 and says why; strictly it is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from emova_sdk.cli.app import run
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.errors import ExportError, LoadError, MissingDependencyError, ParityError
from emova_sdk.exporters.export import export_components
from emova_sdk.exporters.golden import load_cases
from emova_sdk.exporters.parity import cases_of
from emova_sdk.exporters.quantize import checked_precision
from emova_sdk.exporters.verify import verify_export
from emova_sdk.testing.fakes import FakeVisionEncoder

TIME = Axis("time", 2, 9, 40)


class Sensitive(nn.Module):
    """Rounds what a product gives: in 8 bits most values land elsewhere, next to a boundary anything may."""

    def __init__(self, steps: float | torch.Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.steps = nn.Parameter(torch.randn(32, 64) / 6), steps

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.sin(x @ self.weight) * self.steps
        return y, torch.round(y).long()


def sensitive(steps: float | torch.Tensor, **changes: Any) -> Graph:
    def sample(sizes: Any) -> dict[str, torch.Tensor]:
        rng = torch.Generator().manual_seed(sizes["time"])
        return {"x": torch.randn(sizes["time"], 32, generator=rng)}

    inputs, dynamic = sample({"time": 7}), {"x": {0: TIME}}
    return Graph("rounded", Sensitive(steps).eval(), inputs, ("y", "ids"), dynamic, sample=sample, **changes)


class Eyes(FakeVisionEncoder):
    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def graphs(self) -> list[Graph]:
        return [self._graph]


def exported(graph: Graph, out: Path, **options: Any) -> dict[str, Any]:
    return export_components({"vision_encoder": Eyes(graph)}, out, **options)["components"]["vision_encoder"][0]


def test_what_does_not_bear_8_bits_stays_in_float32_and_says_why(tmp_path: Path) -> None:
    record = exported(sensitive(100.0), tmp_path / "out", precision="int8")
    assert (record["precision"], record["file"]) == ("fp32", "vision_encoder/rounded.onnx")
    assert record["kept"][0]["part"] == "the whole graph"
    assert "output `ids`" in record["kept"][0]["because"]
    assert "Kept in a higher precision: the whole graph" in (tmp_path / "out" / "report.md").read_text()
    names = sorted(path.name for path in (tmp_path / "out" / "vision_encoder").iterdir())
    assert names == ["rounded.golden.safetensors", "rounded.onnx", "rounded.onnx.data"]


@pytest.mark.slow
def test_less_is_reduced_before_nothing_is(tmp_path: Path) -> None:
    # rows of 8-bit products are too coarse, weights in 8 bits alone are not
    record = exported(sensitive(40.0, mismatch=0.15), tmp_path / "out", precision="int8")
    assert record["precision"] == "int8"
    assert [kept["part"] for kept in record["kept"]] == ["activations"]
    model = onnx.load(str(tmp_path / "out" / record["file"]))
    stored = next(one for one in model.graph.initializer if one.name.endswith("int8"))
    assert (stored.data_type, len(stored.raw_data)) == (onnx.TensorProto.INT8, 32 * 64)
    assert {node.domain for node in model.graph.node} == {""}, "the standard's operators alone"


@pytest.mark.slow
def test_strictly_a_precision_that_fails_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="output `ids`"):
        exported(sensitive(100.0), tmp_path / "out", precision="int8", strict=True)
    assert not list(tmp_path.iterdir())


class Mostly(nn.Module):
    """A convolution with most of the weights, and a product."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.product = nn.Conv1d(32, channels, 3, padding=1), nn.Linear(channels, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(self.convolution(x.T[None])[0].T)


@pytest.mark.parametrize(("channels", "blocks", "held"), [(64, "rows", "int8"), (64, "blocks", "int4")])
def test_4_bits_are_never_larger_than_8_and_files_are_named_by_what_they_hold(
    tmp_path: Path, channels: int, blocks: Any, held: str
) -> None:
    inputs = {"x": torch.randn(7, 32, generator=torch.Generator().manual_seed(1))}
    calibration = {"calibration": lambda: [inputs]}
    graph = Graph("mostly", Mostly(channels).eval(), inputs, ("y",), {"x": {0: TIME}}, weights=blocks, **calibration)
    record = exported(graph, tmp_path / "out", precision="int4")
    assert (record["precision"], record["file"]) == (held, f"vision_encoder/mostly.{held}.onnx")
    if held == "int8":
        assert record["kept"][0]["part"] == "weights"
        assert "larger than in 8 bits" in record["kept"][0]["because"]
    else:  # of a language model 8 bits hold the products alone as well
        assert not record["kept"]


@pytest.mark.slow
def test_what_does_not_bear_4_bits_is_tried_in_8_in_every_way_there_is(tmp_path: Path) -> None:
    record = exported(sensitive(40.0, mismatch=0.15), tmp_path / "out", precision="int4")
    assert (record["precision"], record["file"]) == ("int8", "vision_encoder/rounded.int8.onnx")
    assert [kept["part"] for kept in record["kept"]] == ["weights", "activations"]


@pytest.mark.slow
def test_a_report_begins_with_what_to_ship(tmp_path: Path) -> None:
    exported(sensitive(2.0, mismatch=0.2), tmp_path / "small", precision="int8")
    told = (tmp_path / "small" / "report.md").read_text()
    assert told.splitlines()[2].startswith("Ship the whole folder: 1 graph, 0.0")
    assert "Stored as int8 (1)." in told
    assert "of 4 comparisons" in told
    assert "Gives the same answer on x86-64 with AVX2, " in told
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith(("| y ", "| ids "))]
    assert {row[0]: bool(row[5].strip()) for row in rows} == {"| y": False, "| ids": True}, "mismatch is of whole numbers"
    exported(sensitive(100.0), tmp_path / "same", precision="int8")
    assert "In float32 it is no larger" in (tmp_path / "same" / "report.md").read_text()


def test_an_export_of_an_earlier_version_is_verified_and_a_note_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> Any:
        raise MissingDependencyError("the vision encoder needs the package `torch`", "pip install torch", package="torch")

    monkeypatch.setattr("emova_sdk.cli.commands.export._components", missing)
    exported(sensitive(2.0, mismatch=0.2), tmp_path / "out", precision="int8", source="fake")
    assert run(["export", "verify", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "needs the package `torch`: compared with the golden outputs in the export" in told
    assert "of an earlier version" not in told
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    del manifest["components"]["vision_encoder"][0]["processors"]
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    assert run(["export", "verify", str(tmp_path / "out")]) == 0
    assert "note: rounded: of an earlier version" in capsys.readouterr().err


def largest_error(graph: Graph) -> float:
    """Of a product in 8 bits, before it is multiplied by the steps: whatever the rounding, no value is further off."""
    weight = graph.source.weight.detach()
    found = []
    for case in cases_of(graph):
        x = torch.from_numpy(case.inputs["x"])
        of_x, of_weight = (x.max() - x.min()) / 255, 2 * weight.abs().max() / 127
        found.append(of_x * weight.abs().sum(0).max() + of_weight / 2 * (x.abs().sum(1).max() + 32 * of_x))
    return float(max(found))


def test_values_next_to_a_boundary_may_round_either_way(tmp_path: Path) -> None:
    # of the outputs one half is finer than what 8 bits can tell, the other is not
    steps = torch.tensor([1.0] * 32 + [100.0] * 32)

    def far(outputs: Any) -> Any:
        return np.abs(outputs["y"] - np.floor(outputs["y"]) - 0.5) > 0.45 * steps.numpy()

    graph = sensitive(steps, certain={"ids": far})
    assert largest_error(graph) < 0.45, "so that the values which count are the same on every processor"
    assert all(0.02 < case.certain["ids"].mean() < 0.5 for case in cases_of(graph))
    record = exported(graph, tmp_path / "out", precision="int8", strict=True)
    assert record["precision"] == "int8"
    assert max(one["mismatch"] for one in record["parity"] if one["output"] == "ids") == 0.0
    with pytest.raises(ParityError):  # without the mask the fine half counts, where every fifth value at least is another
        exported(sensitive(steps), tmp_path / "other", precision="int8", strict=True)


def test_golden_outputs_are_those_of_the_original_and_a_broken_file_is_one_error(tmp_path: Path) -> None:
    graph = sensitive(2.0)
    record = exported(graph, tmp_path / "out")
    file = tmp_path / "out" / record["golden"]
    for stored, computed in zip(load_cases(file), cases_of(graph), strict=True):
        assert stored.sizes == computed.sizes
        assert (stored.inputs["x"] == computed.inputs["x"]).all()
        assert (stored.expected["ids"] == computed.expected["ids"]).all()
    assert file.stat().st_size < 500_000
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(LoadError, match="not what was exported"):
        verify_export(None, tmp_path / "out")
    with pytest.raises(LoadError, match="cannot be read"):
        load_cases(file)


def test_a_graph_that_is_not_the_original_fails_against_its_golden_outputs(tmp_path: Path) -> None:
    exported(sensitive(2.0), tmp_path / "out")
    exported(sensitive(2.1), tmp_path / "other")
    for name in ("rounded.onnx", "rounded.onnx.data"):
        (tmp_path / "out" / "vision_encoder" / name).write_bytes((tmp_path / "other" / "vision_encoder" / name).read_bytes())
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    other = json.loads((tmp_path / "other" / "manifest.json").read_text())
    files = manifest["components"]["vision_encoder"][0]["files"]
    files |= {name: facts for name, facts in other["components"]["vision_encoder"][0]["files"].items() if "onnx" in name}
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ParityError):
        verify_export(None, tmp_path / "out")


def test_bf16_is_refused_because_it_cannot_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "onnx", "-c", "fake", "--precision", "bf16", "--out", str(tmp_path / "out")]) == 1
    assert "cannot be checked" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ExportError, match="no precision"):
        checked_precision("fp8")
