import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emova_sdk.components.nano.dictionary import Lexicon, spell_letters
from emova_sdk.components.nano.g2p import phones
from emova_sdk.components.nano.normalization import normalize
from emova_sdk.components.nano.number_words import fraction_words, plural_words

TABLE = Path(__file__).with_name("reading_aloud.tsv")
SPEAKABLE = re.compile(r"(?:[a-z]+(?:'[a-z]+)*[.,;:!?]*(?: (?!$)|$))*")


def rows(split: str) -> list[tuple[str, str, str, str]]:
    """Kind, text, accepted readings (a regular expression over words), what `normalize` says."""
    found: list[tuple[str, str, str, str]] = []
    for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]:
        which, kind, text, reading = line.split("\t")
        if which == split:
            text = text if kind != "markup" else text.replace("\\n", "\n")
            found.append((kind, text, reading, re.sub("[.,;:!?]", "", normalize(text))))
    return found


def test_what_is_written_is_read_as_a_reader_would():
    wrong = [row for row in rows("develop") if not re.fullmatch(row[2], row[3])]
    assert not wrong


def test_texts_held_out_when_the_rules_were_written_are_read_too():
    wrong = [row for row in rows("held-out") if not re.fullmatch(row[2], row[3])]
    assert not wrong


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It takes 1½ hours.", "it takes one and a half hours."),
        ("½ kg, 1 kg, 2 kg", "one half kilogram, one kilogram, two kilograms"),
        ("8:30 a.m. - 9:15 p.m.", "eight thirty a m to nine fifteen p m."),
        ("$3M\N{EN DASH}$5M, $10-20 million", "three million dollars to five million dollars, ten to twenty million dollars"),
        ("€1.234,56 or 20USD", "one thousand two hundred thirty four euros fifty six cents or twenty u s dollars"),
        ("a 10-km run at 10^-3 m/s²", "a ten kilometer run at ten to the power of minus three meters per second squared"),
        ("King George VI's World War I, Rocky II and I", "king george the sixth's world war one, rocky two and i"),
        ("x ≠ y", "x not equal to y"),
        ("the '60s, 1960s, five 9s, a 90s pause", "the sixties, nineteen sixties, five nines, a ninety seconds pause"),
        ("12/31 of it, on 12/31, 8.5/10", "twelve out of thirty one of it, on december thirty first, eight point five out of ten"),
        ("4K, 10K and 300 K", "four k, ten thousand and three hundred kelvins"),
        ("1-800-555-0199", "one, eight zero zero, five five five, zero one nine nine"),
        ("10,000,000,000 and ₹1,00,000", "ten billion and one hundred thousand rupees"),
        ("Wait--what - no", "wait, what, no"),
        ("I live in the US, with us", "i live in the u s, with us"),
        ("1 in 5, 3 in. wide, 5 in", "one in five, three inches wide, five inches"),
        ("\N{ARABIC-INDIC DIGIT THREE}, \N{ROMAN NUMERAL FOUR}, ½", "three, four, one half"),
    ],
)  # fmt: skip
def test_readings_that_depend_on_their_neighbours(written, said):
    assert normalize(written) == said


written = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.sampled_from(["<b>", "</b>", '<break time="1s"/>', "[a](b)", "&amp;", "http://a.b/c", "½", "²", "$", "-", "\N{EN DASH}", "/", "1", "24",
                         "2024", ".", ",", ":", " ", "\n", "dr", "Dr.", "etc", "e.g.", "St.", "No.", "XIV", "Henry", "kg", "km/h", "°C", "M", "s", "th", "am",
                         "#", "*", "_", "`", "|", "^", "e", "x", "'", '"', "May", "in", "US", "NASA", "CO2", "a.b", "@", "你", "\ud800"]),
    ),
    max_size=14,
).map("".join)  # fmt: skip


@given(written)
def test_any_text_becomes_words_and_stays_as_it_is_when_read_again(text):
    said = normalize(text)
    assert SPEAKABLE.fullmatch(said), said
    assert normalize(said) == said
    assert bool(phones(text)) == bool(said)


def test_what_normalisation_writes_is_pronounced_as_words():
    lexicon = Lexicon.shipped()
    assert lexicon.pronounce("cubed") == ("k", "y", "uw", "b", "d")
    assert lexicon.pronounce("kilowatts")[:4] == ("k", "ih", "l", "ah")
    assert lexicon.pronounce("milliamps")[-4:] == ("ae", "m", "p", "s")
    assert lexicon.pronounce("bitcoins")[-1] == "z"
    assert spell_letters("kg") == ("k", "ey", "jh", "iy")


def test_fractions_and_plurals():
    assert [fraction_words(1, 2), fraction_words(3, 4), fraction_words(1, 8, after_whole=True)] == [
        "one half",
        "three quarters",
        "an eighth",
    ]
    assert [plural_words("twenty"), plural_words("six"), plural_words("nine")] == ["twenties", "sixes", "nines"]


def test_a_long_word_without_an_at_is_no_address():
    """It was scanned once from each of its letters."""
    assert normalize("x" * 20_000) == "x" * 20_000
