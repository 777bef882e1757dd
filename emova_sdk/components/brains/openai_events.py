"""From the bytes of an endpoint's answer to the JSON values in it, however they are framed.

Asked for an event stream, endpoints send one by the book, one without blank lines, without a space after ``data:``, with
retry lines, comments and pings between; or bare JSON, whole or a value a line, whatever its media type says.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DONE = "[DONE]"
"""Value of the event that says that the answer is complete."""

_NAMES = frozenset({"", "id", "retry"})
"""Fields that say nothing of the answer; a comment has an empty name."""


@dataclass(frozen=True)
class JsonEvent:
    """One value of the stream: the event's name, mostly empty, and its data, decoded."""

    name: str
    value: Any


class EventDecoder:
    """Bytes as they arrive to events; how they are cut makes no difference.

    Data that is a whole JSON value is passed on at once, since not every endpoint ends its events with a blank line.

    Attributes:
        stray: The first line that belongs to no event, which may be the words of a proxy.
        pending: Data that no whole value could be made of yet.
    """

    def __init__(self) -> None:
        text = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._text = io.IncrementalNewlineDecoder(text, translate=True)
        self._line = ""
        self._name = ""
        self._bare = False
        self.pending = ""
        self.stray = ""

    def push(self, data: bytes, *, final: bool = False) -> Iterator[JsonEvent]:
        """Take the next bytes; yield the events that are complete.

        Raises:
            ValueError: If an event's data is no JSON.
        """
        *lines, self._line = (self._line + self._text.decode(data, final)).split("\n")
        for line in lines:
            yield from self._read(line)

    def finish(self) -> Iterator[JsonEvent]:
        """Declare the stream ended; a last line without an end counts."""
        yield from self.push(b"", final=True)
        line, self._line = self._line, ""
        yield from self._read(line)

    def _read(self, line: str) -> list[JsonEvent]:
        bare = line.lstrip()[:1]
        if bare in {"{", "["} or (self._bare and self.pending):  # no event at all, but JSON
            self._bare = True
            return self._take(line)
        if not line.strip():
            return self._end()
        field, _, value = line.partition(":")
        if field == "data":
            self._bare = False
            return self._take(value)
        if field == "event":
            self._name = value.strip()
        elif field not in _NAMES:
            self.stray = self.stray or line.strip()
        return []

    def _take(self, value: str) -> list[JsonEvent]:
        text = f"{self.pending}\n{value}".strip()
        while text.startswith("data:"):  # framed twice, by an endpoint and by a proxy
            text = text[5:].lstrip()
        try:
            values = json_values(text)
        except ValueError:  # the next lines may complete it
            self.pending = text
            return []
        self.pending = ""
        return [JsonEvent(self._name, one) for one in values]

    def _end(self) -> list[JsonEvent]:
        """Take note of a blank line, which ends an event; inside bare JSON it says nothing."""
        if self.pending:
            raise ValueError(f"an event holds no JSON: `{self.pending[:80]}`")
        self._name = ""
        return []


def json_values(text: str) -> list[Any]:
    """Read the JSON values that stand one after the other in a text; ``[DONE]`` is one, too.

    Raises:
        ValueError: If there is anything else.
    """
    found: list[Any] = []
    decoder, at = json.JSONDecoder(strict=False), 0
    while rest := text[at:].lstrip():
        at = len(text) - len(rest)
        if rest[: len(DONE)].upper() == DONE:
            found.append(DONE)
            at += len(DONE)
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except RecursionError as error:
            raise ValueError("JSON is nested too deeply") from error
        found.append(value)
    return found
