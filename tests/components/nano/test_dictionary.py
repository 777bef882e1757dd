from itertools import pairwise

import pytest

from emova_sdk.components.nano.dictionary import PHONES, SILENCE, Lexicon, spell_out
from emova_sdk.components.nano.g2p import phones, words_of
from emova_sdk.components.nano.normalization import normalize
from emova_sdk.components.nano.number_words import number_words, ordinal_words, year_words


def test_known_words_are_said_as_the_dictionary_says():
    assert phones("cat") == [SILENCE, "k", "ae", "t", SILENCE]


def test_punctuation_is_a_pause_and_is_not_doubled():
    found = phones("Yes, no... red.")
    assert found.count(SILENCE) == 4
    assert all(not (a == b == SILENCE) for a, b in pairwise(found))


def test_the_is_said_in_two_ways():
    assert phones("the office") == [SILENCE, "dh", "iy", "ao", "f", "ah", "s", SILENCE]
    assert phones("the cat")[1:4] == ["dh", "ah", "k"]
    assert phones("the, apple")[1:4] == ["dh", "ah", SILENCE]


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


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It's 5:30 PM on Monday.", "it's five thirty p m on monday."),
        ("At 7:00, or 10:05?", "at seven o'clock, or ten oh five?"),
        ("Dr. Smith lives at 221B Baker Street.", "doctor smith lives at two hundred twenty one b baker street."),
        ("The price is $4.99, not €1 or $5 million.",
         "the price is four dollars ninety nine cents, not one euro or five million dollars."),
        ("10,000 people, 20% more", "ten thousand people, twenty percent more"),
        ("On the 1st of May, 2024, it rained.", "on the first of may, twenty twenty four, it rained."),
        ("May 21st, 2024; may 1, 1999", "may twenty first, twenty twenty four; may one, nineteen ninety nine"),
        ("since 2005-12-24", "since december twenty fourth, two thousand five"),
        ("-5°C at 100 km/h", "minus five degrees celsius at one hundred kilometers per hour"),
        ("Call 555-1234 for the FBI.", "call five five five, one two three four for the f b i."),
        ("3-5 apples, 8 - 2 = 6, 2*3", "three to five apples, eight minus two equals six, two times three"),
        ("A naïve café owner — e.g. \N{LEFT DOUBLE QUOTATION MARK}me\N{RIGHT DOUBLE QUOTATION MARK}",
         "a naive cafe owner, for example me"),
        ("**HELLO** World and/or you@example.com", "hello world and or you at example dot com"),
        ("007 and 3.14 and .5", "zero zero seven and three point one four and zero point five"),
        (" ... !? \N{GRINNING FACE} \N{CJK UNIFIED IDEOGRAPH-4F60}", ""),
    ],
)  # fmt: skip
def test_texts_are_normalised_to_what_a_reader_says(written, said):
    assert normalize(written) == said


def test_ordinals_and_years():
    assert [ordinal_words(n) for n in (1, 12, 20, 105)] == ["first", "twelfth", "twentieth", "one hundred fifth"]
    assert [year_words(n) for n in (1999, 1900, 1905, 2000, 2010)] == [
        "nineteen ninety nine", "nineteen hundred", "nineteen oh five", "two thousand", "twenty ten",
    ]  # fmt: skip
