"""Cutting text into sentences, whole or while it is written, so that speech can begin early."""

from __future__ import annotations

import re

_END = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+|(?<=[。！？])\s*|\n+")
_LONGEST = 200


def sentences(text: str, *, longest: int = _LONGEST) -> list[str]:
    """Cut a text after sentence ends, and sentences of more than ``longest`` characters at a space."""
    cutter = SentenceCutter(longest=longest)
    return [*cutter.push(text), *cutter.finish()]


class SentenceCutter:
    """Gives whole sentences of a text that comes in pieces; the sentences do not depend on how it is cut.

    Args:
        longest: Most characters of a sentence; a longer one is cut at a space.
    """

    def __init__(self, *, longest: int = _LONGEST) -> None:
        self._longest = longest
        self._rest = ""

    def push(self, text: str) -> list[str]:
        """Take the next piece; return the sentences that are complete."""
        self._rest = (self._rest + text).lstrip()
        found: list[str] = []
        while (end := self._next_end()) is not None:
            found.append(self._rest[:end].strip())
            self._rest = self._rest[end:].lstrip()
        return found

    def finish(self) -> list[str]:
        """Return the rest."""
        rest, self._rest = self._rest.strip(), ""
        return [rest] if rest else []

    def _next_end(self) -> int | None:
        """Where the first sentence ends; white space behind it shows that it is over."""
        match = _END.search(self._rest)
        if match and match.end() <= self._longest:
            return match.end()
        if len(self._rest) <= self._longest:
            return None
        at = self._rest.rfind(" ", 1, self._longest)
        return at if at > 0 else self._longest
