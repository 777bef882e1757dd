"""Nano's shipped ear, voice and style perception together."""

import numpy as np
import pytest

from emova_sdk.acoustics import pitch_track
from emova_sdk.components.nano.familiar import Familiar
from emova_sdk.components.nano.prosody import prosody_for
from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule, read_style_vector, style_vector
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vocoder import NanoUnitVocoder, moved
from emova_sdk.errors import InputError, LoadError
from emova_sdk.testing.conformance import conformance
from emova_sdk.types import Audio, PerceivedStyle, SpeechUnits, Style

TEXT = "the red circle is left of the blue square"


@pytest.fixture(scope="module")
def parts():
    return NanoSpeechTokenizer(), NanoStyleModule(), NanoUnitVocoder(), TextToUnits()


def say(parts, text=TEXT, **style):
    _, module, vocoder, reader = parts
    return vocoder.synthesize([reader(text)], module.embed([Style(**style)]))[0]


@conformance(NanoSpeechTokenizer)
def test_tokenizer_conforms(check):
    check.run()


@conformance(NanoStyleModule)
def test_style_module_conforms(check):
    check.run()


@conformance(NanoUnitVocoder)
def test_vocoder_conforms(check):
    check.run()


def test_what_it_says_it_hears(parts):
    heard = parts[0].phones([say(parts)])[0]
    expected = ["r", "eh", "d", "s", "er", "k", "ah", "l"]
    found = " ".join(heard)
    assert sum(phone in found.split() for phone in expected) >= 6


def test_confidence_tells_speech_from_noise(parts):
    noise = Audio((0.3 * np.random.default_rng(0).standard_normal(32000)).astype(np.float32), 16000)
    speech, hiss = parts[0].confidence([say(parts), noise])
    assert speech > hiss


def median_pitch(sound):
    pitch, strength = pitch_track(sound.samples)
    return float(np.median(pitch[strength > 0.6]))


@pytest.mark.parametrize("speaker", ["female", "male"])
def test_pitch_and_speed_are_ordered(parts, speaker):
    pitches = [median_pitch(say(parts, speaker=speaker, pitch=pitch)) for pitch in ("low", "normal", "high")]
    assert pitches[0] < 0.93 * pitches[1] < 0.93 * 0.93 * pitches[2]
    lengths = [say(parts, speaker=speaker, speed=speed).duration_s for speed in ("fast", "normal", "slow")]
    assert lengths[0] < 0.9 * lengths[1] < 0.9 * 0.9 * lengths[2]


def test_the_man_is_lower_than_the_woman(parts):
    assert median_pitch(say(parts, speaker="male")) < 0.75 * median_pitch(say(parts, speaker="female"))


def test_a_style_asked_for_is_perceived(parts):
    found = parts[1].perceive([say(parts, emotion="sad", speaker="male"), say(parts, emotion="angry", speaker="female")])
    assert [f.style.speaker for f in found] == ["male", "female"]
    assert [f.style.emotion for f in found] == ["sad", "angry"]


def test_of_silence_and_noise_no_style_is_known(parts):
    noise = Audio((0.3 * np.random.default_rng(1).standard_normal(16000)).astype(np.float32), 16000)
    assert parts[1].perceive([Audio.silence(1.0, 8000), noise]) == [PerceivedStyle.nothing_known()] * 2


def test_style_vectors_round_trip():
    manner = prosody_for("angry", "low", "fast")
    speaker, found = read_style_vector(style_vector("male", manner))
    assert speaker == "male"
    assert found.to_vector() == pytest.approx(manner.to_vector(), abs=1e-4)


def test_sounds_of_another_rate_are_refused(parts):
    with pytest.raises(InputError, match="8000 Hz"):
        parts[0].encode([Audio.silence(1.0, 8000)])


def test_a_missing_folder_is_a_load_error(tmp_path):
    for part in (NanoSpeechTokenizer, NanoStyleModule, NanoUnitVocoder, TextToUnits):
        with pytest.raises(LoadError):
            part(path=str(tmp_path))


def test_long_texts_are_said_in_parts(parts):
    units = parts[3](", ".join([TEXT] * 30))
    assert len(units) > 200
    assert int(units.ids.max()) < parts[3].units.size


def test_texts_without_words_give_no_units(parts):
    assert len(parts[3]("...")) == 0
    assert parts[2].synthesize([SpeechUnits.of([])], parts[1].embed([Style()]))[0].duration_s < 0.5


def test_movement_is_exaggerated_and_what_stands_still_stays():
    still = np.full((20, 60), -3.0, np.float32)
    assert np.allclose(moved(still, 0.7), still)
    step = np.concatenate([np.zeros((10, 60), np.float32), np.ones((10, 60), np.float32)])
    sharp = moved(step, 0.7)
    assert sharp[9].max() < 0 < 1 < sharp[10].min()
    assert np.allclose(sharp[[0, 19]], step[[0, 19]])
    assert moved(step, 0.0) is step
    assert moved(step[:1], 0.7).shape == (1, 60)


def test_of_a_voice_unlike_those_it_learnt_no_style_is_known(parts):
    samples = say(parts, emotion="sad").samples
    hiss = np.random.default_rng(0).standard_normal(len(samples)) * np.sqrt(np.square(samples).mean()) / 8
    strange = Audio((samples + hiss).astype(np.float32), 16_000)
    assert parts[1].perceive([strange]) == [PerceivedStyle.nothing_known()]
    (judged,) = NanoStyleModule(only_familiar=False).perceive([strange])
    assert judged.emotion is not None


def test_voices_are_known_by_their_statistics(tmp_path):
    random = np.random.default_rng(0)
    mixing = random.standard_normal((4, 4))
    rows = [(mixing @ random.standard_normal(4)).astype(np.float32) for _ in range(400)]
    Familiar.of(rows).save(tmp_path)
    kept = Familiar.load(tmp_path)
    distances = [kept.distance(row) for row in rows]
    assert 0.8 < np.mean(np.square(distances)) < 1.1
    assert kept.distance(rows[0] + 100) > 5 * max(distances)
    assert Familiar.load(tmp_path / "nowhere") is None
    (tmp_path / "familiar.safetensors").write_bytes(b"cut off")
    with pytest.raises(LoadError, match="familiar"):
        Familiar.load(tmp_path)
