"""Verifies an export: that it is complete, and still agrees with its original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emova_sdk.components.base import Component
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.runtimes.manifest import parse_manifest, require_whole
from emova_sdk.components.runtimes.onnx_session import exact_products, open_session
from emova_sdk.components.runtimes.tensorrt_session import open_engine
from emova_sdk.errors import ExportError, LoadError
from emova_sdk.exporters.export import Progress, compare_component, trial_error
from emova_sdk.exporters.golden import load_cases
from emova_sdk.exporters.parity import ParityCase, cases_of, check_sizes, judge, other_sizes, require, within
from emova_sdk.exporters.quantize import TOLERANCES
from emova_sdk.exporters.saturation import require_safe
from emova_sdk.processor import same_everywhere


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


def verify_export(
    components: Mapping[str, Component] | None, folder: str | Path, *, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Compare an export with its originals again, on other inputs as well.

    Args:
        components: The originals by role; None compares with the golden outputs that are in the export, which needs no torch.
        folder: The export.
        progress: Told what is being done.

    Returns:
        Role and graph to the records of parity; a component's trials go by ``trial:`` and their names.

    Raises:
        LoadError: If the export is broken.
        ParityError: If a graph or a trial disagrees.
        ExportError: If a component offers no graph of an exported name.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    found: dict[str, Any] = {}
    for role, records in manifest["components"].items():
        originals = None if components is None else _originals(role, components)
        for record in records:
            progress(f"{role}: comparing {record['name']}")
            exported = _opened(folder / record["file"], record)
            if "engine" not in record and same_everywhere(record) and find_spec("onnx"):
                require_safe(folder / record["file"])
            cases = _golden(folder, record) if originals is None else _computed(role, originals, record)
            tolerance = TOLERANCES[record.get("precision", manifest["precision"])]
            parity = judge(
                cases, exported, tolerance.at_least(atol=record.get("atol", 1e-4), mismatch=record.get("mismatch", 0.0))
            )
            require(parity, record["name"])
            found.setdefault(role, {})[record["name"]] = [one.to_dict() for one in parity]
        if components is not None and "engine" not in records[0]:
            progress(f"{role}: comparing what it does")
            for one in compare_component(role, components[role], folder, manifest):
                if not one.passed:
                    raise trial_error(role, one)
                found[role].setdefault(f"trial: {one.trial}", []).append(one.to_dict())  # a graph may have its name
    return found


def _originals(role: str, components: Mapping[str, Component]) -> dict[str, Graph]:
    component = components.get(role)
    if component is None:
        raise ExportError(f"the export holds `{role}` and the config does not", "verify it with the config it was made from")
    return {graph.name: graph.compared() for graph in component.graphs()}


def _computed(role: str, originals: Mapping[str, Graph], record: Mapping[str, Any]) -> Iterator[ParityCase]:
    """Cases of the original, at the sizes of the export and at others."""
    if record["name"] not in originals:
        raise ExportError(f"`{role}` offers no graph `{record['name']}`", "verify it with the config it was made from")
    graph = within(originals[record["name"]], {name: Axis(**facts) for name, facts in record["axes"].items()})
    return cases_of(graph, [*check_sizes(graph), *other_sizes(graph), *graph.checks])


def _golden(folder: Path, record: Mapping[str, Any]) -> list[ParityCase]:
    if record.get("golden") is None:
        message = f"the export `{folder}` holds no golden outputs"
        raise LoadError(message, "verify it where its originals can run", path=str(folder))
    return load_cases(folder / record["golden"])


def _opened(file: Path, record: Mapping[str, Any]) -> Any:
    """A session of an exported graph: of ONNX Runtime, or for an engine of TensorRT."""
    return open_engine(file, record) if "engine" in record else open_session(file, options=exact_products(record))
