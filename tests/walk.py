"""How far a reader of a whole turn walks: which files of the package run, and how often one calls into another."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Self

import emova_sdk

PACKAGE = str(Path(emova_sdk.__file__).parent)


class Walk:
    """Counts calls between files of the package while it is entered, in every thread."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.moves: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Self:
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(PACKAGE) or frame.f_code.co_name == "<module>":
            return
        here = frame.f_code.co_filename.removeprefix(PACKAGE)
        self.files.add(here)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename.removeprefix(PACKAGE) != here:
            self.moves[caller.f_code.co_filename.removeprefix(PACKAGE), here] += 1
