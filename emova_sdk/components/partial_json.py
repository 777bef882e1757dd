"""Incremental parser of JSON that may be incomplete or broken.

`PartialJSONParser` is read by generators that pause where more text could change what they see, so nothing depends on how
the text was cut. Valid JSON is read exactly; beyond that, other quotes and none, full-width punctuation, raw line ends,
unescaped quotes, comments, and commas too many or too few are understood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import regex

T = TypeVar("T")
Wait = Generator[None, None, T]
"""A computation that pauses for more text and ends with a value."""

QUOTES = {'"': '"', "'": "'", "“": "”"}
COMMAS = frozenset(",，")
LONGEST_KEY = 80
_DEEPEST = 32
_WORDS = {"null": None, "None": None, "undefined": None, "true": True, "True": True, "false": False, "False": False}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}

KEY = "(?|{})".format(
    "|".join(
        rf"{opening}((?:[^{closing}\\]|\\.){{0,{LONGEST_KEY}}})(?:{closing}\s*(?:[:：]|\Z)|\\?\Z)"
        for opening, closing in QUOTES.items()
    )
)
"""A quoted key and its colon, or as much of them as there is when the text ends."""
_BARE_KEY = rf"(?|{KEY}|(\w{{1,{LONGEST_KEY}}})\s*[:：])"
_ESCAPE = regex.compile(r"\\(?:(?P<cut>u[0-9a-fA-F]{0,3}\Z|\Z)|u(?P<code>[0-9a-fA-F]{4})|(?P<char>.))", regex.DOTALL)
_SECOND_HALF = regex.compile(r"(?P<cut>\Z|\\(?:u[0-9a-fA-F]{0,3})?\Z)|\\u(?P<code>[dD][c-fC-F][0-9a-fA-F]{2})")
_VERBATIM = regex.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', regex.DOTALL)
_BLANK = regex.compile(r"\s*")
_NOTHING = regex.compile(r"(?:\s|//[^\n]*|#[^\n]*|/\*.*?(?:\*/|\Z))*", regex.DOTALL)
"""White space and comments."""


def _endings(key: str) -> dict[str, regex.Pattern[str]]:
    """What shows that a value ends here: at the top level, in an object in it, in a list; and that a brace is text."""
    after_comma = rf"\Z|\}}|//|/\*|{key}"
    return {
        "top": regex.compile(rf"\s*(?:\Z|(?P<brace>\}})|[,，]\s*(?:{after_comma})|{key})", regex.DOTALL),
        "{": regex.compile(rf"\s*(?:\Z|[}}\]]|[,，]\s*(?:[\"'“\[{{\]]|{after_comma})|{key})", regex.DOTALL),
        "[": regex.compile(rf"\s*(?:\Z|[}}\],，]|{key})", regex.DOTALL),
        "key": regex.compile(key, regex.DOTALL),
        "goes on": regex.compile(rf"[^{{]{{0,120}}?[,，]\s*{key}", regex.DOTALL),
    }


_ENDINGS = {False: _endings(KEY), True: _endings(_BARE_KEY)}
_PLAIN = {quote: regex.compile(rf"[^\\\x00-\x1f{closing}]+") for quote, closing in QUOTES.items()}


class PartialJSONParser:
    """JSON that arrives over time.

    Args:
        report: Called with what had to be repaired, in a few words, and the text concerned.

    Attributes:
        bare_keys: Whether a word before a colon is a key, too.
        cut_off: Whether the text ended inside a value.
    """

    def __init__(self, report: Callable[[str, str], None] = lambda _what, _text: None) -> None:
        self._report = report
        self._text, self._at = "", 0
        self._ended = False
        self._within: list[str] = []  # the brackets around the value being read
        self.bare_keys = False
        self.cut_off = False

    # --- the text

    def feed(self, text: str) -> None:
        """Append characters."""
        self._text, self._at = self._text[self._at :] + text, 0

    def end(self) -> None:
        """Declare that no more will come."""
        self._ended = True

    @property
    def idle(self) -> bool:
        """Whether all that came was consumed."""
        return self._at == len(self._text)

    def match(self, pattern: regex.Pattern[str], ahead: int = 0) -> Wait[regex.Match[str] | None]:
        """Match what stands ``ahead``, once more text cannot change the outcome."""
        while True:
            match = pattern.match(self._text, self._at + ahead, partial=not self._ended)
            if self._ended or match is None or not (match.partial or match.end() == len(self._text)):
                return match
            yield

    def peek(self, ahead: int = 0) -> Wait[str]:
        """Return the character ``ahead`` of the next one; empty at the end."""
        while self._at + ahead >= len(self._text) and not self._ended:
            yield
        return self._text[self._at + ahead : self._at + ahead + 1]

    def skip(self, characters: int) -> str:
        """Consume characters that were looked at."""
        taken = self._text[self._at : self._at + characters]
        self._at += len(taken)
        return taken

    def run(self, pattern: regex.Pattern[str]) -> str:
        """Consume the characters of a kind that are there."""
        match = pattern.match(self._text, self._at)
        return self.skip(len(match[0])) if match else ""

    def blank(self, ahead: int = 0) -> Wait[int]:
        """Return how far ahead the next character is that is not white space."""
        match = yield from self.match(_BLANK, ahead)
        return ahead + (len(match[0]) if match else 0)

    def gap(self) -> Wait[None]:
        """Consume white space and comments."""
        match = yield from self.match(_NOTHING)
        self.skip(len(match[0]) if match else 0)

    # --- values

    def key(self, ahead: int = 0) -> Wait[str | None]:
        """Return the key that stands ``ahead``, followed by a colon or cut off, without consuming it."""
        match = yield from self.match(_ENDINGS[self.bare_keys]["key"], ahead)
        return regex.sub(r"\\(.)", r"\1", match[1]) if match else None

    def take_key(self) -> Wait[None]:
        """Consume the key that `key` found, its colon and the white space behind it."""
        match = yield from self.match(_ENDINGS[self.bare_keys]["key"])
        self.skip(len(match[0]) if match else 0)
        self.skip((yield from self.blank()))

    def _ends(self, ahead: int = 0) -> Wait[bool]:
        """Whether a value may end before what stands ``ahead``."""
        endings = _ENDINGS[self.bare_keys]
        match = yield from self.match(endings[self._within[-1] if self._within else "top"], ahead)
        if match is None or self._within or not match["brace"]:
            return match is not None
        # where the object goes on soon behind a brace, the brace belongs to a text
        return (yield from self.match(endings["goes on"], match.end() - self._at)) is None

    def string(self, sink: Callable[[str], None]) -> Wait[bool]:
        """Consume a quoted string, handing over its characters as soon as they are certain.

        Returns:
            Whether it was closed; False when the text ended inside.
        """
        yield from self.peek()
        quote = self.skip(1)
        repaired = False
        while char := (yield from self.peek()):
            if plain := self.run(_PLAIN[quote]):
                sink(plain)
                continue
            if char == "\\":
                sink((yield from self._escape()))
                continue
            if char == QUOTES[quote]:
                if (yield from self._ends(1)):
                    self.skip(1)
                    return True
                self._report("unescaped quote", char)
            elif not repaired:
                repaired = True
                self._report("unescaped control character", repr(char)[1:-1])
            sink(self.skip(1))
        self.cut_off = True
        return False

    def _escape(self) -> Wait[str]:
        """Consume a backslash and what it stands for: nothing where the text ends before that is known."""
        match = yield from self.match(_ESCAPE)
        self.skip(len(match[0]) if match else 1)
        if match is None or match["cut"] is not None:
            return ""
        if match["code"]:
            return (yield from self._code_point(match["code"]))
        char = match["char"]
        if char == "'":  # what a single-quoted string needs
            return char
        if char not in _ESCAPES:
            self._report("unknown escape", f"\\{char}")
        return _ESCAPES.get(char, f"\\{char}")

    def _code_point(self, digits: str) -> Wait[str]:
        first = int(digits, 16)
        if 0xD800 <= first < 0xDC00 and (second := (yield from self.match(_SECOND_HALF))):
            self.skip(len(second[0]))
            if second["cut"] is not None:
                return ""
            return chr(0x10000 + ((first - 0xD800) << 10) + int(second["code"], 16) - 0xDC00)
        if 0xD800 <= first < 0xE000:
            self._report("half of a surrogate pair", f"\\u{first:04x}")
            return "\ufffd"
        return chr(first)

    def bare(self) -> Wait[str]:
        """Consume a value without quotes: a word, a number, ``null``; at the top level a list or an object as it is written."""
        value, depth = "", 0
        while char := (yield from self.peek()):
            ends = char in COMMAS or char == "}" or (char == "]" and bool(self._within))
            if ends and depth <= 0 and (yield from self._ends()):
                break
            if char == '"' and depth > 0:
                match = yield from self.match(_VERBATIM)
                value += self.skip(len(match[0]) if match else 1)
                continue
            depth += (char in "[{") - (char in "]}")
            value += self.skip(1)
        return value.strip()

    def value(self) -> Wait[Any]:
        """Consume a value of any kind.

        Raises:
            ValueError: If more than 32 objects and lists stand inside each other.
        """
        opening = yield from self.peek()
        if opening in QUOTES:
            parts: list[str] = []
            yield from self.string(parts.append)
            return "".join(parts)
        if opening not in {"{", "["}:
            return _word((yield from self.bare()))
        if len(self._within) >= _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} objects and lists stand inside each other")
        self._within.append(self.skip(1))
        read = yield from self._members() if opening == "{" else self._items()
        self._within.pop()
        return read

    def _members(self) -> Wait[dict[str, Any]]:
        members: dict[str, Any] = {}
        while (yield from self._more("}")):
            key = yield from self.key()
            if key is None:  # what belongs nowhere
                self.skip(1)
                continue
            yield from self.take_key()
            yield from self.gap()
            read = yield from self.value()
            members.setdefault(key, read)
        return members

    def _items(self) -> Wait[list[Any]]:
        items: list[Any] = []
        while (yield from self._more("]")):
            if (yield from self.peek()) == "}":  # what belongs nowhere
                self.skip(1)
            else:
                items.append((yield from self.value()))
        return items

    def _more(self, closing: str) -> Wait[bool]:
        """Go to the next member; return False behind the last."""
        yield from self.gap()
        while (char := (yield from self.peek())) in COMMAS:
            self.skip(1)
            yield from self.gap()
        self.cut_off = self.cut_off or not char
        if not char or char == closing:
            self.skip(1)
            return False
        return True


def read_json(text: str) -> Any:
    """Read a whole text that holds one JSON value, however it is written.

    Raises:
        ValueError: If it holds no value, is cut off, or goes on behind the value.
    """
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        parser = PartialJSONParser()
    parser.bare_keys = True
    parser.feed(text.strip())
    parser.end()
    value: Any = ""
    try:
        next(parser.value())
    except StopIteration as done:
        value = done.value
    if not parser.idle or parser.cut_off or value == "":
        raise ValueError("the text holds no JSON value, or more than one")
    return value


def _word(word: str) -> Any:
    if word in _WORDS:
        return _WORDS[word]
    try:
        return json.loads(word)
    except ValueError:
        return word
