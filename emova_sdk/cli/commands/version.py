"""``emova version``: which release this is."""

from __future__ import annotations

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import JsonOption
from emova_sdk.cli.output import print_json


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Show the version."""
    from emova_sdk import __version__

    if as_json:
        print_json({"name": "emova-sdk", "version": __version__})
    else:
        typer.echo(__version__)
