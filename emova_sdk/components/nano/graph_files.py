"""The networks of nano's components: ONNX files in a folder, the shipped one or that of an export, run by ONNX Runtime."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from emova_sdk.components.base import Component
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.weights import PRESET
from emova_sdk.components.runtimes.graph_sessions import GraphSessions
from emova_sdk.components.runtimes.onnx_session import open_session
from emova_sdk.errors import LoadError
from emova_sdk.files import hint_for, reason_of

CPU = ("CPUExecutionProvider",)
WEIGHTS = "model.safetensors"
DIGEST = "emova.weights"
"""Of a graph's metadata: the digest of the weights that it was written for and reads from the file beside it."""


class GraphFiles(GraphSessions):
    """Graphs of a folder with ``NAME.onnx`` over ``model.safetensors``.

    Args:
        folder: Where they lie.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator. 0 takes one: in networks this small several would only wait for each other.
    """

    def __init__(self, folder: Path, *, providers: Sequence[str] = CPU, threads: int = 0) -> None:
        super().__init__(folder)
        self._providers, self._threads = providers, threads or 1

    def choose(self, *names: str) -> str:
        """The first of these graphs that is there, or else the first."""
        return next((name for name in names if self._file(name).is_file()), names[0])

    def _file(self, name: str) -> Path:
        return self.assets / f"{name}.onnx"

    def _opened(self, name: str) -> Any:
        file, digest = self._file(name), self._digest
        session = open_session(file, providers=self._providers, threads=self._threads)
        if session.get_modelmeta().custom_metadata_map.get(DIGEST) != digest:
            message = f"`{file}` was written for other weights than those in `{WEIGHTS}` beside it"
            raise LoadError(message, "install emova-nano again, or write the graphs again after training", path=str(file))
        return session

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.assets / WEIGHTS)


class NanoPart(Component):
    """A part of nano: a folder with graphs and other files.

    Attributes:
        place: Name of the folder among those that are shipped.
        needs: Names of the graphs.
        folder: Where its other files are.
        networks: The graphs.
    """

    place: ClassVar[str]
    needs: Sequence[str]

    def __init__(
        self,
        exported: GraphSessions | None = None,
        *,
        path: str | None = None,
        providers: Sequence[str] = CPU,
        threads: int = 0,
    ) -> None:
        if exported is not None:
            for name in self.needs:
                exported.choose(name)
        self.exported = exported
        folder = Path(path) if path else PRESET / self.place
        self.networks: GraphSessions = exported or GraphFiles(folder, providers=providers, threads=threads)
        self.folder = self.networks.assets
        self._configure()

    @abstractmethod
    def _configure(self) -> None:
        """Read the config: what the part says of itself."""

    def load(self) -> None:
        """Open the graphs."""
        self.networks.open(*self.needs)

    def close(self) -> None:
        """Free the graphs."""
        self.networks.close()

    def graphs(self) -> list[Graph]:
        """The graphs beside the weights; of a part that runs from an export none, since it is not exported again."""
        return [] if self.exported is not None else self._graphs()

    @abstractmethod
    def _graphs(self) -> list[Graph]: ...

    def assets(self) -> Mapping[str, Path]:
        """The config."""
        return {"config.json": self.folder / "config.json"}


def digest_of(weights: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        LoadError: If it cannot be read.
    """
    try:
        with weights.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        message = f"`{weights}` cannot be read: {reason_of(error)}"
        raise LoadError(message, hint_for(error, "train or install emova-nano again"), path=str(weights)) from error
