"""An export's ``manifest.json``: its schema, which is checked before anything in it is used, and the files it names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from emova_sdk.components.base import SLOTS
from emova_sdk.components.graph import Axis
from emova_sdk.errors import LoadError
from emova_sdk.files import hint_for, reason_of

SCHEMA = 1
"""Version of the manifest's form."""


def _within(name: str) -> str:
    """A path that stays within the export by its words. Links are followed: in a hub's cache every file is one to elsewhere."""
    path = PurePosixPath(name)
    if (
        not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or any(sign in name for sign in "\\:")
        or not name.isprintable()
    ):
        raise ValueError(f"`{ascii(name)[1:-1]}` is a file outside of it")
    return name


def _role(name: str) -> str:
    if name not in SLOTS:  # it names a folder as well
        raise ValueError(f"`{name}` is no role of a component")
    return name


_Path = Annotated[str, AfterValidator(_within)]
_Role = Annotated[str, AfterValidator(_role)]
_Precision = Literal["fp32", "fp16", "int8", "int4"]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    """A table of the manifest. Only what is read has a field here; what else stands in it is kept and means nothing."""

    model_config = ConfigDict(strict=True)


class _File(_Part):
    bytes: _Count
    sha256: str


class _Axis(_Part):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    min: int
    opt: int
    max: int
    multiple_of: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _valid(self) -> _Axis:
        Axis(**self.model_dump())
        return self


class _HigherPrecision(_Part):
    part: str
    because: str


class _Parity(_Part):
    output: str
    sizes: dict[str, _Count]
    max_abs_diff: float
    mean_abs_diff: float
    cosine: float
    mismatch: float
    allowed: str


class _Trial(_Part):
    trial: str
    measure: str
    value: float
    allowed: str
    cases: _Count = 0


class _Graph(_Part):
    name: str
    file: _Path
    files: dict[_Path, _File]
    golden: _Path | None = None
    precision: _Precision | None = None
    kept: list[_HigherPrecision] = []
    inputs: list[str]
    outputs: list[str]
    shapes: dict[str, list[int | str]]
    axes: dict[str, _Axis]
    metadata: dict[str, str]
    atol: _Number = 0.0
    mismatch: _Number = 0.0
    parity: list[_Parity]
    engine: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _digested(self) -> _Graph:
        if self.file not in self.files:
            raise ValueError(f"there is no digest of `{self.file}`")
        return self


class _Manifest(_Part):
    format: str = "onnx"
    precision: _Precision
    source: str
    versions: dict[str, str | None]
    components: dict[_Role, Annotated[list[_Graph], Field(min_length=1)]]
    assets: dict[_Role, dict[_Path, _File]] = {}
    trials: dict[_Role, list[_Trial]] = {}
    without_graphs: list[str]


def parse_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of an export; its files are not looked at.

    Raises:
        LoadError: If it is missing, unreadable, of another version, or not of the form of one.
    """
    path = folder / "manifest.json"
    try:
        found: Any = json.loads(path.read_text("utf-8"))
        facts = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        if facts.get("schema") != SCHEMA:
            raise _refused(
                path, f"has the form {facts.get('schema')}, not {SCHEMA}" if "schema" in facts else "has no `schema`"
            )
        _Manifest.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise _refused(path, f"is not the manifest of an export: `{where}`: {first['msg']}") from error
    except OSError as error:
        message = f"`{path}` cannot be read: {reason_of(error)}"
        raise LoadError(message, hint_for(error, "export again"), path=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"is not the manifest of an export: {error}") from error
    return facts


def _refused(path: Path, why: str) -> LoadError:
    return LoadError(f"`{path}` {why}", "export again", path=str(path))


def file_facts(file: Path) -> dict[str, Any]:
    """Size and digest of a file, as a manifest has them."""
    with file.open("rb") as opened:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}


def require_whole(folder: Path, files: Mapping[str, Any]) -> None:
    """Check that files are there and are what was exported.

    Args:
        folder: Of the export.
        files: Path within it, as `parse_manifest` has checked it, to what `file_facts` said when it was written.

    Raises:
        LoadError: Naming the file.
    """
    for name, facts in files.items():
        file = folder / name
        try:
            found = file_facts(file)
        except FileNotFoundError as error:
            raise LoadError(f"`{name}` is missing from the export `{folder}`", "export again", path=str(file)) from error
        except OSError as error:
            why = f"`{name}` of the export `{folder}` cannot be read: {reason_of(error)}"
            raise LoadError(why, hint_for(error, "export again"), path=str(file)) from error
        if {key: facts[key] for key in found} != found:
            raise LoadError(f"`{name}` is not what was exported: its size or digest differs", "export again", path=str(file))
