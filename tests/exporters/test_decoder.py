"""A language model's layers leave torch: both flavours agree with transformers, and the runner over ONNX Runtime writes the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import standin_tensorrt
import torch

from emova_sdk.components.graph import Graph, profile
from emova_sdk.components.runtimes.decoder_graphs import decoder_graphs, embed_graph
from emova_sdk.components.runtimes.decoder_modules import EmbedGraph
from emova_sdk.components.runtimes.decoder_session import DecoderSession
from emova_sdk.components.runtimes.onnx_session import open_session
from emova_sdk.components.runtimes.tensorrt_session import TensorrtSession
from emova_sdk.errors import ExportError, InputError, LoadError
from emova_sdk.exporters.onnx import export_onnx
from emova_sdk.exporters.parity import compare, require
from emova_sdk.exporters.quantize import TOLERANCES, quantize
from emova_sdk.exporters.tensorrt import build_engine
from emova_sdk.exporters.tensorrt_rules import check_onnx
from emova_sdk.models.fast_decoder import FastDecoder

LONGEST = 600
TURNS = [{"rows": 1, "past": 0}, {"rows": 11, "past": 0}, {"rows": 1, "past": 77}, {"rows": 4, "past": 1}]
"""Other sizes than those an export is compared at by itself."""


@pytest.fixture(scope="module")
def model() -> Any:
    """Qwen2 at small size, with biases and a tied head; seeded."""
    return _model("qwen2")


def _model(kind: str) -> Any:
    path = Path(__file__).parents[1] / "components" / "emova" / "tiny_llm.py"
    spec = spec_from_file_location("tiny_llm_for_exports", path)
    source = module_from_spec(spec)
    sys.modules[spec.name] = source
    spec.loader.exec_module(source)
    found = source.build(kind=kind, tied=kind == "qwen2")
    with torch.no_grad():
        for name, one in found.named_parameters():
            if name.endswith("_proj.bias"):
                one.normal_(std=0.3)
    return found


def graphs_of(model: Any) -> dict[str, Graph]:
    graphs = decoder_graphs(model.model.language_model, model.lm_head, longest=LONGEST, metadata={"family": "tiny"})
    table = model.get_input_embeddings()
    image = model.config.image_token_index
    module = EmbedGraph(table, image).eval()
    embed = embed_graph(module, vocabulary=len(table.weight), image_id=image, features=64, longest=LONGEST, metadata={})
    return {graph.name: graph for graph in [*graphs, embed]}


@pytest.fixture(scope="module")
def graphs(model: Any) -> dict[str, Graph]:
    return graphs_of(model)


@pytest.fixture(scope="module")
def files(graphs: dict[str, Graph], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("decoder")
    return {name: export_onnx(graph, folder / f"{name}.onnx") for name, graph in graphs.items()}


@pytest.fixture(scope="module")
def half(graphs: dict[str, Graph], files: dict[str, Path]) -> Path:
    return quantize(graphs["decoder"], files["decoder"], files["decoder"].with_suffix(".fp16.onnx"), precision="fp16")


@pytest.mark.parametrize("name", ["decoder", "decoder_portable"])
def test_a_flavour_agrees_with_transformers(graphs: dict[str, Graph], files: dict[str, Path], name: str) -> None:
    onnx.checker.check_model(str(files[name]), full_check=True)
    records = [*compare(graphs[name], files[name]), *compare(graphs[name], files[name], sizes=TURNS)]
    require(records, name)
    read = {(record.sizes["rows"], record.sizes.get("past")) for record in records}
    assert read >= {(1, 0), (5, 0), (1, 5), (7, 6), (1, 77)}


@pytest.mark.slow
def test_a_llama_without_biases_and_with_a_head_of_its_own_agrees_too(tmp_path: Path) -> None:
    graph = graphs_of(_model("llama"))["decoder"]
    require(compare(graph, export_onnx(graph, tmp_path / "decoder.onnx")), "decoder")


def test_the_portable_flavour_holds_operators_of_the_standard_alone(files: dict[str, Path]) -> None:
    domains = {name: {node.domain for node in onnx.load(str(file)).graph.node} for name, file in files.items()}
    assert domains == {"decoder": {"", "com.microsoft"}, "decoder_portable": {""}, "embed": {""}}


@pytest.mark.slow
def test_a_comparison_notices_a_mask_that_is_missing(graphs: dict[str, Graph], tmp_path: Path) -> None:
    graph = graphs["decoder_portable"]
    path = export_onnx(graph, tmp_path / "blind.onnx")
    model = onnx.load(str(path))
    where = next(node for node in model.graph.node if node.op_type == "Where")
    where.input[1] = where.input[2]  # what is hidden is seen
    onnx.save(model, str(path))
    assert not all(record.passed for record in compare(graph, path, sizes=[{"rows": 5, "past": 3}]))


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("name", ["decoder", "decoder_portable", "embed"])
def test_blocks_of_weights_stay_close(
    graphs: dict[str, Graph], files: dict[str, Path], name: str, precision: Any, tmp_path: Path
) -> None:
    small = quantize(graphs[name], files[name], tmp_path / f"{name}.onnx", precision=precision)
    onnx.checker.check_model(str(small), full_check=True)
    require(compare(graphs[name], small, tolerance=TOLERANCES[precision]), name)
    kinds = [node.op_type for node in onnx.load(str(small)).graph.node]
    assert ("MatMulNBits" in kinds) == (name != "embed")


def test_half_precision_keeps_its_state_in_half_precision(graphs: dict[str, Graph], half: Path) -> None:
    require(compare(graphs["decoder"], half, tolerance=TOLERANCES["fp16"]), "decoder")
    types = {one.name: one.type for one in onnxruntime.InferenceSession(str(half)).get_inputs()}
    assert types["key_0"] == types["value_1"] == "tensor(float16)"
    assert types["embeds"] == "tensor(float)"


def test_pictures_take_the_places_of_their_tokens(model: Any, files: dict[str, Path]) -> None:
    session = onnxruntime.InferenceSession(str(files["embed"]))
    image = model.config.image_token_index
    ids = np.array([3, image, image, 5, image])
    features = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    (rows,) = session.run(None, {"ids": ids, "features": features})
    table = model.get_input_embeddings().weight.detach().numpy()
    assert np.array_equal(rows[[1, 2, 4]], features)
    assert np.array_equal(rows[[0, 3]], table[[3, 5]])


# --- the runner ---

Step = Callable[[np.ndarray], np.ndarray]


def _original(model: Any) -> Step:
    decoder = FastDecoder(model.model.language_model, model.lm_head)
    cache = decoder.new_cache()

    @torch.inference_mode()
    def step(embeds: np.ndarray) -> np.ndarray:
        return decoder.logits(decoder.run(torch.from_numpy(embeds), cache)).numpy()

    return step


def _embeds(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 64)).astype(np.float32)


@pytest.fixture(scope="module", params=["decoder", "decoder_portable"])
def decoder(files: dict[str, Path], request: pytest.FixtureRequest) -> DecoderSession:
    return DecoderSession(open_session(files[request.param], threads=1))


def test_a_conversation_that_outgrows_its_buffers_goes_on_as_the_original(model: Any, decoder: DecoderSession) -> None:
    original, cache = _original(model), decoder.new_cache(capacity=4)
    for rows in (3, 1, 1, 7, 300, 1, 1):
        embeds = _embeds(rows, seed=rows)
        assert np.allclose(decoder.run(embeds, cache), original(embeds), atol=1e-5)
    assert cache.length == 314


def test_half_precision_runs_as_well(model: Any, half: Path) -> None:
    decoder = DecoderSession(open_session(half, threads=1))
    original, cache = _original(model), decoder.new_cache()
    for rows in (3, 1, 5):
        assert np.allclose(decoder.run(_embeds(rows), cache), original(_embeds(rows)), atol=1e-2)


def test_conversations_share_a_session_and_nothing_else(decoder: DecoderSession) -> None:
    left, right = decoder.new_cache(), decoder.new_cache()
    alone = [decoder.run(_embeds(2, seed), left) for seed in (1, 2)]
    left = decoder.new_cache()
    mixed = []
    for seed in (1, 2):
        mixed.append(decoder.run(_embeds(2, seed), left))
        decoder.run(_embeds(3, seed + 7), right)
    assert np.array_equal(alone, mixed)


def test_a_shared_beginning_is_copied_or_cut(decoder: DecoderSession) -> None:
    cache = decoder.new_cache()
    decoder.run(_embeds(6), cache)
    expected = decoder.run(_embeds(2, seed=1), cache.copy(4))
    decoder.run(_embeds(5, seed=2), cache)
    twin = cache.copy(4)
    cache.crop(4)
    assert np.array_equal(decoder.run(_embeds(2, seed=1), twin), expected)
    assert np.array_equal(decoder.run(_embeds(2, seed=1), cache), expected)
    assert (twin.length, cache.length) == (6, 6)


def test_what_does_not_fit_is_refused_and_loses_nothing(decoder: DecoderSession, files: dict[str, Path]) -> None:
    cache = decoder.new_cache()
    first = decoder.run(_embeds(3), cache)
    with pytest.raises(InputError, match="603 tokens, and the model reads 600"):
        decoder.run(_embeds(600), cache)
    with pytest.raises(InputError, match="shape"):
        decoder.run(np.zeros((2, 3), np.float32), cache)
    with pytest.raises(InputError, match="9 positions of a cache of 3"):
        cache.copy(9)
    cache.crop(0)
    assert np.array_equal(decoder.run(_embeds(3), cache), first)
    with pytest.raises(LoadError, match="no exported decoder"):
        DecoderSession(open_session(files["embed"]))


# --- as a TensorRT engine ---


def test_engines_of_the_portable_flavour_and_of_embeddings_are_built(graphs: dict[str, Graph], files: dict[str, Path]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the package tensorrt-rtx, which the extra `dev` brings on Linux x86-64")
    for name in ("decoder_portable", "embed"):
        check_onnx(files[name], name)
        shapes = profile(graphs[name].shapes, graphs[name].axes)
        assert len(build_engine(files[name], shapes, name=name, target="rtx")) > 10_000
    with pytest.raises(ExportError, match=r"com\.microsoft"):
        check_onnx(files["decoder"], "decoder")


@pytest.fixture
def engine(graphs: dict[str, Graph], files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> DecoderSession:
    """The portable flavour by a stand-in for TensorRT, which reads and writes at the addresses it is given."""
    trt, graph = standin_tensorrt.install(monkeypatch), graphs["decoder_portable"]
    plan = build_engine(files[graph.name], profile(graph.shapes, graph.axes), name=graph.name, target="trt")
    opened = trt.Runtime(None).deserialize_cuda_engine(plan)
    return DecoderSession(TensorrtSession(trt, opened, device="cpu", facts=graph.metadata))


@pytest.mark.parametrize("alignment", [1, 256])
def test_an_engine_writes_its_cache_in_place(
    decoder: DecoderSession, engine: DecoderSession, alignment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emova_sdk.components.runtimes.tensorrt_cache._ALIGNMENT", alignment)
    ours, theirs = engine.new_cache(4), decoder.new_cache()
    for rows in (3, 1, 1, 7, 1):  # outgrows its buffers twice
        assert np.abs(engine.run(_embeds(rows, rows), ours) - decoder.run(_embeds(rows, rows), theirs)).max() < 1e-4
    assert (ours.length, ours.capacity) == (13, 16)
    twin, other = ours.copy(5), theirs.copy(5)
    ours.crop(5)
    for cache in (twin, ours):
        assert np.abs(engine.run(_embeds(2), cache) - decoder.run(_embeds(2), other.copy(5))).max() < 1e-4


def test_an_engine_refuses_what_does_not_fit(engine: DecoderSession) -> None:
    cache = engine.new_cache()
    engine.run(_embeds(2), cache)
    with pytest.raises(InputError, match="the model reads 600"):
        engine.run(_embeds(599), cache)
    with pytest.raises(InputError, match="embeddings have shape"):
        engine.run(np.zeros((0, engine.sizes.width), np.float32), cache)
    with pytest.raises(InputError, match="positions of a cache of 2"):
        cache.copy(3)
    assert cache.length == 2
    engine._session.facts["flavour"] = "runtime"
    with pytest.raises(LoadError, match="no exported decoder"):
        DecoderSession(engine._session)
