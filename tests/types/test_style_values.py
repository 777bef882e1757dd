"""Styles: complete, checked, named as EMOVA names them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emova_sdk.errors import InputError
from emova_sdk.types import EMOTIONS, PITCHES, SPEEDS, PerceivedStyle, Style

STYLES = st.builds(
    Style,
    speaker=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.]{0,8}", fullmatch=True),
    emotion=st.sampled_from(EMOTIONS),
    pitch=st.sampled_from(PITCHES),
    speed=st.sampled_from(SPEEDS),
)


def test_the_name_of_a_style_is_emovas():
    assert Style(emotion="happy", pitch="high").condition == "gender-female_emotion-happy_speed-normal_pitch-high"


@given(STYLES)
def test_a_style_survives_its_name_and_json(style):
    assert Style.from_condition(style.condition) == style
    assert Style.from_dict(json.loads(json.dumps(style.to_dict()))) == style


@given(STYLES, st.dictionaries(st.sampled_from(["emotion", "pitch", "speed", "speaker"]), st.floats(0, 1)))
def test_a_perceived_style_survives_json(style, scores):
    perceived = PerceivedStyle(style, scores, "llm_core")
    assert PerceivedStyle.from_dict(json.loads(json.dumps(perceived.to_dict()))) == perceived


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"emotion": "glad"}, "emotion `glad` is not one of neutral, happy"),
        ({"pitch": "medium"}, "pitch `medium` is not one of low, normal, high"),
        ({"speed": ""}, "speed `` is not one of slow, normal, fast"),
        ({"speaker": "a_b"}, "speaker `a_b`"),
        ({"speaker": ""}, "speaker ``"),
        ({"speaker": "a\n"}, "speaker"),
        ({"tone": "warm"}, "`tone` is not an axis of a style"),
    ],
)
def test_a_wrong_style_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Style.from_dict(values)


@pytest.mark.parametrize(
    "condition",
    ["", "happy", "gender-female_emotion-happy_speed-normal", "gender-female_emotion-glad_speed-normal_pitch-low"],
)
def test_a_wrong_name_is_refused(condition):
    with pytest.raises(InputError):
        Style.from_condition(condition)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_is_a_probability(score):
    with pytest.raises(InputError, match="is not in"):
        PerceivedStyle(Style(), {"emotion": score})


def test_missing_axes_take_their_defaults():
    assert Style.from_dict({"emotion": "sad"}) == Style(emotion="sad")


@given(STYLES, st.sets(st.sampled_from(["emotion", "pitch", "speed", "speaker"])))
def test_no_guess_is_left_of_what_is_not_known(style, unknown):
    scores = {axis: 0.0 if axis in unknown else 0.5 for axis in style.to_dict()}
    perceived = PerceivedStyle(style, scores)
    kept = perceived.to_dict()["style"]
    assert {axis for axis in kept if kept[axis] is None} == unknown == set(perceived.unknown)
    assert {axis: kept[axis] for axis in kept if axis not in unknown}.items() <= style.to_dict().items()
    assert perceived.emotion == (None if "emotion" in unknown else style.emotion)
    assert perceived.style == Style(**{axis: value for axis, value in style.to_dict().items() if axis not in unknown})


def test_nothing_may_be_known():
    assert PerceivedStyle.nothing_known() == PerceivedStyle(Style(), {"speaker": 0, "emotion": 0, "pitch": 0, "speed": 0})
    assert PerceivedStyle(Style(emotion="sad")).emotion == "sad"  # not judged by a score, but known


def test_a_speaker_is_a_name() -> None:
    nobody: Any = None
    for wrong in (nobody, "", "a b"):
        with pytest.raises(InputError, match="is not a name"):
            Style(speaker=wrong)
