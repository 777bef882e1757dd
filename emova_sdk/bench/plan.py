"""What to compare: a config in PyTorch, compiled, and from its exports."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emova_sdk.bench.contenders import Contender, GraphContender, Sample, SlotContender, TurnContender
from emova_sdk.bench.limits import Work
from emova_sdk.bench.race import Entry, Subject
from emova_sdk.components.graph import Graph
from emova_sdk.config import exported_config, load_config
from emova_sdk.errors import EmovaError, InputError
from emova_sdk.exporters.export import export_components
from emova_sdk.exporters.quantize import Precision
from emova_sdk.exporters.verify import read_manifest
from emova_sdk.pipeline import Pipeline

_RUNTIMES = {"onnx", "tensorrt"}


@dataclass(frozen=True)
class Question:
    """What is asked: the paths of a sound and a picture, and words for assistants that cannot hear."""

    audio: str
    image: str
    text: str = "hello"


@dataclass(frozen=True)
class Export:
    """An export that takes part, or why it does not.

    Attributes:
        name: E.g. ``onnx int8``.
        folder: Where it is.
        manifest: Its manifest.
        error: Why it could not be made.
    """

    name: str
    folder: str = ""
    manifest: Mapping[str, Any] | None = None
    error: str = ""

    @classmethod
    def open(cls, folder: Path) -> Export:
        """Read an export.

        Raises:
            LoadError: If it is broken.
        """
        manifest = read_manifest(folder)
        return cls(f"{manifest.get('format', 'onnx')} {manifest['precision']}", str(folder), manifest)

    def records(self, slot: str) -> list[dict[str, Any]]:
        """The graphs of a slot."""
        return list(self.manifest["components"].get(slot, ())) if self.manifest else []

    def bytes(self, slot: str | None = None) -> int:
        """Size of its files, or of those of one slot."""
        parts: Mapping[str, Any] = self.manifest["components"] if self.manifest else {}
        files = [graph["files"] for name, graphs in parts.items() if slot in {None, name} for graph in graphs]
        assets: Mapping[str, Any] = (self.manifest or {}).get("assets", {})
        files += [found for name, found in assets.items() if slot in {None, name}]
        return sum(facts["bytes"] for found in files for facts in found.values())

    def runs(self, slot: str) -> bool:
        """Whether the export's own config runs the slot from it."""
        try:
            part = load_config(self.folder).slots.get(slot)
        except EmovaError:
            return False
        return part is not None and part.type in _RUNTIMES


@contextmanager
def exports_of(
    config: str,
    overrides: Sequence[str],
    *,
    slots: Sequence[str],
    folders: Sequence[Path],
    precisions: Sequence[Precision],
    progress: Callable[[str], object] = lambda _: None,
) -> Generator[list[Export], None, None]:
    """The exports in some folders, or if there are none temporary ones in some precisions.

    Raises:
        LoadError: If a folder is no export.
    """
    if folders:
        yield [Export.open(folder) for folder in folders]
        return
    with tempfile.TemporaryDirectory() as place, Pipeline.from_config(config, overrides=overrides) as pipeline:
        parts = {slot: part for slot, part in pipeline.slots().items() if not slots or slot in slots}
        write = partial(exported_config, load_config(config, overrides=overrides))
        made: list[Export] = []
        for precision in precisions:
            out = Path(place) / precision
            try:
                export_components(parts, out, precision=precision, source=config, config=write, progress=progress)
                made.append(Export.open(out))
            except EmovaError as error:
                made.append(Export(f"onnx {precision}", error=error.message))
        yield made


_WITHOUT_TORCH = frozenset({"nano", "onnx", "tensorrt", "bridge", "openai", "fake"})
"""Types of components with nothing for torch to compile."""


@dataclass(frozen=True)
class Plan:
    """What takes part.

    Attributes:
        config: A preset, a TOML file or a folder: the original.
        overrides: Values that replace the config's.
        exports: Exports of it.
        question: What is asked.
        threads: Threads of ONNX Runtime.
        compiled: Whether what torch compiles takes part.
    """

    config: str
    overrides: tuple[str, ...]
    exports: Sequence[Export]
    question: Question
    threads: int
    compiled: bool

    def turn(self) -> Subject:
        """A whole turn."""
        asked = {"audio": self.question.audio, "image": self.question.image, "text": self.question.text}
        make = partial(TurnContender, **asked)
        entries = self._originals(partial(make, config=self.config, overrides=self.overrides))
        for export in self.exports:
            run = None if export.error else make(export.name, export.folder, self._threads(export))
            entries.append(Entry(export.name, run, export.bytes(), export.error))
        return Subject("turn", entries)

    def component(self, slot: str, folder: Path) -> list[Subject]:
        """One component at its typical work, then each of its graphs; ``folder`` keeps the graphs' inputs.

        Raises:
            InputError: If the config has no such component.
        """
        with Pipeline.from_config(self.config, overrides=self.overrides) as pipeline:
            component = pipeline.slots().get(slot)
            if component is None:
                raise InputError(f"`{self.config}` has no `{slot}`", f"its components are {', '.join(pipeline.slots())}")
            component.load()
            graphs = [self._graph(graph, slot, folder) for graph in component.graphs() if self._takes_part(graph, slot)]
        make = partial(SlotContender, slot=slot, audio=self.question.audio, image=self.question.image)
        entries = self._originals(partial(make, config=self.config, overrides=self.overrides))
        for export in self.exports:
            if export.error:
                entries.append(Entry(export.name, error=export.error))
            elif export.runs(slot):
                run = make(export.name, export.folder, overrides=self._threads(export))
                entries.append(Entry(export.name, run, export.bytes(slot)))
        return [Subject(slot, entries), *graphs]

    def _takes_part(self, graph: Graph, slot: str) -> bool:
        """Of a graph that there are two flavours of, those that an export holds."""
        held = {record["name"] for export in self.exports for record in export.records(slot)}
        return "flavour" not in graph.metadata or not held or graph.name in held

    def _graph(self, graph: Graph, slot: str, folder: Path) -> Subject:
        sizes = _sizes(graph)
        inputs: dict[str, Any] = graph.sized(sizes)
        kept = folder / f"{slot}.{graph.name}.npz"
        np.savez(kept, **inputs)
        one: dict[str, Any] = {"slot": slot, "graph": graph.name, "inputs": str(kept), "sample": _sample(graph, sizes)}
        make = partial(GraphContender, config=self.config, overrides=self.overrides, threads=self.threads, **one)
        entries = self._originals(make)
        for export in self.exports:
            for record in export.records(slot):
                if record["name"] == graph.name:
                    run = make(export.name, file=str(Path(export.folder) / record["file"]), record=record)
                    entries.append(Entry(export.name, run, sum(facts["bytes"] for facts in record["files"].values())))
        return Subject(f"{slot}: {graph.name}", entries, _least_work(graph, inputs), dict(sizes))

    def _originals(self, make: Callable[..., Contender]) -> list[Entry]:
        types = {table.type for table in load_config(self.config, overrides=self.overrides).slots.values()}
        name = "torch" if "emova" in types else "original"
        entries = [Entry(name, make(name))]
        if self.compiled and not types <= _WITHOUT_TORCH:
            entries.append(Entry("torch compiled", make("torch compiled", compiled=True)))
        return entries

    def _threads(self, export: Export) -> tuple[str, ...]:
        slots = load_config(export.folder).slots
        return tuple(f"{slot}.threads={self.threads}" for slot, part in slots.items() if part.type == "onnx")


def _sizes(graph: Graph) -> dict[str, int]:
    """Usual sizes; of a graph that keeps a state, the last of its own checks: one more step of a long run."""
    usual = {axis.name: axis.opt for axis in graph.axes.values()}
    return usual | dict(graph.checks[-1]) if graph.state and graph.checks else usual


def _sample(graph: Graph, sizes: Mapping[str, int]) -> Sample:
    """What a run is worth: the sound it hears or makes, or the token it writes."""
    if graph.state:
        return Sample(tokens=sizes.get("rows", 1))
    rate = int(graph.metadata.get("sample_rate", 0))
    step = int(graph.metadata.get("samples_per_frame", 0)) if "audio" in graph.outputs else 0
    samples = sizes.get("samples", 0) or sizes.get("frames", 0) * step
    return Sample(audio_s=samples / rate if rate and samples else None)


def _least_work(graph: Graph, inputs: Mapping[str, Any]) -> Work | None:
    """Operations of products and convolutions, as torch counts them, and the bytes of all weights; None of an ONNX file."""
    if isinstance(graph.original, Path):
        return None
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        graph.original.eval()(*(torch.from_numpy(np.array(array)) for array in inputs.values()))
    held = {tensor.data_ptr(): tensor.nbytes for tensor in (*graph.original.parameters(), *graph.original.buffers())}
    return Work(float(counter.get_total_flops()), float(sum(held.values())))
