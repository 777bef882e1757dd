"""Export components: their graphs, how exactly these agree with the originals, and a manifest; written whole or not at all.

::

    DIR/manifest.json          what was exported, from what, how exactly it agrees, with digests of all files
    DIR/report.md              the same for people
    DIR/assistant.toml         a config that runs the export: ``emova chat -c DIR``
    DIR/ROLE/GRAPH.onnx        and GRAPH.onnx.data beside it, and what else the component reads
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emova_sdk.components.base import Component
from emova_sdk.components.exported import open_component
from emova_sdk.components.graph import Graph
from emova_sdk.components.runtimes.manifest import SCHEMA, file_facts
from emova_sdk.components.trials import TrialResult, run_trials
from emova_sdk.errors import ExportError, ParityError
from emova_sdk.exporters.golden import save_cases
from emova_sdk.exporters.onnx import OPSET, export_onnx, files_of
from emova_sdk.exporters.parity import cases_of
from emova_sdk.exporters.precision_search import attempts, kept_at, search_precision
from emova_sdk.exporters.quantize import PRECISIONS, Method, Precision
from emova_sdk.exporters.report import report
from emova_sdk.exporters.saturation import processors
from emova_sdk.folders import Kind

CONFIG_NAME = "assistant.toml"
EXPORT = Kind("export", "manifest.json")
Progress = Callable[[str], object]
ConfigWriter = Callable[[Sequence[str]], str]
"""Writes the config of an export as TOML, given the roles that run from it."""


def plain_config(roles: Sequence[str]) -> str:
    """A config of nothing but what runs from the export."""
    return "\n".join(f'[{role}]\ntype = "onnx"\npath = "."\n' for role in roles)


def export_components(
    components: Mapping[str, Component],
    out: str | Path,
    *,
    force: bool = False,
    precision: Precision = "fp32",
    strict: bool = False,
    opset: int = OPSET,
    portable: bool = False,
    block_size: int = 32,
    source: str = "",
    config: ConfigWriter = plain_config,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Export every graph of some components, and compare graphs and components with their originals.

    Args:
        components: Role to component.
        out: Folder to make.
        force: Replace an earlier export in that place.
        precision: What the graphs are stored and computed in. Graphs that lose too much accuracy keep a higher precision,
            and the manifest says so.
        strict: Fail if a graph loses too much accuracy at this precision.
        opset: ONNX operator set.
        portable: Of a graph that there are two flavours of, take the one of the standard's operators alone, which other
            runtimes read as well; without it the one for ONNX Runtime. The same holds for convolutions in int8.
        block_size: Weights that share a scale, where matrices are stored in blocks, see `Method`.
        source: What the components were made from (a preset, a config), for the manifest.
        config: Writes the ``assistant.toml``. A component runs from the export if its graphs' metadata name a ``family``.
        progress: Told what is being done.

    Returns:
        The manifest, as written to ``manifest.json``.

    Raises:
        ParityError: If an exported graph or component disagrees with its original; nothing is left behind.
        ExportError: If a graph cannot be exported, or no component offers one.
        InputError: If ``out`` is in the way.
        BackendError: If the disk fails or is full.
    """
    settings = _Settings(precision, strict, opset, Method(block_size, portable), progress)
    with EXPORT.staged(out, force=force) as staging:
        parts = {role: _export_component(role, component, staging, settings) for role, component in components.items()}
        if not any(part.graphs for part in parts.values()):
            raise ExportError("none of these components offers a graph", "a component offers them by its method `graphs`")
        manifest = {
            "schema": SCHEMA,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "precision": precision,
            "block_size": block_size,
            "opset": opset,
            "source": source,
            "versions": {name: _version(name) for name in ("emova-sdk", "torch", "onnx", "onnxruntime", "onnxruntime-gpu")},
            "components": {role: part.graphs for role, part in parts.items() if part.graphs},
            "assets": {role: part.assets for role, part in parts.items() if part.assets},
            "trials": {role: [one.to_dict() for one in part.trials] for role, part in parts.items() if part.trials},
            "without_graphs": sorted(role for role, part in parts.items() if not part.graphs),
        }
        runnable = [role for role, part in parts.items() if part.graphs and "family" in part.graphs[0]["metadata"]]
        (staging / CONFIG_NAME).write_text(config(runnable), encoding="utf-8")
        write_manifest(manifest, staging)
    return manifest


@dataclass(frozen=True)
class _Settings:
    """How to export; `begin` is the first attempt of the search for a precision."""

    precision: Precision
    strict: bool
    opset: int
    method: Method
    progress: Progress
    begin: int = 0


@dataclass(frozen=True)
class _Exported:
    """What of a component is in the export, as the manifest has it."""

    graphs: list[dict[str, Any]]
    assets: dict[str, Any]
    trials: list[TrialResult]


def _export_component(role: str, component: Component, staging: Path, settings: _Settings) -> _Exported:
    """Export a component and run its trials; if one fails, export it again with less reduced, until all pass.

    Raises:
        ParityError: If a trial fails in float32, or with ``strict``.
    """
    reason, begin = "", 0
    while True:
        found = _exported_once(role, component, staging, replace(settings, begin=begin))
        for record in found.graphs if reason else ():
            record["kept"] = [{"part": kept_at(settings.precision, begin), "because": reason}]
        wrong = [one for one in found.trials if not one.passed]
        if not wrong:
            return found
        if settings.strict or lowest_precision(found.graphs) == "fp32":
            raise trial_error(role, wrong[0])
        first = wrong[0]
        reason = reason or f"{first.trial}: {first.measure} {first.value:.3g}, allowed is {first.allowed}"
        begin = begin + 1 if begin else max(1, attempts(settings.precision) - 1)  # the last attempts alone: each takes long
        shutil.rmtree(staging / role)


def _exported_once(role: str, component: Component, staging: Path, settings: _Settings) -> _Exported:
    other = "runtime" if settings.method.portable else "portable"
    graphs = [graph for graph in component.graphs() if graph.metadata.get("flavour") != other]
    if not graphs:
        return _Exported([], {}, [])
    folder = staging / role
    folder.mkdir()
    told = replace(settings, progress=lambda text: settings.progress(f"{role}: {text}"))
    records = [_export_graph(graphs.pop(0), folder, told) for _ in range(len(graphs))]
    assets = _copy_assets(component, folder)
    told.progress("comparing what it does")
    manifest = {"components": {role: records}, "assets": {role: assets}}
    return _Exported(records, assets, compare_component(role, component, staging, manifest))


def compare_component(role: str, original: Component, folder: Path, manifest: Mapping[str, Any]) -> list[TrialResult]:
    """Run the trials of a component on it and on its export."""
    records = manifest["components"][role]
    trials = original.trials() if "family" in records[0]["metadata"] else []  # others cannot be opened from an export
    if not trials:
        return []
    with open_component(role, str(folder), manifest=manifest) as exported:
        return run_trials(trials, original, exported, precision=lowest_precision(records))


def lowest_precision(records: Sequence[Mapping[str, Any]]) -> Precision:
    """The lowest precision among the graphs of a component."""
    return PRECISIONS[max(PRECISIONS.index(record.get("precision") or "fp32") for record in records)]


def trial_error(role: str, found: TrialResult) -> ParityError:
    """The error for a trial that failed."""
    return ParityError(
        f"{role}, {found.trial}: {found.measure} is {found.value:.3g}; allowed is {found.allowed}",
        "export in a higher precision",
        output=found.trial,
        max_abs_diff=found.value,
        atol=float(found.allowed.rsplit(" ", 1)[-1]),
    )


def write_manifest(manifest: Mapping[str, Any], folder: Path) -> None:
    """Write ``manifest.json`` and ``report.md``."""
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    (folder / "report.md").write_text(report(manifest))


def _export_graph(graph: Graph, folder: Path, settings: _Settings) -> dict[str, Any]:
    settings.progress(f"exporting {graph.name}")
    whole = export_onnx(graph, folder / f"{graph.name}.onnx", opset=settings.opset)
    in_float32 = sum(file.stat().st_size for file in files_of(whole))
    graph = graph.compared()
    cases = list(cases_of(graph))
    found = search_precision(
        graph,
        whole,
        folder,
        precision=settings.precision,
        cases=cases,
        method=settings.method,
        strict=settings.strict,
        begin=settings.begin,
        progress=settings.progress,
    )
    if found.path != whole:
        for file in files_of(whole):
            file.unlink()
    golden = folder / f"{graph.name}.golden.safetensors"
    save_cases(cases, golden)
    return {
        "name": graph.name,
        "file": f"{folder.name}/{found.path.name}",
        "files": {f"{folder.name}/{file.name}": file_facts(file) for file in (*files_of(found.path), golden)},
        "golden": f"{folder.name}/{golden.name}",
        "precision": found.precision,
        "float32_bytes": in_float32,
        "processors": processors(found.path),
        "kept": [asdict(kept) for kept in found.kept],
        "inputs": list(graph.inputs),
        "shapes": {name: list(shape) for name, shape in graph.shapes.items()},
        "outputs": list(graph.outputs),
        "axes": {name: asdict(axis) for name, axis in graph.axes.items()},
        "dynamic": {name: {str(at): axis.name for at, axis in axes.items()} for name, axes in graph.dynamic.items()},
        "metadata": dict(graph.metadata),
        "atol": graph.atol,
        "mismatch": graph.mismatch,
        "parity": [record.to_dict() for record in found.parity],
    }


def _copy_assets(component: Component, folder: Path) -> dict[str, Any]:
    """Copy what a runtime needs beside the graphs; return facts by path within the export."""
    assets = component.assets()
    for name, source in assets.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, str | bytes):
            target.write_bytes(source.encode() if isinstance(source, str) else source)
        else:
            shutil.copyfile(source, target)
    return {f"{folder.name}/{name}": file_facts(folder / name) for name in assets}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
