"""``emova train``: emova-nano from nothing, or a recipe on an EMOVA checkpoint."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import JsonOption
from emova_sdk.cli.output import console, print_json, print_table

if TYPE_CHECKING:
    from emova_sdk.training.nano_stages import StageResult

# the stages of emova_sdk.training.nano_stages, written again because importing those takes longer than showing the help
StageName = Literal["data", "tokenizer", "style", "vocoder", "vision", "llm", "all"]
_HARDLY_MOVED = 0.02
"""Share of the first loss that the last must at least be below it."""
Report = Callable[[dict[str, float]], None]


@app.command()
def train(
    what: Annotated[
        str | None, typer.Argument(metavar="[WHAT]", help="nano, the name of a recipe, or a TOML file with one.")
    ] = None,
    *,
    names: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    stage: Annotated[StageName | None, typer.Option("--stage", help="nano: which stage to run.  [default: all]")] = None,
    budget_s: Annotated[
        float | None, typer.Option("--budget-s", metavar="SECONDS", help="nano: CPU seconds; all stages share them.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="nano: the work folder.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, metavar="N", help="nano: processes that render speech.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Recipe: set or replace an option.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Recipe: go on from the last checkpoint.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write into an output folder that holds other files already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train emova-nano from nothing, stage by stage, or fine-tune an EMOVA checkpoint by a recipe.

    Training nano goes on where it stopped when it is started again.
    """
    from emova_sdk.errors import InputError

    if names:
        _list(as_json=as_json)
    elif what is None:
        raise InputError("it is not said what to train", "name `nano` or a recipe; `emova train --list` lists those")
    elif what == "nano":
        _refuse("nano", {"--set": overrides, "--resume": resume}, "a recipe")
        _train_nano(stage or "all", budget_s, out, workers or os.cpu_count() or 1, force=force, as_json=as_json)
    else:
        _refuse(what, {"--stage": stage, "--budget-s": budget_s, "--out": out, "--workers": workers}, "`nano`")
        _train_recipe(what, overrides or [], resume=resume, force=force, as_json=as_json)


def _refuse(what: str, options: dict[str, Any], whose: str) -> None:
    from emova_sdk.errors import InputError

    for option, value in options.items():
        if value:
            raise InputError(f"`{option}` is an option for {whose}, not for `{what}`", "see `emova train --help`")


def _list(*, as_json: bool) -> None:
    import tomllib
    from importlib import resources

    folder = resources.files("emova_sdk.training") / "recipes"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    rows = [("nano", "emova-nano from nothing, in stages")]
    for entry in files:
        description = tomllib.loads(entry.read_text("utf-8")).get("description", "")
        rows.append((entry.name.removesuffix(".toml"), str(description)))
    if as_json:
        print_json({"recipes": [{"name": name, "description": told} for name, told in rows]})
    else:
        print_table(("name", "what it trains"), rows)


def _train_recipe(what: str, overrides: list[str], *, resume: bool, force: bool, as_json: bool) -> None:
    from emova_sdk.training.recipe import load_recipe

    recipe = load_recipe(what, overrides=overrides)
    _require_trainer()
    from emova_sdk.training.finetune import finetune, losses

    began = time.monotonic()
    folder = finetune(recipe, progress=sys.stderr.isatty(), resume=resume, force=force)
    seconds = round(time.monotonic() - began, 2)
    told = losses(folder)
    if as_json:
        stages = [{"stage": what, "seconds": seconds, "skipped": False}]
        loss = {"first": told[0], "last": told[-1]} if told else None
        print_json({"what": what, "out": str(folder), "stages": stages, "preset": None, "missing": [], "loss": loss})
    else:
        fell = f"; the loss went from {told[0]:.4g} to {told[-1]:.4g}" if told else ""
        typer.echo(f"{folder}: a trained checkpoint, after {seconds:.0f} s{fell}")
    if len(told) > 1 and told[-1] > told[0] * (1 - _HARDLY_MOVED):
        rates = f"`learning_rate` is {recipe.learning_rate:g}"
        typer.echo(f"warning: the loss hardly moved; {rates}: raise it, or train for more steps", err=True)


def _require_trainer() -> None:
    from importlib.util import find_spec

    from emova_sdk.errors import MissingDependencyError

    if find_spec("accelerate") is None:
        raise MissingDependencyError("fine-tuning needs `accelerate`", "install emova-sdk[train]", package="accelerate")


def _train_nano(stage: str, budget_s: float | None, out: Path | None, workers: int, *, force: bool, as_json: bool) -> None:
    from emova_sdk.errors import InputError

    if budget_s is None or out is None:
        missing = "--budget-s" if budget_s is None else "--out"
        raise InputError(f"training nano needs `{missing}`", "e.g. emova train nano --stage all --budget-s 600 --out work")
    from emova_sdk.training.nano_stages import assemble_preset, divided, missing_parts, require_work_folder, run_stage

    if not force:
        require_work_folder(out)
    results: list[StageResult] = []
    for name, seconds in divided(stage, budget_s).items():
        with _progress(name, seconds) as report:
            results.append(run_stage(name, out, budget_s=seconds, workers=workers, report=report))
        if not as_json:
            typer.echo(_told(results[-1]))
    missing = missing_parts(out)
    preset = None if missing else assemble_preset(out)
    if as_json:
        stages = [{"stage": one.stage, "seconds": round(one.seconds, 2), "skipped": one.skipped} for one in results]
        place = str(preset) if preset else None
        print_json({"what": "nano", "out": str(out), "stages": stages, "preset": place, "missing": missing, "loss": None})
    elif preset:
        typer.echo(f"{preset}: the trained emova-nano; try `emova chat -c {out}`")
    else:
        typer.echo(f"not trained yet: {', '.join(missing)}")


def _told(result: StageResult) -> str:
    told = "done before" if result.skipped else f"done in {result.seconds:.1f} CPU s"
    return f"{result.stage:<10} {told}" + (f"; {result.note}" if result.note else "")


@contextmanager
def _progress(stage: str, budget_s: float) -> Generator[Report | None, None, None]:
    """Show how much of a stage's budget is used, and its loss where it tells one; nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{stage}, {budget_s:.0f} CPU s", total=None, loss="")

        def report(facts: dict[str, float]) -> None:
            progress.update(task, total=1.0, completed=facts["share"], loss=f"loss {facts['loss']:.3f}")

        yield report
