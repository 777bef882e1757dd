"""Text normalisation: what is written in figures, signs, abbreviations and markup, in the words a reader would say.

English only. Marks of punctuation that make a pause are kept; everything that cannot be said is left out: other
scripts, emoji, tags, and of a web address all but its host.
"""

import re
import unicodedata

from emova_sdk.components.nano.dates import DATES, TIMES, YEARS
from emova_sdk.components.nano.dictionary import Lexicon, spell_letters
from emova_sdk.components.nano.number_words import (
    decimal_words,
    digit_words,
    fraction_words,
    number_words,
    ordinal_words,
    plural_words,
)
from emova_sdk.components.nano.quantities import AMOUNT, MEASURES, MONEY, SCALES, SIGNS
from emova_sdk.markup import without_markup
from emova_sdk.substitutions import rule, substitute

_ABBREVIATIONS = {
    "dr": "doctor", "mr": "mister", "mrs": "missis", "ms": "miss", "prof": "professor", "jr": "junior", "sr": "senior",
    "vs": "versus", "etc": "et cetera", "approx": "approximately", "ave": "avenue", "blvd": "boulevard", "rd": "road",
    "mt": "mount",
    "dept": "department", "inc": "incorporated", "ltd": "limited", "corp": "corporation", "univ": "university",
    "govt": "government",
    "max": "maximum", "avg": "average", "incl": "including", "excl": "excluding", "capt": "captain", "sgt": "sergeant",
    "lt": "lieutenant", "rev": "reverend", "hon": "honorable", "tel": "telephone", "misc": "miscellaneous", "ext": "extension",
}  # fmt: skip
"""Said so before a full stop; those of `_WITHOUT_STOP` always."""
_WITHOUT_STOP = re.compile(r"^(?:dr|mr|mrs|vs|etc|approx|dept|blvd|govt)(?![a-z'])")
_BEFORE_FIGURES = {
    "no": "number", "nos": "numbers", "p": "page", "pp": "pages", "fig": "figure", "vol": "volume", "ch": "chapter",
    "sec": "section",
    "art": "article", "ca": "circa", "ver": "version", "v": "version",
}  # fmt: skip
_SIGNS = {
    "+": "plus", "=": "equals", "%": "percent", "\N{PER MILLE SIGN}": "per thousand", "&": "and", "@": "at",
    "\N{DEGREE SIGN}": "degrees",
    "\N{MULTIPLICATION SIGN}": "times", "\N{DIVISION SIGN}": "divided by", "\N{PLUS-MINUS SIGN}": "plus or minus",
    "\N{ALMOST EQUAL TO}": "approximately",
    "\N{LESS-THAN OR EQUAL TO}": "less than or equal to",
    "\N{GREATER-THAN OR EQUAL TO}": "greater than or equal to", "\N{SECTION SIGN}": "section",
    "\N{COPYRIGHT SIGN}": "copyright",
    "\N{INFINITY}": "infinity", "\N{SQUARE ROOT}": "square root of", "\N{RIGHTWARDS ARROW}": "to", "<": "less than",
    ">": "greater than",
    "$": "dollars", "\N{EURO SIGN}": "euros", "\N{POUND SIGN}": "pounds", "\N{CENT SIGN}": "cents", "\N{YEN SIGN}": "yen",
}  # fmt: skip
_KEPT = frozenset("\N{GREEK SMALL LETTER MU}" + SIGNS + "".join(_SIGNS))
"""Characters beyond ASCII that rules read."""
_CHARACTERS = str.maketrans({
    "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{PRIME}": "'", "\N{DOUBLE PRIME}": '"',
    "\N{MODIFIER LETTER APOSTROPHE}": "'", "\N{MINUS SIGN}": "-", "\N{NON-BREAKING HYPHEN}": "-", "\N{HYPHEN}": "-",
    "\N{EM DASH}": ", ", "\N{HORIZONTAL BAR}": ", ", "\N{HORIZONTAL ELLIPSIS}": ". ", "\N{FRACTION SLASH}": "/",
    "\N{DIVISION SLASH}": "/", "\N{ASTERISK OPERATOR}": "*", "\N{DOT OPERATOR}": "\N{MULTIPLICATION SIGN}",
    "\N{NOT EQUAL TO}": " not equal to ", "\N{TILDE OPERATOR}": "~", "\N{NUMERO SIGN}": " number ",
    "\N{TRADE MARK SIGN}": " ",
    "\N{SERVICE MARK}": " ", "\N{REGISTERED SIGN}": " ", "\N{LATIN SMALL LETTER SHARP S}": "ss",
    "\N{LATIN SMALL LETTER AE}": "ae",
    "\N{LATIN CAPITAL LETTER AE}": "Ae", "\N{LATIN SMALL LIGATURE OE}": "oe", "\N{LATIN CAPITAL LIGATURE OE}": "Oe",
    "\N{LATIN SMALL LETTER O WITH STROKE}": "o", "\N{LATIN CAPITAL LETTER O WITH STROKE}": "O",
    "\N{LATIN SMALL LETTER L WITH STROKE}": "l", "\N{LATIN CAPITAL LETTER L WITH STROKE}": "L",
    "\N{LATIN SMALL LETTER D WITH STROKE}": "d", "\N{LATIN CAPITAL LETTER D WITH STROKE}": "D",
    "\N{LATIN SMALL LETTER ETH}": "th", "\N{LATIN CAPITAL LETTER ETH}": "Th", "\N{LATIN SMALL LETTER THORN}": "th",
    "\N{LATIN CAPITAL LETTER THORN}": "Th", "\N{LATIN SMALL LETTER DOTLESS I}": "i",
})  # fmt: skip
_RAISED = "\u2070\u00b9\u00b2\u00b3\u2074-\u207f"
_BEFORE_DECOMPOSITION = (
    rule(
        "[\u2160-\u2188]", lambda match: f" {int(unicodedata.numeric(match[0]))} ", exact=True
    ),  # roman numerals of one character
    rule(rf"(?<=[a-z]{{4}})[{_RAISED}]+", ""),  # a note, not a power
    rule(rf"[{_RAISED}]+", lambda match: "^" + unicodedata.normalize("NFKC", match[0])),
    rule("(?<=\\d)(?=[\u00bc-\u00be\u2150-\u215f\u2189])", " "),  # 1 and a half, not eleven halves
    rule(r"\b([A-Z])\s?\N{EN DASH}\s?(?=[A-Z]\b)", r"\1 to ", exact=True),
    rule(r"(?<=\S)\N{EN DASH}(?=\S)", "-"),
    rule(r"(?<=\d)\s\N{EN DASH}\s(?=\d)", "-"),
    rule(r"\N{EN DASH}(?=\d)", "-"),
    rule(r"\s\N{EN DASH}\s|\N{EN DASH}", ", "),
    rule("(?<=[\\dkM])\\s?[\u2126\u03a9]", "ohm", exact=True),
    rule("[\u00b5\u03bc](?!(?:m|g|s)\\b)", " mu "),
    rule(
        "(?<![\u0370-\u03ff])[\u0370-\u03bb\u03bd-\u03ff](?![\u0370-\u03ff])",
        lambda match: f" {unicodedata.name(match[0], ' ').split(' WITH ')[0].rsplit(' ', 1)[-1].lower()} ",
        exact=True,
    ),
)
_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)*|[.,;:!?]")


def normalize(text: str) -> str:
    """Lower-case words as a reader would say a text, marks of punctuation at their ends; empty when nothing can be said.

    Args:
        text: English, with figures, money, times, dates, units and common abbreviations; SSML, HTML or Markdown.
    """
    text = _fold(substitute(without_markup(text), _BEFORE_DECOMPOSITION))
    if not text.isupper():
        text = re.sub(r"\bUS\b(?!\$)", "U S", text)
    text = substitute(text, _RULES).lower()
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if token[0].isalpha():
            found.append(token)
        elif found and found[-1] in _ABBREVIATIONS and token.startswith("."):
            found[-1] = _ABBREVIATIONS[found[-1]]
        elif found and found[-1][-1].isalpha():
            found[-1] += token
    return " ".join(_WITHOUT_STOP.sub(lambda match: _ABBREVIATIONS[match[0]], token) for token in found)


def _fold(text: str) -> str:
    """The text in ASCII and the signs that rules read; a space for everything else."""
    letters: list[str] = []
    for letter in unicodedata.normalize("NFKD", text.translate(_CHARACTERS)).translate(_CHARACTERS):
        if letter in _KEPT or letter.isascii():
            letters.append(letter)
        elif unicodedata.category(letter) not in ("Mn", "Me", "Cf"):
            letters.append(str(unicodedata.decimal(letter, " ")))
    return re.sub(r"\s+", " ", "".join(letters))


_ROMAN = r"(?=[IVXL]+\b)(?:X{0,3}|XL|L)?(?:IX|IV|V?I{0,3})(?![A-Za-z])"
_PARTS = (
    "Chapter|Part|Volume|Vol\\.|Book|Act|Scene|Section|Phase|Type|Class|Level|Article|Appendix|Title|Episode|Season|Figure|Table|Stage|Grade"
    "|War|Bowl|Category|Unit|Lesson|Round|Mark|Schedule"
)
_RULERS = (
    "Henry|Louis|Elizabeth|Charles|George|Edward|William|James|Richard|John|Paul|Pius|Benedict|Francis|Philip|Felipe|Alexander|Catherine"
    "|Mary|Peter|Nicholas|Napoleon|Frederick|Leo|Innocent|Gregory|Clement|Urban|Ferdinand|Alfonso|Otto|Ramses|Ptolemy|Christian|Gustav"
    "|Carl|Harald|Leopold|Albert|Joseph|Wilhelm|Victor|Umberto|Carlos|Ivan|Robert|Stephen|Sixtus|Julius|Boniface|Constantine|Rama"
)


def _value_of(roman: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10, "L": 50}[letter] for letter in roman]
    return sum(value if value >= after else -value for value, after in zip(values, [*values[1:], 0], strict=True))


def _initials(match: re.Match[str]) -> str:
    """Capitals that are no word are spelt: `FBI` as `f b i`, `URLs` as `u r l s`."""
    word = match[0].lower()
    said = Lexicon.shipped().words.get(word)
    return " ".join(word) if said in (None, spell_letters(word)) else word


def _letters_with_figures(match: re.Match[str]) -> str:
    """`CO2` is spelt, of `COVID19` the word is said."""
    groups = re.findall(r"[A-Za-z]+|\d+", match[0])
    return " " + " ".join(" ".join(group) if group.isupper() and len(group) < 4 else group for group in groups) + " "


def _fraction(match: re.Match[str]) -> str:
    whole, above, below = match[1], int(match[2]), int(match[3])
    if whole and 0 < above < below:
        return f" {number_words(int(whole))} and {fraction_words(above, below, after_whole=True)} "
    before = f"{number_words(int(whole))} " if whole else ""
    if (above, below) in ((24, 7), (9, 11), (20, 20), (50, 50)):
        return f" {before}{number_words(above)} {number_words(below)} "
    if above == below or (1 < above < below and (below in (10, 100) or above > 9 or not _read_as_part(below))):
        return f" {before}{number_words(above)} out of {number_words(below)} "
    if 0 < above < below:
        return f" {before}{fraction_words(above, below)} "
    return f" {before}{number_words(above)} divided by {number_words(below)} "


def _read_as_part(below: int) -> bool:
    """Thirds, sixteenths and thousandths are; of 12/31 it is twelve out of thirty one."""
    return below <= 20 or below in (32, 64, 1000)


def _power(match: re.Match[str]) -> str:
    named = {"2": "squared", "3": "cubed"}.get(match[1])
    return f" {named or 'to the power of ' + match[1].replace('-', 'minus ').replace('+', '')} "


def _address(match: re.Match[str]) -> str:
    """Numbers between dots: of a network, of a version."""
    groups = match[0].split(".")
    return f" {(' dot ' if len(groups) == 4 else ' point ').join(number_words(int(group[:9])) for group in groups)} "


def _mail(match: re.Match[str]) -> str:
    return re.sub(r"_", " underscore ", match[0].lower().replace("-", " dash ")).replace("@", " at ")


def _long_number(match: re.Match[str]) -> str:
    """With commas a thousand million and more are counted too."""
    figures = match[0].replace(",", "").replace(" ", "")
    if not 9 < len(figures) <= 15:
        return figures
    names = ("trillion", "billion", "")
    parts = [int(figures.zfill(15)[:3]), int(figures.zfill(15)[3:6]), int(figures.zfill(15)[6:])]
    return " ".join(f"{number_words(part)} {name}".strip() for part, name in zip(parts, names, strict=True) if part)


def _telephone(match: re.Match[str]) -> str:
    groups = [digit_words(group) for group in re.findall(r"\d+", match[0])]
    return f" {'plus ' if match[0][0] == '+' else ''}{', '.join(groups)} "


def _between(match: re.Match[str]) -> str:
    """`3-5` is three to five, `50-50` fifty fifty."""
    return f"{match[1]} {match[2]}" if match[1] == match[2] else f"{match[1]} to {match[2]}"


def _product(match: re.Match[str]) -> str:
    return " by " if len(match[1]) == 1 and match[1] in "x\N{MULTIPLICATION SIGN}" else " times "


_NAMES = (
    rule(r"(?<![\w.+-])[\w.+-]+@[a-z\d-]+(?:\.[a-z\d-]+)+", _mail),
    rule(
        r"\be\.g\.|\bi\.e\.|\ba\.k\.a\.",
        lambda m: {"e": " for example ", "i": " that is ", "a": " also known as "}[m[0][0].lower()],
    ),
    rule(r"\bPh\.?D\b\.?", " p h d ", exact=True),
    rule(r"(?<=\d)\s*([ap])\.m\.(?=\s+[A-Z][a-z]|\s*$)", r" \1 m.", exact=True),
    rule(r"\b(?:[a-z]\.){2,}(?!\d)", lambda match: match[0].replace(".", " ")),  # u.s.a.
    rule(r"\bw/o\b", "without"),
    rule(r"\bw/(?=\s?[a-z])", "with "),
    rule(r"(?<=[A-Z][a-z] )St\.|(?<=[a-z] )St\.(?!\s[A-Z])|(?<=[a-z]) St(?=\s*(?:,|$))", " street", exact=True),
    rule(r"\bSt\.(?=\s*[A-Z])", "saint", exact=True),
    rule(r"\bSt\.", "street", exact=True),
    rule(
        r"\b(no|nos|pp?|fig|vol|ch|sec|art|ca|ver)\.\s?(?=\d)|\b(v)\.?\s?(?=\d+\.\d)",
        lambda m: f" {_BEFORE_FIGURES[(m[1] or m[2]).lower()]} ",
    ),
    rule(rf"\b({_PARTS})\s({_ROMAN})", lambda m: f"{m[1]} {number_words(_value_of(m[2]))}", exact=True),
    rule(
        rf"\b({_RULERS})\s({_ROMAN})",
        lambda m: f"{m[1]} the {ordinal_words(_value_of(m[2]))}" if m[2] != "I" else m[0],
        exact=True,
    ),
    rule(rf"(?<=[a-z]\s)(?=[IVX]{{2}})({_ROMAN})", lambda m: number_words(_value_of(m[1])), exact=True),
    rule(r"(?<=[a-z])\.(?=[a-z]{2,}\b|[a-z]\b(?!\.))|(?<=\d)\.(?=[a-z]{2,4}\b)", " dot ", exact=True),
    rule(r"\b([CF])#(?!\w)", r"\1 sharp", exact=True),
    rule(r"#(?=[A-Za-z])", ""),
)
_NUMBERS = (
    rule(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,]*\d)|(?<![\d,.])(?<!\d )\d{1,3}(?: \d{3}){2,}(?! ?\d)", _long_number),
    rule(r"(?<![\d,.])\d{1,2}(?:,\d\d)+,\d{3}(?![\d,]*\d)", lambda m: m[0].replace(",", "")),  # lakhs
    rule(r"(?<=\d)\*\*(?=\d)", "^"),
    rule(rf"\b({'|'.join(map(number_words, range(2, 11)))}) (\d+)s\b", lambda m: f"{m[1]} {plural_words(decimal_words(m[2]))}"),
    rule(r"(?<![\d.])(\d{1,3}(?:\.\d{3})+),(\d{1,2})(?!\d)", lambda m: f"{m[1].replace('.', '')}.{m[2]}"),
    rule(
        r"\+\d[\d ().-]{6,}\d|(?<![\d-])(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-.]\d{4}(?![\d-])|(?<![\d-])\d{3}-\d{4}(?![\d-])",
        _telephone,
    ),
)
_RANGES = (
    rule(r"(?<!\d)24/7/365(?!\d)", " twenty four seven three sixty five "),
    rule(r"(?<![\d.])\d+(?:\.\d+){2,}(?!\d)", _address),
    rule(r"(?<![\d.])\d+(?:-\d+){2,}(?![\d-])", lambda m: ", ".join(map(digit_words, m[0].split("-")))),
    rule(
        r"\b(pages|ages|aged|from|between|chapters|items|rows|lines|days|weeks|years|rooms|levels|grades)\s(\d+) - (?=\d)",
        r"\1 \2 to ",
    ),
    rule(rf"(?<![\d.])({AMOUNT})-({AMOUNT})(?!\d)", _between),
    rule(r"(?<=[\d%\N{DEGREE SIGN}])-(?=\d)|(?<=\bnoon)-(?=\d)|(?<=\bA)-(?=Z\b)", " to ", exact=True),
    rule(r"(?<=\d)\s+-\s+(?=\d)|(?<![\w.)^])-(?=\.?\d)|(?<=\b[a-z])\s+-\s+(?=\d|[a-z]\b)", " minus "),
    rule(r"\s-+\s|--+", ", "),
)
_FIGURES = (
    rule(r"(?<=[a-z]{2})(?=[A-Z])|(?<=\b[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})", " ", exact=True),
    rule(r"(\d{1,9})(?:st|nd|rd|th)\b", lambda m: f" {ordinal_words(int(m[1]))} "),
    rule(r"(?<![a-z\d])(\d+(?:\.\d+)?)e([+-]?\d{1,3})\b", r"\1 times 10^\2"),
    rule(r"\s?\^\s?\(?([+-]?\d+|[a-z]\b)\)?", _power),
    rule(r"(?<![\d./])(?:(\d{1,9})\s+)?(\d{1,9})\s?/\s?(\d{1,9})(?![\d/]|\.\d)", _fraction),
    rule(r"(?<=\d)/(?=\d+/\d)|(?<=/\d)/(?=\d)", " "),
    rule(r"(?<=\.\d)\s?/\s?(?=\d)", " out of "),
    rule(r"(?<=\d)\s*/\s*(?=\d)", " divided by "),
    rule(r"(?<=\d)(\s*[*x\N{MULTIPLICATION SIGN}]\s*)(?=\d)", _product),
    rule(r"(?<=\d)x(?=\s+[a-z])", " times "),
    rule(r"(?<=\d)(?:k|M|mn|bn|tn)\b|(?<=\d)(?<!\b[248])K\b|(?<=\.\d)B\b", lambda m: f" {SCALES[m[0].lower()]} ", exact=True),
    rule(r"(?<![\w.])(\d+)'?s\b", lambda m: f" {plural_words(decimal_words(m[1]))} "),
    rule(r"\b(?=[A-Z\d]*\d)(?<!\d\.)(?=\d*[A-Z])[A-Z\d]+\b", _letters_with_figures, exact=True),
    rule(r"\b(?:AI|ID|EU|UK|UN|IP|PR|HR|VR|AR|OS|AC|DC|PC|TV|CD|CIA|EST)\b", lambda match: " ".join(match[0]), exact=True),
    rule(r"\b[A-Z]{2,5}s?\b", _initials, exact=True),
    rule(r"~\s?(?=[\d$])", " about "),
    rule(r"#(?=\d)", "number "),
    rule(f"[{re.escape(''.join(_SIGNS))}]", lambda match: f" {_SIGNS[match[0]]} "),
    rule(r"(?<=\d)\.(?=\s|$|[a-z])", ". "),
    rule(r"\d+(?:\.\d+)?|(?<!\w)\.\d+", lambda match: f" {decimal_words(match[0])} "),
)
_RULES = (*_NAMES, *_NUMBERS, *DATES, *MONEY, *TIMES, *YEARS, *MEASURES, *_RANGES, *_FIGURES)
"""In their order: what a rule leaves is read by those after it."""
