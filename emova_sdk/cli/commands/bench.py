"""``emova bench``: a config as it is, compiled and exported, side by side."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import ConfigOption, ForceOption, JsonOption, SetOption, default_config, require_writable
from emova_sdk.cli.output import print_json, print_table

if TYPE_CHECKING:
    from emova_sdk.bench.limits import MachineLimits
    from emova_sdk.bench.runner import Measurement
    from emova_sdk.exporters.quantize import Precision

HEADINGS = ("", "ratio", "ms", "first ms", "x real time", "tokens/s", "peak MB", "MB", "of limit")


@app.command()
def bench(
    *,
    config: ConfigOption = None,
    overrides: SetOption = None,
    component: Annotated[
        list[str] | None,
        typer.Option("--component", metavar="SLOT", help="Compare this component and its graphs instead of a whole turn."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against", metavar="DIR", help="An export to compare; may be repeated.  [default: exported for this run]"
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", metavar="NAME", help="Precision of the exports; may be repeated.  [default: fp32, int8]"),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Include torch compile.")] = True,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure memory, each in a separate process.")] = True,
    rounds: Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="Runs of each, after a warm-up.")] = 9,
    threads: Annotated[
        int, typer.Option("--threads", min=0, metavar="N", help="0 uses all cores available to this process.")
    ] = 0,
    audio: Annotated[
        Path | None, typer.Option("--audio", metavar="FILE", help="Audio of the question.  [default: that of emova demo]")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="Image of the question.  [default: that of emova demo]")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also plot the ratios: a .png file.")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare PyTorch, torch compile and exports: speed, memory, size, and the machine's limits.

    They run alternately in one process. Ratios are ratios of medians, relative to the first of each group.
    """
    from emova_sdk.bench.candidates import Candidate
    from emova_sdk.bench.limits import measure_limits
    from emova_sdk.bench.plan import component_workloads, exports_of, turn_workload
    from emova_sdk.bench.runner import measure
    from emova_sdk.components.runtimes.onnx_session import usable_cores
    from emova_sdk.files import EXAMPLES

    require_writable(out, (".png",), force=force)
    name, values, slots = config or default_config(), tuple(overrides or ()), component or []
    question: Any = {"audio": str(audio or EXAMPLES / "question.flac"), "image": str(image or EXAMPLES / "scene.png")}
    base = Candidate("original", name, values, threads=threads or usable_cores(), **question)
    made: Any = {"slots": slots, "folders": against or (), "precisions": _precisions(precision or ["fp32", "int8"])}
    with _threads(base.threads), exports_of(name, values, **made, progress=_announce) as exports:
        _announce("measuring the machine")
        limits = measure_limits()
        with TemporaryDirectory() as folder:
            workloads = [] if slots else [turn_workload(base, exports, compiled=compiled)]
            for slot in slots:
                workloads += component_workloads(replace(base, slot=slot), exports, Path(folder), compiled=compiled)
            measured = (measure(one, limits, rounds=rounds, memory=memory, progress=_announce) for one in workloads)
            found = [one for group in measured for one in group]
    machine = _machine(base.threads, limits)
    if out is not None:
        from emova_sdk.cli.bench_plot import draw_measurements

        draw_measurements(found, title=f"emova bench, {name}", note=_machine_line(machine)).save(out)
    if as_json:
        print_json({"config": name, "rounds": rounds, "machine": machine, "rows": [asdict(one) for one in found]})
    else:
        _show(found, machine)


def _precisions(names: list[str]) -> list[Precision]:
    from emova_sdk.errors import InputError
    from emova_sdk.exporters.quantize import PRECISIONS

    unknown = [name for name in names if name not in PRECISIONS]
    if unknown:
        raise InputError(f"there is no precision `{unknown[0]}`", f"choose from {', '.join(PRECISIONS)}")
    return [one for one in PRECISIONS if one in names]


@contextmanager
def _threads(count: int) -> Generator[None, None, None]:
    """Torch, where it is installed, and the processes begun meanwhile compute with so many threads."""
    from emova_sdk.packages import installed

    variable = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        if installed("torch") is None:
            yield
            return
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if variable is not None:
            os.environ["OMP_NUM_THREADS"] = variable


def _announce(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"  {text}", err=True)


def _machine(threads: int, limits: MachineLimits) -> dict[str, Any]:
    import onnxruntime

    from emova_sdk.packages import installed

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": installed("torch"),
        "onnxruntime": str(onnxruntime.__version__),
        **{name: round(value, 1) for name, value in asdict(limits).items()},
    }


def _machine_line(machine: dict[str, Any]) -> str:
    return (
        f"{machine['system']}, {machine['threads']} of {machine['cores']} cores, load {machine['load']};"
        f" torch {machine['torch'] or 'not installed'}, onnxruntime {machine['onnxruntime']};"
        f" limits in float32: {machine['gflop_s']:.0f} GFLOP/s, {machine['gb_s']:.0f} GB/s"
    )


def _show(found: list[Measurement], machine: dict[str, Any]) -> None:
    for workload in dict.fromkeys(one.workload for one in found):
        group = [one for one in found if one.workload == workload]
        cells = [_cells(one) for one in group if not one.error]
        used = [at for at, heading in enumerate(HEADINGS) if not heading or any(line[at] for line in cells)]
        print_table([HEADINGS[at] for at in used], [[line[at] for at in used] for line in cells], title=workload)
        for one in group:
            if one.error:
                typer.echo(f"{one.candidate}: {one.error}")
    typer.echo(_machine_line(machine))


def _cells(one: Measurement) -> list[str]:
    shown = (
        (one.ratio, 1, ".2f", "x"),
        (one.median_s, 1000, ".1f", ""),
        (one.first_s, 1000, ".1f", ""),
        (one.real_time_factor, 1, ".3f", ""),
        (one.tokens_s, 1, ".0f", ""),
        (one.peak_rss_bytes, 1e-6, ".0f", ""),
        (one.weight_bytes, 1e-6, ".1f", ""),
        (one.limit_share, 100, ".0f", " %"),
    )
    cells = ["" if value is None else f"{value * scale:{form}}{unit}" for value, scale, form, unit in shown]
    return [one.candidate, *cells]
