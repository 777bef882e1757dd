"""Finding speech units, ``<|speech_17|>``, in text that arrives character by character."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["UnitScanner"]

_OPENING = "<|speech_"
_BEGUN = re.compile(r"<\|speech_-?\d{0,9}\|?")
_WHOLE = re.compile(r"<\|speech_(-?\d{1,9})\|>")


class UnitScanner:
    """Tells units from the text around them.

    Args:
        unit: Called with the number of each unit, as written.
        other: Called with each character that belongs to none, as soon as that is certain.
    """

    def __init__(self, unit: Callable[[str], None], other: Callable[[str], None]) -> None:
        self._unit = unit
        self._other = other
        self._pending = ""

    def push(self, text: str) -> None:
        """Take the next characters."""
        for char in text:
            self._pending += char
            if whole := _WHOLE.fullmatch(self._pending):
                self._unit(whole[1])
                self._pending = ""
            while self._pending and not (_OPENING.startswith(self._pending) or _BEGUN.fullmatch(self._pending)):
                self._other(self._pending[0])
                self._pending = self._pending[1:]

    def finish(self) -> None:
        """Give out what only looked like the beginning of a unit."""
        for char in self._pending:
            self._other(char)
        self._pending = ""
