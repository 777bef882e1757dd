"""An export on disk: which graphs a slot has in it, what they say of themselves, and running them, whatever runs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emova_sdk.components.graph import Axis, Profile, profile
from emova_sdk.components.manifest import parse_manifest, require_whole
from emova_sdk.components.onnx_session import run_session
from emova_sdk.errors import InputError, LoadError

__all__ = ["Exported", "Open", "decoder_of", "family_of", "profile_of"]

Open = Callable[[Path, Mapping[str, Any]], Any]
_DECODERS = ("decoder", "decoder_portable")
"""A language model's layers, for ONNX Runtime and for every runtime; an export holds one of the two."""


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
        self.folder = folder = _folder(bundle)
        manifest = parse_manifest(folder)
        records = {record["name"]: record for record in manifest["components"].get(slot, ())}
        missing = [name for name in graphs if name not in records]
        if missing:
            hint = f"export the `{slot}` with `emova export onnx`, or use the `type` it was exported for"
            raise LoadError(f"the export `{folder}` holds no {slot} graph `{missing[0]}`", hint, path=bundle)
        require_whole(folder, manifest.get("assets", {}).get(slot, {}))  # small, and read before the graphs are
        self._graphs: dict[str, dict[str, Any]] = {name: records[name] for name in graphs}
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
                for record in self._graphs.values():
                    require_whole(self.folder, record["files"])
                self._sessions = {name: self._opened(record) for name, record in self._graphs.items()}
            return self._sessions

    def _opened(self, record: Mapping[str, Any]) -> Any:
        session = self._open(self.folder / record["file"], record)
        for kind, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            names = sorted(one.name for one in found)
            if names != sorted(record[kind]):
                told = f"{kind} `{', '.join(names)}` in place of `{', '.join(record[kind])}`"
                raise LoadError(f"`{record['file']}` is another graph than the manifest says: {told}", "export again")
        return session

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
    return str(_records(bundle, slot)[0]["metadata"].get("family", "emova"))


def decoder_of(bundle: str) -> str:
    """Name of the graph with the layers of an export's language model, whichever of the two flavours it holds.

    Raises:
        LoadError: If the folder is no export, or holds no language model.
    """
    names = {record["name"] for record in _records(bundle, "llm_core")}
    return next((name for name in _DECODERS if name in names), _DECODERS[0])


def _records(bundle: str, slot: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = parse_manifest(_folder(bundle))["components"].get(slot, [])
    if not records:
        raise LoadError(f"the export `{bundle}` holds no {slot}", f"export it with `--component {slot}`", path=bundle)
    return records


def _folder(bundle: str) -> Path:
    try:
        return Path(bundle).expanduser()
    except RuntimeError as error:  # `~somebody` that is nobody
        raise LoadError(f"`{bundle}` is no folder: {error}", "give the path of an export", path=bundle) from error


def profile_of(record: Mapping[str, Any]) -> Profile:
    """Shapes that an engine for a graph of an export is built for, from its record in the manifest.

    Raises:
        LoadError: If the record does not say the shapes or axes of its inputs.
    """
    try:
        return profile(record["shapes"], {name: Axis(**axis) for name, axis in record["axes"].items()})
    except (KeyError, TypeError, InputError) as error:
        raise LoadError(f"the manifest does not say the shapes of a graph: {error}", "export it to ONNX again") from error
