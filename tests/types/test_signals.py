"""Sounds, pictures, units and features: what they refuse, and what they do."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from emova_sdk.errors import InputError
from emova_sdk.types import Audio, Image, SpeechUnits, VisionFeatures

# --- Audio ---


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        ([0.0, 0.1], 16_000, "audio samples are list, not a float32 array"),
        (np.zeros(3), 16_000, "audio samples are float64"),
        (np.zeros(3, np.int16), 16_000, "audio samples are int16"),
        (np.zeros((3, 2), np.float32), 16_000, r"audio has shape \(3, 2\)"),
        (np.zeros((), np.float32), 16_000, r"audio has shape \(\)"),
        (np.zeros(3, np.float32), 999, "sample rate `999`"),
        (np.zeros(3, np.float32), 400_000, "sample rate `400000`"),
        (np.zeros(3, np.float32), 16_000.0, "sample rate `16000.0`"),
        (np.zeros(3, np.float32), "16000", "sample rate `16000`"),
        (np.array([0, np.nan], np.float32), 16_000, "NaN or infinite"),
        (np.array([np.nan, 1], np.float32), 16_000, "NaN or infinite"),
        (np.array([0, -np.inf], np.float32), 16_000, "NaN or infinite"),
        (np.array([0, 20_000], np.float32), 16_000, r"peaks at 20000, far outside"),
    ],
)
def test_a_wrong_sound_is_refused_in_one_sentence(samples, rate, message):
    with pytest.raises(InputError, match=message) as error:
        Audio(samples, rate)
    assert "\n" not in error.value.message
    assert error.value.hint


def test_a_sound_knows_its_length_and_compares_by_content():
    sound = Audio(np.zeros(8000, np.float32), 16_000)
    assert (sound.duration_s, repr(sound)) == (0.5, "Audio(0.50 s, 16000 Hz)")
    assert sound == Audio.silence(0.5, 16_000)
    assert sound != Audio.silence(0.5, 8000)
    assert sound != "a sound"
    with pytest.raises(TypeError, match="unhashable"):
        hash(sound)


def test_a_sound_is_written_and_opened(tmp_path):
    sound = Audio(np.linspace(-1, 1, 1000, dtype=np.float32), 8000)
    path = sound.save(tmp_path / "a.flac")
    again = Audio.open(path)
    assert again.sample_rate == 8000
    assert np.abs(again.samples - sound.samples).max() < 1e-4
    with pytest.raises(InputError, match=r"the limit is 0.1 s"):
        Audio.open(path, max_duration_s=0.1)
    assert Audio.open(path.read_bytes()) == again


def test_pcm16():
    sound = Audio.from_pcm16(b"\x00\x00\xff\x7f", 8000)
    assert sound.samples.tolist() == [0.0, 32767 / 32768]
    assert Audio(np.array([0.0, 1.0], np.float32), 8000).to_pcm16() == b"\x00\x00\xff\x7f"
    assert Audio.from_pcm16(np.array([-32768], np.int16), 8000).samples.tolist() == [-1.0]


def test_sounds_are_joined_cut_and_resampled():
    a, b = Audio(np.full(100, 0.1, np.float32), 1000), Audio(np.full(50, 0.2, np.float32), 1000)
    joined = Audio.concat([a, b])
    assert joined.samples.shape == (150,)
    assert joined.cut(0.1, 0.12).samples.tolist() == pytest.approx([0.2] * 20)
    assert joined.cut(-1, 99) == joined
    assert Audio.concat([], sample_rate=1000) == Audio.silence(0, 1000)
    assert joined.resample(1000) is joined
    assert joined.resample(2000).samples.shape == (300,)
    with pytest.raises(InputError, match=r"rates \[1000, 2000\]"):
        Audio.concat([a, a.resample(2000)])
    with pytest.raises(InputError, match=r"rates \[\]"):
        Audio.concat([])


# --- Image ---


def picture(format_="PNG", size=(6, 4), mode="RGB", **options):
    buffer = io.BytesIO()
    Pillow.new(mode, size, 77).save(buffer, format=format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([[1]], "image pixels are list"),
        (np.zeros((4, 4, 3)), "image pixels are float64"),
        (np.zeros((4, 4), np.uint8), r"image has shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"image has shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"image has shape \(0, 4, 3\)"),
    ],
)
def test_a_wrong_picture_is_refused(pixels, message):
    with pytest.raises(InputError, match=message):
        Image(pixels)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_formats_are_opened_as_rgb(tmp_path, format_):
    path = tmp_path / "a"
    path.write_bytes(picture(format_))
    image = Image.open(path)
    assert (image.size, image.pixels.shape, image.pixels.dtype) == ((6, 4), (4, 6, 3), np.uint8)
    assert Image.open(path.read_bytes()) == image


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_modes_become_rgb(mode):
    format_ = "TIFF" if mode == "CMYK" else "PNG"
    assert Image.open(picture(format_, mode=mode)).pixels.shape == (4, 6, 3)


def test_a_picture_is_turned_upright():
    exif = Pillow.Exif()
    exif[0x0112] = 6
    assert Image.open(picture("JPEG", exif=exif.tobytes())).size == (4, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"text", "not a picture"),
        (picture(size=(60, 40))[:70], "cannot be read as a picture"),
        (picture("JPEG", size=(200, 200))[:600], "cannot be read as a picture"),
        (picture(size=(1, 1)), "1x1 pixels, too few"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for source in (path, str(path), content):
        with pytest.raises(InputError, match=message):
            Image.open(source)


def test_a_missing_picture_is_refused(tmp_path):
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "no.png", "does not exist")):
        with pytest.raises(InputError, match=message):
            Image.open(path)


@pytest.mark.parametrize("side", [100, 20_000])
def test_a_large_picture_is_refused_before_it_is_decoded(side):
    with pytest.raises(InputError, match="limit"):
        Image.open(picture(size=(side, side), mode="1"), max_pixels=5000)
    with pytest.raises(InputError, match="limit"):
        Image.open(picture(size=(20_000, 20_000), mode="1"))


def test_a_picture_is_saved_without_loss(tmp_path):
    image = Image(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    assert Image.open(image.save(tmp_path / "a.png")) == image
    assert image != Image(np.zeros((5, 7, 3), np.uint8))
    assert repr(image) == "Image(7x5)"
    with pytest.raises(TypeError, match="unhashable"):
        hash(image)


# --- SpeechUnits ---


@given(st.lists(st.integers(0, 99_999), max_size=30))
def test_units_survive_being_text(ids):
    units = SpeechUnits.of(ids)
    assert SpeechUnits.parse(units.to_text()) == units
    assert len(units) == len(ids)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_reduced_units_have_no_repeats(ids):
    reduced = SpeechUnits.of(ids).reduced()
    assert (reduced.ids[1:] != reduced.ids[:-1]).all()
    assert reduced.reduced() == reduced
    assert set(reduced.ids.tolist()) == set(ids)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2], "not an int64 array"),
        (np.array([1], np.int32), "not an int64 array"),
        (np.array([[1]], np.int64), "not an int64 array"),
        (np.array([3, -1], np.int64), "unit id `-1` is negative"),
    ],
)
def test_wrong_units_are_refused(ids, message):
    with pytest.raises(InputError, match=message):
        SpeechUnits(ids)


@pytest.mark.parametrize("text", ["hello", "<|speech_1|>x", "<|speech_-1|>", "<|speech_99999999999|>", "<|speech_|>"])
def test_what_is_no_unit_is_refused(text):
    with pytest.raises(InputError, match="is not a speech unit"):
        SpeechUnits.parse(text)


def test_units_show_their_number():
    units = SpeechUnits.of([7, 12])
    assert (units.to_text(), repr(units)) == ("<|speech_7|><|speech_12|>", "SpeechUnits(2 units)")
    assert SpeechUnits.parse(" <|speech_7|> \n<|speech_12|>") == units
    assert units != [7, 12]
    with pytest.raises(TypeError, match="unhashable"):
        hash(units)


# --- VisionFeatures ---


def test_features_are_one_matrix():
    assert len(VisionFeatures(np.zeros((4, 8), np.float32), (2, 2))) == 4
    for wrong in (np.zeros(4), np.zeros((1, 4, 8)), np.zeros((0, 8)), None):
        with pytest.raises(InputError, match="vision features have shape"):
            VisionFeatures(wrong, (2, 2))


@pytest.mark.parametrize("rate", [np.int64(16_000), np.uint16(16_000)])
def test_a_rate_may_be_an_integer_of_numpy(rate):
    sound = Audio(np.zeros(4, np.float32), rate)
    assert sound.sample_rate == 16_000
    assert type(sound.sample_rate) is int


@pytest.mark.parametrize("rate", [True, np.bool_(True), np.float64(16_000), None])
def test_a_rate_that_is_no_integer_is_refused(rate):
    with pytest.raises(InputError, match="sample rate"):
        Audio(np.zeros(4, np.float32), rate)


def test_masked_samples_are_refused():
    masked = np.ma.masked_array([0.0, 0.5], [False, True], np.float32)
    with pytest.raises(InputError, match="masked array"):
        Audio(masked, 16_000)
    with pytest.raises(InputError, match="masked array"):
        Audio.from_pcm16(masked.astype(np.int16), 16_000)


def stored(picture, kind):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_greys_of_16_bits_become_greys_of_8(kind):
    greys = np.array([[0, 10_000], [40_000, 65_535]], np.uint16)
    pixels = Image.open(stored(Pillow.fromarray(greys), kind)).pixels
    assert pixels[..., 0].tolist() == [[0, 39], [156, 255]]


@pytest.mark.parametrize(("dtype", "grey", "seen"), [(np.int32, 40_000, 156), (np.float32, 40_000, 156), (np.int32, 200, 200)])
def test_wide_greys_are_scaled_by_their_range(dtype, grey, seen):
    pixels = Image.open(stored(Pillow.fromarray(np.array([[0, grey], [0, 0]], dtype)), "TIFF")).pixels
    assert pixels[0, 1].tolist() == [seen] * 3


@pytest.mark.parametrize(
    ("dtype", "grey"), [(np.int32, 70_000), (np.int32, -1), (np.float32, 0.5), (np.float32, 1), (np.float32, np.nan)]
)
def test_greys_of_no_known_range_are_refused(dtype, grey):
    with pytest.raises(InputError, match="neither of 8 nor of 16 bits"):
        Image.open(stored(Pillow.fromarray(np.array([[0, grey], [0, 0]], dtype)), "TIFF"))


def test_what_is_transparent_is_white():
    pixels = np.full((2, 2, 4), 0, np.uint8)
    pixels[0, 0] = [255, 0, 0, 255]
    found = Image.open(stored(Pillow.fromarray(pixels, "RGBA"), "PNG")).pixels
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[1, 1].tolist() == [255, 255, 255]
