"""The shipped graphs are those of the networks that were trained, over the shipped weights, and follow other weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nano_recipe.graphs import PLACES, pointed, traced, write_graphs
from nano_recipe.model import load_model
from nano_recipe.network_files import modules_of
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.graph_files import WEIGHTS, GraphFiles
from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.llm_config import read_config
from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.components.nano.vocoder import NanoUnitVocoder
from emova_sdk.components.nano.weights import PRESET
from emova_sdk.components.runtimes.decoder_modules import OrdinaryDecoder
from emova_sdk.components.runtimes.graph_source import open_source
from emova_sdk.errors import LoadError

PARTS = (NanoVisionEncoder, NanoSpeechTokenizer, NanoLLM, NanoStyleModule, NanoUnitVocoder)
GRAPHS = {graph.name: graph for part in PARTS for graph in part().graphs()}


def run(source: Any, graph: Graph) -> dict[str, NDArray[Any]]:
    return open_source(source, graph, threads=1)(graph.sized({}))


def module_of(graph: Graph) -> Any:
    if not graph.name.startswith("decoder"):
        return modules_of(PLACES[graph.name], graph.source.parent)[graph.name]
    language, sizes, _ = read_config(PRESET / "llm_core")
    core = load_model(PRESET / "llm_core", language, sizes).core
    return OrdinaryDecoder(core.model.language_model, core.lm_head, fixed=graph.name == "decoder")


def require_equal(
    found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], *, atol: float = 2e-3, rtol: float = 1e-3
) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert np.allclose(found[name], values, atol=atol, rtol=rtol), name


@pytest.mark.parametrize("name", GRAPHS)
def test_a_shipped_graph_computes_what_its_network_does(name: str) -> None:
    graph = GRAPHS[name]
    require_equal(run(graph.source, graph), run(module_of(graph), graph))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_shipped_graph_is_small_and_its_weights_are_those_beside_it(name: str) -> None:
    source: Path = GRAPHS[name].source
    inline = [one for one in onnx.load(str(source), load_external_data=False).graph.initializer if not one.external_data]
    assert sum(len(one.raw_data) for one in inline) < 1_200_000
    assert source.stat().st_size < 1_200_000


@pytest.mark.parametrize("name", ["embed", pytest.param("hearing", marks=pytest.mark.slow)])
def test_the_shipped_graphs_are_those_that_are_written(name: str) -> None:
    """To the last bit but for tables that are computed in float32, such as the mel bank: math libraries round them otherwise."""
    graph = GRAPHS[name]
    written, shipped = traced(graph), onnx.load(str(graph.source), load_external_data=False)
    require_equal(computed(written), computed(shipped), atol=1e-4, rtol=0)
    assert written.SerializeToString(deterministic=True) == shipped.SerializeToString(deterministic=True)


def computed(model: Any) -> dict[str, NDArray[Any]]:
    """Take the float tables that are stored in a graph out of it."""
    found: dict[str, NDArray[Any]] = {}
    for one in model.graph.initializer:
        if one.data_type == onnx.TensorProto.FLOAT and not one.external_data:
            found[one.name] = onnx.numpy_helper.to_array(one).copy()
            one.ClearField("raw_data")
    return found


def other_weights(folder: Path, place: str) -> Path:
    """A part with other weights than the shipped one."""
    shutil.copytree(PRESET / place, folder / place)
    weights = load_file(folder / place / WEIGHTS)
    rng = np.random.default_rng(0)
    save_file(
        {name: (one * rng.uniform(0.9, 1.1)).astype(np.float16) for name, one in weights.items()}, folder / place / WEIGHTS
    )
    return folder / place


def test_graphs_are_pointed_at_new_weights(tmp_path: Path) -> None:
    folder = other_weights(tmp_path, "text_to_units")
    graphs = TextToUnits(path=str(folder)).graphs()
    with pytest.raises(LoadError, match="written for other weights") as caught:
        GraphFiles(folder).open("reader_phones")
    assert "write the graphs again" in caught.value.hint
    write_graphs(graphs)
    phones = run(graphs[0].source, graphs[0])
    require_equal(phones, run(modules_of("text_to_units", folder)["reader_phones"], graphs[0]))
    assert not np.allclose(phones["states"], run(GRAPHS["reader_phones"].source, graphs[0])["states"], atol=1e-2)
    require_equal(run(graphs[1].source, graphs[1]), run(modules_of("text_to_units", folder)["reader_units"], graphs[1]))


def test_weights_of_another_shape_are_traced(tmp_path: Path) -> None:
    folder = other_weights(tmp_path, "text_to_units")
    weights = load_file(folder / WEIGHTS)
    save_file(weights | {"phone.weight": weights["phone.weight"][:30]}, folder / WEIGHTS)
    phones, units = TextToUnits(path=str(folder)).graphs()
    assert pointed(phones) is None
    assert pointed(units) is not None


def test_files_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "vocoder"
    shutil.copytree(PRESET / "vocoder", folder)
    (folder / "units.onnx").unlink()
    with pytest.raises(LoadError, match=r"units\.onnx` does not exist"):
        NanoUnitVocoder(path=str(folder)).load()
    (folder / "frames.onnx").write_bytes(b"no graph")
    with pytest.raises(LoadError, match=r"frames\.onnx` cannot be opened"):
        GraphFiles(folder).open("frames")
    (folder / WEIGHTS).unlink()
    with pytest.raises(LoadError, match=r"model\.safetensors` cannot be read"):
        GraphFiles(folder).open("frames")
