"""Reading a JSON object while it is being written, and although it may be broken.

`Reader` gives its caller characters as they arrive: its methods are generators that pause when the next character is not
there yet, so a parser written over them cannot depend on how the text was cut. Valid objects of strings are read exactly;
beyond that, single and curly quotes, full-width punctuation, raw line ends and unescaped quotes are understood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import Any, TypeVar

__all__ = ["Reader", "Wait", "read_json"]

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

    Attributes:
        bare_keys: Whether a word before a colon is a key, too.
        nesting: How many objects and lists stand around the one being read: inside any, a value ends before their brackets.
    """

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._text = ""
        self._position = 0
        self._ended = False
        self.bare_keys = False
        self.nesting = 0

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
            return (yield from self.bare_key(ahead)) if self.bare_keys else None
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

    def bare_key(self, ahead: int = 0) -> Wait[str | None]:
        """Return the word that stands ``ahead``, followed by a colon, without consuming it."""
        name = ""
        while len(name) <= LONGEST_KEY and ((char := (yield from self.peek(ahead))).isalnum() or char == "_"):
            name += char
            ahead += 1
        at = yield from self.blank(ahead)
        return name if name and (yield from self.peek(at)) in COLONS else None

    def take_key(self) -> Wait[None]:
        """Consume the key that `key` found, its colon and the white space behind it."""
        opening = yield from self.take()
        if opening in QUOTES:
            while (char := (yield from self.take())) and char != QUOTES[opening]:
                if char == "\\":
                    yield from self.take()
        else:
            while (char := (yield from self.peek())) and (char.isalnum() or char == "_"):
                self.skip(1)
        self.skip((yield from self.blank()) + 1)
        self.skip((yield from self.blank()))

    def ends(self, ahead: int) -> Wait[bool]:
        """Whether a value may end before what stands ``ahead``: the end, the next key, or the end of the object."""
        at = yield from self.blank(ahead)
        char = yield from self.peek(at)
        if not char:
            return True
        if char in "]}" and (self.nesting or char == "}"):
            return bool(self.nesting) or not (yield from self._goes_on(at + 1))
        if char in COMMAS:
            return (yield from self._ends_before(at + 1))
        return (yield from self.key(at)) is not None  # the comma was forgotten

    def _ends_before(self, ahead: int) -> Wait[bool]:
        """Whether a comma before what stands ``ahead`` ends a value."""
        at = yield from self.blank(ahead)
        char = yield from self.peek(at)
        if char in {"", "}"} or (self.nesting and (char in QUOTES or char in "[{]")):
            return True
        if char == "/" and (yield from self.peek(at + 1)) in {"/", "*"}:  # a comment
            return True
        return (yield from self.key(at)) is not None

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


# --- whole texts ---

_TOKEN = re.compile(
    r"""\s+ | //[^\n]* | /\*.*?\*/ | \#[^\n]*                                                 # what says nothing
    | (?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | “[^”]*” | `[^`]*` )
    | (?P<mark> [{}\[\],:，：] )
    | (?P<word> [^\s{}\[\],:，："'“]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"null": None, "None": None, "undefined": None, "true": True, "True": True, "false": False, "False": False}
_STRING_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


def read_json(text: str) -> Any:
    """Read a whole text that holds one JSON value, however it is written.

    Other quotes, keys and words without quotes, commas too many, comments and Python's literals are understood.

    Raises:
        ValueError: If it holds no value, is cut off, or goes on behind the value.
    """
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        tokens = _Tokens(text)
    try:
        value = tokens.value()
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    if tokens.next is not None:
        raise ValueError("something follows the JSON")
    return value


class _Tokens:
    """The tokens of a text, ``next`` being the one to be read."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.next: re.Match[str] | None = None
        self._advance()

    def _advance(self) -> re.Match[str] | None:
        taken = self.next
        self.next = None
        while self._at < len(self._text) and self.next is None:
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                raise ValueError("a string is not closed")
            self._at = match.end()
            self.next = match if match.lastgroup else None
        return taken

    def _takes(self, marks: str) -> bool:
        if self.next is not None and self.next["mark"] and self.next["mark"] in marks:
            self._advance()
            return True
        return False

    def value(self) -> Any:
        if self._takes("{"):
            return self._members()
        if self._takes("["):
            return self._items()
        token = self._advance()
        if token is None or token["mark"]:
            raise ValueError("a value is missing")
        return _unquoted(token["string"]) if token["string"] else _word(token["word"])

    def _members(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while not self._takes("}"):
            key = self._advance()
            if key is None or key["mark"] or not self._takes(":："):
                raise ValueError("an object has no key, or is cut off")
            members[_unquoted(key["string"]) if key["string"] else key["word"]] = self.value()
            self._takes(",，")
        return members

    def _items(self) -> list[Any]:
        items: list[Any] = []
        while not self._takes("]"):
            items.append(self.value())
            self._takes(",，")
        return items


def _unquoted(string: str) -> str:
    def character(match: re.Match[str]) -> str:
        escape = match[1]
        return chr(int(escape[1:], 16)) if len(escape) == 5 else _ESCAPES.get(escape, escape)

    return _STRING_ESCAPE.sub(character, string[1:-1])


def _word(word: str) -> Any:
    if word in _WORDS:
        return _WORDS[word]
    try:
        return json.loads(word)
    except ValueError:
        return word
