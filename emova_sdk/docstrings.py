"""Reads the descriptions of arguments from docstrings, in any of the usual styles."""

from __future__ import annotations

from typing import NamedTuple


class Described(NamedTuple):
    """A docstring, read.

    Attributes:
        text: What it says of the whole, without its sections.
        arguments: What it says of each argument, by name.
    """

    text: str
    arguments: dict[str, str]


def describe(docstring: str | None) -> Described:
    """Read a docstring of Google's, NumPy's or Sphinx' style; one of no style is all text."""
    from docstring_parser import ParseError, parse

    if not docstring:
        return Described("", {})
    try:
        found = parse(docstring)
    except ParseError:
        return Described(docstring.strip(), {})
    arguments = {one.arg_name.lstrip("*"): " ".join((one.description or "").split()) for one in found.params}
    return Described((found.description or "").strip(), {name: text for name, text in arguments.items() if text})
