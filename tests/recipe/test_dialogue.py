import re

import pytest
from nano_recipe import dialogue


def test_sentences_are_lowercase_words_of_the_vocabulary_without_digits():
    known = set(dialogue.vocabulary())
    for split in ("train", "test"):
        for sentence in dialogue.sentences(split):
            assert re.fullmatch(r"[a-z' ]+", sentence.text), sentence
            assert set(sentence.text.split()) <= known, sentence


def test_splits_share_no_filled_template_and_both_sides_speak():
    train = {(s.template_key, s.text) for s in dialogue.sentences("train") if s.novel}
    test = {(s.template_key, s.text) for s in dialogue.sentences("test") if s.novel}
    assert train and test and not train & test
    assert {s.side for s in dialogue.sentences("test")} == {"user", "assistant"}
    assert 0.05 < len(test) / (len(train) + len(test)) < 0.25


def test_any_beginning_of_the_list_is_a_fair_sample_of_the_templates():
    first = [s.template_key for s, _ in zip(dialogue.sentences("train"), range(120), strict=False)]
    assert len(set(first)) > 100


@pytest.mark.parametrize("text", ["is there an orange star", "what is twenty one plus three", "i lost my keys", "hello"])
def test_a_question_is_parsed_back(text):
    found = dialogue.parse_question(text)
    assert found is not None
    _, intent, place = found.template_key.split("/")
    assert dialogue.fill(dialogue.QUESTIONS[intent][int(place)], found.slots) == text


def test_what_fits_no_template_is_no_question():
    assert dialogue.parse_question("book a flight to rome") is None


def test_numbers_are_spelt():
    said = [dialogue.number(n) for n in (0, 13, 21, 100, 342, -7, 8051)]
    assert said == [
        "zero", "thirteen", "twenty one", "one hundred", "three hundred forty two", "minus seven", "eight thousand fifty one",
    ]  # fmt: skip


def test_sorrow_is_met_with_sympathy_and_joy_with_joy():
    assert dialogue.reply_emotion("sad_pet") == "sad"
    assert dialogue.reply_emotion("happy_event") == "happy"
    assert dialogue.reply_emotion("angry_thing") == "sad"
    assert dialogue.reply_emotion("hello", "happy") == "happy"
    assert dialogue.reply_emotion("count_all") == "neutral"
