"""What users rely on, gathered in one object: ``python tests/contract/freeze.py`` records it in contract.json.

Run it when a change of the public surface is meant, and read the difference before committing it.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent / "contract.json"
ROOT = Path(__file__).parents[2]


def current() -> dict[str, Any]:
    """The public surface as it is now."""
    import emova_sdk
    from emova_sdk import errors, testing, types
    from emova_sdk.cli import json_records as records
    from emova_sdk.presets import presets

    return {
        "names": {module.__name__: sorted(module.__all__) for module in (emova_sdk, errors, testing, types)},
        "entry_points": _entry_points(),
        "presets": sorted(presets()),
        "commands": _commands(),
        "json_schemas": {path.stem: _digest(json.loads(path.read_text())) for path in sorted(records.SCHEMAS.glob("*.json"))},
    }


def _entry_points() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {group: sorted(entries) for group, entries in sorted(project["entry-points"].items())}


def _commands() -> dict[str, list[str]]:
    import typer

    from emova_sdk.cli.app import app, load_commands

    load_commands()
    found: dict[str, list[str]] = {}

    def walk(command: Any, name: str) -> None:
        for inner in getattr(command, "commands", {}).values():
            walk(inner, f"{name} {inner.name}")
        if not getattr(command, "commands", {}):
            found[name] = sorted(
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            )

    walk(typer.main.get_command(app), "emova")
    return dict(sorted(found.items()))


def _digest(schema: Any) -> str:
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    RECORD.write_text(json.dumps(current(), indent=1) + "\n")
