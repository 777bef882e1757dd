"""Messages, events, references to media, and turns that survive JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emova_sdk.errors import InputError
from emova_sdk.types import (
    Audio,
    Image,
    MediaRef,
    Message,
    Metadata,
    PerceivedStyle,
    SpeechUnits,
    Style,
    Timings,
    ToolCall,
    ToolResult,
    ToolSpec,
    Turn,
)

SOUND = Audio(np.array([0.1, -2.5, 1e-8], np.float32), 16_000)
PICTURE = Image(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_objects = st.dictionaries(st.text(max_size=5), _json, max_size=3)
_seconds = st.none() | st.floats(0, 1e6)
_turns = st.builds(
    Turn,
    role=st.sampled_from(["user", "assistant"]),
    text=st.text(max_size=20),
    style=st.none() | st.just(Style("male", "angry", "low", "fast")),
    requested_style=st.none() | st.just(Style(emotion="fearful")),
    perceived=st.none() | st.just(PerceivedStyle(Style(emotion="sad"), {"emotion": 0.5}, "llm_core")),
    tool_calls=st.lists(st.builds(ToolCall, st.text(max_size=3), st.text(max_size=3), _objects), max_size=2).map(tuple),
    tool_results=st.lists(st.builds(ToolResult, st.text(), st.text(), st.text(), st.booleans()), max_size=2).map(tuple),
    interrupted=st.booleans(),
    heard_text=st.none() | st.text(max_size=20),
    timings=st.none() | st.builds(Timings, _seconds, _seconds, _seconds, _seconds, st.floats(0, 1e6)),
    metadata=_objects,
)


@given(_turns)
def test_a_turn_survives_json(turn):
    assert Turn.from_dict(json.loads(json.dumps(turn.to_dict()))) == turn


def test_a_turn_refers_to_its_media_and_never_holds_them(tmp_path):
    turn = Turn("user", "look", audio=SOUND, images=(PICTURE,))
    again = Turn.from_dict(json.loads(json.dumps(turn.to_dict(tmp_path))))
    assert again.audio.load(tmp_path) == SOUND
    assert again.images[0].load(tmp_path) == PICTURE
    assert again.audio.duration_s == SOUND.duration_s
    assert again.to_dict(tmp_path) == turn.to_dict(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    bare = Turn.from_dict(turn.to_dict())
    assert bare.audio == MediaRef("", "audio/wav", again.audio.sha256, SOUND.duration_s)
    assert len(json.dumps(turn.to_dict())) < 1500


def test_media_that_were_not_kept_or_have_changed_are_refused(tmp_path):
    ref = MediaRef.save(PICTURE, tmp_path)
    with pytest.raises(InputError, match="was not kept"):
        MediaRef.of(PICTURE).load(tmp_path)
    with pytest.raises(InputError, match="was not kept"):
        replace(ref, uri=f"../{tmp_path.name}/../x.png").load(tmp_path)
    with pytest.raises(InputError, match="was not kept"):
        replace(ref, uri="/etc/hostname").load(tmp_path)
    Image(PICTURE.pixels + 1).save(tmp_path / ref.uri)
    with pytest.raises(InputError, match="its content has changed"):
        ref.load(tmp_path)
    (tmp_path / ref.uri).unlink()
    with pytest.raises(InputError, match="does not exist"):
        ref.load(tmp_path)


@pytest.mark.parametrize("media", [Audio.silence(0, 8000), Audio.silence(0.01, 44_100), Image(np.zeros((1, 1, 3), np.uint8))])
def test_the_smallest_media_are_kept(media, tmp_path):
    assert MediaRef.save(media, tmp_path / "new").load(tmp_path / "new") == media


FLOATS = st.floats(-2, 2, width=32) | st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, -1.0, 1.0])


@given(samples=st.lists(FLOATS, max_size=40), rate=st.sampled_from([8000, 16_000, 44_100]))
def test_a_kept_sound_comes_back_bit_for_bit(tmp_path_factory, samples, rate):
    folder = tmp_path_factory.mktemp("media")
    sound = Audio(np.array(samples, np.float32), rate)
    loaded = MediaRef.save(sound, folder).load(folder)
    assert (loaded.samples.tobytes(), loaded.sample_rate) == (sound.samples.tobytes(), rate)


@pytest.mark.parametrize("missing", ["text", "role", "tool_calls", "timings"])
def test_a_turn_that_was_cut_off_is_refused(missing):
    data = Turn("assistant", "hi", timings=Timings()).to_dict()
    del data[missing]
    with pytest.raises(InputError, match="a saved turn cannot be read"):
        Turn.from_dict(data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("style", {"emotion": "glad"}),
        ("role", "robot"),
        ("tool_calls", [{"x": 1}]),
        ("images", 3),
        ("style", 3),
        ("timings", {"x": 1}),
    ],
)
def test_a_turn_with_a_wrong_value_is_refused(key, value):
    with pytest.raises(InputError):
        Turn.from_dict({**Turn("assistant", "hi").to_dict(), key: value})


def test_what_was_heard_is_the_text_unless_told():
    assert Turn("assistant", "all of it").heard_text == "all of it"
    assert Turn("assistant", "all of it", interrupted=True, heard_text="all").heard_text == "all"
    assert Turn("user", "a").id != Turn("user", "a").id


def test_the_real_time_factor():
    assert Timings(total_s=1.0, audio_s=4.0).real_time_factor == 0.25
    assert Timings(total_s=1.0).real_time_factor is None
    assert Timings(audio_s=1.0).real_time_factor is None


# --- messages and events ---


def test_a_message_holds_parts():
    message = Message("user", ("a", SpeechUnits.of([1]), PICTURE, "b"), style=Style())
    assert message.text == "a\nb"
    with pytest.raises(InputError, match="cannot hold a int"):
        Message("user", (3,))
    with pytest.raises(InputError, match="role `robot`"):
        Message("robot", ())


def test_arguments_of_a_call_are_json():
    assert ToolCall("1", "add", {"x": (1, 2)}).arguments == {"x": [1, 2]}
    assert ToolCall("1", "add", {}).to_dict() == {"id": "1", "name": "add", "arguments": {}}
    for wrong in ({"x": float("nan")}, {"x": object()}, {"x": SOUND}):
        with pytest.raises(InputError, match="cannot be kept as JSON"):
            ToolCall("1", "add", wrong)
        with pytest.raises(InputError, match="cannot be kept as JSON"):
            Metadata(wrong)
    assert ToolResult("1", "add", "3").to_dict()["failed"] is False


@pytest.mark.parametrize("name", ["", "1st", "a b", "a" * 65, "ä"])
def test_a_tool_has_a_plain_name(name):
    with pytest.raises(InputError, match="tool name"):
        ToolSpec(name, "")


def test_a_tool_without_parameters_has_an_empty_schema():
    assert ToolSpec("now", "Tells the time.").parameters == {"type": "object", "properties": {}}
