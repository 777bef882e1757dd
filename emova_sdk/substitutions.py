"""Substitutions in a text by regular expressions, one after another."""

import re
from collections.abc import Callable, Iterable

Substitution = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]
"""A pattern, and what stands in its place (a template of `re.sub`, or a function of the match)."""


def rule(pattern: str, said: str | Callable[[re.Match[str]], str], *, exact: bool = False) -> Substitution:
    """One rule; capitals count only where it is ``exact``."""
    return re.compile(pattern, 0 if exact else re.IGNORECASE), said


def substitute(text: str, rules: Iterable[Substitution]) -> str:
    """Apply rules in their order: what one leaves is read by those after it."""
    for pattern, said in rules:
        text = pattern.sub(said, text)
    return text


def any_of(choices: Iterable[str]) -> str:
    """A pattern for one of some texts, the longest first."""
    return "|".join(re.escape(choice) for choice in sorted(choices, key=len, reverse=True))
