"""``emova look``: a question about a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import (
    ConfigOption,
    JsonOption,
    SetOption,
    open_image,
    open_pipeline,
    read_config,
    read_text,
    require_one_stdin,
)
from emova_sdk.cli.output import print_json, working


@app.command()
def look(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A PNG, JPEG, WebP, GIF or BMP file, - for stdin.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Question about the image.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question about an image."""
    require_one_stdin(image, question)
    settings = read_config(config, overrides)
    question = read_text(question)
    picture = open_image(image, settings.limits)
    with open_pipeline(settings) as pipeline, working("looking"):
        answer = pipeline.look(picture, question)
    if as_json:
        print_json({"question": question, "answer": answer, "image": {"path": str(image), "size": list(picture.size)}})
    else:
        typer.echo(answer)
