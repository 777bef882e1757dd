"""Background work, so that pushing audio never waits for a model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Aside:
    """Finds something out, one thing at a time.

    Args:
        threaded: Whether a thread of its own does; otherwise the caller waits.
    """

    def __init__(self, *, threaded: bool) -> None:
        self._threaded = threaded
        self._thread: threading.Thread | None = None
        self._found: Any = None

    def ask(self, job: Callable[[], Any]) -> Any:
        """Return what a job finds, or None while it is at work: the first call begins it, the others only look."""
        if not self._threaded:
            return job()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(job,), name="emova-live-aside", daemon=True)
            self._thread.start()
        if self._thread.is_alive():
            return None
        self._thread = None
        return self._found

    def wait(self) -> None:
        """Wait until no job is at work."""
        if self._thread is not None:
            self._thread.join()

    def _work(self, job: Callable[[], Any]) -> None:
        self._found = job()
