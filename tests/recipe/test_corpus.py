import numpy as np
from nano_recipe import corpus
from nano_recipe.evaluation.report import ordinary_sentences
from nano_recipe.ood_text import everyday_sentence

from emova_sdk.components.nano.dictionary import Lexicon


def test_sentences_are_a_function_of_split_and_index():
    assert [corpus.sentence("train", i) for i in range(5)] == [corpus.sentence("train", i) for i in range(5)]
    assert corpus.sentence("train", 3) != corpus.sentence("test", 3)


def test_no_filled_template_is_in_both_splits():
    train = {corpus.sentence("train", i, salad=0.0) for i in range(1500)}
    test = {corpus.sentence("test", i, salad=0.0) for i in range(200)}
    assert not train & test


def test_texts_are_lower_case_words():
    for i in range(100):
        text = corpus.sentence("train", i)
        assert text == text.lower()
        assert all(word.replace("'", "").isalpha() for word in text.split())


def test_everyday_sentences_repeat_and_are_of_words_whose_sounds_are_known():
    drawn = [everyday_sentence(np.random.default_rng(seed)) for seed in range(300)]
    assert drawn[:20] == [everyday_sentence(np.random.default_rng(seed)) for seed in range(20)]
    assert len(set(drawn)) > 290
    assert not {word for text in drawn for word in text.split()} - set(Lexicon.shipped().words)
    assert not set(drawn) & set(ordinary_sentences()), "what is judged by was never trained on"
    assert " a orange" not in " ".join(drawn)
