"""Any error in two lines: what happened, and what would help."""

from __future__ import annotations

from traceback import walk_tb

import typer

from emova_sdk.errors import EmovaError


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
    from emova_sdk.entry_points import source_of
    from emova_sdk.files import hint_for, reason_of
    from emova_sdk.packages import pip_command

    match error:
        case EmovaError():
            return error.message, error.hint
        case ImportError() if package := _at_fault(error):
            if isinstance(error, ModuleNotFoundError) and source_of(package) is None:
                return f"the package `{package}` is needed, and not installed", f"run {pip_command(package)}"
            hint = f"run pip install --upgrade --force-reinstall {package}"
            return f"the package `{package}` cannot be used: {(str(error).splitlines() or [''])[0]}", hint
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


def _at_fault(error: ImportError) -> str:
    """Return the package that is missing or failed, or an empty string if that is the SDK itself."""
    named = error.name or ""
    if not isinstance(error, ModuleNotFoundError):
        inside = [str(frame.f_globals.get("__name__", "")) for frame, _ in walk_tb(error.__traceback__)]
        inside = [module for module in inside if module.partition(".")[0] not in {"importlib", "__main__"}]
        # `name` is what was imported from, which is not what tried to; of the SDK's own imports it is the one that failed
        named = inside[-1] if inside and not inside[-1].startswith("emova_sdk.") else named
    package = named.partition(".")[0]
    return "" if package == "emova_sdk" else package
