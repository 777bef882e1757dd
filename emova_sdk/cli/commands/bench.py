"""``emova bench``: a config as it is, compiled and exported, side by side."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import ConfigOption, ForceOption, JsonOption, SetOption, default_config, require_writable
from emova_sdk.cli.output import print_json, print_table

if TYPE_CHECKING:
    from emova_sdk.bench.limits import Limits
    from emova_sdk.bench.plan import Plan
    from emova_sdk.bench.race import Row
    from emova_sdk.exporters.quantize import Precision

HEADINGS = ("", "ratio", "ms", "first ms", "x real time", "tokens/s", "peak MB", "MB", "of limit")


@app.command()
def bench(
    *,
    config: ConfigOption = None,
    overrides: SetOption = None,
    component: Annotated[
        list[str] | None, typer.Option("--component", metavar="SLOT", help="This component and its graphs, not a whole turn.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="DIR", help="An export that takes part; may be given again.  [default: made anew]"),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision", metavar="NAME", help="Of the exports that are made; may be given again.  [default: fp32, int8]"
        ),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Let torch compile take part.")] = True,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure memory, each in a process of its own.")] = True,
    rounds: Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="Times that each runs, after a warm-up.")] = 9,
    threads: Annotated[int, typer.Option("--threads", min=0, metavar="N", help="0 takes all cores this process may use.")] = 0,
    audio: Annotated[
        Path | None, typer.Option("--audio", metavar="FILE", help="The question.  [default: that of emova demo]")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="The picture.  [default: that of emova demo]")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Draw the ratios too: .png.")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare a config, torch compile and exports: speed, memory, size, and what the machine could do.

    They take turns in one process. Ratios are of medians, and compare with the first of each group.
    """
    from emova_sdk.bench.plan import Plan, Question, exports_of
    from emova_sdk.components.runtimes.onnx_session import usable_cores
    from emova_sdk.files import EXAMPLES

    require_writable(out, (".png",), force=force)
    name, chosen = config or default_config(), threads or usable_cores()
    question = Question(str(audio or EXAMPLES / "question.flac"), str(image or EXAMPLES / "scene.png"))
    exporting = exports_of(
        name,
        overrides or (),
        slots=component or (),
        folders=against or (),
        precisions=_precisions(precision or ["fp32", "int8"]),
        progress=_announce,
    )
    with _threads(chosen), exporting as exports:
        plan = Plan(name, tuple(overrides or ()), exports, question, threads=chosen, compiled=compiled)
        limits, rows = _raced(plan, component or (), rounds=rounds, memory=memory)
    machine = _machine(chosen, limits)
    record = {"config": name, "rounds": rounds, "machine": machine, "rows": [asdict(row) for row in rows]}
    if out is not None:
        from emova_sdk.cli.bench_plot import draw_rows

        draw_rows(rows, title=f"emova bench, {name}", note=_machine_line(machine)).save(out)
    print_json(record) if as_json else _show(rows, machine)


def _precisions(names: list[str]) -> list[Precision]:
    from emova_sdk.errors import InputError
    from emova_sdk.exporters.quantize import PRECISIONS

    unknown = [name for name in names if name not in PRECISIONS]
    if unknown:
        raise InputError(f"there is no precision `{unknown[0]}`", f"choose of {', '.join(PRECISIONS)}")
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


def _raced(plan: Plan, slots: list[str] | tuple[()], *, rounds: int, memory: bool) -> tuple[Limits, list[Row]]:
    from emova_sdk.bench.limits import measure_limits
    from emova_sdk.bench.race import race

    _announce("measuring the machine")
    limits = measure_limits()
    with ExitStack() as held:
        folder = Path(held.enter_context(TemporaryDirectory()))
        subjects = [found for slot in slots for found in plan.component(slot, folder)] if slots else [plan.turn()]
        raced = (race(subject, limits, rounds=rounds, memory=memory, progress=_announce) for subject in subjects)
        return limits, [row for rows in raced for row in rows]


def _announce(text: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"  {text}", err=True)


def _machine(threads: int, limits: Limits) -> dict[str, Any]:
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
        **{name: round(value, 1) for name, value in limits.to_dict().items()},
    }


def _machine_line(machine: dict[str, Any]) -> str:
    return (
        f"{machine['system']}, {machine['threads']} of {machine['cores']} cores, load {machine['load']};"
        f" torch {machine['torch'] or 'not installed'}, onnxruntime {machine['onnxruntime']};"
        f" limits in float32: {machine['gflop_s']:.0f} GFLOP/s, {machine['gb_s']:.0f} GB/s"
    )


def _show(rows: list[Row], machine: dict[str, Any]) -> None:
    for subject in dict.fromkeys(row.subject for row in rows):
        found = [row for row in rows if row.subject == subject]
        cells = [_cells(row) for row in found if not row.error]
        used = [at for at, heading in enumerate(HEADINGS) if not heading or any(line[at] for line in cells)]
        print_table([HEADINGS[at] for at in used], [[line[at] for at in used] for line in cells], title=subject)
        for row in found:
            if row.error:
                typer.echo(f"{row.contender}: {row.error}")
    typer.echo(_machine_line(machine))


def _cells(row: Row) -> list[str]:
    def shown(value: float | None, scale: float = 1.0, form: str = ".1f", unit: str = "") -> str:
        return "" if value is None else f"{value * scale:{form}}{unit}"

    return [
        row.contender,
        shown(row.ratio, form=".2f", unit="x"),
        shown(row.median_s, 1000),
        shown(row.first_s, 1000),
        shown(row.real_time_factor, form=".3f"),
        shown(row.tokens_s, form=".0f"),
        shown(row.peak_rss_bytes, 1e-6, ".0f"),
        shown(row.weight_bytes, 1e-6, ".1f"),
        shown(row.limit_share, 100, ".0f", " %"),
    ]
