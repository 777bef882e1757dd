"""The three tools emova-nano knows how to call: a calculator, a clock and a timer.

Numbers may be digits or words. Arithmetic is done here and never by the model. `run_tool` is what a caller's loop calls with
a `ToolCall`; `TOOLS` is what it offers to the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any

from emova_sdk.components.nano.g2p import words_of
from emova_sdk.components.nano.number_words import number_words
from emova_sdk.components.nano.question_templates import plain_words
from emova_sdk.errors import InputError
from emova_sdk.types import ToolCall, ToolResult, ToolSpec

_SIGNS = r"plus|minus|times|divided by|multiplied by|over|[-−+*/÷×x]"
_OPERATION = re.compile(rf"(?<![a-z])(?:{_SIGNS})(?![a-z])")
_SUM = re.compile(rf"((?:minus |negative |-)?[a-z0-9][a-z0-9. ]*?)\s*(?<![a-z])({_SIGNS})(?![a-z])\s*(.+)")


def _one_string(name: str, description: str) -> Mapping[str, Any]:
    field = {"type": "string", "description": description}
    return {"type": "object", "properties": {name: field}, "required": [name], "additionalProperties": False}


ARGUMENT_OF: Mapping[str, str] = {"calculator": "expression", "clock": "question", "timer": "duration"}
"""The one argument of each tool."""

TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        "calculator",
        "Adds, subtracts, multiplies or divides two numbers.",
        _one_string("expression", "e.g. `twelve plus thirty` or `12 + 30`"),
    ),
    ToolSpec("clock", "Tells the time or the day of the week.", _one_string("question", "`time` or `day`")),
    ToolSpec("timer", "Sets a timer.", _one_string("duration", "e.g. `ten minutes`")),
)
"""What to offer a model; `emova_sdk.components.nano.tools.run_tool` answers the calls."""

_VALUES = {number_words(value): value for value in (*range(20), *range(20, 100, 10))}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
_NUMBER = rf"(?:(?:minus|negative) )?(?:(?:{'|'.join((*_VALUES, 'hundred', 'thousand', 'point'))})\b ?)+"
_ARGUMENTS: Mapping[str, re.Pattern[str]] = {
    "calculator": re.compile(rf"\b{_NUMBER}(?:plus|minus|times|divided by|multiplied by|over) {_NUMBER}"),
    "timer": re.compile(rf"\b{_NUMBER}(?:seconds?|minutes?|hours?)\b"),
    "clock": re.compile(r"\b(?:time|day)\b"),
}


def spoken(content: str) -> str:
    """What a tool answered as lowercase words: ``-5`` is ``minus five``, ``10:05`` is ``ten oh five``, ``1/2`` a division."""
    text = re.sub(r"(?<=\d)\s*[-−]\s*(?=\d)", " minus ", content)
    text = re.sub(r"(?<=\d)\s*/\s*(?=\d)", " divided by ", text)
    return plain_words(" ".join(word for word in words_of(text) if word[0].isalpha()))


def value_of(words: str) -> Fraction:
    """The number that words or digits stand for.

    Raises:
        InputError: If they are not a number.
    """
    total, group, seen, sign = 0, 0, False, 1
    before, _, decimals = spoken(words).partition(" point ")
    for word in before.split():
        if word in ("minus", "negative") and not seen:
            sign = -1
            continue
        if word == "hundred":
            group *= 100
        elif word == "thousand":
            total, group = total + group * 1000, 0
        elif word in _VALUES:
            group += _VALUES[word]
        else:
            raise InputError(f"`{words}` is not a number", "use digits or number words")
        seen = True
    digits = [_VALUES.get(word, 10) for word in decimals.split()]
    if not seen or max(digits, default=0) > 9:
        raise InputError(f"`{words}` is not a number", "use digits or number words")
    decimal = sum((Fraction(digit, 10**place) for place, digit in enumerate(digits, 1)), Fraction(0))
    return sign * (total + group + decimal)


def arguments_in(tool: str, question: str) -> list[str]:
    """List what the words of a question offer as a tool's argument: whole sums, whole lengths of time, ``time`` or ``day``.

    A number is taken with all its words, so that ``one hundred thirty plus two`` is never read from its middle.
    """
    return [" ".join(found.group().split()) for found in _ARGUMENTS[tool].finditer(spoken(question))]


def calculator(expression: str) -> str:
    """Work out ``a plus b`` (also minus, times, divided by, and the signs); at most two decimals are kept.

    Raises:
        InputError: If it is not a sum of two numbers, or divides by zero.
    """
    found = _SUM.fullmatch(expression.lower().strip())
    if not found or _OPERATION.search(found[3].removeprefix("minus ").removeprefix("-")):
        raise InputError(f"`{expression}` is not two numbers and an operation", "ask e.g. `twelve plus thirty`")
    left, operation, right = value_of(found[1]), found[2], value_of(found[3])
    if operation in ("divided by", "over", "/", "÷"):
        if right == 0:
            raise InputError("nothing can be divided by zero", "divide by another number")
        result = left / right
    elif operation in ("plus", "+"):
        result = left + right
    else:
        result = left - right if operation in ("minus", "-", "−") else left * right
    return f"{float(result):.2f}".rstrip("0").rstrip(".") if result.denominator != 1 else str(result)


def clock(question: str, *, now: datetime | None = None) -> str:
    """Tell the ``time`` (twelve hours, e.g. ``4:05``) or the ``day`` of the week.

    Raises:
        InputError: If something else is asked.
    """
    moment = now or datetime.now().astimezone()
    if "day" in question:
        return moment.strftime("%A").lower()
    if "time" in question:
        return f"{(moment.hour - 1) % 12 + 1}:{moment.minute:02d}"
    raise InputError(f"the clock does not know `{question}`", "ask for `time` or `day`")


def timer_seconds(duration: str) -> float:
    """Length of ``ten minutes`` in seconds.

    Raises:
        InputError: If it is not a number and a unit of time, or negative.
    """
    *amount, unit = spoken(duration).split() or [""]
    if unit.rstrip("s") not in _SECONDS or not amount:
        raise InputError(f"`{duration}` is not a length of time", "ask e.g. for `ten minutes`")
    seconds = float(value_of(" ".join(amount)) * _SECONDS[unit.rstrip("s")])
    if seconds < 0:
        raise InputError(f"`{duration}` is in the past", "ask e.g. for `ten minutes`")
    return seconds


def timer(duration: str) -> str:
    """Check a timer's length and repeat it; counting down is the application's business (`timer_seconds`)."""
    timer_seconds(duration)
    return spoken(duration)


_RUN: Mapping[str, Callable[[str], str]] = {"calculator": calculator, "clock": clock, "timer": timer}


def run_tool(call: ToolCall) -> ToolResult:
    """Answer a call; what goes wrong comes back as a failed result, for the model to speak about."""
    argument = call.arguments.get(ARGUMENT_OF.get(call.name, ""))
    if call.name not in _RUN:
        return ToolResult(call.id, call.name, f"there is no tool `{call.name}`", failed=True)
    if not isinstance(argument, str):
        return ToolResult(call.id, call.name, f"`{ARGUMENT_OF[call.name]}` is missing", failed=True)
    try:
        return ToolResult(call.id, call.name, _RUN[call.name](argument))
    except InputError as error:
        return ToolResult(call.id, call.name, str(error), failed=True)
