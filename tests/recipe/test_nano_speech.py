import math
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
from nano_recipe.evaluation.dialogue import Score
from nano_recipe.evaluation.speech import WordJudge, accuracy, conditional_entropy, entropy, probe, rate, word_errors

from emova_sdk.evaluation.intervals import interval
from emova_sdk.evaluation.text_metrics import edit_distance


@pytest.mark.parametrize(
    ("reference", "found", "distance"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "", 3),
        ("", "ab", 2),
        ("kitten", "sitting", 3),
        ("abcdef", "azced", 3),
        ("flaw", "lawn", 2),
    ],
)
def test_edit_distance(reference, found, distance):
    assert edit_distance(reference, found) == distance


def test_intervals_have_width_where_all_cases_are_equal():
    for wrong, sizes, share in (([0, 0], [1, 1], 0.0), ([4, 4], [4, 4], 1.0), ([1, 1, 1], [2, 2, 2], 0.5), ([3], [1], 3.0)):
        low, high = interval(wrong, sizes)
        assert low <= share <= high
        assert high - low > 0.2
    assert interval([0] * 100, [1] * 100)[1] == pytest.approx(0.037, abs=0.001)
    assert Score.of([True] * 20, ["a"] * 20).low == pytest.approx(0.839, abs=0.001)


def test_rates_come_with_an_interval_and_n():
    found = rate([1, 0, 0, 1], [4, 4, 4, 4])
    assert found["value"] == pytest.approx(0.125)
    assert found["interval"][0] <= 0.125 <= found["interval"][1]
    assert found["n"] == 4


def test_accuracy_names_the_majority_class():
    assert accuracy(["a", "a", "b"], ["a", "b", "b"])["majority"] == pytest.approx(2 / 3, abs=1e-3)


def test_entropies():
    assert entropy(Counter("aabb")) == pytest.approx(1.0)
    assert conditional_entropy([("x", 1), ("x", 1), ("y", 2)]) == pytest.approx(0.0)
    assert conditional_entropy([("x", 1), ("x", 2)]) == pytest.approx(1.0)
    assert math.isclose(entropy(Counter("a")), 0.0, abs_tol=1e-9)


def test_a_probe_finds_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    labels = [str(n) for n in rng.integers(0, 2, 400)]
    told = rng.standard_normal((400, 6)).astype(np.float32)
    told[:, 2] += 3 * np.array([float(n) for n in labels])
    blind = rng.standard_normal((400, 6)).astype(np.float32)
    assert probe((told[:300], labels[:300]), (told[300:], labels[300:]))["value"] > 0.85
    assert probe((blind[:300], labels[:300]), (blind[300:], labels[300:]))["value"] < 0.65


def test_word_errors_count_words():
    found = word_errors(["the red ball", "a box"], [np.zeros(1, np.float32)] * 2, lambda _: "the red")
    assert found["value"] == pytest.approx(3 / 5)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pocketsphinx") is None, reason="needs pocketsphinx (the `eval` extra)")
def test_the_judge_writes_down_what_nano_says(tmp_path):
    from nano_recipe.evaluation.report import NanoSpeech

    judge = WordJudge(
        ["the red ball is left of the box", "the blue star is above the circle", "there are two balls"], folder=str(tmp_path)
    )
    heard = judge.write_down(NanoSpeech().say("the blue star is left of the ball"))
    assert len(set(heard.split()) & {"blue", "star", "left", "ball"}) >= 3
