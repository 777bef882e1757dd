"""Read an export directory: the graphs of a component, their metadata, and how to run them on any runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emova_sdk.components.graph import Axis, Profile, profile
from emova_sdk.components.runtimes.graph_sessions import GraphSessions
from emova_sdk.components.runtimes.manifest import parse_manifest, require_whole
from emova_sdk.errors import InputError, LoadError

Opener = Callable[[Path, Mapping[str, Any]], Any]
"""Opens the file of a graph, given its record in the manifest: returns an object with the methods of an
`onnxruntime.InferenceSession` that `run_session` uses."""


class ExportFolder(GraphSessions):
    """The graphs of one component of an export.

    Args:
        path: Folder of the export.
        role: Whose graphs, e.g. ``vocoder``.
        opener: The runtime.
        manifest: That of the export; read from the folder when not given.

    Raises:
        LoadError: If the folder is no export, holds no such component, or a file beside its graphs is missing or changed.
    """

    def __init__(self, path: str, role: str, opener: Opener, *, manifest: Mapping[str, Any] | None = None) -> None:
        self._path, self._role, self._opener = path, role, opener
        self.folder = folder_at(path)
        super().__init__(self.folder / role)
        manifest = parse_manifest(self.folder) if manifest is None else manifest
        self._records: dict[str, dict[str, Any]] = {one["name"]: one for one in _records(manifest, path, role)}
        require_whole(self.folder, manifest.get("assets", {}).get(role, {}))  # small, and read before the graphs are

    @property
    def files(self) -> dict[str, Path]:
        """Graph to its ONNX file; none for engines."""
        return {name: self.folder / one["file"] for name, one in self._records.items() if "engine" not in one}

    def choose(self, *names: str) -> str:
        """The first of these graphs that the export holds.

        Raises:
            LoadError: If it holds none of them.
        """
        found = next((name for name in names if name in self._records), None)
        if found is None:
            hint = f"export the `{self._role}` with `emova export onnx`, or use the `type` it was exported for"
            raise LoadError(f"the export `{self.folder}` holds no {self._role} graph `{names[0]}`", hint, path=self._path)
        return found

    def text(self, name: str) -> str:
        """A fact of the export, from the metadata of its graphs."""
        for record in self._records.values():
            if name in record["metadata"]:
                return str(record["metadata"][name])
        raise LoadError(f"the export `{self._path}` does not say its `{name}`", "export again", path=self._path)

    def number(self, name: str) -> int:
        """A fact that is a whole number."""
        value = self.text(name)
        if not value.isdecimal():
            raise LoadError(f"`{name}` of the export `{self._path}` is `{value}`", "export again", path=self._path)
        return int(value)

    def _opened(self, name: str) -> Any:
        record = self._records[name]
        require_whole(self.folder, record["files"])
        session = self._opener(self.folder / record["file"], record)
        for kind, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            names = sorted(one.name for one in found)
            if names != sorted(record[kind]):
                told = f"{kind} `{', '.join(names)}` in place of `{', '.join(record[kind])}`"
                raise LoadError(f"`{record['file']}` is another graph than the manifest says: {told}", "export again")
        return session


def family_of(manifest: Mapping[str, Any], path: str, role: str) -> str:
    """The family that runs a component of an export: ``nano``, or ``emova`` if its graphs do not say.

    Raises:
        LoadError: If the export does not hold the component.
    """
    return str(_records(manifest, path, role)[0]["metadata"].get("family", "emova"))


def _records(manifest: Mapping[str, Any], path: str, role: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = manifest["components"].get(role, [])
    if not records:
        raise LoadError(f"the export `{path}` holds no {role}", f"export it with `--component {role}`", path=path)
    return records


def folder_at(path: str) -> Path:
    """The folder of an export.

    Raises:
        LoadError: If the path is of a user that is not there.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # `~somebody` that is nobody
        raise LoadError(f"`{path}` is no folder: {error}", "give the path of an export", path=path) from error


def profile_of(record: Mapping[str, Any]) -> Profile:
    """Shapes that an engine for a graph of an export is built for, from its record in the manifest.

    Raises:
        LoadError: If the record does not say the shapes or axes of its inputs.
    """
    try:
        return profile(record["shapes"], {name: Axis(**axis) for name, axis in record["axes"].items()})
    except (KeyError, TypeError, InputError) as error:
        raise LoadError(f"the manifest does not say the shapes of a graph: {error}", "export it to ONNX again") from error
