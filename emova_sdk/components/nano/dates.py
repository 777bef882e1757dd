"""Dates, years and times of day as they are read."""

import re
from collections.abc import Sequence

from emova_sdk.components.nano.number_words import digit_words, number_words, ordinal_words, plural_words, year_words
from emova_sdk.substitutions import rule

MONTHS = (  # noqa: SIM905 - easier to read than a list
    "january february march april may june july august september october november december"
).split()
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()  # noqa: SIM905 - easier to read than a list
_MONTH = "|".join(MONTHS)
_SHORT_MONTH = r"(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?"
_SHORT_DAY = r"(Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)\b\.?"
_BEFORE_YEAR = (
    r"in|since|until|till|by|year|from|before|after|during|circa|spring|summer|autumn|fall|winter|christmas|easter|copyright|q[1-4]|"
    + _MONTH
)
_YEAR = r"(1\d\d\d|20\d\d)"


def _full(names: Sequence[str], short: str) -> str:
    return next(name for name in names if name.startswith(short.lower()[:3]))


def _said(year: str, month: int, day: int) -> str | None:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    short = number_words(int(year)) if year[0] != "0" else f"oh {digit_words(year[1])}"
    return f" {MONTHS[month - 1]} {ordinal_words(day)}, {year_words(int(year)) if len(year) == 4 else short} "


def _year_first(match: re.Match[str]) -> str:
    return _said(match[1], int(match[3]), int(match[4])) or re.sub(r"\D", " ", match[0])


def _year_last(match: re.Match[str]) -> str:
    """The month comes first with slashes and dashes unless it cannot, the day with dots."""
    first, second = int(match[1]), int(match[3])
    month, day = (second, first) if (match[2] == "." and second <= 12) or first > 12 else (first, second)
    return _said(match[4], month, day) or re.sub(r"\D", " ", match[0])


def _month_and_day(match: re.Match[str]) -> str:
    month, day = (int(number) for number in match.groups() if number)
    month, day = (day, month) if month > 12 else (month, day)
    return f" {MONTHS[month - 1]} {ordinal_words(day)} " if 1 <= month <= 12 and 1 <= day <= 31 else match[0].replace("/", " ")


def _decade(match: re.Match[str]) -> str:
    figures = match[1]
    words = year_words(int(figures)) if len(figures) == 4 else number_words(int(figures))
    return f" {plural_words(words)} "


def _time(match: re.Match[str]) -> str:
    hour, minute, second, half = int(match[1]), int(match[2]), match[3], match[4]
    if second is not None and len(match[1]) == 1 and not half:  # how long something takes
        parts = ((hour, "hour"), (minute, "minute"), (int(second), "second"))
        return " ".join(f" {number_words(n)} {unit}{'' if n == 1 else 's'}" for n, unit in parts if n) + " "
    exact = "" if half else "hundred" if hour > 12 else "o'clock"
    last = exact if not minute else f"oh {number_words(minute)}" if minute < 10 else number_words(minute)
    words = "midnight" if not hour and not minute and not half else f"{number_words(hour)} {last}"
    seconds = f" and {number_words(int(second))} seconds" if second and int(second) else ""
    return f" {words}{seconds} {half or ''}"


DATES = (
    rule(r"(?<![\d.])(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:T(?=\d\d:)|(?![\d-]))", _year_first),
    rule(r"(?<![\d.-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?![\d-])", _year_last),
    rule(r"(?<![\d.])(\d{1,2})(/)(\d{1,2})/(\d\d)(?![\d/])", _year_last),
    rule(r"(?<![\d/])(?=0\d/|\d\d?/0\d)(\d{1,2})/(\d{1,2})(?![\d/])", _month_and_day),
    rule(r"(?<=on )(\d{1,2})/(\d{1,2})(?![\d/])|(?<=by )(\d{1,2})/(\d{1,2})(?![\d/])", _month_and_day),
    rule(rf"{_SHORT_MONTH}(?=,?\s+\d)", lambda match: _full(MONTHS, match[1]), exact=True),
    rule(rf"(?<=\d\s){_SHORT_MONTH}", lambda match: _full(MONTHS, match[1]), exact=True),
    rule(rf"{_SHORT_DAY}\s?-\s?{_SHORT_DAY}", lambda m: f"{_full(_DAYS, m[1])} to {_full(_DAYS, m[2])}", exact=True),
    rule(rf"{_SHORT_DAY}(?=,?\s+(?:{_MONTH}|\d{{1,2}}\b))", lambda m: _full(_DAYS, m[1])),
    rule(
        rf"(?<!the )(?<![\d.,/-])\b(0?[1-9]|[12]\d|3[01])\s+({_MONTH})(?=,?\s+\d{{4}}\b)",
        lambda match: f" the {ordinal_words(int(match[1]))} of {match[2]}",
    ),
)
YEARS = (
    rule(rf"(?<![\d.,-]){_YEAR}\s?-\s?{_YEAR}(?![\d-])", lambda m: f" {year_words(int(m[1]))} to {year_words(int(m[2]))} "),
    rule(rf"(?<=from )({_YEAR[1:-1]}) to {_YEAR}\b", lambda m: f" {year_words(int(m[1]))} to {year_words(int(m[2]))} "),
    rule(
        rf"\b({_BEFORE_YEAR})(\s*,?(?:(?:\s+(?:early|late|mid|the|year|about|around|{_MONTH}))+|(?:\s+[a-z]+){{1,2}}|\s+\d\d?(?:st|nd|rd|th)?)?\s*,?)\s+"
        rf"(?!\d000\b(?!\.?$)){_YEAR}(?![.,]?\d)\b(?!\s*%)",
        lambda match: f"{match[1]}{match[2]} {year_words(int(match[3]))}",
    ),
    rule(r"(?<![\w.])'?(\d{3}0)'?s\b", _decade),
    rule(r"(?:(?<=the )|(?<=early )|(?<=late )|(?<=mid-)|(?<=mid )|(?<![\w])')(\d0)s\b", _decade),
)
TIMES = (
    rule(r"(?<![\d.])(\d{1,2})\.([0-5]\d)(?=\s?[ap]\.?m\b)", r"\1:\2"),
    rule(r"(?<=\d)\s*([ap])\.?\s?m\b\.?\s*-\s*(?=\d)", r" \1 m to "),
    rule(r"(?<=:\d\d)\s?-\s?(?=\d)|(?<=\d)\s?-\s?(?=\d?\d:\d\d)", " to "),
    rule(r"(?<=\d)\s*([ap])\.?\s?m\b", r" \1 m "),
    rule(r"\b([ap])\.m\.", r" \1 m "),
    rule(r"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])(?:\s*([ap] m))?", _time),
    rule(r"(?<=\d):(?=\d)", " to "),
)
