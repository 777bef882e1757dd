"""EMOVA's speech networks leave torch: each graph by itself, in a bare session, and chained as a host would chain them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from saturating import product

from emova_sdk import Audio, SpeechUnits
from emova_sdk.cli.app import run
from emova_sdk.components.base import Component
from emova_sdk.components.emova.speech.speech_tokenizer import EmovaSpeechTokenizer
from emova_sdk.components.emova.speech.style import EmovaStyle
from emova_sdk.components.emova.speech.vocoder import EmovaVocoder
from emova_sdk.components.exported import OnnxSpeechTokenizer, OnnxVocoder
from emova_sdk.errors import InputError, LoadError, ParityError
from emova_sdk.exporters.parity import compare, require
from emova_sdk.exporters.quantize import TOLERANCES, quantize
from emova_sdk.exporters.saturation import integer_weights, load_small, require_safe
from emova_sdk.exporters.verify import read_manifest
from emova_sdk.testing import run_checks

TYPES: dict[str, type[Component]] = {
    "speech_tokenizer": EmovaSpeechTokenizer,
    "style_module": EmovaStyle,
    "vocoder": EmovaVocoder,
}
SLOT_OF = {
    "tokenizer": "speech_tokenizer",
    "style_encoder": "style_module",
    "prior": "vocoder",
    "latents": "vocoder",
    "generator": "vocoder",
}
OTHER_SIZES = {
    "tokenizer": [{"batch": 1, "samples": 300}, {"batch": 3, "samples": 4441}, {"batch": 2, "samples": 20011}],
    "style_encoder": [{"batch": 1, "samples": 77}, {"batch": 3, "samples": 1501}, {"batch": 2, "samples": 9000}],
    "prior": [{"batch": 1, "units": 2}, {"batch": 3, "units": 31}, {"batch": 2, "units": 120}],
    "latents": [
        {"batch": 1, "units": 1, "frames": 9},
        {"batch": 3, "units": 40, "frames": 33},
        {"batch": 2, "units": 7, "frames": 400},
    ],
    "generator": [{"batch": 1, "frames": 2}, {"batch": 3, "frames": 45}, {"batch": 2, "frames": 300}],
}


@pytest.fixture(scope="module")
def parts(tiny: Path) -> dict[str, Any]:
    return {slot: kind(str(tiny), device="cpu") for slot, kind in TYPES.items()}


def graph_of(parts: dict[str, Any], name: str) -> Any:
    return next(graph for graph in parts[SLOT_OF[name]].graphs() if graph.name == name)


def file_of(bundle: Path, name: str) -> Path:
    return bundle / SLOT_OF[name] / f"{name}.onnx"


def bare(bundle: Path, name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(file_of(bundle, name)), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", SLOT_OF)
def test_the_file_passes_the_checker_and_runs_in_a_bare_session(bundle: Path, parts: dict[str, Any], name: str) -> None:
    onnx.checker.check_model(str(file_of(bundle, name)), full_check=True)
    session, graph = bare(bundle, name), graph_of(parts, name)
    assert {node.domain for node in onnx.load(str(file_of(bundle, name)), load_external_data=False).graph.node} <= {
        "",
        "ai.onnx",
    }
    assert [value.name for value in session.get_inputs()] == list(graph.inputs)
    outputs = session.run(None, dict(graph.sized({"batch": 2})))
    assert len(outputs) == len(graph.outputs)
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["emova.graph"] == name
    assert int(facts["emova.sample_rate"]) in {16000, 22050}


@pytest.mark.parametrize("name", SLOT_OF)
def test_parity_holds_at_the_shortest_and_at_sizes_never_exported(bundle: Path, parts: dict[str, Any], name: str) -> None:
    graph = graph_of(parts, name)
    record = next(one for one in read_manifest(bundle)["components"][SLOT_OF[name]] if one["name"] == name)
    sizes = [one["sizes"] for one in record["parity"] if one["output"] == graph.outputs[0]]
    assert len(sizes) >= 3
    assert sizes[0] == {axis.name: axis.min for axis in graph.axes.values()}
    require(compare(graph, file_of(bundle, name), sizes=OTHER_SIZES[name]), name)


@pytest.mark.slow
def test_the_command_verifies_again_and_notices_other_weights(
    bundle: Path, tiny: Path, tmp_path: Path, written_config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "verify", str(bundle)]) == 0
    assert "5 graphs agree" in capsys.readouterr().out
    other = shutil.copytree(tiny, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    save_file(tensors | {"decoder.dec.conv_pre.bias": tensors["decoder.dec.conv_pre.bias"] + 0.5}, other / "model.safetensors")
    assert run(["export", "verify", str(bundle), "-c", str(written_config(tmp_path, other))]) == 1
    assert "graph `generator`: output `audio` differs" in capsys.readouterr().err


def test_the_tokenizer_graph_hears_what_the_component_hears(bundle: Path, tiny: Path) -> None:
    sound = np.random.default_rng(3).normal(0, 0.1, 7001).astype(np.float32)
    inputs = {"audio": sound[None], "lengths": np.array([7001])}
    units, valid, _ = bare(bundle, "tokenizer").run(None, inputs)
    expected = EmovaSpeechTokenizer(str(tiny), device="cpu", reduced=False).encode([Audio(sound, 16000)])[0]
    assert len(set(expected.ids.tolist())) > 3
    assert np.mean(units[0, : valid[0]] != expected.ids) <= 0.01


def test_the_style_graph_hears_the_voice_the_component_hears(bundle: Path, parts: dict[str, Any]) -> None:
    sound = np.random.default_rng(4).normal(0, 0.1, 6000).astype(np.float32)
    expected = parts["style_module"].embed_recordings([Audio(sound, 22050)])
    found = bare(bundle, "style_encoder").run(None, {"audio": sound[None]})[0]
    assert np.abs(found - expected).max() <= 1e-5


def test_the_vocoder_graphs_chained_in_pieces_speak_what_the_component_speaks(bundle: Path, parts: dict[str, Any]) -> None:
    units = SpeechUnits.of(np.random.default_rng(1).integers(0, 64, 30))
    style = np.random.default_rng(2).normal(0, 0.3, (1, 12)).astype(np.float32)
    expected = parts["vocoder"].synthesize([units], style)[0].samples
    prior, latents, generator = (bare(bundle, name) for name in ("prior", "latents", "generator"))
    facts = generator.get_modelmeta().custom_metadata_map
    channels, step, context, reach = (
        int(facts[f"emova.{name}"]) for name in ("channels", "samples_per_frame", "generator_context", "flow_context")
    )
    noise, one = torch.Generator().manual_seed(0), np.ones(1, np.float32)
    drawn = torch.randn(1, 2, 30, generator=noise).numpy()
    inputs = {"units": units.ids[None], "lengths": np.array([30]), "style": style, "noise": drawn}
    durations, mean, logstd = prior.run(None, inputs | {"noise_scale": 0.8 * one, "length_scale": one})
    frames = int(durations.sum())
    drawn = torch.randn(1, channels, frames, generator=noise).numpy()
    inputs = {"durations": durations, "mean": mean, "logstd": logstd, "style": style, "noise_scale": 0.667 * one}
    whole = latents.run(None, inputs | {"noise": drawn})[0]
    # the first piece needs only the beginning of the frames
    begin = latents.run(None, inputs | {"noise": drawn[..., : 20 + context + reach]})[0][..., : 20 + context]
    assert np.abs(begin - whole[..., : begin.shape[-1]]).max() <= 1e-5
    pieces = []
    for start in range(0, frames, 20):
        first = max(0, start - context)
        part = np.ascontiguousarray(whole[..., first : start + 20 + context])
        wave = generator.run(None, {"latents": part, "style": style})[0][0]
        pieces.append(wave[(start - first) * step :][: 20 * step])
    found = np.concatenate(pieces)[: len(expected)]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize(
    ("name", "precision"),
    [(name, precision) for name in SLOT_OF for precision in ("fp16", "int8") if (name, precision) != ("tokenizer", "int8")],
)
def test_smaller_precisions_hold(bundle: Path, parts: dict[str, Any], tmp_path: Path, name: str, precision: Any) -> None:
    graph = graph_of(parts, name)
    path = quantize(graph, file_of(bundle, name), tmp_path / f"{name}.{precision}.onnx", precision=precision)
    require_safe(path)
    records = compare(graph, path, tolerance=TOLERANCES[precision])
    require([record for record in records if record.output not in {"units", "durations"}], name)


@pytest.mark.parametrize(("name", "multiplied"), [("style_encoder", 1), ("generator", 5)])
def test_in_8_bits_processors_that_saturate_compute_what_others_do(
    bundle: Path, parts: dict[str, Any], tmp_path: Path, name: str, multiplied: int
) -> None:
    path = quantize(graph_of(parts, name), file_of(bundle, name), tmp_path / f"{name}.int8.onnx", precision="int8")
    found = list(integer_weights(load_small(path)))
    assert len(found) >= multiplied
    for weights in found:
        for values in weights.values():
            # the activations that come nearest to saturation in some output, and any
            worst = [np.where(values * sign > 0, 255, 0).T for sign in (1, -1)]
            any_of_them = np.random.default_rng(0).integers(0, 256, (4, len(values)))
            rows = np.concatenate([*worst, any_of_them])
            assert (product(rows, values) == product(rows, values, saturating=True)).all()


def test_a_tokenizer_that_hears_other_units_in_int8_is_refused(bundle: Path, parts: dict[str, Any], tmp_path: Path) -> None:
    graph = graph_of(parts, "tokenizer")
    path = quantize(graph, file_of(bundle, "tokenizer"), tmp_path / "tokenizer.int8.onnx", precision="int8")
    with pytest.raises(ParityError, match="graph `tokenizer`"):
        require(compare(graph, path, tolerance=TOLERANCES["int8"]), "tokenizer")


# --- the components that run an export ---

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import of it is an error from here on
import numpy as np
from emova_sdk import Audio, SpeechUnits
from emova_sdk.components.exported import OnnxSpeechTokenizer, OnnxVocoder

sound = Audio(np.random.default_rng(3).normal(0, 0.1, 7001).astype(np.float32), 16000)
units = OnnxSpeechTokenizer(sys.argv[1], threads=1).encode([sound])[0]
stream = OnnxVocoder(sys.argv[1], threads=1).stream(np.ones(12, np.float32))
stream.push(SpeechUnits.of(np.arange(30)))
print(len(units), sum(len(chunk.audio.samples) for chunk in stream.drain()))
"""

UNITS = SpeechUnits.of(np.random.default_rng(1).integers(0, 64, 30))
STYLE = np.random.default_rng(2).normal(0, 0.3, 12).astype(np.float32)


@pytest.mark.parametrize("kind", [OnnxSpeechTokenizer, OnnxVocoder])
def test_what_runs_an_export_conforms(bundle: Path, kind: Any) -> None:
    failed = [f"{one.name}: {one.message}" for one in run_checks(lambda: kind(str(bundle), threads=1)) if not one.passed]
    assert not failed, "\n".join(failed)


def test_an_exported_tokenizer_hears_what_the_original_hears(bundle: Path, tiny: Path) -> None:
    clips = [
        Audio(np.random.default_rng(at).normal(0, 0.1, size).astype(np.float32), 16000)
        for at, size in enumerate((0, 100, 3210, 48000))
    ]
    options: dict[str, Any] = {"reduced": False, "window_s": 1.0, "context_s": 0.2}
    original = EmovaSpeechTokenizer(str(tiny), device="cpu", **options)
    exported = OnnxSpeechTokenizer(str(bundle), threads=1, **options)
    assert (exported.units, exported.sample_rate, exported.unit_rate) == (original.units, 16000, original.unit_rate)
    for left, right in zip(original.encode(clips), exported.encode(clips), strict=True):
        assert len(left) == len(right)
        assert not len(left) or np.mean(left.ids != right.ids) <= 0.01


@pytest.mark.parametrize("first_frames", [1, 8])
def test_an_exported_vocoder_streams_pieces_that_are_the_whole(bundle: Path, first_frames: int) -> None:
    vocoder = OnnxVocoder(str(bundle), threads=1, first_frames=first_frames, chunk_frames=64)
    whole = vocoder.synthesize([UNITS], STYLE[None])[0]
    stream = vocoder.stream(STYLE)
    assert stream.push(UNITS) == []
    chunks = list(stream.drain())
    assert len(chunks[0].audio.samples) == first_frames * vocoder.samples_per_frame
    assert sum(chunk.units for chunk in chunks) == len(UNITS)
    found = np.concatenate([chunk.audio.samples for chunk in chunks])
    assert found.shape == whole.samples.shape
    assert np.abs(found - whole.samples).max() <= 1e-5


def test_an_exported_vocoder_without_noise_says_what_the_original_says(bundle: Path, tiny: Path) -> None:
    scales: dict[str, float] = {"noise_scale": 0.0, "noise_scale_duration": 0.0, "length_scale": 1.3}
    expected = EmovaVocoder(str(tiny), device="cpu", **scales).synthesize([UNITS], STYLE[None])[0]
    found = OnnxVocoder(str(bundle), threads=1, **scales).synthesize([UNITS], STYLE[None])[0]
    assert np.abs(found.samples - expected.samples).max() <= 1e-5


def test_an_export_hears_and_speaks_where_torch_is_missing(bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(bundle)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    units, samples = map(int, done.stdout.split())
    assert units > 0
    assert samples > 0


def test_what_is_no_export_or_no_style_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be read: no such file"):
        OnnxVocoder(str(tmp_path))
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["components"]["vocoder"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LoadError, match="holds no vocoder"):
        OnnxVocoder(str(tmp_path))
    manifest["components"]["speech_tokenizer"][0]["file"] = "../outside.onnx"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LoadError, match="a file outside of it"):
        OnnxSpeechTokenizer(str(tmp_path))
    with pytest.raises(InputError, match="or zero"):
        OnnxVocoder(str(bundle)).stream(np.zeros(12, np.float32))
