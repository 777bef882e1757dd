"""``emova export``: write, build and verify exports of components."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import ConfigOption, JsonOption, SetOption, default_config
from emova_sdk.cli.output import print_json, print_table, working

if TYPE_CHECKING:
    from emova_sdk.config import PipelineConfig

export = typer.Typer(
    name="export", help="Export components to graphs that run without torch, and verify them.", rich_markup_mode=None
)
app.add_typer(export)

TargetName = Literal["trt", "rtx"]
PrecisionName = Literal["fp32", "fp16", "bf16", "int8", "int4"]
ComponentOption = Annotated[
    list[str] | None, typer.Option("--component", metavar="ROLE", help="Export only this component; may be repeated.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing export.")]


@export.command("onnx")
def to_onnx(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to create.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    component: ComponentOption = None,
    precision: Annotated[PrecisionName, typer.Option("--precision", help="Precision of weights and arithmetic.")] = "fp32",
    portable: Annotated[
        bool, typer.Option("--portable", help="Use only standard ONNX operators, for runtimes other than ONNX Runtime.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a graph loses too much accuracy at this precision.")
    ] = False,
    block_size: Annotated[
        int,
        typer.Option("--block-size", help="Number of weights that share a scale, in int4 and in the int8 of language models."),
    ] = 32,
    force: ForceOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the graphs and write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export to ONNX, compare with the original at several sizes, and write a manifest and a config that runs the export."""
    from emova_sdk.config import exported_config, load_config
    from emova_sdk.exporters.export import EXPORT, export_components
    from emova_sdk.exporters.quantize import checked_precision

    name = config or default_config()
    if not dry_run:
        EXPORT.require_free(out, force=force)  # before models are loaded
    settings = load_config(name, overrides=overrides or ())
    with _components(settings, component) as components:
        if dry_run:
            _list_graphs(components, as_json=as_json)
            return
        with working(f"exporting {name}") as progress:
            manifest = export_components(
                components,
                out,
                force=force,
                precision=checked_precision(precision),
                strict=strict,
                portable=portable,
                block_size=block_size,
                source=name,
                config=partial(exported_config, settings),
                progress=progress,
            )
    print_json(manifest) if as_json else _show(manifest)


@export.command("tensorrt")
def to_tensorrt(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to create.")],
    path: Annotated[
        Path | None, typer.Argument(metavar="[EXPORT]", help="An ONNX export; without one the config is exported first.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    component: ComponentOption = None,
    precision: Annotated[PrecisionName, typer.Option("--precision", help="Precision of that export.")] = "fp32",
    target: Annotated[
        TargetName, typer.Option("--target", help="trt: TensorRT on this GPU; rtx: TensorRT-RTX, for any RTX GPU.")
    ] = "trt",
    axis: Annotated[
        list[str] | None,
        typer.Option("--axis", metavar="NAME=MIN:OPT:MAX", help="Build for a part of an axis' range; may be repeated."),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option("--timing-cache", metavar="FILE", help="File for TensorRT's timings, reused by the next build."),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build TensorRT engines from a checked ONNX export; on a GPU, compare them with the original."""
    from emova_sdk.exporters.export import EXPORT
    from emova_sdk.exporters.tensorrt import export_engines, parse_axes, require_builder
    from emova_sdk.exporters.verify import read_manifest

    EXPORT.require_free(out, force=force)
    if path is not None:
        read_manifest(path)  # said before what this machine lacks
    axes = parse_axes(axis or ())
    here = require_builder(target)
    exporting = _onnx_export(path, config or default_config(), overrides, component, precision, run=bool(here.gpu))
    with exporting as (source, named, originals), working("building engines"):
        manifest = export_engines(
            source, out, force=force, target=target, axes=axes, timing_cache=timing_cache, named=named, originals=originals
        )
    print_json(manifest) if as_json else _show_engines(manifest)


@contextmanager
def _onnx_export(
    path: Path | None,
    config: str,
    overrides: list[str] | None,
    roles: list[str] | None,
    precision: PrecisionName,
    *,
    run: bool,
) -> Generator[tuple[Path, list[str], dict[str, Any]], None, None]:
    """An ONNX export to build from, the words that name it on a command line, and if engines can run here its originals."""
    from emova_sdk.config import load_config
    from emova_sdk.exporters.export import export_components
    from emova_sdk.exporters.quantize import checked_precision
    from emova_sdk.exporters.verify import read_manifest

    if path is not None:
        manifest = read_manifest(path)
        if not run:
            yield path, [str(path)], {}
            return
        settings = load_config(manifest["source"], overrides=overrides or ())
        with _components(settings, list(manifest["components"])) as parts:
            yield path, [str(path)], parts
        return
    names = ["-c", config, *(word for value in overrides or () for word in ("--set", value))]
    names += [word for role in roles or () for word in ("--component", role)] + ["--precision", precision]
    settings = load_config(config, overrides=overrides or ())
    with _components(settings, roles) as parts, TemporaryDirectory() as folder:
        made = Path(folder) / "onnx"
        with working(f"exporting {config}"):
            export_components(parts, made, precision=checked_precision(precision), portable=True, source=config)
        yield made, names, parts


@export.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The export to check.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare an export with its original again; the config is the one it was made from unless another is given.

    Where the originals cannot run, for want of torch for instance, it is compared with their golden outputs in the export.
    """
    from emova_sdk.config import load_config
    from emova_sdk.errors import MissingDependencyError
    from emova_sdk.exporters.verify import read_manifest, verify_export

    manifest = read_manifest(folder)
    settings = load_config(config or manifest["source"], overrides=overrides or ())
    try:
        with _components(settings, list(manifest["components"])) as components, working("comparing") as progress:
            found = verify_export(components, folder, progress=progress)
    except MissingDependencyError as error:
        typer.echo(f"note: {error.message}: compared with the golden outputs in the export", err=True)
        found = verify_export(None, folder)
    if as_json:
        print_json(found)
    else:
        _tell_agreement(folder, manifest, found)


def _tell_agreement(folder: Path, manifest: dict[str, Any], found: dict[str, Any]) -> None:
    from emova_sdk.processor import same_everywhere

    graphs = {(role, graph["name"]): graph for role, records in manifest["components"].items() for graph in records}
    count = sum(len(records) for role, parts in found.items() for name, records in parts.items() if (role, name) in graphs)
    told = f"{folder}: {len(graphs)} graphs agree in {count} comparisons"
    trials = sum(len(parts) for parts in found.values()) - len(graphs)
    typer.echo(told + (f", and the components in {trials} trials" if trials > 0 else ""))
    unsaid = [name for (_, name), graph in graphs.items() if "engine" not in graph and not same_everywhere(graph)]
    if unsaid:
        typer.echo(
            f"note: {', '.join(unsaid)}: of an earlier version, whose int8 may differ between processors. The SDK computes "
            "exactly; for other programs export again.",
            err=True,
        )


@contextmanager
def _components(settings: PipelineConfig, roles: list[str] | None) -> Generator[dict[str, Any], None, None]:
    """The chosen components of a config, closed afterwards."""
    from emova_sdk.errors import ConfigError
    from emova_sdk.pipeline import Pipeline
    from emova_sdk.registry import names

    for role in roles or ():
        names(role)  # says which there are
    with Pipeline.from_config(settings) as pipeline:
        filled = pipeline.slots()
        missing = [role for role in roles or () if role not in filled]
        if missing:
            raise ConfigError(f"the config has no `{missing[0]}`", f"it has {', '.join(filled)}")
        yield {role: part for role, part in filled.items() if not roles or role in roles}


def _list_graphs(components: dict[str, Any], *, as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    for role, component in components.items():
        component.load()
        for graph in component.graphs():
            axes = {axis.name: [axis.min, axis.opt, axis.max] for axis in graph.axes.values()}
            found.append(
                {"slot": role, "graph": graph.name, "inputs": list(graph.inputs), "outputs": list(graph.outputs), "axes": axes}
            )
    if as_json:
        print_json(found)
        return
    rows = [
        [one["slot"], one["graph"], ", ".join(one["inputs"]), ", ".join(one["outputs"]), ", ".join(one["axes"])]
        for one in found
    ]
    print_table(["component", "graph", "inputs", "outputs", "dynamic axes"], rows)


def _show(manifest: dict[str, Any]) -> None:
    from emova_sdk.exporters.report import verdict

    rows: list[list[str]] = []
    for role, graphs in manifest["components"].items():
        for graph in graphs:
            size = sum(facts["bytes"] for facts in graph["files"].values()) / 1e6
            worst = max(record["max_abs_diff"] for record in graph["parity"])
            cosine = min(record["cosine"] for record in graph["parity"])
            rows.append([role, graph["name"], f"{size:.2f}", f"{worst:.2g}", f"{cosine:.6f}", str(len(graph["parity"]))])
    print_table(["component", "graph", "MB", "max abs diff", "least cosine", "comparisons"], rows)
    typer.echo("\n".join(verdict(manifest)))


def _show_engines(manifest: dict[str, Any]) -> None:
    rows: list[list[str]] = []
    for role, records in manifest["components"].items():
        for record in records:
            engine = record["engine"]
            size = sum(facts["bytes"] for facts in record["files"].values()) / 1e6
            axes = ", ".join(f"{axis['name']} {axis['min']}..{axis['max']}" for axis in record["axes"].values())
            agrees = f"{max(one['max_abs_diff'] for one in record['parity']):.2g}" if record["parity"] else "not run"
            rows.append([role, record["name"], f"{size:.2f}", axes, engine["gpu"] or "RTX", agrees])
    print_table(["component", "engine", "MB", "built for", "GPU", "max abs diff"], rows)
