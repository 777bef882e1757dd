"""What to compare: a config as it is, compiled by torch, and from its exports."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emova_sdk.bench.candidates import Candidate, RunOutput
from emova_sdk.bench.limits import Cost
from emova_sdk.bench.runner import Workload
from emova_sdk.components.graph import Graph
from emova_sdk.config import exported_config, load_config
from emova_sdk.errors import EmovaError, InputError
from emova_sdk.exporters.export import export_components
from emova_sdk.exporters.quantize import Precision
from emova_sdk.exporters.verify import read_manifest
from emova_sdk.pipeline import Pipeline

_RUNTIMES = {"onnx", "tensorrt"}
_WITHOUT_TORCH = frozenset({"nano", "onnx", "tensorrt", "bridge", "openai", "fake"})
"""Types of components with nothing for torch to compile."""


@dataclass(frozen=True)
class Export:
    """An export that takes part, or why it does not.

    Attributes:
        name: E.g. ``onnx int8``.
        folder: Where it is.
        manifest: Its manifest; empty if there is none.
        error: Why it could not be made.
    """

    name: str
    folder: str
    manifest: Mapping[str, Any]
    error: str = ""

    @classmethod
    def open(cls, folder: Path) -> Export:
        """Read an export.

        Raises:
            LoadError: If it is broken.
        """
        manifest = read_manifest(folder)
        return cls(f"{manifest.get('format', 'onnx')} {manifest['precision']}", str(folder), manifest)

    def graphs(self, slot: str) -> list[dict[str, Any]]:
        """The records of a slot's graphs."""
        return list(self.manifest.get("components", {}).get(slot, ()))

    def candidates(self, base: Candidate) -> list[Candidate]:
        """What runs the work of ``base`` from this export: nothing where the export does not hold it."""
        base = replace(base, name=self.name)
        if base.graph:
            found = [record for record in self.graphs(base.slot) if record["name"] == base.graph]
            return [
                replace(base, file=str(Path(self.folder) / one["file"]), record=one, disk_bytes=_bytes([one["files"]]))
                for one in found
            ]
        if self.error:
            return [replace(base, error=self.error)]
        if base.slot and not self._runs(base.slot):
            return []
        slots = load_config(self.folder).slots
        threads = tuple(f"{slot}.threads={base.threads}" for slot, part in slots.items() if part.type == "onnx")
        return [replace(base, config=self.folder, overrides=threads, disk_bytes=self._bytes(base.slot))]

    def _bytes(self, slot: str) -> int:
        """Size of all its files, or of those of one slot."""
        parts, assets = self.manifest["components"], self.manifest.get("assets", {})
        files = [graph["files"] for name, graphs in parts.items() if slot in {"", name} for graph in graphs]
        return _bytes([*files, *(found for name, found in assets.items() if slot in {"", name})])

    def _runs(self, slot: str) -> bool:
        """Whether the export's own config runs the slot from it."""
        try:
            part = load_config(self.folder).slots.get(slot)
        except EmovaError:
            return False
        return part is not None and part.type in _RUNTIMES


def _bytes(files: Sequence[Mapping[str, Any]]) -> int:
    return sum(facts["bytes"] for found in files for facts in found.values())


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
                made.append(Export(f"onnx {precision}", "", {}, error.message))
        yield made


def turn_workload(base: Candidate, exports: Sequence[Export], *, compiled: bool) -> Workload:
    """A whole turn, of the config and of its exports; ``base`` says which config that is, and what is asked."""
    return Workload("turn", _candidates(base, exports, compiled=compiled))


def component_workloads(base: Candidate, exports: Sequence[Export], folder: Path, *, compiled: bool) -> list[Workload]:
    """The component that ``base`` names at its typical work, then each of its graphs.

    Args:
        base: The config, the component, and what is asked.
        exports: What else takes part.
        folder: Keeps the graphs' inputs.
        compiled: Whether what torch compiles takes part.

    Raises:
        InputError: If the config has no such component.
    """
    found = [Workload(base.slot, _candidates(base, exports, compiled=compiled))]
    exported = {record["name"] for export in exports for record in export.graphs(base.slot)}
    with Pipeline.from_config(base.config, overrides=base.overrides) as pipeline:
        component = pipeline.slots().get(base.slot)
        if component is None:
            raise InputError(f"`{base.config}` has no `{base.slot}`", f"its components are {', '.join(pipeline.slots())}")
        component.load()
        for graph in component.graphs():
            if "flavour" in graph.metadata and exported and graph.name not in exported:
                continue  # of a graph that there are several versions of, an export holds one
            sizes = _sizes(graph)
            inputs: dict[str, Any] = graph.sized(sizes)
            kept = folder / f"{base.slot}.{graph.name}.npz"
            np.savez(kept, allow_pickle=False, **inputs)
            one = replace(base, graph=graph.name, inputs=str(kept), output=_output(graph, sizes))
            candidates = _candidates(one, exports, compiled=compiled)
            found.append(Workload(f"{base.slot}: {graph.name}", candidates, _cost(graph, inputs)))
    return found


def _candidates(base: Candidate, exports: Sequence[Export], *, compiled: bool) -> list[Candidate]:
    types = {table.type for table in load_config(base.config, overrides=base.overrides).slots.values()}
    own = [replace(base, name="torch" if "emova" in types else "original")]
    if compiled and not types <= _WITHOUT_TORCH:
        own.append(replace(base, name="torch compiled", compiled=True))
    return [*own, *(one for export in exports for one in export.candidates(base))]


def _sizes(graph: Graph) -> dict[str, int]:
    """Usual sizes; of a graph that keeps a state, the last of its own checks: one more step of a long run."""
    usual = {axis.name: axis.opt for axis in graph.axes.values()}
    return usual | dict(graph.checks[-1]) if graph.state and graph.checks else usual


def _output(graph: Graph, sizes: Mapping[str, int]) -> RunOutput:
    """The sound that a run hears or makes, or the tokens it writes."""
    if graph.state:
        return RunOutput(tokens=sizes.get("rows", 1))
    rate = int(graph.metadata.get("sample_rate", 0))
    step = int(graph.metadata.get("samples_per_frame", 0)) if "audio" in graph.outputs else 0
    samples = sizes.get("samples", 0) or sizes.get("frames", 0) * step
    return RunOutput(audio_s=samples / rate if rate and samples else None)


def _cost(graph: Graph, inputs: Mapping[str, Any]) -> Cost | None:
    """Operations of products and convolutions, as torch counts them, and the bytes of all weights; None of an ONNX file."""
    if isinstance(graph.original, Path):
        return None
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        graph.original.eval()(*(torch.from_numpy(np.array(array)) for array in inputs.values()))
    held = {tensor.data_ptr(): tensor.nbytes for tensor in (*graph.original.parameters(), *graph.original.buffers())}
    return Cost(float(counter.get_total_flops()), float(sum(held.values())))
