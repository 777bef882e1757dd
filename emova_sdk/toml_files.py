"""TOML files of configs: reading them, paths and environment values in them, and values that replace theirs."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from emova_sdk.errors import ConfigError
from emova_sdk.files import exists, reason_of

_BACKSLASH_HINT = "in double quotes a backslash begins an escape: write C:/models, or put the path in single quotes"
_DEEPEST = 50
_DRIVE = re.compile(r"[A-Za-z]:[\x00-\x1f]")


def read_tables(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: If it cannot be read, is not TOML, or holds a path whose backslashes were taken for escapes.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{path}` is not UTF-8 text", "save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"`{path}` cannot be read: {reason_of(error)}", "check its path and permissions") from error
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # its message ends in the line and column
        hint = _BACKSLASH_HINT if _holds_backslash(text, str(error)) else "correct that line"
        raise ConfigError(f"`{path}` is not TOML: {error}", hint) from error
    _require_no_escapes(tables, "", path)
    return tables


def _holds_backslash(text: str, complaint: str) -> bool:
    """Whether the line that a parser complains of has a backslash in it."""
    found = re.search(r"at line (\d+)", complaint)
    lines = text.splitlines()
    number = int(found[1]) if found else len(lines)
    return 0 < number <= len(lines) and "\\" in lines[number - 1]


def _require_no_escapes(value: Any, key: str, path: Path, depth: int = 0) -> None:
    r"""Refuse ``"C:\temp"``, in which TOML reads a tabulator (no path holds one), and endless nesting."""
    if depth > _DEEPEST:
        raise ConfigError(f"`{key[:40]}...` in `{path}` is nested too deeply", "no config needs that: check the file")
    if isinstance(value, Mapping):
        for inner, item in cast("Mapping[str, Any]", value).items():
            _require_no_escapes(item, f"{key}.{inner}".lstrip("."), path, depth + 1)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            _require_no_escapes(item, key, path, depth + 1)
    elif isinstance(value, str) and _DRIVE.match(value):
        raise ConfigError(f"`{key}` in `{path}` is {value!r}, which is no path", _BACKSLASH_HINT)


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` replaced; where there is no such home, as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def anchored(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make paths absolute: ``./`` and ``../`` always, a relative ``path``, ``model`` or ``*_path`` if it is in ``folder``."""
    return cast("dict[str, Any]", _anchored_value(tables, "", folder))


def _anchored_value(value: Any, key: str, folder: Path) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {inner: _anchored_value(item, inner, folder) for inner, item in items}
    if isinstance(value, list):
        return [_anchored_value(item, key, folder) for item in cast("list[Any]", value)]
    if not isinstance(value, str) or not value or "${" in value or "\0" in value:
        return value
    dotted = value in {".", ".."} or value.startswith(("./", "../", ".\\", "..\\"))
    beside = folder / (value if dotted else expanded(value))
    named = key in {"path", "model"} or key.endswith("_path")
    return os.path.realpath(beside) if dotted or (named and exists(beside)) else value


def merged(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay tables over those of a file that is extended."""
    result = dict(base)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        # options belong to their type: a table that names another one starts afresh
        same = both and cast("Any", value).get("type", cast("Any", old).get("type")) == cast("Any", old).get("type")
        result[key] = merged(cast("Any", old), cast("Any", value)) if same else value
    return result


def override_value(tables: dict[str, Any], override: str) -> None:
    """Set one value in ``tables`` as ``key.path=value`` says.

    Raises:
        ConfigError: If it is not of that form.
    """
    key, equals, text = override.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise ConfigError(f"`{override}` is not of the form key.path=value", "write e.g. vocoder.type=onnx")
    table = tables
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"`{override}`: `{part}` is a value, not a table", "set that key itself")
    if not text.strip():
        table.pop(path[-1], None)
        return
    value = _parse_value(text.strip())
    if path[-1] == "type" and table.get("type", value) != value:
        table.clear()
    table[path[-1]] = value


def _parse_value(text: str) -> Any:
    """Read a TOML value; what is not one is a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        quoted = re.fullmatch(r"""(["'])([^"']*)\1""", text)  # a path of Windows, whose backslashes are no escapes
        return quoted[2] if quoted else text
    return parsed["value"] if set(parsed) == {"value"} else text


_ENVIRONMENT = re.compile(r"\$(\$\{)|\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?:\|([^}]*))?\}")


def interpolate(value: Any, key: str) -> Any:
    """Fill in ``${env:NAME}`` and ``${env:NAME|default}``; ``key`` is where the value stands, for the error.

    Raises:
        ConfigError: If a variable is not set and has no default.
    """
    if isinstance(value, Mapping):
        return {inner: interpolate(item, f"{key}.{inner}".lstrip(".")) for inner, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, key) for item in cast("list[Any]", value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        default: str | None = match[3]
        found = os.environ.get(match[2], default)
        if found is None:
            hint = f"set it, or give a default: ${{env:{match[2]}|...}}"
            raise ConfigError(f"`{key}` needs the environment variable `{match[2]}`, which is not set", hint)
        return found

    return _ENVIRONMENT.sub(replacement, value)
