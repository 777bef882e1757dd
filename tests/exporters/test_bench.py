"""``emova bench``: candidates that take turns, what is said of those that cannot run, memory, and the picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from pydantic import TypeAdapter

from emova_sdk.bench.candidates import Candidate, RunOutput
from emova_sdk.bench.limits import Cost, MachineLimits, measure_limits
from emova_sdk.bench.memory import peak_rss_bytes
from emova_sdk.bench.runner import Measurement, Workload, measure
from emova_sdk.cli.app import run
from emova_sdk.cli.bench_plot import draw_measurements
from emova_sdk.cli.json_records import schema

INPUT = Path(__file__).parents[2] / "examples" / "input"
LIMITS = MachineLimits(gflop_s=100.0, gb_s=20.0)


@dataclass(frozen=True)
class Waiting(Candidate):
    """Takes a time that does not depend on the machine: the clock is moved by hand."""

    clock: Any = None
    seconds: float = 0.0

    def open(self) -> Any:
        def work() -> RunOutput:
            self.clock.now += self.seconds
            return self.output

        return work, lambda: None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr("emova_sdk.bench.runner.perf_counter", moved)
    return moved


def test_medians_are_compared_with_the_first(clock: Clock) -> None:
    candidates = [
        Waiting("torch", clock=clock, seconds=0.4, output=RunOutput(first_s=0.1, audio_s=2.0, tokens=8)),
        Waiting("onnx", clock=clock, seconds=0.1, output=RunOutput(0.05, 2.0, 8), disk_bytes=3_000_000),
    ]
    cost = Cost(flop=1e9, weight_bytes=1e9)
    slow, fast = measure(Workload("turn", candidates, cost), LIMITS, rounds=3, memory=False)
    assert (slow.ratio, fast.ratio) == pytest.approx((1.0, 4.0))
    assert slow.median_s == pytest.approx(0.4)
    assert (slow.first_s, slow.real_time_factor, slow.tokens_s) == pytest.approx((0.1, 0.2, 20.0))
    assert slow.limit_share == pytest.approx((1 / 20) / 0.4)  # it reads a gigabyte at 20 GB/s
    assert fast.limit_share == pytest.approx((1 / 100) / 0.1)  # small weights stay in the caches
    assert (slow.weight_bytes, fast.weight_bytes) == (1_000_000_000, 3_000_000)


def test_one_that_cannot_run_has_a_row_that_says_why(clock: Clock) -> None:
    class Broken(Candidate):
        def open(self) -> Any:
            raise RuntimeError("backend='inductor' raised:\nInvalidCxxCompiler: no compiler\nand a long tale")

    candidates = [
        Waiting("torch", clock=clock, seconds=0.2),
        Broken("torch compiled"),
        Candidate("onnx int8", error="graph `tokenizer` differs"),
    ]
    found = measure(Workload("turn", candidates), LIMITS, rounds=1, memory=False)
    assert [(one.candidate, one.error) for one in found[1:]] == [
        ("torch compiled", "InvalidCxxCompiler: no compiler"),
        ("onnx int8", "graph `tokenizer` differs"),
    ]
    assert found[1].median_s is None
    assert found[0].ratio == 1.0


def test_the_machine_is_measured() -> None:
    found = measure_limits()
    assert found.gflop_s > 0.1
    assert found.gb_s > 0.1


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("torch", "fake", ("vocoder.sample_rate=8000",), text="hi"),
        Candidate("torch", "fake", slot="vocoder"),
        Candidate("onnx", slot="vocoder", graph="g", inputs="x.npz", file="g.onnx", record={"a": [1]}, output=RunOutput(0.1)),
    ],
)
def test_candidates_can_be_made_by_another_process(candidate: Candidate) -> None:
    assert TypeAdapter(Candidate).validate_json(json.dumps(asdict(candidate))) == candidate


@pytest.mark.parametrize("slot", ["speech_tokenizer", "style_module", "vision_encoder", "llm_core", "vocoder"])
def test_every_slot_has_typical_work(slot: str) -> None:
    files: Any = {"audio": str(INPUT / "question.flac"), "image": str(INPUT / "scene.png")}
    work, close = Candidate("torch", "fake", slot=slot, **files).open()
    sample = work()
    close()
    assert (sample.audio_s is not None) == (slot in {"speech_tokenizer", "style_module", "vocoder"})
    assert (sample.first_s is not None) == (slot in {"llm_core", "vocoder"})
    assert bool(sample.tokens) == (slot == "llm_core")


def test_a_turn_is_heard_answered_and_spoken() -> None:
    question = Candidate("torch", "fake", audio=str(INPUT / "question.flac"), image=str(INPUT / "scene.png"))
    work, close = question.open()
    sample = work()
    close()
    assert sample.audio_s
    assert sample.first_s is not None


def test_what_torch_calls_is_compiled_and_what_it_cannot_is_said(
    monkeypatch: pytest.MonkeyPatch, tiny: Path, tmp_path: Path, written_config: Any
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    candidate = Candidate("torch compiled", str(written_config(tmp_path, tiny)), slot="vocoder", compiled=True)
    work, close = candidate.open()
    assert work().audio_s
    close()
    assert compiled
    nothing = Candidate("torch compiled", "fake", slot="vocoder", compiled=True)
    [found] = measure(Workload("vocoder", [nothing]), LIMITS, rounds=1, memory=False)
    assert found.error.startswith("no module of torch is called")


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own(bundle: Path, tiny: Path, tmp_path: Path) -> None:
    record = next(
        one for one in json.loads((bundle / "manifest.json").read_text())["components"]["vocoder"] if one["name"] == "generator"
    )
    np.savez(tmp_path / "x.npz", latents=np.zeros((1, 8, 20), np.float32), style=np.ones((1, 12), np.float32))
    exported: Any = {"file": str(bundle / record["file"]), "record": record, "disk_bytes": 5}
    candidate = Candidate("onnx fp32", slot="vocoder", graph="generator", inputs=str(tmp_path / "x.npz"), **exported)
    [row] = measure(Workload("g", [candidate]), LIMITS, rounds=2)
    assert row.error == ""
    assert row.peak_rss_bytes is not None
    own = peak_rss_bytes()
    assert own is not None
    assert 20e6 < row.peak_rss_bytes < own  # without torch, which is in this one


@pytest.fixture
def compared(
    bundle: Path, tiny: Path, tmp_path: Path, written_config: Callable[[Path, Path], Path], capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    command = ["bench", "-c", str(written_config(tmp_path, tiny)), "--component", "vocoder", "--against", str(bundle)]
    command += [
        "--no-compile",
        "--no-memory",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--out",
        str(tmp_path / "bench.png"),
        "--json",
    ]
    before = torch.get_num_threads()
    assert run(command) == 0
    assert torch.get_num_threads() == before
    record = json.loads(capsys.readouterr().out)
    jsonschema.validate(record, schema("bench"))
    with Pillow.open(tmp_path / "bench.png") as drawn:
        assert drawn.size[0] == 1920
    return record


def test_a_component_and_its_graphs_are_compared_with_their_export(compared: dict[str, Any]) -> None:
    rows = [Measurement(**row) for row in compared["rows"]]
    subjects = ["vocoder", "vocoder: prior", "vocoder: latents", "vocoder: generator"]
    assert [(row.workload, row.candidate) for row in rows] == [
        (one, name) for one in subjects for name in ("torch", "onnx fp32")
    ]
    assert all(row.median_s and not row.error for row in rows)
    assert all(row.ratio == 1.0 for row in rows if row.candidate == "torch")
    generator = rows[-1]
    assert generator.real_time_factor
    assert generator.limit_share
    assert generator.weight_bytes
    assert rows[1].first_s
    assert compared["machine"]["threads"] == 1


def test_a_turn_of_components_that_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "-c", "fake", "--no-compile", "--no-memory", "--rounds", "1", "--precision", "fp32"]
    assert run(command) == 0
    said = capsys.readouterr().out
    assert "turn" in said
    assert "onnx fp32: none of these components offers a graph" in said
    assert "limits in float32" in said
    assert run(["bench", "-c", "fake", "--precision", "fp31"]) == 1
    assert "no precision `fp31`" in capsys.readouterr().err
    assert run(["bench", "-c", "fake", "--component", "eyes", "--no-compile", "--precision", "fp32"]) == 1
    assert "has no `eyes`" in capsys.readouterr().err
    assert run(["bench", "-c", "fake", "--against", str(tmp_path)]) == 1
    assert "manifest" in capsys.readouterr().err


def test_the_picture_is_as_high_as_there_are_rows() -> None:
    row = Measurement("turn", "torch", ratio=1.0, median_s=0.1, limit_share=0.5)
    one = draw_measurements([row], title="one")
    more = draw_measurements(
        [row, replace(row, candidate="onnx", ratio=3.0, first_s=0.01), Measurement("turn", "x", error="broken")], title="more"
    )
    assert more.pixels.shape[0] > one.pixels.shape[0]
    assert np.any(np.all(more.pixels == (200, 52, 48), axis=-1))  # the machine's limit


@pytest.mark.slow
def test_torch_compile_takes_part(tiny: Path, tmp_path: Path, written_config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "-c", str(written_config(tmp_path, tiny)), "--component", "style_module", "--precision", "fp32"]
    assert run([*command, "--no-memory", "--rounds", "1", "--threads", "1", "--json"]) == 0
    rows = [Measurement(**row) for row in json.loads(capsys.readouterr().out)["rows"]]
    compiled = next(row for row in rows if (row.workload, row.candidate) == ("style_module: style_encoder", "torch compiled"))
    assert compiled.median_s, compiled.error
