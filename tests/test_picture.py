"""The pitch tracker on sounds of known pitch, and the picture of a conversation."""

from __future__ import annotations

import numpy as np
import pytest

from emova_sdk import Image, Pipeline, Style
from emova_sdk.acoustics import voiced_pitch
from emova_sdk.canvas import EMOTION_COLOURS
from emova_sdk.memory import SessionStore
from emova_sdk.picture import Panel, draw_turns
from emova_sdk.types import EMOTIONS, Audio


def _buzz(hertz: float, rate: int, *, seconds: float = 0.5) -> Audio:
    times = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * hertz * n * times) / n for n in range(1, 12) if hertz * n < rate / 2)
    return Audio((0.2 * np.asarray(wave)).astype(np.float32), rate)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000])
@pytest.mark.parametrize("hertz", [80.0, 110.0, 220.0, 390.0])
def test_pitch_of_a_buzz_is_found_within_one_percent(hertz, rate):
    track = voiced_pitch(_buzz(hertz, rate))
    assert np.median(track[track > 0]) == pytest.approx(hertz, rel=0.01)
    assert np.mean(track > 0) > 0.9


def test_pitch_follows_a_glide():
    rate, seconds = 16_000, 1.0
    times = np.arange(int(rate * seconds)) / rate
    phase = 2 * np.pi * (120 * times + 60 * times**2)
    wave = sum(np.sin(n * phase) / n for n in range(1, 8))
    track = voiced_pitch(Audio((0.2 * np.asarray(wave)).astype(np.float32), rate))
    centres = 0.01 * np.arange(len(track))
    voiced = track > 0
    assert np.allclose(track[voiced], (120 + 120 * centres)[voiced], rtol=0.02)


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32)
    assert np.mean(voiced_pitch(Audio(noise, 16_000)) > 0) < 0.1
    assert not voiced_pitch(Audio.silence(0.5, 16_000)).any()
    assert not voiced_pitch(Audio.silence(0.01, 16_000)).any()


def test_the_picture_holds_the_colour_of_each_emotion():
    panels = [Panel("emova", f"this is {emotion}", emotion, emotion, _buzz(150, 16_000)) for emotion in EMOTIONS]
    picture = draw_turns(panels, title="all of them")
    colours = {tuple(pixel) for pixel in picture.pixels.reshape(-1, 3)[::7].tolist()}
    assert set(EMOTION_COLOURS.values()) <= colours
    assert set(EMOTION_COLOURS) == set(EMOTIONS)


def test_the_picture_of_little():
    panels = [
        Panel("you", "a typed line that is so long that it cannot stand on one line of the picture " * 3, "", "", None),
        Panel("emova", "", "neutral", "no voice", None),
        Panel("you", "silence", "neutral", "style not heard", Audio.silence(0.003, 16_000)),
    ]
    assert draw_turns(panels).size[0] == draw_turns([]).size[0]


def test_a_session_draws_its_own_conversation(tmp_path):
    with Pipeline.from_config("fake") as pipeline, SessionStore(tmp_path / "talk.db") as store:
        session = store.session(pipeline, "anna")
        session.ask(_buzz(150, 16_000), style=Style(emotion="sad"))
        running = session.picture(title="anna")
        assert running == store.session(pipeline, "anna").picture(title="anna")  # its sounds are read from the store
        assert EMOTION_COLOURS["sad"] in {tuple(pixel) for pixel in running.pixels.reshape(-1, 3)[::7].tolist()}
        for file in (store.media / "anna").iterdir():
            file.unlink()
        gone = store.session(pipeline, "anna").picture(title="anna")
        assert gone.size == running.size
        assert gone != running
    assert Image.open(running.save(tmp_path / "anna.png")) == running
