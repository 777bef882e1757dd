import numpy as np
import pytest

from emova_sdk.components.nano.dictionary import PHONES, SILENCE
from emova_sdk.components.nano.g2p import phones
from emova_sdk.components.nano.grammar import Grammar, confidence, save_grammar
from emova_sdk.errors import LoadError

NAMES = (SILENCE, *PHONES)
TEMPLATES = ["what color is the {shape}", "how many {shape}s are there", "is there a {color} {shape}", "hello"]
SLOTS = {"shape": ["circle", "star", "square"], "color": ["red", "orange", "dark blue"]}


@pytest.fixture(scope="module")
def grammar():
    """One unit for each phone, mistaken for any other now and then."""
    emissions = np.full((40, 40), np.log(0.005))
    np.fill_diagonal(emissions, np.log(0.8))
    return Grammar(TEMPLATES, SLOTS, emissions)


def units(text):
    said = [NAMES.index(phone) for phone in phones(text) if phone != SILENCE]
    return [unit for place, unit in enumerate(said) if place == 0 or said[place - 1] != unit]


@pytest.mark.parametrize(
    "text",
    ["what color is the star", "how many squares are there", "is there a red circle", "is there an orange star", "hello",
     "is there a dark blue square"],
)  # fmt: skip
def test_sentences_are_heard_word_by_word(grammar, text):
    heard = grammar.hear(units(text))
    assert heard is not None
    assert heard.text == text
    assert heard.gap < 0.6


def test_mistakes_are_forgiven_and_nonsense_is_not(grammar):
    said = units("what color is the star")
    said[3] = 7
    del said[6]
    heard = grammar.hear(said)
    assert heard is not None and heard.text == "what color is the star"
    nonsense = grammar.hear(units("please book three flights to paris"))
    assert nonsense is None or confidence(nonsense.gap) < 0.5 < confidence(heard.gap)


def test_silence_says_nothing(grammar):
    assert grammar.hear([]) is None
    assert grammar.hear([3]) is None or grammar.hear([3]).gap > 0


def test_a_grammar_is_read_back(tmp_path, grammar):
    emissions = np.full((40, 40), -5.0)
    np.fill_diagonal(emissions, -0.2)
    save_grammar(tmp_path, templates=TEMPLATES, slots=SLOTS, emissions=emissions)
    heard = Grammar.load(tmp_path).hear(units("hello"))
    assert heard is not None and heard.text == "hello"
    with pytest.raises(LoadError):
        Grammar.load(tmp_path / "nothing")
