"""Error rates, normalisers, style scores and judge prompts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emova_sdk.errors import InputError, MissingDependencyError
from emova_sdk.evaluation import text_metrics
from emova_sdk.evaluation.chinese_text import normalise_chinese, spell_number
from emova_sdk.evaluation.text_metrics import (
    asr_error_rate,
    character_error_rate,
    dialogue_cer,
    dialogue_wer,
    fold_emotion,
    judge_answer_prompt,
    judge_style_prompt,
    normalise_english,
    word_error_rate,
)


def test_rates_are_over_the_whole_corpus():
    assert word_error_rate(["a b c", "d"], ["a x c", "d e"]) == (0.5, 2, 4)
    assert character_error_rate(["abc", "d e"], ["abd", "de"]) == (2 / 6, 2, 6)
    assert word_error_rate([], []) == (0.0, 0, 0)
    assert word_error_rate(["A"], ["a"], normalise=str.lower).errors == 0


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_rate_is_a_distance(a, b):
    assert character_error_rate([a], [a]).errors == 0
    assert character_error_rate([a], [b]).errors == character_error_rate([b], [a]).errors <= max(len(a), len(b))


def test_endless_hypotheses_do_not_count():
    assert asr_error_rate(["a b", "c"], ["x " * 600, "c"]) == (0.0, 0, 1)
    assert asr_error_rate(["ab"], ["b"], unit="character") == (0.5, 1, 2)


def test_dialogue_questions_are_compared_without_case_and_punctuation():
    assert dialogue_wer(["What's this?"], ["whats THIS"]).errors == 0
    assert dialogue_cer(["今天是3月5日，对吗？"], ["今天是三月五日 对吗"]).errors == 0


@pytest.mark.parametrize("measure", [word_error_rate, character_error_rate, asr_error_rate])
def test_different_numbers_of_texts_are_refused(measure):
    with pytest.raises(InputError, match="1 references do not match 2 hypotheses"):
        measure(["a"], ["a", "b"])


@pytest.mark.parametrize(
    ("number", "spelled"),
    [
        ("0", "零"), ("10", "十"), ("12", "十二"), ("20", "二十"), ("110", "一百一十"), ("1005", "一千零五"), ("10010", "一万零一十"),
        ("100000", "十万"), ("100100000", "一亿零一十万"), ("123456789", "一亿二千三百四十五万六千七百八十九"), ("3.05", "三点零五"),
        ("12345678901234567", "一二三四五六七八九零一二三四五六七"),
    ],
)  # fmt: skip
def test_chinese_numbers(number, spelled):
    assert spell_number(number) == spelled


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("2008年", "二零零八年"), ("12.5％", "百分之十二点五"), ("3/4", "四分之三"), ("100元", "一百元"), ("房间号12345", "房间号一二三四五"),
        ("hello  world 你 好", "hello world你好"), ("010-12345678", "零一零一二三四五六七八"),
    ],
)  # fmt: skip
def test_chinese_text(text, normalised):
    assert normalise_chinese(text) == normalised


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789年月日元个%/.-: ab你好，。", max_size=20))
def test_chinese_text_is_normalised_once_and_for_all(text):
    once = normalise_chinese(text)
    assert normalise_chinese(once) == once
    assert not any(character in "0123456789，。%" for character in once)


def test_english_text_as_whispers_evaluation_writes_it():
    pytest.importorskip("whisper_normalizer", reason="the extra `eval` is not installed")
    assert normalise_english("Mr. Smith's colour is twenty-one, um, OK?") == "mister smith is color is 21 ok"


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "whisper_normalizer.english", None)
    text_metrics._whisper_normaliser.cache_clear()
    with pytest.raises(MissingDependencyError, match="normaliser is not installed"):
        normalise_english("x")


def test_emotions_are_folded_into_the_four_that_are_scored():
    assert [fold_emotion(name) for name in ("fearful", "disgusted", "neutral")] == ["sad", "angry", "neutral"]


def test_judge_prompts_hold_what_is_judged_once():
    for prompt in (judge_answer_prompt("Q{1}", "R{2}", "A{3}"), judge_answer_prompt("Q{1}", "R{2}", "A{3}", punctuation=False)):
        assert [prompt.count(part) for part in ("Q{1}", "R{2}", "A{3}", '"score": (int)')] == [1, 1, 1, 1]
    assert "does not contain punctuation" in judge_answer_prompt("q", "r", "a", punctuation=False)
    assert "Classification:\nsad\n" in judge_style_prompt("q", "a", "fearful", "low")
