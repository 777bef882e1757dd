"""Exports: dynamic axes that stay dynamic, parity that cannot lie, precisions, bundles that are whole or not there."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from emova_sdk.cli.app import run
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.runtimes.export_folder import ExportFolder
from emova_sdk.components.runtimes.onnx_session import open_session, run_session
from emova_sdk.errors import BackendError, ConfigError, EmovaError, ExportError, InputError, LoadError, ParityError
from emova_sdk.exporters.export import export_components
from emova_sdk.exporters.onnx import export_onnx, files_of
from emova_sdk.exporters.parity import check_sizes, compare, require
from emova_sdk.exporters.quantize import PRECISIONS
from emova_sdk.exporters.report import report
from emova_sdk.exporters.verify import read_manifest, verify_export
from emova_sdk.testing.fakes import FakeVisionEncoder

BATCH, TIME = Axis("batch", 1, 2, 4), Axis("time", 1, 7, 40)


class Network(nn.Module):
    """A convolution, two products and a choice: what the real components are made of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv1d(32, 32, 3, padding=1)
        self.wide = nn.Linear(32, 64)
        self.narrow = nn.Linear(64, 8)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.convolution(x.transpose(1, 2)).transpose(1, 2) * mask[..., None]
        y = self.narrow(torch.tanh(self.wide(x)))
        return y, y.argmax(-1)


def inputs(batch: int = 2, time: int = 7) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * 100 + time)
    return {"x": torch.randn(batch, time, 32, generator=generator), "mask": torch.ones(batch, time)}


def graph(module: nn.Module | None = None, **changes: Any) -> Graph:
    dynamic = {"x": {0: BATCH, 1: TIME}, "mask": {0: BATCH, 1: TIME}}
    facts: dict[str, Any] = {
        "name": "network",
        "source": module or Network(),
        "inputs": inputs(),
        "outputs": ("y", "ids"),
        "dynamic": dynamic,
        "sample": lambda sizes: inputs(sizes["batch"], sizes["time"]),
        "metadata": {"sample_rate": "16000"},
    }
    return Graph(**(facts | changes))


class Exportable(FakeVisionEncoder):
    def __init__(self, *graphs: Graph) -> None:
        self._graphs = list(graphs) or [graph()]

    def graphs(self) -> list[Graph]:
        return self._graphs


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(graph(), tmp_path_factory.mktemp("export") / "network.onnx")


def test_the_file_passes_the_checker_and_runs_in_a_bare_session(exported: Path) -> None:
    onnx.checker.check_model(str(exported), full_check=True)
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["x", "mask"]
    assert [value.shape[:2] for value in session.get_inputs()] == [["batch", "time"]] * 2
    assert session.get_modelmeta().custom_metadata_map == {"emova.graph": "network", "emova.sample_rate": "16000"}
    y, ids = session.run(None, {name: tensor.numpy() for name, tensor in inputs(3, 11).items()})
    assert (y.shape, ids.shape) == ((3, 11, 8), (3, 11))


def test_weights_lie_beside_the_graph_and_no_path_of_this_machine_is_in_it(exported: Path) -> None:
    assert [file.name for file in files_of(exported)] == ["network.onnx", "network.onnx.data"]
    assert b"site-packages" not in exported.read_bytes()
    assert b"test_export" not in exported.read_bytes()


def test_parity_is_measured_at_the_shortest_an_odd_and_a_long_size(exported: Path) -> None:
    assert check_sizes(graph()) == [
        {"batch": 1, "time": 1},
        {"batch": 1, "time": 5},
        {"batch": 2, "time": 7},
        {"batch": 3, "time": 10},
    ]
    records = compare(graph(), exported)
    assert len(records) == 8
    assert all(record.passed for record in records)
    assert max(record.max_abs_diff for record in records) < 1e-5
    require(records, "network")


def test_a_graph_without_a_sampler_is_compared_on_tiled_examples(exported: Path) -> None:
    assert all(record.passed for record in compare(graph(sample=None), exported))


def test_another_network_is_caught_by_name(exported: Path) -> None:
    other = Network()
    with torch.no_grad():
        other.narrow.bias += 0.01
    with pytest.raises(ParityError, match=r"output `y` differs by 0\.01") as caught:
        require(compare(graph(other), exported), "network")
    assert (caught.value.output, caught.value.atol) == ("y", 1e-4)


def test_an_axis_that_was_fixed_silently_is_refused(tmp_path: Path) -> None:
    class Fixing(Network):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if x.shape[1] == 7:  # a branch on a size makes it a constant
                x = x + 1
            return super().forward(x, mask)

    with pytest.raises(ExportError):
        export_onnx(graph(Fixing()), tmp_path / "x.onnx")


def test_a_module_that_cannot_be_traced_is_an_export_error(tmp_path: Path) -> None:
    class Branching(Network):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> Any:
            return super().forward(x, mask) if float(x.sum()) > 0 else (x, mask)

    with pytest.raises(ExportError, match="cannot be traced") as caught:
        export_onnx(graph(Branching()), tmp_path / "x.onnx")
    assert caught.value.hint


def test_axes_check_themselves() -> None:
    with pytest.raises(InputError, match="not a valid axis"):
        Axis("time", 4, 2, 8)
    with pytest.raises(InputError, match="not a valid axis"):
        Axis("time", 4, 8, 18, multiple_of=4)
    with pytest.raises(InputError, match="two different axes"):
        _ = graph(dynamic={"x": {1: TIME}, "mask": {1: Axis("time", 1, 7, 50)}}).axes
    sizes = check_sizes(graph(dynamic={"x": {1: Axis("patches", 4, 16, 64, multiple_of=4)}}))
    assert [size["patches"] for size in sizes] == [4, 8, 16, 24]


@pytest.mark.parametrize(
    "precision", [pytest.param(one, marks=[] if one == "int8" else [pytest.mark.slow]) for one in PRECISIONS]
)
def test_a_bundle_is_verified_whole_and_can_be_verified_again(tmp_path: Path, precision: Any) -> None:
    # `ids` are the argmax of random values: next to a tie any rounding decides
    component = Exportable(graph(calibration=lambda: [inputs(2, size) for size in (3, 9, 20)], mismatch=0.3))
    told: list[str] = []
    manifest = export_components(
        {"vision_encoder": component}, tmp_path / "out", precision=precision, source="mine", progress=told.append
    )
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest
    record = manifest["components"]["vision_encoder"][0]
    assert all(one["passed"] for one in record["parity"])
    assert "vision_encoder: comparing network" in told
    assert report(manifest) == (tmp_path / "out" / "report.md").read_text()
    assert read_manifest(tmp_path / "out") == manifest
    again = verify_export({"vision_encoder": component}, tmp_path / "out")
    assert len(again["vision_encoder"]["network"]) == 10  # at other sizes as well
    stored = verify_export(None, tmp_path / "out")
    assert [one["sizes"] for one in stored["vision_encoder"]["network"][::2]] == [one["sizes"] for one in record["parity"][::2]]
    onnx.checker.check_model(str(tmp_path / "out" / record["file"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert len(list((tmp_path / "out" / "vision_encoder").iterdir())) == 3


@pytest.mark.slow
def test_smaller_precisions_are_smaller(tmp_path: Path) -> None:
    component = Exportable(graph(calibration=lambda: [inputs(8, 40)], mismatch=0.3))
    bytes_of: dict[str, int] = {}
    for precision in PRECISIONS:
        manifest = export_components({"vision_encoder": component}, tmp_path / precision, precision=precision)
        files = manifest["components"]["vision_encoder"][0]["files"]
        bytes_of[precision] = next(facts["bytes"] for name, facts in files.items() if name.endswith(".data"))
    assert bytes_of["fp16"] < 0.6 * bytes_of["fp32"]
    assert bytes_of["int8"] < 0.5 * bytes_of["fp32"]


def test_a_failing_parity_leaves_nothing_behind_and_an_earlier_export_whole(tmp_path: Path) -> None:
    class Untrue(Network):
        """Computes something else when it is traced: what a broken exporter would do."""

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y, ids = super().forward(x, mask)
            return (y + 1 if torch.compiler.is_exporting() else y), ids

    out = tmp_path / "out"
    before = export_components({"vision_encoder": Exportable()}, out)
    with pytest.raises(InputError, match="holds an earlier export"):
        export_components({"vision_encoder": Exportable()}, out)
    with pytest.raises(ParityError):
        export_components({"vision_encoder": Exportable(graph(Untrue()))}, out, force=True)
    assert read_manifest(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_bundle_brings_what_its_components_read_and_a_config_that_runs_it(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a b c")

    class Worded(Exportable):
        def assets(self) -> dict[str, Path]:
            return {"words/known.txt": words}

    out = tmp_path / "out"
    manifest = export_components({"vision_encoder": Worded(graph(metadata={"family": "emova"}))}, out)
    assert (out / "vision_encoder/words/known.txt").read_text() == "a b c"
    assert list(manifest["assets"]["vision_encoder"]) == ["vision_encoder/words/known.txt"]
    assert (out / "assistant.toml").read_text() == '[vision_encoder]\ntype = "onnx"\npath = "."\n'
    (out / "vision_encoder/words/known.txt").write_text("a b d")
    with pytest.raises(LoadError, match="not what was exported"):
        read_manifest(out)


def test_a_folder_that_is_no_export_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is no export"):
        export_components({"vision_encoder": Exportable()}, tmp_path)
    with pytest.raises(ExportError, match="none of these"):
        export_components({"vision_encoder": FakeVisionEncoder()}, tmp_path / "out")


def test_a_broken_bundle_is_one_load_error(tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = export_components({"vision_encoder": Exportable()}, out)
    weights = out / "vision_encoder" / "network.onnx.data"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match="not what was exported"):
        read_manifest(out)
    with pytest.raises(LoadError, match="cannot be opened"):
        open_session(out / "vision_encoder" / "network.onnx")
    weights.unlink()
    with pytest.raises(LoadError, match="missing"):
        read_manifest(out)
    (out / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(LoadError, match="form 99"):
        read_manifest(out)
    (out / "manifest.json").write_text("{")
    with pytest.raises(LoadError, match="not the manifest"):
        read_manifest(out)
    with pytest.raises(LoadError, match="does not exist"):
        open_session(out / "nothing.onnx")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An export, and its manifest, which tests write anew."""

    class Worded(Exportable):
        def assets(self) -> dict[str, bytes]:
            return {"words.txt": b"a b c"}

    folder = tmp_path_factory.mktemp("whole") / "out"
    return folder, export_components({"vision_encoder": Worded(graph(metadata={"family": "emova"}))}, folder, source="mine")


def looked_at(folder: Path) -> None:
    """What a user does with an export, without its original."""
    report(read_manifest(folder))
    verify_export(None, folder)
    ExportFolder(str(folder), "vision_encoder", lambda file, _: open_session(file, threads=1)).open("network")


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "vision_encoder/../../x", "C:x", "..\\x", "", ".", "a\0b", "\ud800"]
)
def test_no_manifest_names_a_file_outside_of_its_folder(whole: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, manifest = whole
    for put in (
        lambda made, record: record.update(file=name, files={name: {"bytes": 1, "sha256": ""}}),
        lambda made, record: record.update(golden=name),
        lambda made, record: record["files"].update({name: {"bytes": 1, "sha256": ""}}),
        lambda made, record: made["assets"].update(vision_encoder={name: {"bytes": 1, "sha256": ""}}),
        lambda made, record: made["components"].update({name: [record]}),
    ):
        made = deepcopy(manifest)
        put(made, made["components"]["vision_encoder"][0])
        (folder / "manifest.json").write_text(json.dumps(made))
        for look in (
            read_manifest,
            lambda place: ExportFolder(str(place), "vision_encoder", lambda file, _: open_session(file)),
        ):
            with pytest.raises(LoadError, match=r"outside of it|is no role|surrogates"):
                look(folder)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["network", "x", "fp32"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def changed(tree: Any, draw: Any) -> Any:
    """A copy in which one place holds something else, or nothing."""
    if not isinstance(tree, dict | list) or not tree or draw(st.integers(0, 9)) == 0:
        return draw(ANYTHING)
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    key = draw(st.sampled_from(keys))
    copy = deepcopy(tree)
    if draw(st.integers(0, 4)) == 0:
        del copy[key]
    else:
        copy[key] = changed(tree[key], draw)
    return copy


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_manifest_says_it_is_read_or_refused_in_words(whole: tuple[Path, dict[str, Any]], data: Any) -> None:
    folder, manifest = whole
    (folder / "manifest.json").write_text(json.dumps(changed(manifest, data.draw)))
    with suppress(EmovaError):
        looked_at(folder)


@pytest.mark.parametrize("text", ["", "null", "[]", "3", "{}", '{"schema": 1}', "[" * 100_000, '{"schema": NaN}', "\ufeff{}"])
def test_a_manifest_of_another_shape_is_refused(whole: tuple[Path, dict[str, Any]], text: str) -> None:
    (whole[0] / "manifest.json").write_text(text)
    with pytest.raises(LoadError, match="manifest"):
        looked_at(whole[0])
    with pytest.raises(LoadError, match="manifest"):
        ExportFolder(str(whole[0]), "vision_encoder", lambda file, _: open_session(file))


def test_another_graph_than_the_manifest_says_is_refused(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, manifest = whole
    made = deepcopy(manifest)
    made["components"]["vision_encoder"][0]["outputs"] = ["y", "words"]
    (folder / "manifest.json").write_text(json.dumps(made))
    exported = ExportFolder(str(folder), "vision_encoder", lambda file, _: open_session(file, threads=1))
    with pytest.raises(LoadError, match="outputs `ids, y` in place of `y, words`"):
        exported.open("network")


def test_verifying_with_another_config_says_so(tmp_path: Path) -> None:
    export_components({"vision_encoder": Exportable()}, tmp_path / "out")
    with pytest.raises(ExportError, match="the config does not"):
        verify_export({}, tmp_path / "out")
    with pytest.raises(ExportError, match="offers no graph"):
        verify_export({"vision_encoder": FakeVisionEncoder()}, tmp_path / "out")


def test_a_session_says_what_is_wrong(exported: Path) -> None:
    session = open_session(exported, threads=1)
    with pytest.raises(BackendError, match="an exported graph failed"):
        run_session(session, {"x": np.zeros((1, 1, 3), np.float32), "mask": np.ones((1, 1), np.float32)})
    with pytest.raises((ConfigError, LoadError)):
        open_session(exported, providers=("NoSuchExecutionProvider",))


def test_the_command_lists_refuses_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "onnx", "-c", "fake", "--out", str(tmp_path / "out"), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["export", "onnx", "-c", "fake", "--out", str(tmp_path / "out")]) == 1
    assert "error: none of these components offers a graph" in capsys.readouterr().err
    assert run(["export", "onnx", "-c", "fake", "--component", "eyes", "--out", str(tmp_path / "out")]) == 1
    assert "no slot `eyes`" in capsys.readouterr().err
    (tmp_path / "manifest.json").touch()
    for command in (["onnx", "-c", "no-such-config"], ["tensorrt", "no-such-export"]):  # said before anything is read
        assert run(["export", *command, "--out", str(tmp_path)]) == 1
        assert "hint: choose another folder, or replace it with `--force`" in capsys.readouterr().err
    assert run(["export", "verify", str(tmp_path)]) == 1
    assert "manifest" in capsys.readouterr().err


def test_a_manifest_with_an_axis_that_fills_the_memory_is_refused(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, manifest = whole
    made = deepcopy(manifest)
    axes = made["components"]["vision_encoder"][0]["axes"]
    axes[next(iter(axes))] |= {"max": 10**12, "opt": 10**12}
    (folder / "manifest.json").write_text(json.dumps(made))
    with pytest.raises(LoadError, match="axis"):
        read_manifest(folder)
