"""A pronunciation dictionary, and letter-to-sound rules for words it lacks.

The dictionary is a subset of the CMU Pronouncing Dictionary (see `dictionary.LICENSE.txt`); phones are the
39 of ARPAbet without stress.
"""

import lzma
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

PHONES: tuple[str, ...] = (
    "aa", "ae", "ah", "ao", "aw", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh", "ih", "iy", "jh", "k",
    "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "zh",
)  # fmt: skip
"""ARPAbet-39."""

SILENCE = "sil"
"""A pause: between clauses and at both ends."""

_LETTERS = {
    "a": "ey", "b": "b iy", "c": "s iy", "d": "d iy", "e": "iy", "f": "eh f", "g": "jh iy", "h": "ey ch", "i": "ay",
    "j": "jh ey",
    "k": "k ey", "l": "eh l", "m": "eh m", "n": "eh n", "o": "ow", "p": "p iy", "q": "k y uw", "r": "aa r", "s": "eh s",
    "t": "t iy", "u": "y uw", "v": "v iy", "w": "d ah b ah l y uw", "x": "eh k s", "y": "w ay", "z": "z iy",
}  # fmt: skip

_ADDED = {
    "amp": "ae m p", "bitcoin": "b ih t k oy n", "centavo": "s eh n t aa v ow", "cubed": "k y uw b d", "eta": "ey t ah",
    "hryvnia": "hh r ih v n iy ah", "kopeck": "k ow p eh k", "missis": "m ih s ih z", "omicron": "aa m ah k r aa n",
    "paisa": "p ay s aa", "paise": "p ay s ey", "pixel": "p ih k s ah l", "reais": "r ey ay s", "tau": "t aw",
    "upsilon": "uw p s ah l aa n", "xi": "z ay",
}  # fmt: skip
"""Words that normalisation writes and the dictionary lacks."""
_PREFIXES = {
    "nano": "n ae n ow", "micro": "m ay k r ow", "milli": "m ih l ah", "centi": "s eh n t ah", "deci": "d eh s ah",
    "hecto": "hh eh k t ow", "kilo": "k ih l ah", "mega": "m eh g ah", "giga": "g ih g ah", "tera": "t eh r ah",
    "peta": "p eh t ah",
    "kibi": "k ih b iy", "mebi": "m eh b iy", "gibi": "g ih b iy",
}  # fmt: skip
"""Of units."""

_RULE_TEXT = """
    tion$ sh ah n; tions$ sh ah n z; sion$ zh ah n; ture$ ch er; ous$ ah s; ght t; igh ay; ough ao; augh ao; eigh ey;
    tch ch; sch s k; sh sh; ch ch; th th; ph f; wh w; ck k; ng$ ng; nk ng k; qu k w; ^kn n; ^wr r; ^ps s; ^gn n; mb$ m;
    dge$ jh; ee iy; ea iy; oo uw; ou aw; ow$ ow; ow aw; oi oy; oy oy; ai ey; ay ey; au ao; aw ao; ew uw; ie$ iy; ie iy;
    oa ow; ue$ uw; ui uw; ar aa r; er er; ir er; ur er; or ao r; all ao l; ll l; ss s; tt t; pp p; bb b; dd d; ff f; gg
    g; mm m; nn n; rr r; zz z; cc k; ce s eh; ci s ih; cy s iy; ge$ jh; gi jh ih; le$ ah l; ed$ d; es$ z; y$ iy; ^y y;
    e$ ; a ae; b b; c k; d d; e eh; f f; g g; h hh; i ih; j jh; k k; l l; m m; n n; o aa; p p; q k; r r; s s; t t; u ah;
    v v; w w; x k s; y ih; z z
"""
# Longest spelling first at each place; `^` and `$` are the word's edges; the phones may be none.
_RULES: tuple[tuple[str, str], ...] = tuple(
    (spelling, phones)
    for spelling, _, phones in (rule.strip().partition(" ") for rule in " ".join(_RULE_TEXT.split()).split(";"))
)


def spell_letters(word: str) -> tuple[str, ...]:
    """Phones of a word's letters, one by one."""
    return tuple(" ".join(_LETTERS[letter] for letter in word).split())


def spell_out(word: str) -> tuple[str, ...]:
    """Phones of a word no dictionary knows, by letter-to-sound rules; single letters and vowelless words are spelt."""
    letters = word.replace("'", "")
    if len(letters) == 1 or not re.search("[aeiouy]", letters):
        return spell_letters(letters)
    phones: list[str] = []
    place = 0
    # A silent final e makes the vowel before it long: `lake`, `prone`.
    long = {"a": "ey", "i": "ay", "o": "ow", "u": "uw"} if re.search("[aiou][bcdfgklmnprstvz]e$", letters) else {}
    while place < len(letters):
        if place == len(letters) - 3 and letters[place] in long:
            phones.append(long[letters[place]])
            place += 1
            continue
        place = _apply_rule(letters, place, phones)
    return tuple(phones)


def _apply_rule(letters: str, place: int, phones: list[str]) -> int:
    for rule, sound in _RULES:
        spelling = rule.strip("^$")
        if not letters.startswith(spelling, place):
            continue
        if (rule[0] == "^" and place) or (rule[-1] == "$" and place + len(spelling) != len(letters)):
            continue
        phones += sound.split()
        return place + len(spelling)
    return place + 1


class _Words(Mapping[str, tuple[str, ...]]):
    """Word to phones, looked up in sorted lines: an answer has few words, and a dict of all takes longer than to say it.

    Args:
        lines: ASCII, each a word, a space, a character for each of its phones, and a line feed.
    """

    def __init__(self, lines: bytes) -> None:
        self._lines = lines
        self._found: dict[str, tuple[str, ...] | None] = {}

    def __getitem__(self, word: str) -> tuple[str, ...]:
        if word not in self._found:
            self._found[word] = self._search(word.encode())
        found = self._found[word]
        if found is None:
            raise KeyError(word)
        return found

    def _search(self, word: bytes) -> tuple[str, ...] | None:
        """Halve the lines in question until one is left."""
        lines, low, high = self._lines, 0, len(self._lines)
        while low < high:
            begin = lines.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = lines.find(b"\n", begin)
            other, _, codes = lines[begin:end].partition(b" ")
            if other == word:
                return tuple(PHONES[code - 48] for code in codes)
            low, high = (end + 1, high) if other < word else (low, begin)
        return None

    def __iter__(self) -> Iterator[str]:
        return (line.partition(b" ")[0].decode() for line in self._lines.splitlines())

    def __len__(self) -> int:
        return self._lines.count(b"\n")


@dataclass(frozen=True)
class Lexicon:
    """Words and how they are said.

    Attributes:
        words: Word to phones.
    """

    words: Mapping[str, tuple[str, ...]]

    @staticmethod
    @cache
    def shipped() -> "Lexicon":
        """The dictionary inside the package."""
        data = files("emova_sdk.components.nano").joinpath("dictionary.xz").read_bytes()
        return Lexicon(_Words(lzma.decompress(data) + b"\n"))

    def pronounce(self, word: str) -> tuple[str, ...]:
        """Phones of one lower-case word."""
        return self._known(word) or spell_out(word)

    def _known(self, word: str) -> tuple[str, ...] | None:
        """Of a word, its possessive or plural, or a unit with a prefix."""
        if word in self.words or word in _ADDED:
            return self.words.get(word) or tuple(_ADDED[word].split())
        ending = "'s" if word.endswith("'s") else "s" if word[-2:-1] not in ("s", "u", "i") and word.endswith("s") else ""
        stem = self._known(word.removesuffix(ending)) if ending and len(word) > 3 else None
        if stem:
            sibilant = stem[-1] in {"s", "z", "sh", "ch", "jh", "zh"}
            return stem + (("ah", "z") if sibilant else ("s",) if stem[-1] in {"p", "t", "k", "f", "th"} else ("z",))
        prefix = next((prefix for prefix in _PREFIXES if word.startswith(prefix)), None)
        if prefix is None:
            return None
        unit = word.removeprefix(prefix)
        known = self.words.get(unit) or tuple(_ADDED.get(unit, "").split())
        return (*_PREFIXES[prefix].split(), *known) if known else None
