from emova_sdk.training import corpus


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
