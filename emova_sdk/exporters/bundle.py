"""Exports of a component or a whole assistant: graphs, their parity and a manifest, written whole or not at all.

::

    DIR/manifest.json          what was exported, from what, how exactly it agrees, with digests of all files
    DIR/report.md              the same for people
    DIR/assistant.toml         a config that runs the export: ``emova chat -c DIR``
    DIR/SLOT/GRAPH.onnx        and GRAPH.onnx.data beside it, and what else the slot's component reads
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emova_sdk.components.base import Component
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.runtimes.manifest import SCHEMA, file_facts, parse_manifest, require_whole
from emova_sdk.components.runtimes.onnx_session import exact_products, open_session
from emova_sdk.components.runtimes.tensorrt_session import open_engine
from emova_sdk.errors import ExportError, LoadError, ParityError
from emova_sdk.exporters.expectations import load_cases, save_cases
from emova_sdk.exporters.mixed import attempts, kept_at, reduce
from emova_sdk.exporters.onnx import OPSET, export_onnx, files_of
from emova_sdk.exporters.parity import Case, Limits, cases_of, check_sizes, judge, other_sizes, require, within
from emova_sdk.exporters.quantize import PRECISIONS, TOLERANCES, Method, Precision
from emova_sdk.exporters.report import report
from emova_sdk.exporters.saturation import processors, require_safe
from emova_sdk.exporters.tasks import TaskParity, task_error, work
from emova_sdk.folders import Kind
from emova_sdk.processor import same_everywhere

CONFIG_NAME = "assistant.toml"
EXPORT = Kind("export", "manifest.json")
Progress = Callable[[str], object]
ConfigWriter = Callable[[Sequence[str]], str]
"""Writes the config of an export as TOML, given the slots that run from it."""


def plain_config(slots: Sequence[str]) -> str:
    """A config of nothing but the slots that run from the export."""
    return "\n".join(f'[{slot}]\ntype = "onnx"\npath = "."\n' for slot in slots)


def export_bundle(
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
    """Export every graph of some components and compare each with its original.

    Args:
        components: Slot to component.
        out: Folder to make.
        force: Replace an earlier export in that place.
        precision: What the graphs are stored and computed in, as far as they bear it.
        strict: Fail where a graph does not bear the precision; without it what is sensitive stays in float32, and the
            manifest says so.
        opset: ONNX operator set.
        portable: Of a graph that there are two flavours of, take the one of the standard's operators alone, which other
            runtimes read as well; without it the one for ONNX Runtime. The same holds for convolutions in int8.
        block_size: Weights that share a scale, where matrices are stored in blocks, see `Method`.
        source: What the components were made from (a preset, a config), for the manifest.
        config: Writes the ``assistant.toml``. A slot runs from the export if its graphs' metadata name a ``family``.
        progress: Told what is being done.

    Returns:
        The manifest, as written to ``manifest.json``.

    Raises:
        ParityError: If an exported graph disagrees with its original; nothing is left behind.
        ExportError: If a graph cannot be exported, or no component offers one.
        InputError: If ``out`` is in the way.
        BackendError: If the disk fails or is full.
    """
    wish = _Wish(precision, strict, opset, Method(block_size, portable), progress)
    with EXPORT.staged(out, force=force) as staging:
        slots = {slot: _export_component(slot, component, staging, wish) for slot, component in components.items()}
        _require_some(slots)
        facts = {"precision": precision, "block_size": block_size, "opset": opset, "source": source}
        manifest = _complete(slots, components, staging, facts)
        (staging / CONFIG_NAME).write_text(config(_runnable(slots)), encoding="utf-8")
        manifest = _settled(slots, components, staging, facts, manifest, wish)
        write_manifest(manifest, staging)
    return manifest


@dataclass(frozen=True)
class _Wish:
    """How to export."""

    precision: Precision
    strict: bool
    opset: int
    method: Method
    progress: Progress
    begin: int = 0


_Records = dict[str, list[dict[str, Any]]]


def _settled(  # noqa: PLR0917 - called at one place
    slots: _Records,
    components: Mapping[str, Component],
    staging: Path,
    facts: Mapping[str, Any],
    manifest: dict[str, Any],
    wish: _Wish,
) -> dict[str, Any]:
    """Let the components work; what goes wrong is exported again, with less reduced, until all goes well.

    Raises:
        ParityError: If something goes wrong in float32, or with ``strict``.
    """
    reasons: dict[str, str] = {}
    begin = attempts(wish.precision) - 1
    failed = _check_tasks(manifest, components, staging, wish)
    while failed:
        for slot, because in failed.items():
            reasons.setdefault(slot, because)
            shutil.rmtree(staging / slot)
            slots[slot] = _export_component(slot, components[slot], staging, replace(wish, begin=begin))
            for record in slots[slot]:
                record["kept"] = [{"part": kept_at(wish.precision, begin), "because": reasons[slot]}]
        begin += 1
        manifest = _complete(slots, components, staging, facts)
        failed = _check_tasks(manifest, components, staging, wish)
    return manifest


def _complete(slots: _Records, components: Mapping[str, Component], staging: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the other files of the slots, and write the manifest."""
    assets = {slot: _copy_assets(components[slot], staging / slot) for slot, records in slots.items() if records}
    manifest = _manifest(slots, assets, facts)
    write_manifest(manifest, staging)
    return manifest


def _runnable(slots: _Records) -> list[str]:
    return [slot for slot, graphs in slots.items() if graphs and "family" in graphs[0]["metadata"]]


def _check_tasks(manifest: dict[str, Any], components: Mapping[str, Component], staging: Path, wish: _Wish) -> dict[str, str]:
    """Let the exported components work; note how they did, and return those that fail with the reason.

    Raises:
        ParityError: If one fails in float32, or with ``strict``.
    """
    failed: dict[str, str] = {}
    for slot, records in manifest["components"].items():
        wish.progress(f"{slot}: comparing what it does")
        found = work(slot, components[slot], staging, precision=_lowest(records))
        if not found:
            continue
        manifest["tasks"][slot] = [one.to_dict() for one in found]
        wrong = [one for one in found if not one.passed]
        if wrong:
            failed[slot] = f"{wrong[0].task}: {wrong[0].measure} {wrong[0].value:.3g}, allowed is {wrong[0].allowed}"
            if wish.strict or wish.precision == "fp32" or _lowest(records) == "fp32":
                raise task_error(slot, wrong[0])
    return failed


def _lowest(records: Sequence[Mapping[str, Any]]) -> Precision:
    """The lowest precision among a slot's graphs."""
    return max((record["precision"] for record in records), key=PRECISIONS.index)


def write_manifest(manifest: Mapping[str, Any], folder: Path) -> None:
    """Write ``manifest.json`` and ``report.md``."""
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    (folder / "report.md").write_text(report(manifest))


def _require_some(records: Mapping[str, list[dict[str, Any]]]) -> None:
    if not any(records.values()):
        raise ExportError("none of these components offers a graph", "a component offers them by its method `graphs`")


def _export_component(slot: str, component: Component, staging: Path, wish: _Wish) -> list[dict[str, Any]]:
    other = "runtime" if wish.method.portable else "portable"
    graphs = [graph for graph in component.graphs() if graph.metadata.get("flavour") != other]
    if graphs:
        (staging / slot).mkdir()
    told = replace(wish, progress=lambda text: wish.progress(f"{slot}: {text}"))
    return [_export_graph(graphs.pop(0), staging / slot, told) for _ in range(len(graphs))]


def _export_graph(graph: Graph, folder: Path, wish: _Wish) -> dict[str, Any]:
    wish.progress(f"exporting {graph.name}")
    whole = export_onnx(graph, folder / f"{graph.name}.onnx", opset=wish.opset)
    in_float32 = sum(file.stat().st_size for file in files_of(whole))
    graph = graph.compared()
    cases = list(cases_of(graph))
    found = reduce(
        graph,
        whole,
        folder,
        precision=wish.precision,
        cases=cases,
        method=wish.method,
        strict=wish.strict,
        begin=wish.begin,
        progress=wish.progress,
    )
    if found.path != whole:
        for file in files_of(whole):
            file.unlink()
    expectations = folder / f"{graph.name}.expected.safetensors"
    save_cases(cases, expectations)
    return {
        "name": graph.name,
        "file": f"{folder.name}/{found.path.name}",
        "files": {f"{folder.name}/{file.name}": file_facts(file) for file in (*files_of(found.path), expectations)},
        "expectations": f"{folder.name}/{expectations.name}",
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


def _manifest(records: _Records, assets: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
        "versions": {name: _version(name) for name in ("emova-sdk", "torch", "onnx", "onnxruntime", "onnxruntime-gpu")},
        "components": {slot: graphs for slot, graphs in records.items() if graphs},
        "assets": {slot: files for slot, files in assets.items() if files},
        "tasks": {},
        "without_graphs": sorted(slot for slot, graphs in records.items() if not graphs),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# --- looking at an export again ---


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read an export's manifest and check that its files are whole.

    Raises:
        LoadError: If the manifest is missing, unreadable or of another version, or a file is missing or changed.
    """
    folder = Path(folder)
    manifest = parse_manifest(folder)
    for record in (record for records in manifest["components"].values() for record in records):
        require_whole(folder, record["files"])
    for files in manifest.get("assets", {}).values():
        require_whole(folder, files)
    return manifest


def verify_bundle(
    components: Mapping[str, Component] | None, folder: str | Path, *, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Compare an export with its originals again, on other inputs as well.

    Args:
        components: The originals by slot; None compares with what they made when they were exported, which needs no torch.
        folder: The export.
        progress: Told what is being done.

    Returns:
        Slot and graph to the records of parity; a slot's tasks go by ``task:`` and the name of the task.

    Raises:
        LoadError: If the export is broken.
        ParityError: If a graph disagrees, or a task goes wrong.
        ExportError: If a component offers no graph of an exported name.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    found: dict[str, Any] = {}
    for slot, records in manifest["components"].items():
        originals = None if components is None else _originals(slot, components)
        for record in records:
            progress(f"{slot}: comparing {record['name']}")
            exported = _opened(folder / record["file"], record)
            if "engine" not in record and same_everywhere(record) and find_spec("onnx"):
                require_safe(folder / record["file"])
            cases = _stored(folder, record) if originals is None else _computed(slot, originals, record)
            tolerance = TOLERANCES[record.get("precision", manifest["precision"])]
            parity = judge(cases, exported, Limits(record.get("atol", 1e-4), record.get("mismatch", 0.0), tolerance))
            require(parity, record["name"])
            found.setdefault(slot, {})[record["name"]] = [one.to_dict() for one in parity]
        if components is not None and "engine" not in records[0]:
            tasks = work(slot, components[slot], folder, precision=_lowest(records))
            _require_work(slot, tasks)
            found[slot] |= {f"task: {one.task}": [one.to_dict()] for one in tasks}  # a graph may have its name
    return found


def _originals(slot: str, components: Mapping[str, Component]) -> dict[str, Graph]:
    component = components.get(slot)
    if component is None:
        raise ExportError(f"the export holds `{slot}` and the config does not", "verify it with the config it was made from")
    return {graph.name: graph.compared() for graph in component.graphs()}


def _computed(slot: str, originals: Mapping[str, Graph], record: Mapping[str, Any]) -> Iterator[Case]:
    """Cases of the original, at the sizes of the export and at others."""
    if record["name"] not in originals:
        raise ExportError(f"`{slot}` offers no graph `{record['name']}`", "verify it with the config it was made from")
    graph = within(originals[record["name"]], {name: Axis(**facts) for name, facts in record["axes"].items()})
    return cases_of(graph, [*check_sizes(graph), *other_sizes(graph), *graph.checks])


def _stored(folder: Path, record: Mapping[str, Any]) -> list[Case]:
    if "expectations" not in record:
        raise LoadError(f"the export `{folder}` holds no expectations", "verify it where torch is installed", path=str(folder))
    return load_cases(folder / record["expectations"])


def _require_work(slot: str, tasks: Sequence[TaskParity]) -> None:
    for one in tasks:
        if not one.passed:
            raise task_error(slot, one)


def _opened(file: Path, record: Mapping[str, Any]) -> Any:
    """What runs an exported graph: ONNX Runtime, or for an engine TensorRT."""
    return open_engine(file, record) if "engine" in record else open_session(file, options=exact_products(record))


__all__ = ["EXPORT", "ParityError", "export_bundle", "file_facts", "read_manifest", "verify_bundle", "write_manifest"]
