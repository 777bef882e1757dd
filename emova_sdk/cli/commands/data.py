"""``emova data``: training data from recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import ConfigOption, ForceOption, JsonOption, SetOption, read_config, require_writable, typed_path
from emova_sdk.cli.output import counted, counting, print_json

if TYPE_CHECKING:
    from emova_sdk.components.base import SpeechTokenizer
    from emova_sdk.config import PipelineConfig
    from emova_sdk.training.recordings import Built

group = typer.Typer(help="Build training data.")
app.add_typer(group, name="data")


@group.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction] - makes typer keep the name of a group's only command
    pass


@group.command()
def build(
    recordings: Annotated[
        Path, typer.Argument(metavar="RECORDINGS", help="A .csv, .tsv or .jsonl file with the columns audio and text.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The .jsonl file to write.")],
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", metavar="NAME", help="A type of speech tokenizer, or a config that has one."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="TASK", help="transcribe, speak, chat or dialogue; may be repeated.  [default: all]"),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip and count unusable rows.")] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build training data with speech units from recordings and their transcripts.

    Columns: audio (relative to the file), text; optional: emotion, pitch, speaker; for answers: answer, answer_audio,
    answer_emotion, answer_pitch.
    """
    from emova_sdk.training.recordings import TASKS, build_data

    out, table = typed_path(out), typed_path(recordings)
    require_writable(out, (".jsonl",), force=force)
    settings = _settings(tokenizer, config, overrides or [])
    ears = _tokenizer(settings)
    with ears, counting("tokenising") as step:
        limit = settings.limits.max_audio_s
        built = build_data(
            table, ears, output=out, tasks=tasks or TASKS, skip_bad=skip_bad, force=force, max_audio_s=limit, step=step
        )
    for bad in built.bad:
        typer.echo(f"skipped: {bad.error.message}; {bad.error.hint}", err=True)
    if built.unused:
        typer.echo(f"unknown columns: {', '.join(built.unused)}", err=True)
    if as_json:
        print_json(_record(out, built, ears))
    else:
        typer.echo(_told(out, built, ears))


def _settings(tokenizer: str | None, config: str | None, overrides: list[str]) -> PipelineConfig:
    """Read the config that is meant: ``--tokenizer`` names a type, or a config in place of ``-c``."""
    from emova_sdk import registry

    if tokenizer in registry.names("speech_tokenizer"):
        overrides = [f"speech_tokenizer.type={tokenizer}", *overrides]
    elif tokenizer is not None:
        config = tokenizer
    return read_config(config, overrides)


def _tokenizer(settings: PipelineConfig) -> SpeechTokenizer:
    from emova_sdk.components.base import SpeechTokenizer
    from emova_sdk.config import build_component
    from emova_sdk.errors import ConfigError

    made = build_component(settings, "speech_tokenizer") if settings.speech_tokenizer else None
    if not isinstance(made, SpeechTokenizer):
        raise ConfigError("the config has no speech tokenizer", "name one with `--tokenizer`")
    return made


def _record(out: Path, built: Built, ears: SpeechTokenizer) -> dict[str, Any]:
    bad = [{"row": one.row, "message": one.error.message, "hint": one.error.hint} for one in built.bad]
    return {
        "out": str(out),
        "recordings": built.recordings,
        "seconds": round(built.seconds, 3),
        "conversations": dict(built.tasks),
        "units": {"space": ears.units.name, "size": ears.units.size, "count": built.units},
        "bad": bad,
        "unused_columns": list(built.unused),
    }


def _told(out: Path, built: Built, ears: SpeechTokenizer) -> str:
    tasks = ", ".join(f"{count} {task}" for task, count in built.tasks.items())
    spoken = f"{counted(built.recordings, 'recording')}, {built.seconds:.1f} s, {built.units} units of {ears.units}"
    left_out = f"; {counted(len(built.bad), 'row')} left out" if built.bad else ""
    return f"{out}: {counted(built.tasks.total(), 'conversation')} ({tasks}) from {spoken}{left_out}"
