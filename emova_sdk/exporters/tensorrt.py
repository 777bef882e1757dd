"""TensorRT engines from an ONNX export that was checked: shapes from its axes, precision from its files, nothing else to set.

::

    DIR/manifest.json          the export's manifest, and for each engine what it was built for and by
    DIR/report.md
    DIR/SLOT/GRAPH.engine

TensorRT 11 is strongly typed: an engine computes in the types its ONNX file has, and float32 is float32 (TF32 is off). ``rtx``
engines are built without a GPU, for every RTX GPU from Turing on; ``trt`` engines on the GPU they are for.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emova_sdk.components.base import Component
from emova_sdk.components.graph import Axis, Profile
from emova_sdk.components.runtimes.export_folder import profile_of
from emova_sdk.components.runtimes.manifest import file_facts
from emova_sdk.components.runtimes.tensorrt_session import (
    PACKAGES,
    EngineRecord,
    Machine,
    Target,
    gpu_is_there,
    logger,
    machine,
    open_engine,
    tensorrt,
)
from emova_sdk.errors import ConfigError, ExportError, InputError, LoadError, MissingDependencyError
from emova_sdk.exporters.export import EXPORT, Progress, write_manifest
from emova_sdk.exporters.parity import compare, require, within
from emova_sdk.exporters.quantize import TOLERANCES, Precision
from emova_sdk.exporters.tensorrt_rules import check_onnx
from emova_sdk.exporters.verify import read_manifest
from emova_sdk.files import write_atomically

Axes = Mapping[str, tuple[int, int, int]]
_ONNX_RUNTIME_ALONE = "runtime"
"""Flavour of graphs with operators of ONNX Runtime; an export with `portable=True` holds one for everybody instead."""
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities a TensorRT-RTX engine is portable between: Turing to Blackwell, without the data centre's Hopper."""


def export_engines(
    bundle: str | Path,
    out: str | Path,
    *,
    force: bool = False,
    target: Target = "trt",
    axes: Axes | None = None,
    timing_cache: str | Path | None = None,
    named: Sequence[str] = (),
    originals: Mapping[str, Component] | None = None,
    device: str = "cuda",
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Build an engine for every graph of an export.

    Args:
        bundle: Folder of an ONNX export.
        out: Folder to make.
        force: Replace an earlier export in that place.
        target: ``trt`` or ``rtx``.
        axes: Shortest, usual and longest size of axes that are to be narrower than the export's.
        timing_cache: File in which TensorRT keeps what it measured, for the next build; made where it is missing.
        named: Words by which `emova export tensorrt` finds the export again, for the manifest; by default ``bundle``.
        originals: Components the engines are compared with, if they can run here.
        device: The GPU to build for and to run on, as torch names it.
        progress: Told what is being done.

    Returns:
        The manifest, as written to ``manifest.json``. Where engines could not be run, ``parity`` of each graph is empty.

    Raises:
        ExportError: If a graph cannot be read or built by TensorRT.
        ParityError: If an engine disagrees with its original.
        MissingDependencyError: If TensorRT is not installed.
        ConfigError: If the target needs a GPU and there is none.
        LoadError: If the export is broken, or is no ONNX export.
    """
    source = Path(bundle)
    here = require_builder(target, device=device)
    manifest = read_manifest(source)
    if manifest.get("format", "onnx") != "onnx":
        raise LoadError(f"`{source}` holds engines", "give the ONNX export they were built from", path=str(source))
    rebuild = build_command(named or [str(source)], out, target=target, axes=axes)
    with EXPORT.staged(out, force=force) as staging:
        made: dict[str, list[dict[str, Any]]] = {}
        for slot, records in manifest["components"].items():
            (staging / slot).mkdir()
            made[slot] = []
            for record in records:
                if record["metadata"].get("flavour") == _ONNX_RUNTIME_ALONE:
                    message = f"graph `{record['name']}` of `{source}` holds operators of ONNX Runtime"
                    raise ExportError(message, "export it again with `emova export onnx --portable`")
                progress(f"{slot}: building {record['name']}")
                engine = EngineRecord(target, here.version, here.platform, *_built_for(target, here), _digests(record), rebuild)
                made[slot].append(_build(source, staging, record, engine, axes=axes or {}, timing_cache=timing_cache))
            if here.compute_capability in _built_for(target, here)[1] and originals and slot in originals:
                progress(f"{slot}: comparing")
                _compare(originals[slot], made[slot], staging, manifest["precision"], device)
        for file in (file for part in manifest.get("assets", {}).values() for file in part):
            (staging / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, staging / file)
        engines = {
            **manifest,
            "format": "tensorrt",
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {**manifest["versions"], PACKAGES[target]: here.version},
            "components": made,
        }
        write_manifest(engines, staging)
    return engines


def parse_axes(texts: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Read ``NAME=MIN:OPT:MAX``.

    Raises:
        InputError: If a text has another form.
    """
    found: dict[str, tuple[int, int, int]] = {}
    for text in texts:
        name, _, sizes = text.partition("=")
        numbers = sizes.split(":")
        if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
            raise InputError(f"`{text}` is no axis", "write for instance `frames=1:128:1024`: shortest, usual, longest")
        found[name] = (int(numbers[0]), int(numbers[1]), int(numbers[2]))
    return found


def require_builder(target: Target, *, device: str = "cuda") -> Machine:
    """Look for all that building needs.

    Raises:
        MissingDependencyError: If the package is missing; it says so if a GPU is missing as well.
        ConfigError: If a GPU is missing.
    """
    gpu = target == "rtx" or gpu_is_there()
    elsewhere = "build there, or with `--target rtx`, which needs no GPU"
    try:
        found = machine(target, device=device)
    except MissingDependencyError as error:
        if gpu:
            raise
        message = f"{error.message}, and torch sees no NVIDIA GPU: TensorRT builds engines on the GPU they are for"
        raise MissingDependencyError(message, f"{error.hint}; {elsewhere}", package=error.package) from error
    if not gpu:
        raise ConfigError("torch sees no NVIDIA GPU, and TensorRT builds engines on the GPU they are for", elsewhere)
    return found


def _built_for(target: Target, here: Machine) -> tuple[str, tuple[str, ...]]:
    return ("", RTX_CAPABILITIES) if target == "rtx" else (here.gpu, (here.compute_capability,))


def _digests(record: Mapping[str, Any]) -> dict[str, str]:
    return {file: facts["sha256"] for file, facts in record["files"].items()}


def build_command(source: Sequence[str], out: str | Path, *, target: Target, axes: Axes | None = None) -> str:
    """The command that builds engines from ``source``: the folder of an export, or options that name a config."""
    words = ["emova", "export", "tensorrt", *source, "--out", str(out), "--target", target]
    for name, sizes in (axes or {}).items():
        words += ["--axis", f"{name}={':'.join(map(str, sizes))}"]
    return shlex.join(words)


def _build(
    source: Path, staging: Path, record: Mapping[str, Any], engine: EngineRecord, *, axes: Axes, timing_cache: str | Path | None
) -> dict[str, Any]:
    onnx = source / record["file"]
    check_onnx(onnx, record["name"])
    kept = {name: Axis(**facts) for name, facts in record["axes"].items()}
    chosen = {name: asdict(narrowed(axis, axes[name]) if name in axes else axis) for name, axis in kept.items()}
    shapes = profile_of({**record, "axes": chosen})
    plan = build_engine(onnx, shapes, name=record["name"], target=engine.target, timing_cache=timing_cache)
    file = Path(record["file"]).with_suffix(".engine")
    (staging / file).write_bytes(plan)
    return {
        **record,
        "file": file.as_posix(),
        "files": {file.as_posix(): file_facts(staging / file)},
        "axes": chosen,
        "profile": {name: [list(shape) for shape in bounds] for name, bounds in shapes.items()},
        "engine": engine.to_dict(),
        "parity": [],
    }


def narrowed(axis: Axis, sizes: tuple[int, int, int]) -> Axis:
    """An axis with other sizes, which must lie within its own.

    Raises:
        InputError: If they do not.
    """
    least, usual, most = sizes
    if least < axis.min or most > axis.max:
        raise InputError(f"axis `{axis.name}` was exported for {axis.min} to {axis.max}, not {least} to {most}", "stay within")
    return replace(axis, min=least, opt=usual, max=most)


def build_engine(
    onnx: str | Path, shapes: Profile, *, name: str, target: Target, timing_cache: str | Path | None = None
) -> bytes:
    """Build one engine.

    Args:
        onnx: The ONNX file, with its weights beside it.
        shapes: Of each dynamic input the shortest, usual and longest shape.
        name: The graph's name, for messages.
        target: ``trt`` or ``rtx``.
        timing_cache: As in `export_engines`; TensorRT-RTX has none.

    Returns:
        The serialised engine.

    Raises:
        ExportError: If TensorRT cannot read the file, a profile does not fit, or the build fails.
    """
    trt = tensorrt(target)
    log = logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        raise ExportError(f"TensorRT cannot read graph `{name}`: {_parse_error(parser)}", "write it with other operators")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    found = builder.create_optimization_profile()
    for key, bounds in shapes.items():
        found.set_shape(key, *bounds)
    if shapes and config.add_optimization_profile(found) < 0:
        raise ExportError(f"TensorRT takes no profile {dict(shapes)} for graph `{name}`", "check the graph's axes")
    if target == "trt":
        _use_timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT cannot build graph `{name}`: {log.reason()}", "narrow its axes, or report the graph")
    if target == "trt":
        _keep_timing_cache(config, timing_cache)
    return bytes(plan)


def _parse_error(parser: Any) -> str:
    if not parser.num_errors:
        return "it gives no reason"
    error = parser.get_error(0)
    where = " ".join(filter(None, (error.node_operator(), f"`{error.node_name()}`" if error.node_name() else "")))
    return f"{where}: {error.desc().strip()}" if where else error.desc().strip()


def _use_timing_cache(config: Any, path: str | Path | None) -> None:
    if path is None:
        return
    kept = Path(path).read_bytes() if Path(path).exists() else b""
    if not config.set_timing_cache(config.create_timing_cache(kept), False):  # another GPU's or version's: begin anew
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timing_cache(config: Any, path: str | Path | None) -> None:
    cache = config.get_timing_cache() if path is not None else None
    if path is None or cache is None:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, bytes(cache.serialize()))


def _compare(component: Component, records: list[dict[str, Any]], folder: Path, precision: Precision, device: str) -> None:
    """Run each engine against its original, and note how exactly it agrees."""
    component.load()
    graphs = {graph.name: graph for graph in component.graphs()}
    for record in records:
        if record["name"] not in graphs:
            raise ExportError(f"the component offers no graph `{record['name']}`", "give the config the export was made from")
        session = open_engine(folder / record["file"], record, device=device)
        graph = within(graphs[record["name"]], {name: Axis(**facts) for name, facts in record["axes"].items()})
        parity = compare(graph, session, tolerance=TOLERANCES[precision])
        require(parity, record["name"])
        record["parity"] = [one.to_dict() for one in parity]
