"""Presets: configs that go by a name.

A preset of the SDK is a file ``<name>.toml`` or a folder ``<name>`` with an ``assistant.toml`` beside this module. Another
package adds one by an entry point in group ``emova_sdk.presets``: its name is the preset's, its value a module in whose
folder ``<name>.toml``, ``<name>/assistant.toml`` or ``assistant.toml`` lies.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

from emova_sdk.entry_points import entry_points_of, is_well_formed, owner_of, source_of
from emova_sdk.errors import LoadError

__all__ = ["CONFIG_NAME", "broken_presets", "presets"]

CONFIG_NAME = "assistant.toml"
"""Name of the config in a folder that is a config itself: a preset, an exported bundle, a checkpoint."""


def presets() -> dict[str, Path]:
    """Return the TOML file of every preset by name, sorted; the SDK's own win over others of the same name.

    A preset that a package promises and does not hold is left out, see `broken_presets`.
    """
    here = Path(__file__).parent
    found = {entry.name: path for entry in entry_points_of("emova_sdk.presets") if (path := _of_package(entry)) is not None}
    found |= {path.stem: path for path in here.glob("*.toml")}
    found |= {path.parent.name: path for path in here.glob(f"*/{CONFIG_NAME}")}
    return dict(sorted(found.items()))


def broken_presets() -> dict[str, LoadError]:
    """Return, by name, why a preset of another package cannot be used."""
    hint = "reinstall the package, or uninstall it"
    return {
        entry.name: LoadError(
            f"preset `{entry.name}` of {owner_of(entry)} is missing: `{entry.value}` holds no such TOML file", hint
        )
        for entry in entry_points_of("emova_sdk.presets")
        if _of_package(entry) is None
    }


def _of_package(entry: EntryPoint) -> Path | None:
    source = source_of(entry.value) if is_well_formed(entry) else None
    if source is None:
        return None
    folder = source if source.is_dir() else source.parent
    candidates = (folder / f"{entry.name}.toml", folder / entry.name / CONFIG_NAME, folder / CONFIG_NAME)
    return next((path for path in candidates if path.is_file()), None)
