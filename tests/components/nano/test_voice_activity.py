"""What nobody said is told from speech, and silence around speech changes nothing."""

import numpy as np
import pytest

from emova_sdk import Audio, Pipeline, Style
from emova_sdk.components.nano.voice_activity import speech_in, without_drift

RATE = 16_000
TIME = np.arange(2 * RATE) / RATE
QUESTION = "what is forty two plus nineteen"


def tones(*hertz):
    return sum(np.sin(2 * np.pi * one * TIME) for one in hertz) / len(hertz)


def gliding(hertz):
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(hertz, TIME.shape)) / RATE)


def noise(seed=0, *, falls=0.0):
    """Noise whose power falls by ``falls`` powers of the frequency: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(TIME)))
    found = np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(len(TIME), 1 / RATE), 20) ** (falls / 2), len(TIME))
    return found / np.abs(found).max()


def clicks(seed, number, decay_s):
    """Short bursts at random places."""
    random, found = np.random.default_rng(seed), np.zeros(len(TIME))
    found[random.integers(0, len(TIME), number)] = random.uniform(0.5, 1.0, number)
    burst = random.standard_normal(int(8 * decay_s * RATE)) * np.exp(-np.arange(int(8 * decay_s * RATE)) / (decay_s * RATE))
    heard = np.convolve(found, burst)[: len(TIME)]
    return heard / np.abs(heard).max()


def in_bursts(sound, on_s, off_s):
    return sound * (TIME % (on_s + off_s) < on_s)


def melody(seed):
    pitches = 220 * 2 ** (np.random.default_rng(seed).integers(0, 24, 8) / 12)
    fades = np.exp(-3 * (TIME % 0.25)) * np.minimum(1, TIME % 0.25 / 0.01)
    return fades * sum(gliding(np.repeat(pitches, RATE // 4) * harmonic) / harmonic for harmonic in range(1, 6)) / 2


KEYS = in_bursts(
    gliding(np.repeat([697, 770, 852, 941], RATE // 2)) + gliding(np.repeat([1209, 1336, 1477, 1209], RATE // 2)), 0.1, 0.1
)
NOT_SPEECH = {
    "silence": 0 * TIME,
    "nearly silence": 3e-5 * noise(),
    "offset": 0.3 + 0 * TIME,
    "offset that jumps": np.repeat([0.0, 0.3, -0.2, 0.1], RATE // 2),
    "offset with noise": 0.05 + 0.001 * noise(1),
    "drift": 0.5 * gliding(0.4),
    "white noise": 0.3 * noise(2),
    "quiet white noise": 0.004 * noise(3),
    "pink noise": 0.5 * noise(4, falls=1),
    "brown noise": 0.5 * noise(5, falls=2),
    "blue noise": 0.2 * noise(6, falls=-1),
    "clipped noise": np.clip(9 * noise(7), -0.9, 0.9),
    "noise that swells": noise(8) * (0.15 + 0.15 * np.sin(2 * np.pi * 4 * TIME)),
    "noise in bursts": in_bursts(0.3 * noise(9, falls=1), 0.15, 0.12),
    "hum of mains": sum(gliding(50 * harmonic) / harmonic for harmonic in range(1, 9)) / 5,
    "hum, offset, noise": 0.1 + 0.02 * tones(60, 120, 180, 240) + 0.002 * noise(10),
    "tone": 0.5 * tones(440),
    "chord": 0.4 * tones(261.6, 329.6, 392.0),
    "square wave": 0.3 * np.sign(tones(150)),
    "beeps": in_bursts(0.3 * np.sign(tones(440)), 0.2, 0.2),
    "sweep": 0.5 * gliding(np.linspace(100, 4000, len(TIME))),
    "siren": 0.4 * gliding(700 + 300 * np.sin(2 * np.pi * 0.5 * TIME)),
    "chirps": in_bursts(gliding(300 + 9000 * (TIME % 0.3)), 0.15, 0.15),
    "keys of a telephone": 0.3 * KEYS,
    "melody": 0.4 * melody(0),
    "clicks": 0.7 * clicks(11, 12, 0.001),
    "knocks": 0.7 * clicks(12, 6, 0.015),
    "rain": 0.3 * clicks(13, 2000, 0.001),
    "applause": 0.5 * clicks(14, 300, 0.006),
    "pulses": 0.5 * (np.arange(len(TIME)) % 160 == 0),
    "thump": 0.8 * np.exp(-20 * TIME) * tones(60),
    "wind": noise(15, falls=1.5) * (0.3 + 0.2 * np.sin(2 * np.pi * 0.7 * TIME)),
}  # fmt: skip


def as_sound(samples):
    return np.asarray(samples, np.float32)


@pytest.fixture(scope="module")
def nano():
    with Pipeline.from_config("emova-nano") as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def spoken(nano):
    """Sentences of both speakers in all emotions, two of them single words."""
    texts = [QUESTION, "hello", "my dog died", "goodbye"]
    styles = [Style(s, e) for s in ("female", "male") for e in ("neutral", "happy", "sad", "angry")]
    return [nano.speak(texts[place % 4], style=style).samples for place, style in enumerate(styles)]


@pytest.mark.parametrize("name", NOT_SPEECH)
@pytest.mark.parametrize("level", [1.0, 0.1])
def test_what_nobody_said_is_no_speech(name, level):
    assert not len(speech_in(as_sound(level * NOT_SPEECH[name])))


@pytest.mark.parametrize("level", [1.0, 0.01])
@pytest.mark.parametrize("falls", [0.0, 1.0])
@pytest.mark.parametrize("above_db", [20, 15])
def test_speech_in_noise_is_speech(spoken, level, falls, above_db):
    for place, samples in enumerate(spoken):
        hiss = noise(place, falls=falls)[: len(samples)]
        hiss = np.pad(hiss, (0, len(samples) - len(hiss)), mode="wrap")
        loudness = np.sqrt(np.square(samples).mean() / np.square(hiss).mean()) * 10 ** (-above_db / 20)
        assert len(speech_in(as_sound(level * (samples + loudness * hiss)))) > 0.25 * RATE


def test_a_sound_too_short_for_anything_is_no_speech():
    for length in (0, 1, 1599):
        assert not len(speech_in(np.ones(length, np.float32)))


def test_an_offset_is_taken_away_and_a_voice_is_not():
    low_voice = as_sound(0.3 * tones(70))
    kept = without_drift(low_voice + np.float32(0.2))
    assert abs(float(kept.mean())) < 1e-3
    assert np.abs(kept - low_voice)[RATE // 10 : -RATE // 10].max() < 0.05


def test_silence_around_speech_is_cut_and_so_are_long_pauses(spoken):
    pause = np.zeros(3 * RATE, np.float32)
    alone = speech_in(spoken[0])
    padded = speech_in(np.concatenate([pause, spoken[0], pause]))
    assert abs(len(padded) - len(alone)) < 0.25 * RATE
    twice = speech_in(np.concatenate([pause, spoken[0], pause, spoken[0], pause]))
    assert abs(len(twice) - 2 * len(padded)) < 0.1 * RATE
    clicks_before = np.concatenate([as_sound(0.1 * clicks(3, 5, 0.001)), pause, spoken[0]])
    assert abs(len(speech_in(clicks_before)) - len(alone)) < 0.25 * RATE


@pytest.mark.parametrize("floor", [0.0, 0.002])
def test_a_question_is_understood_with_silence_around_it_and_in_it(nano, floor):
    question = nano.speak(QUESTION)
    middle = len(nano.speak("what is forty two").samples)
    pause = np.zeros(3 * RATE, np.float32)
    around = np.concatenate([pause, question.samples, pause])
    within = np.concatenate([pause, question.samples[:middle], pause[:RATE], question.samples[middle:], pause])
    for samples in (question.samples, around, within):
        hiss = floor * np.random.default_rng(0).standard_normal(len(samples))
        heard = nano.transcribe(Audio(as_sound(samples + hiss), RATE))
        assert heard.text == QUESTION and heard.confidence > 0.5


@pytest.mark.parametrize("name", ["offset", "white noise", "hum, offset, noise", "clicks"])
def test_the_whole_assistant_declines_what_nobody_said(nano, name):
    sound = Audio(as_sound(NOT_SPEECH[name]), RATE)
    assert nano.transcribe(sound).confidence == 0.0
    reply = nano.session().ask(sound)
    assert reply.transcript is not None and reply.transcript.text == ""
    assert reply.turn.metadata["declined"] == "no speech"
    assert reply.user_style is not None and reply.user_style.emotion is None
    assert reply.text == "I did not catch that."
