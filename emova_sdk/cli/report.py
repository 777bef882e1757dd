"""Any error in two lines: what happened, and what would help."""

from __future__ import annotations

import typer

from emova_sdk.errors import EmovaError

__all__ = ["in_words", "report"]


def report(error: BaseException, *, debug: bool) -> int:
    """Say an error on stderr and return the exit code; ``debug`` adds the traceback."""
    usage = getattr(error, "format_message", None)  # a usage error of typer, in any of its versions
    if usage is None and debug:
        import traceback

        traceback.print_exception(error)
    if usage is not None:
        where = getattr(getattr(error, "ctx", None), "command_path", "emova")
        message, hint, code = usage(), f"see `{where} --help`", int(getattr(error, "exit_code", 2))
    else:
        message, hint = in_words(error)
        code = 1
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    return code


def in_words(error: BaseException) -> tuple[str, str]:  # noqa: PLR0911 - a table: one line for each kind of error
    """Return what happened and one action that helps, of errors of the SDK and of those of Python and the system."""
    from emova_sdk.files import hint_for, reason_of

    match error:
        case EmovaError():
            return error.message, error.hint
        case ModuleNotFoundError() if error.name and not error.name.startswith("emova_sdk"):
            package = error.name.partition(".")[0]
            return f"the package `{package}` is needed, and not installed", f"run pip install {package}"
        case OSError() if error.errno is not None:
            about = f"`{error.filename}`: " if error.filename is not None else ""
            return f"{about}{reason_of(error)}", hint_for(error, "check the file or device")
        case UnicodeError():
            return f"some characters cannot be used here: {error}", "write the text without them"
        case MemoryError():
            return "there is not enough memory", "close other programs, or use shorter input"
        case SystemExit():
            return f"something tried to end the program (exit code {error.code})", "run it again with --debug"
        case _:
            return f"{type(error).__name__}: {error}", "run it again with --debug, and report what it shows"
