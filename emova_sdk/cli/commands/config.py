"""``emova config``: a config as it is understood, and its schema."""

from __future__ import annotations

from typing import Annotated

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import JsonOption, SetOption, default_config
from emova_sdk.cli.output import print_json

group = typer.Typer(help="Show a config, or the schema of configs.")
app.add_typer(group, name="config")


@group.command()
def show(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONFIG]", envvar="EMOVA_CONFIG", help="A preset, a TOML file, or a folder with an assistant.toml."
        ),
    ] = None,
    *,
    option: Annotated[str | None, typer.Option("--config", "-c", metavar="CONFIG", help="The same, as an option.")] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a complete config.

    It includes what the config extends, what --set replaces, and which values it reads from the environment.
    """
    from emova_sdk.config import dump_config, load_config

    settings = load_config(option or config or default_config(), overrides=overrides or ())
    if as_json:
        print_json(settings.model_dump(exclude_none=True))
    else:
        typer.echo(dump_config(settings), nl=False)


@group.command()
def schema() -> None:
    """Print the JSON Schema of configs.

    It has the options of every installed component, plug-ins included.
    """
    import json

    from emova_sdk.config import config_schema

    typer.echo(json.dumps(config_schema(), indent=2))
