"""``emova doctor``: what is installed, what is missing, and what would fix it."""

from __future__ import annotations

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import JsonOption
from emova_sdk.cli.output import print_json, print_table, working

SIGNS = {"ok": "ok", "optional": "-", "problem": "PROBLEM"}


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check the installation.

    Exits with 1 if something is broken; what is missing but optional is marked with a dash.
    """
    from emova_sdk.cli.diagnosis import diagnose

    with working("examining"):
        findings = diagnose()
    broken = any(finding.status == "problem" for finding in findings)
    if as_json:
        print_json({"healthy": not broken, "findings": [finding.to_dict() for finding in findings]})
    else:
        print_table(("", "what", "found"), [(SIGNS[f.status], f.name, f.detail) for f in findings])
        for finding in findings:
            if finding.fix:
                typer.echo(f"{finding.name}: {finding.fix}")
    if broken:
        raise typer.Exit(1)
