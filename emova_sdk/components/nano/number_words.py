"""Numbers in English words: counts, ordinals, years, decades, fractions, figures one by one."""

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
_LONGEST = 9
"""Figures of a number that is read as a count; longer ones are read figure by figure."""


def number_words(number: int) -> str:
    """An integer in words, e.g. 312 to `three hundred twelve`; from a thousand million on, digit by digit."""
    if number < 0:
        return f"minus {number_words(-number)}"
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f" {_ONES[number % 10]}" if number % 10 else "")
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if size <= number < 10**_LONGEST:
            rest = f" {number_words(number % size)}" if number % size else ""
            return f"{number_words(number // size)} {name}{rest}"
    return digit_words(str(number))


def digit_words(figures: str) -> str:
    """Figures one by one; everything else in the text is left out."""
    return " ".join(_ONES[int(figure)] for figure in figures if figure in "0123456789")


def decimal_words(figures: str) -> str:
    """A number as it is written, e.g. `3.14` or `007`."""
    whole, _, decimals = figures.partition(".")
    by_figures = len(whole) > _LONGEST or (len(whole) > 1 and whole[0] == "0")
    words = digit_words(whole) if by_figures else number_words(int(whole or "0"))
    return f"{words} point {digit_words(decimals)}" if decimals else words


def ordinal_words(number: int) -> str:
    """An integer's ordinal, e.g. 21 to `twenty first`."""
    head, _, last = number_words(number).rpartition(" ")
    last = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return f"{head} {last}".strip()


def plural_words(words: str) -> str:
    """Number words in the plural, e.g. `nineteen nineties`."""
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}{'es' if words.endswith('x') else 's'}"


def year_words(year: int) -> str:
    """A year of four digits, e.g. 1999 to `nineteen ninety nine`, 2005 to `two thousand five`."""
    century, rest = divmod(year, 100)
    if year % 1000 < 10:
        return number_words(year)
    last = "hundred" if not rest else f"oh {_ONES[rest]}" if rest < 10 else number_words(rest)
    return f"{number_words(century)} {last}"


def fraction_words(above: int, below: int, *, after_whole: bool = False) -> str:
    """A fraction, e.g. `two thirds`; ``after_whole`` it is `a third` in place of `one third`."""
    part = {2: "half", 4: "quarter"}.get(below) or ordinal_words(below)
    if above == 1:
        return f"{'a' if after_whole and part[0] != 'e' else 'an' if after_whole else 'one'} {part}"
    return f"{number_words(above)} {'halves' if below == 2 else f'{part}s'}"
