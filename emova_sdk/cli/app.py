"""The root of the command line: finds the commands, runs one, and says errors in two lines.

To add a command, add a file to `emova_sdk.cli.commands` that registers it on `app`::

    @app.command()
    def hum(...) -> None:
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import typer

from emova_sdk.errors import EmovaError

__all__ = ["app", "load_commands", "run"]

INTERRUPTED = 130
HELP = {"-h", "--help"}
FIRST = ("demo", "chat", "listen", "speak", "look")
"""Commands that ``emova --help`` lists first; the others follow by the alphabet."""

app = typer.Typer(
    name="emova",
    help="Voice agents that see, hear and speak with emotion.",
    epilog="--version shows the version; --debug, anywhere, shows the traceback of an error.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich would double the time that help takes
    context_settings={"help_option_names": sorted(HELP)},
)


def load_commands() -> None:
    """Import every command, so that it stands on `app`."""
    from emova_sdk.cli import commands

    names = [module.name for module in iter_modules(commands.__path__)]
    for name in [*(name for name in FIRST if name in names), *(name for name in names if name not in FIRST)]:
        import_module(f"{commands.__name__}.{name}")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; whatever goes wrong is said on stderr, in two lines."""
    arguments, debug = _without_debug(list(arguments))
    arguments = ["version"] if arguments == ["--version"] else arguments or ["--help"]
    try:
        load_commands()
        command = typer.main.get_command(app)
        if HELP & set(_options(arguments)):
            return _show_help(command, arguments)
        code: Any = command.main(args=arguments, prog_name="emova", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, e.g. `emova ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where an error can be said in words
        return _report(error, debug=debug)
    if code == INTERRUPTED:
        typer.echo("interrupted", err=True)
    return code if isinstance(code, int) else 0


def _options(arguments: list[str]) -> list[str]:
    """Return what stands before a ``--``."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out, wherever it stands."""
    options = _options(arguments)
    kept = [argument for argument in options if argument != "--debug"]
    return kept + arguments[len(options) :], len(kept) < len(options)


def _show_help(command: Any, arguments: list[str]) -> int:
    """Print the help of the command that ``arguments`` lead to.

    Here and not by typer, which parses the options first, and imports pydantic for that.
    """
    context = typer.Context(command, info_name="emova", help_option_names=sorted(HELP))
    for argument in arguments:
        found = getattr(command, "commands", {}).get(argument)
        if found is not None:
            command, context = found, typer.Context(found, parent=context, info_name=argument)
    typer.echo(command.get_help(context))
    return 0


def _report(error: Exception, *, debug: bool) -> int:
    usage = getattr(error, "format_message", None)  # a usage error of typer, in any of its versions
    if usage is None and debug:
        import traceback

        traceback.print_exception(error)
    if usage is not None:
        where = getattr(getattr(error, "ctx", None), "command_path", "emova")
        message, hint, code = usage(), f"see `{where} --help`", int(getattr(error, "exit_code", 2))
    elif isinstance(error, EmovaError):
        message, hint, code = error.message, error.hint, 1
    else:
        message, hint, code = f"{type(error).__name__}: {error}", "run it again with --debug, and report what it shows", 1
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    return code
