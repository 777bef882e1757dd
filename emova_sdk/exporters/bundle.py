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
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emova_sdk.components.base import Component
from emova_sdk.components.exported import SCHEMA, file_facts, require_whole
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.onnx_session import open_session
from emova_sdk.components.tensorrt_session import open_engine
from emova_sdk.errors import ExportError, InputError, LoadError, ParityError
from emova_sdk.exporters.onnx import OPSET, export_onnx, files_of
from emova_sdk.exporters.parity import Tolerance, compare, require, within
from emova_sdk.exporters.quantize import TOLERANCES, Precision, quantize

CONFIG_NAME = "assistant.toml"
Progress = Callable[[str], object]
ConfigWriter = Callable[[Sequence[str]], str]
"""Writes the config of an export as TOML, given the slots that run from it."""


def plain_config(slots: Sequence[str]) -> str:
    """A config of nothing but the slots that run from the export."""
    return "\n".join(f'[{slot}]\ntype = "onnx"\nbundle = "."\n' for slot in slots)


def export_bundle(
    components: Mapping[str, Component],
    out: str | Path,
    *,
    precision: Precision = "fp32",
    opset: int = OPSET,
    portable: bool = False,
    source: str = "",
    config: ConfigWriter = plain_config,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Export every graph of some components and compare each with its original.

    Args:
        components: Slot to component.
        out: Folder to make; it must not exist, or be an earlier export.
        precision: What the graphs are stored and computed in.
        opset: ONNX operator set.
        portable: Of a graph that there are two flavours of, take the one of the standard's operators alone, which other
            runtimes read as well; without it the one for ONNX Runtime.
        source: What the components were made from (a preset, a config), for the manifest.
        config: Writes the ``assistant.toml``. A slot runs from the export if its graphs' metadata name a ``family``.
        progress: Told what is being done.

    Returns:
        The manifest, as written to ``manifest.json``.

    Raises:
        ParityError: If an exported graph disagrees with its original; nothing is left behind.
        ExportError: If a graph cannot be exported, or no component offers one.
        InputError: If ``out`` is in the way.
    """
    with staged(out) as staging:
        records = {
            slot: _export_component(
                component, staging / slot, precision, opset, portable, lambda text, slot=slot: progress(f"{slot}: {text}")
            )
            for slot, component in components.items()
        }
        _require_some(records)
        assets = {slot: _copy_assets(component, staging / slot) for slot, component in components.items() if records[slot]}
        manifest = _manifest(records, assets, precision=precision, opset=opset, source=source)
        write_manifest(manifest, staging)
        runnable = [slot for slot, graphs in records.items() if graphs and "family" in graphs[0]["metadata"]]
        (staging / CONFIG_NAME).write_text(config(runnable), encoding="utf-8")
    return manifest


@contextmanager
def staged(out: str | Path) -> Generator[Path, None, None]:
    """A folder to write an export into, which takes the place of ``out`` if all goes well and vanishes otherwise.

    Raises:
        InputError: If ``out`` is in the way.
    """
    out = Path(out)
    _require_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        yield staging
        staging.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        staging.replace(out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def write_manifest(manifest: Mapping[str, Any], folder: Path) -> None:
    """Write ``manifest.json`` and ``report.md``."""
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    (folder / "report.md").write_text(report(manifest))


def _require_free(out: Path) -> None:
    if out.exists() and not (out / "manifest.json").exists() and any(out.iterdir()):
        raise InputError(f"`{out}` exists and is no export", "choose another folder")


def _require_some(records: Mapping[str, list[dict[str, Any]]]) -> None:
    if not any(records.values()):
        raise ExportError("none of these components offers a graph", "a component offers them by its method `graphs`")


def _export_component(  # noqa: PLR0917 - called at one place
    component: Component, folder: Path, precision: Precision, opset: int, portable: bool, progress: Progress
) -> list[dict[str, Any]]:
    component.load()
    other = "runtime" if portable else "portable"
    graphs = [graph for graph in component.graphs() if graph.metadata.get("flavour") != other]
    if graphs:
        folder.mkdir()
    return [_export_graph(graph, folder, precision, opset, progress) for graph in graphs]


def _export_graph(graph: Graph, folder: Path, precision: Precision, opset: int, progress: Progress) -> dict[str, Any]:
    progress(f"exporting {graph.name}")
    path = export_onnx(graph, folder / f"{graph.name}.onnx", opset=opset)
    if precision != "fp32":
        path = _reduced(graph, path, precision, progress)
    progress(f"comparing {graph.name}")
    parity = compare(graph, path, tolerance=TOLERANCES[precision])
    require(parity, graph.name)
    return {
        "name": graph.name,
        "file": f"{folder.name}/{path.name}",
        "files": {f"{folder.name}/{file.name}": file_facts(file) for file in files_of(path)},
        "inputs": list(graph.inputs),
        "shapes": {name: list(shape) for name, shape in graph.shapes.items()},
        "outputs": list(graph.outputs),
        "axes": {name: asdict(axis) for name, axis in graph.axes.items()},
        "dynamic": {name: {str(at): axis.name for at, axis in axes.items()} for name, axes in graph.dynamic.items()},
        "metadata": dict(graph.metadata),
        "parity": [record.to_dict() for record in parity],
    }


def _reduced(graph: Graph, path: Path, precision: Precision, progress: Progress) -> Path:
    progress(f"converting {graph.name} to {precision}")
    whole = path.rename(path.with_name(f"{path.stem}.fp32.onnx"))
    data = path.with_name(path.name + ".data")  # the graph refers to its weights by this name
    try:
        return quantize(graph, whole, path.with_name(f"{path.stem}.{precision}.onnx"), precision=precision)
    finally:
        whole.unlink()
        data.unlink(missing_ok=True)


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


def _manifest(
    records: Mapping[str, list[dict[str, Any]]], assets: Mapping[str, Any], *, precision: str, opset: int, source: str
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": source,
        "precision": precision,
        "opset": opset,
        "versions": {name: _version(name) for name in ("emova-sdk", "torch", "onnx", "onnxruntime", "onnxruntime-gpu")},
        "components": {slot: graphs for slot, graphs in records.items() if graphs},
        "assets": {slot: files for slot, files in assets.items() if files},
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
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if manifest["schema"] != SCHEMA:
            raise LoadError(f"`{path}` has the form {manifest['schema']}, not {SCHEMA}", "export again", path=str(path))
        files = {
            file: facts
            for graphs in manifest["components"].values()
            for graph in graphs
            for file, facts in graph["files"].items()
        }
        files |= {file: facts for part in manifest.get("assets", {}).values() for file, facts in part.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(f"`{path}` is not the manifest of an export: {error}", "export again", path=str(path)) from error
    require_whole(folder, files)
    return manifest


def verify_bundle(
    components: Mapping[str, Component], folder: str | Path, *, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Compare an export with its originals again.

    Returns:
        Slot and graph to the records of parity.

    Raises:
        LoadError: If the export is broken.
        ParityError: If a graph disagrees.
        ExportError: If a component offers no graph of an exported name.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    tolerance: Tolerance = TOLERANCES[manifest["precision"]]
    found: dict[str, Any] = {}
    for slot, records in manifest["components"].items():
        component = components.get(slot)
        if component is None:
            raise ExportError(
                f"the export holds `{slot}` and the config does not", "verify it with the config it was made from"
            )
        component.load()
        graphs = {graph.name: graph for graph in component.graphs()}
        for record in records:
            if record["name"] not in graphs:
                raise ExportError(f"`{slot}` offers no graph `{record['name']}`", "verify it with the config it was made from")
            progress(f"{slot}: comparing {record['name']}")
            exported = _opened(folder / record["file"], record)
            graph = within(graphs[record["name"]], {name: Axis(**facts) for name, facts in record["axes"].items()})
            parity = compare(graph, exported, tolerance=tolerance)
            require(parity, record["name"])
            found.setdefault(slot, {})[record["name"]] = [one.to_dict() for one in parity]
    return found


def _opened(file: Path, record: Mapping[str, Any]) -> Any:
    """What runs an exported graph: ONNX Runtime, or for an engine TensorRT."""
    return open_engine(file, record) if "engine" in record else open_session(file)


def report(manifest: Mapping[str, Any]) -> str:
    """Describe an export in Markdown: sizes, axes, and how exactly each output agrees."""
    lines = [f"# Export of {manifest['source'] or 'components'} in {manifest['precision']}", ""]
    for slot, graphs in manifest["components"].items():
        for graph in graphs:
            size = sum(facts["bytes"] for facts in graph["files"].values())
            axes = ", ".join(f"{axis['name']} {axis['min']}..{axis['max']}" for axis in graph["axes"].values()) or "none"
            lines += [f"## {slot}: {graph['name']}", "", f"{size / 1e6:.2f} MB; dynamic axes: {axes}", ""]
            lines += [
                "| output | sizes | max abs diff | mean abs diff | cosine | mismatch | allowed |",
                "|---|---|---|---|---|---|---|",
            ]
            lines += [_row(record) for record in graph["parity"]] or ["| not run | | | | | | |"]
            lines += [""]
    if manifest["without_graphs"]:
        lines += [f"Without graphs: {', '.join(manifest['without_graphs'])}.", ""]
    return "\n".join(lines)


def _row(record: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{name} {size}" for name, size in record["sizes"].items()) or "fixed"
    numbers = (
        f"{record['max_abs_diff']:.3g} | {record['mean_abs_diff']:.3g} | {record['cosine']:.6f} | {record['mismatch']:.4f}"
    )
    return f"| {record['output']} | {sizes} | {numbers} | {record['allowed']} |"


__all__ = ["ParityError", "export_bundle", "file_facts", "read_manifest", "report", "staged", "verify_bundle", "write_manifest"]
