import numpy as np
import pytest

from emova_sdk.components.nano.prosody import (
    EMOTIONS,
    FINAL_FRAMES,
    Prosody,
    prosody_for,
    shape_pitch,
    shape_spectrum,
    warp_frequency,
)


def track(frames=200):
    f0 = (170 + 20 * np.sin(np.arange(frames) / 15)).astype(np.float32)
    f0[40:60] = 0
    return f0


def test_neutral_changes_nothing():
    f0 = track()
    assert np.allclose(shape_pitch(f0, Prosody(), median=170), f0, rtol=1e-5)
    power = np.random.default_rng(0).standard_normal((20, 513)).astype(np.float32)
    noise = np.full((20, 513), 0.3, np.float32)
    shaped, breath = shape_spectrum(power, noise, Prosody(), sample_rate=16000)
    assert np.allclose(shaped, power, atol=1e-5)
    assert np.allclose(breath, noise)


def test_pitch_moves_by_semitones_and_unvoiced_stays_unvoiced():
    f0 = track()
    high = shape_pitch(f0, Prosody(shift=12.0), median=170)
    assert np.allclose(high[f0 > 0], 2 * f0[f0 > 0], rtol=1e-4)
    assert np.all(high[f0 == 0] == 0)


def test_range_widens_about_the_median():
    f0 = track()
    wide = shape_pitch(f0, Prosody(range=2.0), median=170)
    voiced = f0 > 0
    assert np.log(wide[voiced]).std() == pytest.approx(2 * np.log(f0[voiced]).std(), rel=1e-3)


def test_a_track_shaped_in_pieces_equals_the_whole():
    f0, manner = track(), prosody_for("angry", "low", "fast")
    whole = shape_pitch(f0, manner, median=170)
    to_end = np.arange(len(f0), 0, -1, dtype=np.float32)
    pieces = [shape_pitch(f0[a:b], manner, median=170, start=a, to_end=to_end[a:b]) for a, b in ((0, 7), (7, 120), (120, 200))]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_the_closing_movement_is_only_at_the_end():
    f0 = np.full(200, 170, np.float32)
    rise = shape_pitch(f0, Prosody(final=4.0), median=170)
    assert np.allclose(rise[:-FINAL_FRAMES], 170, rtol=1e-5)
    assert rise[-1] > 170 * 1.2


def test_formants_move_up():
    peak = np.zeros((1, 513), np.float32)
    peak[0, 100] = 1
    assert int(warp_frequency(peak, 1.1)[0].argmax()) == 110


def test_vectors_round_trip_and_emotions_differ():
    rows = [manner.to_vector() for manner in EMOTIONS.values()]
    assert all(Prosody.from_vector(row).to_vector() == pytest.approx(row) for row in rows)
    assert len({row.tobytes() for row in rows}) == len(rows)


def test_strength_scales_the_emotion_only():
    weak = prosody_for("happy", "high", "slow", strength=0.0)
    assert weak == prosody_for("neutral", "high", "slow")
