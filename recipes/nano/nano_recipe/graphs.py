"""Write the graphs that nano's components run: small ONNX files over the weights beside them, which are stored once.

Weights in a graph are half-precision initializers whose data lie in ``model.safetensors``. The graph casts them to float32 and,
where the exporter joined or transposed them, does the same; ONNX Runtime computes that once, when it opens the file. What is
no weight (tables of angles, filters) is stored in the graph.

After training the shipped graphs are pointed at the new weights, which takes no time; a network of another shape is traced.
After a change of a network's code ``python -m nano_recipe.graphs`` traces all and replaces the shipped graphs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.graph_files import DIGEST, WEIGHTS, NanoPart, digest_of
from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.components.nano.vocoder import NanoUnitVocoder
from emova_sdk.components.nano.weights import PRESET
from emova_sdk.exporters.onnx import export_onnx
from emova_sdk.files import write_atomically
from nano_recipe.network_files import modules_of

Float = NDArray[np.float32]
KINDS = (NanoVisionEncoder, NanoSpeechTokenizer, NanoLLM, NanoStyleModule, NanoUnitVocoder, TextToUnits)
PLACES = {name: kind.place for kind in KINDS for name in kind.needs} | {"decoder": "llm_core", "decoder_portable": "llm_core"}
"""Graph to the part of the preset that it is of."""


def write_preset_graphs(preset: Path = PRESET, *, trace: bool = False) -> list[Path]:
    """Write the graphs of all parts of a preset.

    Args:
        preset: Holds a folder with config and weights for each part.
        trace: Trace all networks rather than to point the shipped graphs at other weights.

    Returns:
        The files.
    """
    parts = [kind(path=str(preset / kind.place)) for kind in KINDS]
    graphs = {graph.source: graph for part in parts for graph in part.graphs()}
    return write_graphs(list(graphs.values()), trace=trace)


def write_part_graphs(kind: type[NanoPart], folder: Path) -> Path:
    """Write the graphs of a part beside its weights; return the folder."""
    graphs = kind(path=str(folder)).graphs()
    write_graphs([graph for graph in graphs if graph.source.parent == folder])
    return folder


def write_graphs(graphs: Sequence[Graph], *, trace: bool = False) -> list[Path]:
    """Write graphs to where their sources are to be, beside the weights; return the files."""
    return [_write(graph, trace=trace) for graph in graphs]


def _write(graph: Graph, *, trace: bool) -> Path:
    path: Path = graph.source
    model = (None if trace else pointed(graph)) or traced(graph)
    return write_atomically(path, model.SerializeToString(deterministic=True))


def pointed(graph: Graph) -> ModelProto | None:
    """The shipped graph of the same name over the weights of this one; None where they are of another shape."""
    path: Path = graph.source
    like, stored = PRESET / PLACES[graph.name] / path.name, _Stored(path.parent / WEIGHTS)
    if not like.is_file():
        return None
    model = onnx.load(str(like), load_external_data=False)
    facts = {one.key: one.value for one in model.metadata_props}
    del facts[DIGEST]
    if facts != _facts(graph) or not all(stored.fits(one) for one in model.graph.initializer if one.external_data):
        return None
    for tensor in model.graph.initializer:
        if tensor.external_data:
            tensor.CopyFrom(stored.initializer(tensor.name, _Part(tensor.doc_string, tuple(tensor.dims))))
    return _dated(model, graph)


def traced(graph: Graph) -> ModelProto:
    """A graph written anew from the module that holds its weights."""
    path: Path = graph.source
    module = modules_of(PLACES[graph.name], path.parent)[graph.name]
    with TemporaryDirectory() as draft:
        model = onnx.load(export_onnx(replace(graph, source=module), Path(draft) / path.name))
    _share_weights(model, _Stored(path.parent / WEIGHTS))
    return _dated(model, graph)


def _dated(model: ModelProto, graph: Graph) -> ModelProto:
    helper.set_model_props(model, _facts(graph) | {DIGEST: digest_of(graph.source.parent / WEIGHTS)})
    return model


def _facts(graph: Graph) -> dict[str, str]:
    return {"emova.graph": graph.name, **{f"emova.{name}": value for name, value in graph.metadata.items()}}


def _share_weights(model: ModelProto, stored: _Stored) -> None:
    """Let a graph take its weights from a file in half precision instead of holding them itself."""
    initializers, nodes = list(model.graph.initializer), list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    for tensor in initializers:
        values = numpy_helper.to_array(tensor)
        found = stored.find(values) if values.dtype == np.float32 else None
        if found is None:
            model.graph.initializer.append(numpy_helper.from_array(values, tensor.name))
            continue
        halves = [stored.initializer(f"{tensor.name}.{place}", one) for place, one in enumerate(found.parts)]
        model.graph.initializer.extend(halves)
        model.graph.node.extend(_cast([one.name for one in halves], tensor.name, found))
    model.graph.node.extend(nodes)


class _Part(NamedTuple):
    """A stored tensor, in the shape a graph needs it in."""

    name: str
    shape: tuple[int, ...]


class _Found(NamedTuple):
    """How an initializer is made: parts, joined along their first axis, then transposed."""

    parts: Sequence[_Part]
    transposed: bool


class _Stored:
    """The tensors of a ``.safetensors`` file, found by their values."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        self._places: dict[str, tuple[int, int]] = {}
        self._values: dict[str, Float] = {}
        self._names: dict[bytes, str] = {}
        for name, facts in header.items():
            if name == "__metadata__" or facts["dtype"] != "F16":
                continue
            first, last = (start + offset for offset in facts["data_offsets"])
            self._places[name] = first, last - first
            self._values[name] = np.frombuffer(data[first:last], np.float16).reshape(facts["shape"]).astype(np.float32)
            self._names.setdefault(self._values[name].tobytes(), name)

    def fits(self, tensor: TensorProto) -> bool:
        """Whether what a graph reads is stored here, as many values of it."""
        return self._places.get(tensor.doc_string, (0, -1))[1] == 2 * math.prod(tensor.dims)

    def find(self, values: Float) -> _Found | None:
        """Tell how values are made of what is stored."""
        if name := self._names.get(values.tobytes()):
            return _Found([_Part(name, values.shape)], transposed=False)
        flipped = np.ascontiguousarray(values.T)
        if values.ndim == 2 and (name := self._names.get(flipped.tobytes())):
            return _Found([_Part(name, flipped.shape)], transposed=True)
        parts = self._joined(flipped)
        return _Found(parts, transposed=values.ndim == 2) if parts else None

    def _joined(self, rows: Float) -> list[_Part]:
        """Stored tensors that make these rows, one after the other; none where they do not."""
        found: list[_Part] = []
        while len(rows):
            name = next((one for one, values in self._values.items() if _begins(rows, values)), None)
            if name is None:
                return []
            found.append(_Part(name, self._values[name].shape))
            rows = rows[len(self._values[name]) :]
        return found

    def initializer(self, name: str, part: _Part) -> TensorProto:
        """A tensor of a graph whose data are those of a stored one."""
        offset, length = self._places[part.name]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=part.shape, data_location=TensorProto.EXTERNAL)
        tensor.doc_string = part.name
        for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def _begins(rows: Float, values: Float) -> bool:
    return values.ndim == rows.ndim and values.shape[1:] == rows.shape[1:] and np.array_equal(rows[: len(values)], values)


def _cast(parts: Sequence[str], name: str, found: _Found) -> Iterator[onnx.NodeProto]:
    """Nodes that make an initializer of its parts."""
    last = parts[0]
    if len(parts) > 1:
        yield helper.make_node("Concat", parts, [last := f"{name}.joined"], axis=0)
    if found.transposed:
        yield helper.make_node("Transpose", [last], [f"{name}.transposed"], perm=[1, 0])
        last = f"{name}.transposed"
    yield helper.make_node("Cast", [last], [name], to=TensorProto.FLOAT)


if __name__ == "__main__":
    write_preset_graphs(trace=True)
