from itertools import pairwise

import numpy as np
import pytest

from emova_sdk.components.nano.synthesis import BINS, Synthesizer, minimum_phase


def features(frames=120, f0=150.0):
    pitch = np.full(frames, f0, np.float32)
    power = np.full((frames, BINS), -4.0, np.float32) - np.linspace(0, 6, BINS, dtype=np.float32)
    noise = np.full((frames, BINS), 0.05, np.float32)
    return pitch, power, noise


def spoken(parts):
    synthesizer = Synthesizer()
    return np.concatenate([*(synthesizer.push(*part) for part in parts), synthesizer.finish()])


def test_frames_become_hops():
    assert len(spoken([features(100)])) == 100 * 160


def test_cut_anywhere_the_sound_is_the_same():
    pitch, power, noise = features()
    pitch[30:50] = 0
    whole = spoken([(pitch, power, noise)])
    cuts = [0, 1, 2, 17, 50, 51, 120]
    pieces = spoken([(pitch[a:b], power[a:b], noise[a:b]) for a, b in pairwise(cuts)])
    assert len(pieces) == len(whole)
    assert np.abs(pieces - whole).max() < 1e-6


@pytest.mark.parametrize("f0", [80.0, 150.0, 300.0])
def test_the_pitch_is_the_one_asked_for(f0):
    sound = spoken([features(200, f0)])[3200:-3200]
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18))
    hertz = np.fft.rfftfreq(1 << 18, 1 / 16000)
    near = (hertz > 0.7 * f0) & (hertz < 1.3 * f0)
    assert hertz[near][spectrum[near].argmax()] == pytest.approx(f0, rel=0.01)


def test_unvoiced_frames_are_noise_and_loud_ones_stay_in_range():
    pitch, power, noise = features()
    hiss = spoken([(np.zeros_like(pitch), power, noise)])
    assert 1e-4 < hiss.std() < 1
    assert np.abs(spoken([(pitch, power + 12, noise)])).max() <= 1.0


def test_minimum_phase_keeps_the_amplitude_and_is_causal():
    log_amplitude = np.log(1 + np.hanning(BINS))[None]
    spectrum = minimum_phase(log_amplitude)
    assert np.allclose(np.log(np.abs(spectrum)), log_amplitude, atol=1e-6)
    response = np.fft.irfft(spectrum[0])
    assert np.square(response[:512]).sum() > 0.99 * np.square(response).sum()
