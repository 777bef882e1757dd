"""Presets: configs that go by a name.

A preset of the SDK is a file ``<name>.toml`` or a folder ``<name>`` with an ``assistant.toml`` beside this module. Another
package adds one by an entry point in group ``emova_sdk.presets``: its name is the preset's, its value a module in whose
folder ``<name>.toml``, ``<name>/assistant.toml`` or ``assistant.toml`` lies.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from emova_sdk.errors import LoadError

__all__ = ["CONFIG_NAME", "presets"]

CONFIG_NAME = "assistant.toml"
"""Name of the config in a folder that is a config itself: a preset, an exported bundle, a checkpoint."""


def presets() -> dict[str, Path]:
    """Return the TOML file of every preset by name, sorted; the SDK's own win over others of the same name.

    Raises:
        LoadError: If another package promises a preset and does not hold it.
    """
    here = Path(__file__).parent
    found = {entry.name: _of_package(entry) for entry in entry_points(group="emova_sdk.presets")}
    found |= {path.stem: path for path in here.glob("*.toml")}
    found |= {path.parent.name: path for path in here.glob(f"*/{CONFIG_NAME}")}
    return dict(sorted(found.items()))


def _of_package(entry: EntryPoint) -> Path:
    try:
        spec = find_spec(entry.value)
    except ImportError:
        spec = None
    origin = Path(spec.origin).parent if spec and spec.origin else Path()
    for candidate in (f"{entry.name}.toml", f"{entry.name}/{CONFIG_NAME}", CONFIG_NAME):
        if spec and (origin / candidate).is_file():
            return origin / candidate
    owner = entry.dist.name if entry.dist else "an unnamed package"
    raise LoadError(f"preset `{entry.name}` of {owner} is missing: `{entry.value}` holds no such TOML file", "reinstall it")
