"""Text normalisation: what is written in figures, signs and abbreviations, in the words a reader would say.

English only. Marks of punctuation that make a pause are kept; everything that cannot be said is dropped.
"""

import re
import unicodedata
from collections.abc import Callable

__all__ = ["normalize", "number_words", "ordinal_words", "year_words"]

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
_ABBREVIATIONS = {
    "dr.": "doctor", "mr.": "mister", "mrs.": "missis", "ms.": "miss", "prof.": "professor", "jr.": "junior",
    "sr.": "senior", "vs.": "versus", "etc.": "et cetera", "approx.": "approximately", "e.g.": "for example",
    "i.e.": "that is",
}  # fmt: skip
_UNITS = {
    "km/h": "kilometers per hour", "mph": "miles per hour", "°c": "degrees celsius", "°f": "degrees fahrenheit",
    "km": "kilometers", "cm": "centimeters", "mm": "millimeters", "kg": "kilograms", "mg": "milligrams", "ml": "milliliters",
    "gb": "gigabytes", "mb": "megabytes", "ghz": "gigahertz", "mhz": "megahertz", "khz": "kilohertz", "hz": "hertz",
    "ms": "milliseconds", "min": "minutes",
}  # fmt: skip
_MONEY = {"$": "dollar", "€": "euro", "£": "pound"}
_SIGNS = {
    "+": "plus", "=": "equals", "%": "percent", "&": "and", "@": "at", "°": "degrees", "×": "times", "÷": "divided by",
    "$": "dollars", "€": "euros", "£": "pounds",
}  # fmt: skip
_MONTHS = (  # noqa: SIM905
    "january february march april may june july august september october november december"
).split()
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": " ", "”": " ", "−": "-", "–": "-", "—": ", ", "…": ". ", "⁄": "/"})
_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)*|[.,;:!?]")


def number_words(number: int) -> str:
    """An integer in words, e.g. 312 to `three hundred twelve`; from a thousand million on, digit by digit."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f" {_ONES[number % 10]}" if number % 10 else "")
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if size <= number < 10**9:
            rest = f" {number_words(number % size)}" if number % size else ""
            return f"{number_words(number // size)} {name}{rest}"
    return _digits(str(number))


def ordinal_words(number: int) -> str:
    """An integer's ordinal, e.g. 21 to `twenty first`."""
    head, _, last = number_words(number).rpartition(" ")
    last = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return f"{head} {last}".strip()


def year_words(year: int) -> str:
    """A year of four digits, e.g. 1999 to `nineteen ninety nine`, 2005 to `two thousand five`."""
    century, rest = divmod(year, 100)
    if year % 1000 < 10:
        return number_words(year)
    last = "hundred" if not rest else f"oh {_ONES[rest]}" if rest < 10 else number_words(rest)
    return f"{number_words(century)} {last}"


def normalize(text: str) -> str:
    """Lower-case words as a reader would say a text, marks of punctuation at their ends; empty when nothing can be said.

    Args:
        text: English, with figures, money, times, dates, units and common abbreviations.
    """
    letters = unicodedata.normalize("NFKD", text.translate(_QUOTES))
    text = "".join(letter for letter in letters if not unicodedata.combining(letter)).translate(_QUOTES)
    text = re.sub(r"\b[B-Z][A-Z]{1,4}\b", _initials, text).lower()
    for rule, said in _RULES:
        text = rule.sub(said, text)
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if token[0].isalpha():
            found.append(token)
        elif found and found[-1][-1].isalpha():
            found[-1] += token
    return " ".join(found)


def _initials(match: re.Match[str]) -> str:
    """Capitals that are no word are spelt: `FBI` as `f b i`."""
    from emova_sdk.components.nano.lexicon import Lexicon

    return match[0] if match[0].lower() in Lexicon.shipped().words else " ".join(match[0])


def _digits(figures: str) -> str:
    return " ".join(_ONES[int(figure)] for figure in figures if figure.isdigit())


def _number(match: re.Match[str]) -> str:
    whole, _, decimals = match[0].partition(".")
    words = _digits(whole) if len(whole) > 9 or (len(whole) > 1 and whole[0] == "0") else number_words(int(whole or "0"))
    return f" {words} point {_digits(decimals)} " if decimals else f" {words} "


def _money(match: re.Match[str]) -> str:
    unit, whole, small, scale = _MONEY[match[1]], int(match[2]), match[3] or "", match[4] or ""
    if scale:
        return f"{match[2]}{'.' if small else ''}{small} {scale} {unit}s"
    cents = int(small.ljust(2, "0")) if small else 0
    told = [f"{whole} {unit}{'' if whole == 1 else 's'}"] if whole or not cents else []
    return " ".join([*told, *([f"{cents} {'pence' if unit == 'pound' else 'cents'}"] if cents else [])])


def _time(match: re.Match[str]) -> str:
    minute = int(match[2])
    last = "o'clock" if not minute else f"oh {_ONES[minute]}" if minute < 10 else number_words(minute)
    return f" {number_words(int(match[1]))} {last} "


def _date(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 12:
        return match[0].replace("-", " ")
    return f" {_MONTHS[int(match[2]) - 1]} {ordinal_words(int(match[3]))}, {year_words(int(match[1]))} "


_BEFORE_YEAR = "|".join(("in", "since", "until", "by", "year", *_MONTHS))
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), said)
    for pattern, said in (
        (rf"(?<![a-z])(?:{'|'.join(map(re.escape, _ABBREVIATIONS))})(?![a-z])", lambda m: f"{_ABBREVIATIONS[m[0]]} "),
        (r"\b(?:[a-z]\.){2,}", lambda m: m[0].replace(".", " ")),  # u.s.a.
        (r"(?<=\d)\s*([ap])\.?m\b\.?", lambda m: f" {m[1]} m "),
        (r"(?<=\d),(?=\d{3}(?!\d))", lambda _: ""),  # 10,000
        (r"([$€£])\s?(\d+)(?:\.(\d{1,2}))?(?![\d.]*\d)(?:\s(thousand|million|billion))?", _money),
        (r"(?<!\d)([01]?\d|2[0-3]):([0-5]\d)(?::[0-5]\d)?(?!\d)", _time),
        (r"(?<!\d)(\d{4})-(\d\d)-(\d\d)(?!\d)", _date),
        (r"(\d{1,9})(?:st|nd|rd|th)\b", lambda m: f" {ordinal_words(int(m[1]))} "),
        (
            rf"\b({_BEFORE_YEAR})(\s*,?(?:(?:\s+[a-z]+){{1,2}}|\s+\d\d?)?\s*,?)\s+(1[1-9]\d\d|20\d\d)(?![.,]?\d)\b",
            lambda m: f"{m[1]}{m[2]} {year_words(int(m[3]))}",
        ),
        (r"(?<![\d-])(?:\d{3}-)?\d{3}-\d{4}(?![\d-])", lambda m: ", ".join(map(_digits, m[0].split("-")))),  # telephone
        (r"(?<=\d)-(?=\d)", lambda _: " to "),
        (r"(?<=\d)\s+-\s+(?=\d)|(?<![\w.])-(?=\.?\d)", lambda _: " minus "),
        (rf"(?<=\d)\s?({'|'.join(map(re.escape, _UNITS))})\b", lambda m: f" {_UNITS[m[1]]} "),
        (r"(?<=\d)\s*/\s*(?=\d)", lambda _: " divided by "),
        (r"(?<=\d)\s*[*x]\s*(?=\d)", lambda _: " times "),
        (r"(?<=[a-z])\.(?=(?:com|org|net|edu|gov|io)\b)", lambda _: " dot "),
        (r"#(?=\d)", lambda _: "number "),
        (f"[{re.escape(''.join(_SIGNS))}]", lambda m: f" {_SIGNS[m[0]]} "),
        (r"\d+(?:\.\d+)?|(?<!\w)\.\d+", _number),
    )
)
"""In their order: what a rule leaves is read by those after it."""
