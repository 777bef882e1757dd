import threading

import numpy as np
import pytest

from emova_sdk import Audio
from emova_sdk.components.base import Space
from emova_sdk.components.emova.speech.speech_tokenizer import EmovaSpeechTokenizer
from emova_sdk.errors import BackendError, InputError

RATE = 16000


def sound(seconds, seed=0):
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)
    steps = np.arange(len(noise)) / RATE
    return Audio((0.1 * noise * np.sin(7 * steps) + 0.3 * np.sin(900 * steps * (1 + seed))).astype(np.float32), RATE)


@pytest.fixture(scope="module")
def tokenizer(combined):
    return EmovaSpeechTokenizer(str(combined), device="cpu", reduced=False)


def test_conformance(combined, check_all):
    check_all(lambda: EmovaSpeechTokenizer(str(combined), device="cpu"))


def test_facts_are_known_before_anything_is_loaded(combined):
    tokenizer = EmovaSpeechTokenizer(str(combined))
    assert tokenizer._net is None
    assert tokenizer.units == Space("emova-fsq-444", 64)
    assert (tokenizer.sample_rate, tokenizer.unit_rate) == (16000, 25)


def test_batches_equal_single_clips(combined, tokenizer):
    clips = [sound(1.0), sound(0.31, 1), sound(2.2, 2), Audio.silence(0, RATE)]
    alone = [tokenizer.encode([clip])[0] for clip in clips]
    assert tokenizer.encode(clips) == alone
    assert EmovaSpeechTokenizer(str(combined), device="cpu", reduced=False, batch_size=8).encode(clips) == alone
    assert [len(units) for units in alone] == [25, 8, 55, 0]


def test_units_are_reduced_by_default(combined, tokenizer):
    clip = sound(2)
    assert EmovaSpeechTokenizer(str(combined), device="cpu").encode([clip])[0] == tokenizer.encode([clip])[0].reduced()


@pytest.mark.parametrize("samples", [1, 256, 257, 640, 641])
def test_very_short_clips_have_a_rule(tokenizer, samples):
    assert len(tokenizer.encode([Audio(sound(1).samples[:samples], RATE)])[0]) == -(-samples // 640)


def test_a_stream_equals_the_whole(tokenizer):
    clip = sound(1.7)
    stream = tokenizer.stream()
    for at in range(0, len(clip.samples), 3000):
        assert stream.push(Audio(clip.samples[at : at + 3000], RATE)) == []
    assert stream.finish() == tokenizer.encode([clip])


def test_long_sounds_are_cut_into_windows_without_junk(combined, tokenizer):
    clip = sound(11)
    windowed = EmovaSpeechTokenizer(str(combined), device="cpu", reduced=False, window_s=4, context_s=0.5)
    found = windowed.encode([clip, sound(1)])
    assert len(found[0]) == len(tokenizer.encode([clip])[0]) == 275
    assert found[1] == tokenizer.encode([sound(1)])[0]
    first, *_, last = list(windowed._windows(clip.samples))
    assert (first.first, last.first) == (0, 12)
    assert sum(window.count for window in windowed._windows(clip.samples)) == 275


def test_the_original_way_with_long_sounds_keeps_its_padding(combined):
    tokenizer = EmovaSpeechTokenizer(str(combined), device="cpu", reduced=False, reference=True)
    samples = np.resize(sound(3).samples, 60 * RATE + 123)
    # One piece: 6001 frames, padded to 6016, are 1504 units; 1501 of them are sound.
    assert len(tokenizer.encode([Audio(samples, RATE)])[0]) == 1504
    assert len(tokenizer.encode([Audio(samples[: 60 * RATE], RATE)])[0]) == 1500


def test_phones(combined, tokenizer):
    with pytest.raises(BackendError, match="phone head"):
        tokenizer.phones([sound(1)])
    phones = EmovaSpeechTokenizer(str(combined), device="cpu", phones=True).phones([sound(1), Audio.silence(0, RATE)])
    assert phones[1] == ()
    assert set(phones[0]) <= {str(label) for label in range(9)}


def test_a_wrong_rate_or_option_is_refused(combined, tokenizer):
    with pytest.raises(InputError, match="8000 Hz"):
        tokenizer.encode([Audio.silence(1, 8000)])
    with pytest.raises(InputError, match="batch_size"):
        EmovaSpeechTokenizer(str(combined), batch_size=0)


def test_loading_from_several_threads_happens_once(combined, monkeypatch):
    from emova_sdk.components.emova.speech import speech_tokenizer

    reads = []
    original = speech_tokenizer.read_tensors
    monkeypatch.setattr(speech_tokenizer, "read_tensors", lambda path, **part: reads.append(path) or original(path, **part))
    tokenizer = EmovaSpeechTokenizer(str(combined), device="cpu")
    threads = [threading.Thread(target=tokenizer.load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1


def test_bfloat16_hears_nearly_the_same(combined, tokenizer):
    found = EmovaSpeechTokenizer(str(combined), device="cpu", reduced=False, dtype="bfloat16").encode([sound(4)])[0]
    assert (found.ids == tokenizer.encode([sound(4)])[0].ids).mean() > 0.7
