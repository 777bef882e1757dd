"""The command line, ``emova``: one file for each command in `emova_sdk.cli.commands`.

Only typer is imported before a command runs; everything else is imported inside the commands, so that help is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``emova`` with ``arguments`` (those of the process by default) and exit with its code.

    0 is success, 1 an error (said on stderr as ``error:`` and ``hint:``), 2 bad usage, 130 an interruption by Ctrl-C.
    """
    try:
        from emova_sdk.cli.app import run

        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # before `run` could begin, or after it was done
        code = 130
    sys.exit(code)
