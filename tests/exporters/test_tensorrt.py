"""TensorRT: plans really built without a GPU, full TensorRT over a stand-in, what cannot be read, and engines of elsewhere."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import standin_tensorrt
import torch

from emova_sdk import Audio, SpeechUnits
from emova_sdk.cli.app import run
from emova_sdk.components.base import SLOTS
from emova_sdk.components.emova.speech.vocoder import EmovaVocoder
from emova_sdk.components.exported import OnnxSpeechTokenizer, OnnxVocoder, TensorrtSpeechTokenizer, TensorrtVocoder
from emova_sdk.components.graph import Axis, Graph, profile
from emova_sdk.components.runtimes.export_folder import profile_of
from emova_sdk.components.runtimes.onnx_session import tensorrt_options
from emova_sdk.components.runtimes.tensorrt_session import EngineRecord, Machine, open_engine, require_same
from emova_sdk.errors import ConfigError, ExportError, InputError, LoadError, MissingDependencyError
from emova_sdk.exporters.quantize import Method, quantize
from emova_sdk.exporters.tensorrt import build_engine, export_engines, narrowed, parse_axes, require_builder
from emova_sdk.exporters.tensorrt_rules import OPERATORS, check_onnx
from emova_sdk.exporters.verify import read_manifest, verify_export
from emova_sdk.testing import run_checks

GRAPHS = {
    "speech_tokenizer": ["tokenizer"],
    "style_module": ["style_encoder"],
    "vocoder": ["prior", "latents", "generator"],
}
BATCH, FRAMES = Axis("batch", 1, 1, 4), Axis("frames", 1, 128, 8192)
RTX = "needs the package tensorrt-rtx, which the extra `dev` brings on Linux x86-64"


@pytest.fixture(scope="session")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason=RTX)


# --- TensorRT-RTX: the real thing, without a GPU ---


@pytest.fixture(scope="module")
def engines(rtx: Any, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("engines") / "out"
    narrow = ["--axis", "frames=1:128:2048", "--axis", "batch=1:1:1"]
    assert run(["export", "tensorrt", str(bundle), "--out", str(out), "--target", "rtx", *narrow]) == 0
    return out


def test_an_engine_is_built_for_every_graph(engines: Path, bundle: Path) -> None:
    manifest, source = read_manifest(engines), read_manifest(bundle)
    assert {slot: [record["name"] for record in records] for slot, records in manifest["components"].items()} == GRAPHS
    assert manifest["format"] == "tensorrt"
    files = {str(path.relative_to(engines)) for path in engines.rglob("*") if path.is_file()}
    built = {record["file"] for records in manifest["components"].values() for record in records}
    beside = {str(path.relative_to(bundle)) for path in bundle.glob("*/*") if path.suffix in (".json", ".npy")}
    assert len(built) == 5 and beside and files == built | beside | {"manifest.json", "report.md"}
    for slot, records in manifest["components"].items():
        for record, exported in zip(records, source["components"][slot], strict=True):
            engine = EngineRecord.from_dict(record["engine"])
            assert (engine.target, engine.gpu, engine.platform) == ("rtx", "", "linux-x86_64")
            assert engine.onnx == {file: facts["sha256"] for file, facts in exported["files"].items()}
            assert record["metadata"] == exported["metadata"]
            assert record["parity"] == []  # engines were not run
            assert (engines / record["file"]).stat().st_size > 100_000
    assert "not run" in (engines / "report.md").read_text()


def test_what_it_was_built_for_is_in_the_manifest(engines: Path) -> None:
    record = next(one for one in read_manifest(engines)["components"]["vocoder"] if one["name"] == "generator")
    assert record["profile"] == {"latents": [[1, 8, 1], [1, 8, 128], [1, 8, 2048]], "style": [[1, 12]] * 3}
    assert record["engine"]["rebuild"].endswith("--target rtx --axis frames=1:128:2048 --axis batch=1:1:1")


def test_engines_without_a_gpu_are_refused_in_words(engines: Path) -> None:
    vocoder = TensorrtVocoder(str(engines))
    assert (vocoder.units.size, vocoder.sample_rate) == (64, 22050)
    with pytest.raises(ConfigError, match=r"prior\.engine. needs an NVIDIA GPU"):
        vocoder.load()
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU"):
        verify_export({"vocoder": EmovaVocoder(str(engines))} | _parts(engines), engines)


def _parts(engines: Path) -> dict[str, Any]:
    class Nothing:
        def load(self) -> None: ...
        def graphs(self) -> list[Any]:
            return [Graph(name, None, {}, (), {}) for names in GRAPHS.values() for name in names]

    return dict.fromkeys(GRAPHS, Nothing())


def test_the_real_runtime_says_what_it_cannot_open(rtx: Any, engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin_tensorrt.install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    record = read_manifest(engines)["components"]["style_module"][0]
    with pytest.raises(LoadError, match=r"`style_encoder.engine` cannot be opened") as caught:
        open_engine(engines / record["file"], record)
    assert caught.value.hint.startswith("build it again: emova export tensorrt")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_half_precision_and_calibrated_int8_are_built(
    rtx: Any, bundle: Path, tiny: Path, tmp_path: Path, precision: Any
) -> None:
    graph = next(one for one in EmovaVocoder(str(tiny), device="cpu").graphs() if one.name == "generator")
    path = quantize(
        graph,
        bundle / "vocoder" / "generator.onnx",
        tmp_path / f"{precision}.onnx",
        precision=precision,
        method=Method(portable=True),
    )
    check_onnx(path, graph.name)
    axes = {name: narrowed(axis, (1, 1, 1) if name == "batch" else (1, 128, 512)) for name, axis in graph.axes.items()}
    assert len(build_engine(path, profile(graph.shapes, axes), name=graph.name, target="rtx")) > 100_000


@pytest.mark.slow
def test_engines_are_built_for_all_of_nano_by_one_command(rtx: Any, tmp_path: Path) -> None:
    assert run(["export", "tensorrt", "-c", "emova-nano", "--target", "rtx", "--out", str(tmp_path / "out")]) == 0
    components = read_manifest(tmp_path / "out")["components"]
    assert set(components) == set(SLOTS)
    assert {record["name"] for record in components["llm_core"]} >= {"embed", "decoder_portable"}


def test_the_parser_reads_the_operators_that_are_listed(rtx: Any) -> None:
    log = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(log)
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, log)
    assert [name for name in sorted(OPERATORS) if not parser.supports_operator(name)] == []


def test_what_the_builder_refuses_is_an_export_error(rtx: Any, bundle: Path, tmp_path: Path) -> None:
    path = bundle / "style_module" / "style_encoder.onnx"
    with pytest.raises(ExportError, match="TensorRT takes no profile"):
        build_engine(path, {"audio": ((1, 900), (1, 800), (1, 1000))}, name="style_encoder", target="rtx")
    with pytest.raises(ExportError, match="TensorRT cannot build graph `style_encoder`"):
        build_engine(path, {}, name="style_encoder", target="rtx")
    node = onnx.helper.make_node("Bernoulli", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:])), tmp_path / "x.onnx")
    with pytest.raises(ExportError, match="TensorRT cannot read graph `g`: Bernoulli"):
        build_engine(tmp_path / "x.onnx", {}, name="g", target="rtx")


# --- what can be read, told without TensorRT ---


def model(*nodes: Any, constants: tuple[Any, ...] = (), opset: int = 20, kind: int = onnx.TensorProto.FLOAT) -> Any:
    value = [onnx.helper.make_tensor_value_info(name, kind, [2, 8, 4]) for name in ("x", "y")]
    graph = onnx.helper.make_graph(list(nodes), "g", value[:1], value[1:], initializer=list(constants))
    domains = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(graph, opset_imports=domains)


def pair(zero: np.ndarray) -> Any:
    constants = [onnx.numpy_helper.from_array(np.float32(0.1), "scale"), onnx.numpy_helper.from_array(zero, "zero")]
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    return model(*nodes, constants=tuple(constants))


def stored_bias() -> Any:
    constants = [onnx.numpy_helper.from_array(np.int32([3]), "bias"), onnx.numpy_helper.from_array(np.float32(0.1), "scale")]
    return model(onnx.helper.make_node("DequantizeLinear", ["bias", "scale"], ["y"]), constants=tuple(constants))


def attention(opset: int, kind: int) -> Any:
    node = onnx.helper.make_node("Attention", ["x", "x", "x"], ["y"], q_num_heads=2, kv_num_heads=2)
    return model(node, opset=opset, kind=kind)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (model(onnx.helper.make_node("GroupQueryAttention", ["x"], ["y"], domain="com.microsoft")), "com.microsoft.GroupQuery"),
        (model(onnx.helper.make_node("MatMulNBits", ["x"], ["y"], domain="com.microsoft")), "com.microsoft.MatMulNBits"),
        (model(onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])), "calibrated, symmetric pairs"),
        (model(onnx.helper.make_node("Unique", ["x"], ["y"])), "`Unique`, which TensorRT does not know"),
        (pair(np.uint8(0)), "quantises `x` asymmetrically"),
        (pair(np.int8(3)), "quantises `x` asymmetrically"),
        (stored_bias(), "stores `bias` as int32"),
        (attention(23, onnx.TensorProto.FLOAT), "`Attention` in float32"),
    ],
)
def test_what_tensorrt_cannot_read_is_refused_before_it_is_tried(tmp_path: Path, made: Any, message: str) -> None:
    onnx.save(made, tmp_path / "x.onnx")
    with pytest.raises(ExportError, match="graph `g` ") as caught:
        check_onnx(tmp_path / "x.onnx", "g")
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("made", [pair(np.int8(0)), attention(23, onnx.TensorProto.FLOAT16)])
def test_what_it_can_read_passes(tmp_path: Path, made: Any) -> None:
    onnx.save(made, tmp_path / "x.onnx")
    check_onnx(tmp_path / "x.onnx", "g")


# --- profiles ---


def test_profiles_derive_from_the_axes_and_shared_axes_agree() -> None:
    shapes = {"latents": ("batch", 8, "frames"), "noise": ("batch", 2, "frames"), "scale": (1,)}
    found = profile(shapes, {"batch": BATCH, "frames": FRAMES})
    assert found == {
        "latents": ((1, 8, 1), (1, 8, 128), (4, 8, 8192)),
        "noise": ((1, 2, 1), (1, 2, 128), (4, 2, 8192)),
    }
    with pytest.raises(InputError, match="no axis is named `frames`"):
        profile(shapes, {"batch": BATCH})


def test_axes_may_be_narrowed_and_not_widened() -> None:
    assert parse_axes(["frames=1:64:512", "batch=1:1:1"]) == {"frames": (1, 64, 512), "batch": (1, 1, 1)}
    assert narrowed(FRAMES, (1, 64, 512)) == Axis("frames", 1, 64, 512)
    with pytest.raises(InputError, match="exported for 1 to 8192, not 1 to 9000"):
        narrowed(FRAMES, (1, 64, 9000))
    for wrong in ("frames", "frames=1:2", "frames=a:b:c"):
        with pytest.raises(InputError, match="is no axis"):
            parse_axes([wrong])


def test_onnx_runtimes_provider_is_told_the_same_shapes(bundle: Path) -> None:
    record = next(one for one in read_manifest(bundle)["components"]["vocoder"] if one["name"] == "generator")
    options = tensorrt_options(profile_of(record))
    assert options["trt_profile_min_shapes"] == "latents:1x8x1,style:1x12"
    assert options["trt_profile_opt_shapes"] == "latents:1x8x128,style:1x12"
    assert options["trt_profile_max_shapes"] == "latents:8x8x8192,style:8x12"
    assert options["trt_engine_cache_path"].endswith("emova-sdk/tensorrt")
    with pytest.raises(LoadError, match="does not say the shapes"):
        profile_of({"axes": {}})
    with pytest.raises(ConfigError, match="`TensorrtExecutionProvider` cannot be loaded"):
        OnnxVocoder(str(bundle), providers=["TensorrtExecutionProvider", "CPUExecutionProvider"]).load()


# --- what is missing ---


def test_the_one_error_says_all_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(["export", "tensorrt", str(bundle), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "error: `tensorrt` cannot be imported" in said
    assert "and torch sees no NVIDIA GPU" in said
    assert "pip install tensorrt" in said
    assert "--target rtx" in said
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match="`tensorrt-rtx` cannot be imported") as caught:
        require_builder("rtx")
    assert caught.value.hint == "pip install 'emova-sdk[tensorrt-rtx]'"
    standin_tensorrt.install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no NVIDIA GPU"):
        require_builder("trt")


HERE = Machine("11.4.0.106", "linux-x86_64", "GPU A", "9.0")
BUILT = EngineRecord(
    "trt", "11.4.0.106", "linux-x86_64", "GPU A", ("9.0",), {}, "emova export tensorrt build/onnx --out build/trt"
)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (replace(BUILT, version="11.3.0"), "was built by tensorrt 11.3.0, and here is 11.4.0.106"),
        (replace(BUILT, platform="windows-amd64"), "was built on windows-amd64, and here is linux-x86_64"),
        (replace(BUILT, gpu="GPU B"), "was built for GPU B, and here is GPU A"),
        (replace(BUILT, gpu="", compute_capabilities=("8.9", "12.0")), "for compute capability 8.9 or 12.0, and here is 9.0"),
    ],
)
def test_an_engine_of_elsewhere_is_refused_with_the_command_that_builds_it(engine: EngineRecord, message: str) -> None:
    require_same("x.engine", BUILT, HERE)
    with pytest.raises(LoadError, match=message) as caught:
        require_same("x.engine", engine, HERE)
    assert caught.value.hint == "build it again: emova export tensorrt build/onnx --out build/trt"
    assert EngineRecord.from_dict(json.loads(json.dumps(engine.to_dict()))) == engine
    with pytest.raises(LoadError, match="does not say"):
        EngineRecord.from_dict({"target": "trt"})


# --- full TensorRT, over a stand-in ---


@pytest.fixture
def standin(monkeypatch: pytest.MonkeyPatch) -> Any:
    return standin_tensorrt.install(monkeypatch)


@pytest.fixture
def built(standin: Any, bundle: Path, tmp_path: Path) -> Path:
    export_engines(bundle, tmp_path / "out", device="cpu")
    return tmp_path / "out"


def test_full_tensorrt_is_built_for_this_gpu_in_the_types_of_the_file(built: Path) -> None:
    manifest = read_manifest(built)
    assert manifest["versions"]["tensorrt"] == standin_tensorrt.VERSION
    record = manifest["components"]["vocoder"][2]
    engine = EngineRecord.from_dict(record["engine"])
    assert (engine.gpu, engine.compute_capabilities) == (standin_tensorrt.GPU, ("9.0",))
    plan = json.loads((built / record["file"]).read_bytes())
    assert plan["profile"] == [record["profile"]]
    assert not plan["tf32"]


def test_the_slots_over_engines_are_those_over_onnx(built: Path, bundle: Path) -> None:
    sound = Audio(np.random.default_rng(3).normal(0, 0.1, 7001).astype(np.float32), 16000)
    units = SpeechUnits.of(np.random.default_rng(1).integers(0, 64, 30))
    styles = np.random.default_rng(2).normal(0, 0.3, (1, 12)).astype(np.float32)
    expected = OnnxSpeechTokenizer(str(bundle), threads=1).encode([sound])[0]
    assert TensorrtSpeechTokenizer(str(built), device="cpu").encode([sound])[0] == expected
    voice = OnnxVocoder(str(bundle), threads=1).synthesize([units], styles)[0]
    assert np.array_equal(TensorrtVocoder(str(built), device="cpu").synthesize([units], styles)[0].samples, voice.samples)


@pytest.mark.parametrize("kind", [TensorrtSpeechTokenizer, TensorrtVocoder])
def test_what_runs_engines_conforms(built: Path, kind: Any) -> None:
    failed = [f"{one.name}: {one.message}" for one in run_checks(lambda: kind(str(built), device="cpu")) if not one.passed]
    assert not failed, "\n".join(failed)


def test_on_a_gpu_engines_are_compared_with_the_originals(standin: Any, bundle: Path, tiny: Path, tmp_path: Path) -> None:
    vocoder = EmovaVocoder(str(tiny), device="cpu")
    manifest = export_engines(
        bundle, tmp_path / "out", device="cpu", axes={"frames": (1, 20, 40)}, originals={"vocoder": vocoder}
    )
    generator = manifest["components"]["vocoder"][2]
    assert all(one["passed"] for one in generator["parity"])
    assert max(one["sizes"]["frames"] for one in generator["parity"]) <= 40


def test_an_engine_refuses_what_it_was_not_built_for(built: Path) -> None:
    record = read_manifest(built)["components"]["vocoder"][2]
    session = open_engine(built / record["file"], record, device="cpu")
    assert [value.shape for value in session.get_inputs()] == [(-1, 8, -1), (-1, 12)]
    style = np.zeros((1, 12), np.float32)
    with pytest.raises(InputError, match=r"was built for \(1, 8, 1\) to \(8, 8, 8192\)"):
        session.run(None, {"latents": np.zeros((1, 8, 9000), np.float32), "style": style})
    with pytest.raises(InputError, match="is float64, and the engine reads float32"):
        session.run(None, {"latents": np.zeros((1, 8, 9)), "style": style})
    with pytest.raises(InputError, match="needs the input `style`"):
        session.run(None, {"latents": np.zeros((1, 8, 9), np.float32)})


def test_engines_and_onnx_files_are_not_mistaken_for_each_other(built: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"prior\.engine. is a TensorRT engine"):
        OnnxVocoder(str(built)).load()
    with pytest.raises(LoadError, match=r"prior\.onnx. is no TensorRT engine"):
        TensorrtVocoder(str(bundle)).load()
    with pytest.raises(LoadError, match="holds engines"):
        export_engines(built, tmp_path / "again")
    damaged = shutil.copytree(built, tmp_path / "damaged")
    (damaged / "vocoder" / "prior.engine").write_bytes(b"{")
    with pytest.raises(LoadError, match=r"prior\.engine. is not what was exported"):
        TensorrtVocoder(str(damaged), device="cpu").load()
    record = next(one for one in read_manifest(built)["components"]["vocoder"] if one["name"] == "prior")
    with pytest.raises(LoadError, match="cannot be opened: the plan is damaged"):
        open_engine(damaged / record["file"], record, device="cpu")


def test_a_failing_build_leaves_nothing_behind(standin: Any, bundle: Path, tmp_path: Path) -> None:
    refused = shutil.copytree(bundle, tmp_path / "refused")
    with pytest.raises(ExportError, match="TensorRT cannot build graph `tokenizer`: no tactic was found"):
        export_engines(refused, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["refused"]


def test_what_was_measured_is_kept_for_the_next_build(standin: Any, bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    path, shapes = bundle / "vocoder" / "generator.onnx", {}
    for expected in (b"measured;", b"measured;measured;"):
        build_engine(path, shapes, name="generator", target="trt", timing_cache=cache)
        assert cache.read_bytes() == expected
    cache.write_bytes(b"of another GPU")
    build_engine(path, shapes, name="generator", target="trt", timing_cache=cache)
    assert cache.read_bytes() == b"measured;"
