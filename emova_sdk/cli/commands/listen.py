"""``emova listen``: what is said in a recording, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.json_records import heard_record
from emova_sdk.cli.options import ConfigOption, JsonOption, SetOption, open_audio, open_pipeline, read_config
from emova_sdk.cli.output import describe_perceived, describe_transcript, print_json, working


@app.command()
def listen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A WAV, FLAC, OGG or MP3 file, - for stdin.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Transcribe a recording and describe its style."""
    settings = read_config(config, overrides)
    audio = open_audio(file, settings.limits)
    with open_pipeline(settings) as pipeline, working("listening"):
        transcript, perceived = pipeline.transcribe(audio), pipeline.perceive(audio)
    if as_json:
        print_json(heard_record(transcript, perceived))
    else:
        typer.echo(describe_transcript(transcript))
        typer.echo(f"({describe_perceived(perceived)})")
