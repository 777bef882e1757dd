"""Text to phones: normalisation, then the dictionary word by word."""

import re
from collections.abc import Iterable

from emova_sdk.components.nano.dictionary import PHONES, SILENCE, Lexicon
from emova_sdk.components.nano.normalization import normalize

_VOWELS = {phone for phone in PHONES if phone[0] in "aeiou"}
_WORD_OR_MARK = re.compile(r"[a-z']+|[.,;:!?]")


def words_of(text: str) -> list[str]:
    """Lower-case words and punctuation marks of a text as it is said, see `normalize`."""
    return _WORD_OR_MARK.findall(normalize(text))


def phones(text: str, lexicon: Lexicon | None = None) -> list[str]:
    """Phones of a text, with `sil` at the ends and at punctuation marks; empty for a text without words.

    Args:
        text: What is said.
        lexicon: Its dictionary; the shipped one by default.
    """
    return phones_of_words(words_of(text), lexicon)


def phones_of_words(words: Iterable[str], lexicon: Lexicon | None = None) -> list[str]:
    """Phones of words and punctuation marks, as `words_of` gives them; see `phones`.

    `the` ends in `iy` before a vowel.
    """
    lexicon = lexicon or Lexicon.shipped()
    found: list[str] = []
    the = False
    for word in words:
        if word in ".,;:!?":
            found += [SILENCE] if found and found[-1] != SILENCE else []
        else:
            said = lexicon.pronounce(word)
            if the and said and said[0] in _VOWELS:
                found[-1] = "iy"
            found += said
        the = word == "the"
    if not found:
        return []
    return [SILENCE, *found, *([] if found[-1] == SILENCE else [SILENCE])]
