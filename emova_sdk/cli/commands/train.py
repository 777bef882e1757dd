"""``emova train``: emova-nano from nothing by its own recipe, or an EMOVA checkpoint by a recipe for fine-tuning."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.nano_recipe import require_nano_recipe
from emova_sdk.cli.options import JsonOption
from emova_sdk.cli.output import console, print_json, print_table

if TYPE_CHECKING:
    from nano_recipe.stages import StageResult

# the stages of nano_recipe.stages, written again because importing those takes longer than showing the help
StageName = Literal["data", "tokenizer", "style", "vocoder", "vision", "llm", "all"]
_HARDLY_MOVED = 0.02
"""Share of the first loss that the last must at least be below it."""
Report = Callable[[dict[str, float]], None]


group = typer.Typer(help="Train emova-nano from scratch, or fine-tune an EMOVA checkpoint.")
app.add_typer(group, name="train")


@group.command()
def nano(
    *,
    budget_s: Annotated[float, typer.Option("--budget-s", metavar="SECONDS", help="CPU seconds, shared by all stages.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The work folder.")],
    stage: Annotated[StageName, typer.Option("--stage", help="Which stage to run.")] = "all",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, metavar="N", help="Processes that synthesise speech.  [default: one per core]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Use a folder that already contains other files.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train emova-nano from scratch, stage by stage.

    Run again with the same folder, it resumes where it stopped.
    """
    require_nano_recipe()
    _train_nano(stage, budget_s, out, workers or os.cpu_count() or 1, force=force, as_json=as_json)


@group.command()
def recipe(
    name: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="Name of a recipe, or a TOML file with one.")] = None,
    *,
    names: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set or replace an option.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Use an output folder that already contains files.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune an EMOVA checkpoint with a recipe."""
    from emova_sdk.errors import InputError

    if names:
        _list(as_json=as_json)
    elif name is None:
        raise InputError("no recipe was given", "`emova train recipe --list` lists them")
    else:
        _train_recipe(name, overrides or [], resume=resume, force=force, as_json=as_json)


def _list(*, as_json: bool) -> None:
    import tomllib
    from importlib import resources

    folder = resources.files("emova_sdk.training") / "recipes"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    rows: list[tuple[str, str]] = []
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


def _train_nano(stage: str, budget_s: float, out: Path, workers: int, *, force: bool, as_json: bool) -> None:
    from nano_recipe.stages import assemble_preset, divided, missing_parts, require_work_folder, run_stage

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
