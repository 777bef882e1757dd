"""Reading a JSON object while it is being written, and although it may be broken.

`Reader` gives its caller characters as they arrive: its methods are generators that pause when the next character is not
there yet, so a parser written over them cannot depend on how the text was cut. Valid objects of strings are read exactly;
beyond that, single and curly quotes, full-width punctuation, raw line ends and unescaped quotes are understood.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

__all__ = ["Reader", "Wait"]

T = TypeVar("T")
Wait = Generator[None, None, T]
"""A computation that pauses for more text and ends with a value."""

QUOTES = {'"': '"', "'": "'", "“": "”"}
COMMAS = frozenset(",，")
COLONS = frozenset(":：")
LONGEST_KEY = 80
LOOK_AHEAD = 120
_DIGITS = frozenset("0123456789abcdefABCDEF")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}


class Reader:
    """Characters that arrive over time, and the pieces of JSON that can be made of them.

    Args:
        report: Called with what had to be repaired, in a few words, and the text concerned.
    """

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._text = ""
        self._position = 0
        self._ended = False

    def feed(self, text: str) -> None:
        """Append characters."""
        self._text = self._text[self._position :] + text
        self._position = 0

    def end(self) -> None:
        """Declare that no more will come."""
        self._ended = True

    def peek(self, ahead: int = 0) -> Wait[str]:
        """Return the character ``ahead`` of the next one; empty at the end."""
        while self._position + ahead >= len(self._text) and not self._ended:
            yield
        at = self._position + ahead
        return self._text[at : at + 1]

    def take(self) -> Wait[str]:
        """Consume the next character; empty at the end."""
        char = yield from self.peek()
        self._position += len(char)
        return char

    def skip(self, characters: int) -> str:
        """Consume characters that were peeked at."""
        taken = self._text[self._position : self._position + characters]
        self._position += len(taken)
        return taken

    def blank(self, ahead: int = 0) -> Wait[int]:
        """Return how far ahead the next character is that is not white space."""
        while (char := (yield from self.peek(ahead))) and char.isspace():
            ahead += 1
        return ahead

    def key(self, ahead: int = 0) -> Wait[str | None]:
        """Return the key that stands ``ahead``, quoted and followed by a colon, without consuming it.

        A key that the end of the text cuts off counts, too.
        """
        opening = yield from self.peek(ahead)
        if opening not in QUOTES:
            return None
        name = ""
        while len(name) <= LONGEST_KEY:
            ahead += 1
            char = yield from self.peek(ahead)
            if not char:
                return name
            if char == QUOTES[opening]:
                ahead = yield from self.blank(ahead + 1)
                char = yield from self.peek(ahead)
                return name if not char or char in COLONS else None
            if char == "\\":
                ahead += 1
                char = yield from self.peek(ahead)
            name += char
        return None

    def take_key(self) -> Wait[None]:
        """Consume the key that `key` found, its colon and the white space behind it."""
        opening = yield from self.take()
        while (char := (yield from self.take())) and char != QUOTES[opening]:
            if char == "\\":
                yield from self.take()
        self.skip((yield from self.blank()) + 1)
        self.skip((yield from self.blank()))

    def ends(self, ahead: int) -> Wait[bool]:
        """Whether a value may end before what stands ``ahead``: the end, the next key, or the end of the object."""
        at = yield from self.blank(ahead)
        char = yield from self.peek(at)
        if not char:
            return True
        if char == "}":
            return not (yield from self._goes_on(at + 1))
        if char in COMMAS:
            at = yield from self.blank(at + 1)
            char = yield from self.peek(at)
            return char in {"", "}"} or (yield from self.key(at)) is not None
        return (yield from self.key(at)) is not None  # the comma was forgotten

    def _goes_on(self, ahead: int) -> Wait[bool]:
        """Whether the object goes on soon behind a brace, which says that the brace belongs to a text."""
        for at in range(ahead, ahead + LOOK_AHEAD):
            char = yield from self.peek(at)
            if char in {"", "{"}:
                return False
            if char in COMMAS and (yield from self.key((yield from self.blank(at + 1)))) is not None:
                return True
        return False

    def string(self, sink: Callable[[str], None]) -> Wait[bool]:
        """Consume a quoted string, handing over its characters as soon as they are certain.

        Returns:
            Whether it was closed; False when the text ended inside.
        """
        quote = yield from self.take()
        repaired = False
        while char := (yield from self.peek()):
            if char == QUOTES[quote]:
                if (yield from self.ends(1)):
                    self.skip(1)
                    return True
                self._report("unescaped quote", char)
            elif char == "\\":
                sink((yield from self._escape()))
                continue
            elif char < " " and not repaired:
                repaired = True
                self._report("unescaped control character", repr(char)[1:-1])
            sink(self.skip(1))
        return False

    def _escape(self) -> Wait[str]:
        """Consume a backslash and what it stands for: nothing where the text ends before that is known."""
        if (yield from self._cut_off("\\u")):
            return ""
        self.skip(1)
        char = yield from self.take()
        if char == "u":
            return (yield from self._code_point())
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char != "'":  # \' is what a single-quoted string needs
            self._report("unknown escape", f"\\{char}")
            return f"\\{char}"
        return char

    def _code_point(self) -> Wait[str]:
        r"""Consume the digits of ``\u``, of both halves of a pair where there are two."""
        first = yield from self._hex(0)
        if first is None:
            self._report("unknown escape", "\\u")
            return "\\u"
        self.skip(4)
        if 0xD800 <= first < 0xDC00 and (yield from self._cut_off("\\u")):
            return ""
        if 0xD800 <= first < 0xDC00 and (yield from self.peek()) == "\\" and (yield from self.peek(1)) == "u":
            second = yield from self._hex(2)
            if second is not None and 0xDC00 <= second < 0xE000:
                self.skip(6)
                return chr(0x10000 + ((first - 0xD800) << 10) + second - 0xDC00)
        if 0xD800 <= first < 0xE000:
            self._report("half of a surrogate pair", f"\\u{first:04x}")
            return "\ufffd"
        return chr(first)

    def _cut_off(self, start: str) -> Wait[bool]:
        """Whether the text ends inside an escape of four digits that begins like this; if so, consume the rest."""
        for ahead in range(len(start) + 4):
            char = yield from self.peek(ahead)
            if not char:
                self.skip(ahead)
                return True
            if char != start[ahead] if ahead < len(start) else char not in _DIGITS:
                return False
        return False

    def _hex(self, ahead: int) -> Wait[int | None]:
        digits = ""
        for offset in range(4):
            char = yield from self.peek(ahead + offset)
            if not char or char not in _DIGITS:
                return None
            digits += char
        return int(digits, 16)

    def bare(self) -> Wait[str]:
        """Consume a value without quotes: a word, a number, ``null``, a list, an object."""
        value, depth = "", 0
        while char := (yield from self.peek()):
            if depth <= 0 and (char in COMMAS or char == "}") and (yield from self.ends(0)):
                break
            if char == '"' and depth > 0:
                value += yield from self._quoted()
                continue
            depth += (char in "[{") - (char in "]}")
            value += self.skip(1)
        return value.strip()

    def _quoted(self) -> Wait[str]:
        """Consume a string inside a list or an object, as it is written."""
        written = self.skip(1)
        while char := (yield from self.take()):
            written += char
            if char == '"':
                break
            if char == "\\":
                written += yield from self.take()
        return written
