"""``emova convert``: a published EMOVA checkpoint in the layout that transformers reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import JsonOption
from emova_sdk.cli.output import print_json, working


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A checkpoint in either layout: a folder or a hub id.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Folder to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing checkpoint.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert an EMOVA checkpoint from its original layout to that of transformers."""
    from emova_sdk.components.emova.language.checkpoints import CHECKPOINT, find_checkpoint
    from emova_sdk.components.emova.language.conversion import convert_origin_to_hf

    CHECKPOINT.require_free(target, force=force)  # before anything is fetched
    with working(f"converting {source}"):
        written = convert_origin_to_hf(find_checkpoint(source), target, force=force)
    files = sorted(path.name for path in written.iterdir())
    size = sum(path.stat().st_size for path in written.iterdir())
    if as_json:
        print_json({"source": source, "target": str(written), "files": files, "bytes": size})
    else:
        typer.echo(f"{written}: {len(files)} files, {size / 1e6:.1f} MB")
