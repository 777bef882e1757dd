"""What installed packages offer through entry points, read so that a broken one harms no other.

Nothing of a package is imported here: where a module lies and what its class says of itself is read from its files.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cache, lru_cache
from importlib.metadata import Distribution, EntryPoint, EntryPoints, distributions, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*)?(\s*\[.*\])?")


def entry_points_of(group: str) -> list[EntryPoint]:
    """Return the entry points of a group; those of a package whose list cannot be read are left out."""
    return list(_all(_places()).select(group=group))


def _places() -> tuple[tuple[str, int], ...]:
    """Where packages are looked for, and when something was last installed there."""
    folders = (Path(place or ".") for place in sys.path)
    return tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders if folder.is_dir())


@lru_cache(maxsize=1)
def _all(_: tuple[tuple[str, int], ...]) -> Any:
    """What has all entry points and selects some: the files of a hundred packages are read once, not for each group."""
    try:
        return entry_points()
    except Exception:  # noqa: BLE001 - one unreadable list makes Python give up on those of all packages: read each by itself
        return EntryPoints(entry for package in distributions() for entry in _of(package))


def unreadable_packages() -> list[str]:
    """Say in one line each which packages have a list of entry points that cannot be read."""
    found: list[str] = []
    for package in distributions():
        try:
            list(package.entry_points)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            found.append(f"{_name_of(package)}: its entry points cannot be read: {error}")
    return found


def owner_of(entry: EntryPoint) -> str:
    """Return name and version of the package that offers an entry point."""
    return _name_of(entry.dist) if entry.dist else "an unnamed package"


def is_own(entry: EntryPoint) -> bool:
    """Whether the SDK itself offers it."""
    return entry.value.startswith("emova_sdk.")


def is_well_formed(entry: EntryPoint) -> bool:
    """Whether it has a name, and names a module or something in one."""
    return bool(entry.name.strip()) and _TARGET.fullmatch(entry.value) is not None


def source_of(module: str) -> Path | None:
    """Return the file of a module (the folder of a package without code), or None; no part of it is imported."""
    first, *rest = module.split(".")
    try:
        spec = find_spec(first)  # of a part after a dot this would import what stands before
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if not rest and spec.origin:
        return Path(spec.origin)
    for place in places:
        base = place.joinpath(*rest)
        for candidate in (base.with_name(f"{base.name}.py"), base / "__init__.py", base):
            if candidate.exists():
                return candidate
    return None


def summary_of(entry: EntryPoint) -> str:
    """Return the first line of a class's docstring without importing it, or an empty string if it cannot be read.

    A class that its module makes when asked for it, as `components.exported` does, has the module's first line.
    """
    module, _, name = entry.value.partition(":")
    source = source_of(module)
    if source is None or not source.is_file():
        return ""
    summaries = _summaries(source)
    return summaries[name] if name in summaries else summaries.get("", "")


@cache
def _summaries(source: Path) -> dict[str, str]:
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    named: list[tuple[str, ast.ClassDef | ast.Module]] = [("", tree), *((node.name, node) for node in classes)]
    return {name: (ast.get_docstring(node) or "").partition("\n")[0] for name, node in named}


def _of(package: Distribution) -> list[EntryPoint]:
    try:
        return list(package.entry_points)
    except Exception:  # noqa: BLE001 - reported by `unreadable_packages`
        return []


def _name_of(package: Distribution) -> str:
    try:
        return f"{package.name} {package.version}" if package.name else "an unnamed package"
    except Exception:  # noqa: BLE001 - its metadata is missing or cannot be read
        return "an unnamed package"
