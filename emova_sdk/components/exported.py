"""An export on disk: which graphs a slot has in it, what they say of themselves, and running them, whatever runs them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emova_sdk.components.graph import Axis, Profile, profile
from emova_sdk.components.onnx_session import run_session
from emova_sdk.errors import InputError, LoadError

__all__ = ["SCHEMA", "Exported", "Open", "family_of", "file_facts", "profile_of", "require_whole"]

Open = Callable[[Path, Mapping[str, Any]], Any]
SCHEMA = 1
"""Version of the manifest's form."""


class Exported:
    """The graphs of one slot of an export, opened on first use and shared between threads.

    Args:
        bundle: Folder of the export.
        slot: Whose graphs.
        graphs: Names of the graphs that are needed.
        open: Opens a graph's file: what runs it, by the two methods of an `onnxruntime.InferenceSession` that `run_session`
            uses. It gets the graph's record in the manifest as well.

    Raises:
        LoadError: If the folder is no such export, or one of the slot's files beside its graphs is missing or changed.
    """

    def __init__(self, bundle: str, slot: str, graphs: Sequence[str], *, open: Open) -> None:  # noqa: A002
        self.folder = folder = Path(bundle).expanduser()
        records, assets = _records(folder, slot)
        missing = [name for name in graphs if name not in records]
        if missing:
            hint = f"export the `{slot}` with `emova export onnx`, or use the `type` it was exported for"
            raise LoadError(f"the export `{folder}` holds no {slot} graph `{missing[0]}`", hint, path=bundle)
        require_whole(folder, assets)  # small, and read before the graphs are
        self._graphs = {name: (_inside(folder, records[name]["file"]), records[name]) for name in graphs}
        self._facts: dict[str, str] = records[graphs[0]]["metadata"]
        self._open, self._path, self._slot = open, bundle, slot
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()

    @property
    def assets(self) -> Path:
        """Folder with the other files of the slot, see `Component.assets`."""
        return self.folder / self._slot

    def text(self, name: str) -> str:
        """A fact of the export."""
        try:
            return self._facts[name]
        except KeyError:
            raise LoadError(f"the export `{self._path}` does not say its `{name}`", "export again", path=self._path) from None

    def number(self, name: str) -> int:
        """A fact that is a whole number."""
        value = self.text(name)
        if not value.isdecimal():
            raise LoadError(f"`{name}` of the export `{self._path}` is `{value}`", "export again", path=self._path)
        return int(value)

    def open(self) -> dict[str, Any]:
        """Sessions by graph.

        Raises:
            LoadError: If a file is missing, is not what was exported, or cannot be run.
        """
        with self._lock:
            if not self._sessions:
                for _, record in self._graphs.values():
                    require_whole(self.folder, record["files"])
                self._sessions = {name: self._open(file, record) for name, (file, record) in self._graphs.items()}
            return self._sessions

    def close(self) -> None:
        """Free the sessions."""
        with self._lock:
            self._sessions = {}

    def run(self, graph: str, **inputs: Any) -> dict[str, Any]:
        """Run a graph on NumPy arrays; outputs by name."""
        return run_session(self.open()[graph], inputs)


def family_of(bundle: str, slot: str) -> str:
    """Whose components run a slot of an export: ``nano``, or ``emova`` where its graphs do not say.

    Raises:
        LoadError: If the folder is no export, or does not hold the slot.
    """
    records, _ = _records(Path(bundle).expanduser(), slot)
    if not records:
        raise LoadError(f"the export `{bundle}` holds no {slot}", f"export it with `--component {slot}`", path=bundle)
    return str(next(iter(records.values()))["metadata"].get("family", "emova"))


def profile_of(record: Mapping[str, Any]) -> Profile:
    """Shapes that an engine for a graph of an export is built for, from its record in the manifest.

    Raises:
        LoadError: If the record does not say the shapes or axes of its inputs.
    """
    try:
        return profile(record["shapes"], {name: Axis(**axis) for name, axis in record["axes"].items()})
    except (KeyError, TypeError, InputError) as error:
        raise LoadError(f"the manifest does not say the shapes of a graph: {error}", "export it to ONNX again") from error


def file_facts(file: Path) -> dict[str, Any]:
    """Size and digest of a file, as a manifest has them."""
    with file.open("rb") as opened:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}


def require_whole(folder: Path, files: Mapping[str, Any]) -> None:
    """Check that files are there and are what was exported.

    Args:
        folder: Of the export.
        files: Path within it to what `file_facts` said when it was written.

    Raises:
        LoadError: Naming the file.
    """
    for name, facts in files.items():
        file = _inside(folder, name)
        if not file.is_file():
            raise LoadError(f"`{name}` is missing from the export `{folder}`", "export again", path=str(file))
        if file_facts(file) != facts:
            raise LoadError(f"`{name}` is not what was exported: its size or digest differs", "export again", path=str(file))


def _records(folder: Path, slot: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A slot's graphs by name, and what `file_facts` said of its other files."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text("utf-8"))
        if manifest["schema"] != SCHEMA:
            raise LoadError(f"`{path}` has the form {manifest['schema']}, not {SCHEMA}", "export again", path=str(path))
        graphs = {graph["name"]: graph for graph in manifest["components"].get(slot, ())}
        return graphs, dict(manifest.get("assets", {}).get(slot, {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(f"`{path}` is not the manifest of an export: {error}", "export again", path=str(path)) from error


def _inside(folder: Path, name: str) -> Path:
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise LoadError(f"the export `{folder}` names a file outside of it: `{name}`", "export again", path=str(file))
    return file
