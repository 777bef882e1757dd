from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emova_sdk import Audio, SpeechUnits
from emova_sdk.components.base import Space
from emova_sdk.components.emova.speech.vocoder import EmovaVocoder, _pieces
from emova_sdk.components.emova.speech.vocoder_sampling import Sampling
from emova_sdk.errors import InputError
from emova_sdk.models.vits import frames_of

UNITS = SpeechUnits.of(np.random.default_rng(1).integers(0, 64, 40))


@pytest.fixture(scope="module")
def vocoder(combined):
    return EmovaVocoder(str(combined), device="cpu")


@pytest.fixture(scope="module")
def style(style_table):
    return style_table[41].numpy()


def joined(chunks, rate=22050):
    return Audio.concat([chunk.audio for chunk in chunks], sample_rate=rate).samples


def test_conformance(combined, check_all):
    check_all(lambda: EmovaVocoder(str(combined), device="cpu"))


def test_facts_are_known_before_anything_is_loaded(combined):
    vocoder = EmovaVocoder(str(combined))
    assert vocoder._net is None
    assert (vocoder.units, vocoder.style) == (Space("emova-fsq-444", 64), Space("emova-style", 12))
    assert vocoder.sample_rate == 22050


@torch.inference_mode()
def test_it_speaks_what_the_network_says(vocoder, style):
    net, noise = vocoder.net, torch.Generator().manual_seed(0)
    vector = torch.from_numpy(style)[None, :, None]
    encoded = net.encode(torch.from_numpy(UNITS.ids)[None], torch.tensor([40]))
    logs = net.log_durations(encoded, torch.randn(1, 2, 40, generator=noise), vector)
    durations = frames_of(logs, encoded.mask)
    prior, mask = net.spread(encoded, durations, torch.randn(1, 8, int(durations.sum()), generator=noise))
    expected = net.generator(net.flow.reverse(prior, mask, vector), vector)[0, 0].numpy()
    found = vocoder.synthesize([UNITS], style[None])[0].samples
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-6


@pytest.mark.parametrize("first_frames", [1, 8, 1000])
def test_a_stream_equals_the_whole(combined, style, first_frames):
    vocoder = EmovaVocoder(str(combined), device="cpu", first_frames=first_frames, chunk_frames=64)
    whole = vocoder.synthesize([UNITS], style[None])[0].samples
    stream = vocoder.stream(style)
    chunks = [chunk for part in np.array_split(UNITS.ids, 7) for chunk in stream.push(SpeechUnits(part))]
    chunks += stream.finish()
    assert np.abs(joined(chunks) - whole).max() <= 1e-6
    assert sum(chunk.units for chunk in chunks) == 40


def test_the_first_piece_comes_before_the_rest_is_made(combined, style):
    vocoder = EmovaVocoder(str(combined), device="cpu", first_frames=4, chunk_frames=32)
    made = []
    vocoder.net.generator.register_forward_pre_hook(lambda _, args: made.append(args[0].shape[-1]))
    stream = vocoder.stream(style)
    stream.push(UNITS)
    pieces = stream.drain()
    first = next(pieces)
    assert len(first.audio.samples) == 4 * 32
    assert made == [4 + vocoder.net.generator.context_frames]
    pieces.close()
    assert len(made) == 1


def test_phrases_are_spoken_before_the_stream_ends(combined, style):
    vocoder = EmovaVocoder(str(combined), device="cpu", phrase_units=12)
    stream = vocoder.stream(style)
    early = stream.push(SpeechUnits(UNITS.ids[:30]))
    assert sum(chunk.units for chunk in early) == 24
    late = [*stream.push(SpeechUnits(UNITS.ids[30:])), *stream.finish()]
    assert np.abs(joined(early + late) - vocoder.synthesize([UNITS], style[None])[0].samples).max() <= 1e-6


@given(st.integers(1, 900), st.integers(1, 40), st.integers(1, 300))
@settings(max_examples=50)
def test_pieces_cover_everything_once(total, first, largest):
    pieces = list(_pieces(total, first, largest))
    assert pieces[0][0] == 0
    assert pieces[-1][1] == total
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
    assert max(stop - start for start, stop in pieces) <= largest


def test_sampling(vocoder, style):
    def say(**changes):
        return vocoder.synthesize([UNITS], style[None], sampling=replace(vocoder.sampling, **changes))[0].samples

    assert np.array_equal(say(), say())
    assert not np.array_equal(say(seed=1), say())
    assert len(say(seed=None)) != len(say(seed=None)) or not np.array_equal(say(seed=None), say(seed=None))
    assert len(say(length_scale=2.0)) > 1.5 * len(say()) > 2 * len(say(length_scale=0.5))
    plain = say(noise_scale=0.0, noise_scale_duration=0.0)
    assert np.array_equal(plain, say(noise_scale=0.0, noise_scale_duration=0.0, seed=9))
    for wrong in ({"length_scale": 0.0}, {"noise_scale": -1.0}):
        with pytest.raises(InputError, match="out of range"):
            Sampling(**wrong)


def test_batch_items_do_not_influence_each_other(vocoder, style, style_table):
    other = SpeechUnits.of([1, 2, 3])
    styles = np.stack([style, style_table[3].numpy(), style])
    together = vocoder.synthesize([UNITS, other, SpeechUnits.of([])], styles)
    assert together[0] == vocoder.synthesize([UNITS], styles[:1])[0]
    assert together[1] == vocoder.synthesize([other], styles[1:2])[0]
    assert len(together[2].samples) == 0


def test_without_a_style_the_unconditional_voice_speaks(vocoder, style):
    free = vocoder.synthesize([UNITS], None)[0]
    assert free == vocoder.synthesize([UNITS], np.zeros((1, 12), np.float32))[0]
    assert free != vocoder.synthesize([UNITS], style[None])[0]
    stream = vocoder.stream(None)
    assert np.abs(joined([*stream.push(UNITS), *stream.finish()]) - free.samples).max() <= 1e-6


def test_wrong_input_is_refused(vocoder, style):
    with pytest.raises(InputError, match="unit `64` is outside"):
        vocoder.synthesize([SpeechUnits.of([64])], style[None])
    with pytest.raises(InputError, match="unit `99` is outside"):
        vocoder.stream(style).push(SpeechUnits.of([99]))
    with pytest.raises(InputError, match="shape"):
        vocoder.synthesize([UNITS], style[None, :5])
    with pytest.raises(InputError, match="shape"):
        vocoder.stream(style[:5])
    with pytest.raises(InputError, match="finite"):
        vocoder.stream(np.full(12, np.nan, np.float32))


def test_bfloat16_keeps_the_durations_and_nearly_the_sound(combined, vocoder, style):
    exact = vocoder.synthesize([UNITS], style[None])[0].samples
    quick = EmovaVocoder(str(combined), device="cpu", dtype="bfloat16").synthesize([UNITS], style[None])[0].samples
    assert len(quick) == len(exact)
    assert ((quick - exact) ** 2).sum() < 1e-2 * (exact**2).sum()
