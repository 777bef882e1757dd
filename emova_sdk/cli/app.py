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

from emova_sdk.cli.error_report import report
from emova_sdk.cli.output import json_alone

INTERRUPTED = 130
HELP = {"-h", "--help"}
COMPLETION = "_EMOVA_COMPLETE"
"""Variable by which a shell asks typer what could follow."""
FIRST = ("demo", "chat", "listen", "speak", "look")
"""Commands that ``emova --help`` lists first; the others follow by the alphabet."""

app = typer.Typer(
    name="emova",
    help="Voice agents that see, hear and speak with emotion.",
    epilog="--version, -V shows the version; --debug, anywhere, shows the traceback of an error.",
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
    completing = COMPLETION in os.environ
    arguments = ["version"] if arguments in (["--version"], ["-V"]) else arguments or ([] if completing else ["--help"])
    _tolerate_any_character()
    try:
        load_commands()
        command = typer.main.get_command(app)
        if not completing and HELP & set(_options(arguments)):
            return _show_help(command, arguments)
        _spare_pydantic()
        with json_alone("--json" in _options(arguments)):
            code: Any = command.main(args=arguments, prog_name="emova", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, e.g. `emova ... | head`
        _abandon_stdout()
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (Exception, SystemExit) as error:  # the last place where an error can be said in words
        if _reader_gone(error):
            _abandon_stdout()
            return 1
        if completing and isinstance(error, SystemExit):
            raise
        return _said(error, debug=debug)
    if code == INTERRUPTED:
        typer.echo("interrupted", err=True)
    return code if isinstance(code, int) else 0


def _spare_pydantic() -> None:
    """Keep pydantic from looking for plug-ins of its own where a package's list cannot be read: it would fail on that."""
    from emova_sdk.entry_points import unreadable_packages

    if "PYDANTIC_DISABLE_PLUGINS" not in os.environ and unreadable_packages():
        os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"


def _reader_gone(error: BaseException) -> bool:
    """Whether typer made this end of a broken pipe."""
    return isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)


def _said(error: BaseException, *, debug: bool) -> int:
    try:
        code = report(error, debug=debug)
    except OSError:  # stderr cannot be written to either
        code = 1
    try:
        sys.stdout.flush()
    except OSError:  # a full disk; Python would complain once more at its end
        _abandon_stdout()
    return code


def _abandon_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tolerate_any_character() -> None:
    """Let consoles of few characters (code page 1252, ASCII) show ``?`` for the others, rather than end the command."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # what stands in for a stream may have none
        if reconfigure is not None:
            reconfigure(errors="replace")


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
