"""Sessions of a component's graphs by name, whatever they are opened from."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from emova_sdk.components.runtimes.onnx_session import run_session


class GraphSessions(ABC):
    """Graphs by name, opened on first use and shared between threads.

    Args:
        assets: Folder with the other files of the component, see `Component.assets`.
    """

    def __init__(self, assets: Path) -> None:
        self.assets = assets
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()

    @abstractmethod
    def choose(self, *names: str) -> str:
        """The first of these graphs that is there; `LoadError` if none is and that is known already."""

    @abstractmethod
    def _opened(self, name: str) -> Any:
        """Open a graph."""

    def open(self, *names: str) -> None:
        """Open graphs; safe to call again and from several threads.

        Raises:
            LoadError: If a file is missing or changed, or cannot be run.
        """
        for name in names:
            self.session(self.choose(name))

    def session(self, name: str) -> Any:
        """The session of a graph; see `open`."""
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = self._opened(name)
            return self._sessions[name]

    def run(self, graph: str, **inputs: Any) -> dict[str, Any]:
        """Run a graph on NumPy arrays; outputs by name."""
        return run_session(self.session(graph), inputs)

    def close(self) -> None:
        """Free the sessions."""
        with self._lock:
            self._sessions = {}
