from itertools import pairwise

import pytest

from emova_sdk.components.nano.lexicon import PHONES, SILENCE, Lexicon, number_words, phones, spell_out, words_of


def test_known_words_are_said_as_the_dictionary_says():
    assert phones("cat") == [SILENCE, "k", "ae", "t", SILENCE]


def test_punctuation_is_a_pause_and_is_not_doubled():
    found = phones("Yes, no... red.")
    assert found.count(SILENCE) == 4
    assert all(not (a == b == SILENCE) for a, b in pairwise(found))


@pytest.mark.parametrize("text", ["", "   ", "?!", "你好"])
def test_texts_without_words_have_no_phones(text):
    assert phones(text) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "zero"), (19, "nineteen"), (42, "forty two"), (312, "three hundred twelve"), (1005, "one thousand five"),
     (2000000, "two million"), (10**9, "one zero zero zero zero zero zero zero zero zero")],
)  # fmt: skip
def test_numbers_become_words(number, words):
    assert number_words(number) == words


def test_numbers_and_symbols_in_text():
    assert words_of("3.5 + 2 = 5%") == ["three", "point", "five", "plus", "two", "equals", "five", "percent"]


@pytest.mark.parametrize("word", ["blorf", "x", "qwrt", "zaquille", "snorkeled", "o'blix", "eee"])
def test_unknown_words_get_phones_too(word):
    found = spell_out(word)
    assert found
    assert set(found) <= set(PHONES)


def test_possessives_follow_their_stem():
    lexicon = Lexicon({"dog": ("d", "ao", "g"), "cat": ("k", "ae", "t"), "fish": ("f", "ih", "sh")})
    assert lexicon.pronounce("dog's") == ("d", "ao", "g", "z")
    assert lexicon.pronounce("cat's") == ("k", "ae", "t", "s")
    assert lexicon.pronounce("fish's") == ("f", "ih", "sh", "ah", "z")


def test_the_shipped_dictionary_knows_ordinary_words():
    shipped = Lexicon.shipped().words
    assert len(shipped) > 30_000
    assert {"the", "red", "triangle", "happy", "minutes", "congratulations"} <= set(shipped)
