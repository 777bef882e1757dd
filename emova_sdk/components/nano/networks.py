"""The networks of a nano component, arrays in and arrays out, whatever computes them.

A component's logic asks for its own graphs by name. PyTorch runs their modules; an export runs the same graphs in ONNX
Runtime, where torch need not be installed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from emova_sdk.components.graph_source import open_source
from emova_sdk.components.onnx_session import run_session
from emova_sdk.errors import LoadError, MissingDependencyError

if TYPE_CHECKING:
    from emova_sdk.components.exported import ExportFolder
    from emova_sdk.components.graph import Graph

Run = Callable[..., tuple[NDArray[Any], ...]]
"""Positional arrays in the order of the graph's inputs to the arrays of its outputs."""


class Networks:
    """Networks by name, opened on first use and shared between threads.

    Args:
        open: Brings the weights into memory.
        what: Whose networks, for messages.
    """

    def __init__(self, open: Callable[[], Mapping[str, Run]], *, what: str) -> None:  # noqa: A002
        self._open, self._what = open, what
        self._found: Mapping[str, Run] | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Bring the weights into memory."""
        with self._lock:
            if self._found is None:
                with torch_at_hand(self._what):
                    self._found = self._open()

    def close(self) -> None:
        """Free the weights."""
        with self._lock:
            self._found = None

    def __call__(self, name: str, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run a network."""
        self.load()
        found = self._found
        if found is None:
            raise LoadError(f"the {self._what} was closed while it was used", "keep it open until the call returns")
        return found[name](*inputs)


@contextmanager
def torch_at_hand(what: str) -> Generator[None, None, None]:
    """Say what to install, or to do without, where weights cannot be opened because PyTorch is missing.

    Raises:
        MissingDependencyError: If a package is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "torch").partition(".")[0]
        message = f"the {what} of emova-nano needs the package `{package}`, which is not installed"
        hint = f"pip install {package}; or name an export, which does without: `-c DIR`"
        raise MissingDependencyError(message, hint, package=package) from error


def in_torch(graphs: Iterable[Graph]) -> dict[str, Run]:
    """Run graphs by their sources."""
    return {graph.name: _by_source(graph) for graph in graphs}


def _by_source(graph: Graph) -> Run:
    opened, names = open_source(graph.source, graph, threads=1), list(graph.inputs)

    def run(*inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return tuple(opened(dict(zip(names, inputs, strict=True))).values())

    return run


def in_onnx(exported: ExportFolder, names: Iterable[str]) -> dict[str, Run]:
    """Run graphs from an export."""
    return {name: _by_session(exported.session(name)) for name in names}


def _by_session(session: Any) -> Run:
    names = [one.name for one in session.get_inputs()]

    def run(*inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return tuple(run_session(session, dict(zip(names, inputs, strict=True))).values())

    return run
