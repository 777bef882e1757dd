import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from emova_sdk import Audio, Style
from emova_sdk.components.base import Space
from emova_sdk.components.emova.speech.style import CONDITIONS, EmovaStyle, interpolate
from emova_sdk.errors import InputError, LoadError

VOICE = Audio(np.random.default_rng(3).standard_normal(20000).astype(np.float32) * 0.2, 22050)


@pytest.fixture(scope="module")
def styles(combined):
    return EmovaStyle(str(combined), device="cpu")


@pytest.fixture
def centroids(tmp_path, style_table):
    for name, vector in zip(CONDITIONS, style_table.numpy(), strict=True):
        np.save(tmp_path / f"{name}_centroid_style_embedding.npy", vector)
    return tmp_path


def test_conformance(combined, check_all):
    check_all(lambda: EmovaStyle(str(combined), device="cpu"))


def test_the_126_styles_and_their_order():
    assert len(set(CONDITIONS)) == len(CONDITIONS) == 126
    assert CONDITIONS[41] == "gender-female_emotion-neutral_speed-normal_pitch-normal"
    assert CONDITIONS[0] == "gender-female_emotion-angry_speed-fast_pitch-high"
    assert list(CONDITIONS) == sorted(CONDITIONS)


def test_facts_are_known_before_anything_is_loaded(combined):
    styles = EmovaStyle(str(combined))
    assert styles._table is None
    assert styles.style == Space("emova-style", 12)
    assert {axis: len(values) for axis, values in styles.choices.items()} == {
        "speaker": 2,
        "emotion": 7,
        "pitch": 3,
        "speed": 3,
    }


def test_a_style_is_its_row(styles, style_table):
    asked = [Style(), Style("male", "sad", "low", "slow")]
    rows = [CONDITIONS.index(style.condition) for style in asked]
    assert np.array_equal(styles.embed(asked), style_table.numpy()[rows])
    assert styles.embed([]).shape == (0, 12)
    with pytest.raises(InputError, match="gender-anna"):
        styles.embed([Style("anna")])


def test_the_config_says_which_row_is_which(combined, configs, tmp_path, style_table):
    table = {name: 125 - row for row, name in enumerate(CONDITIONS)}
    (tmp_path / "config.json").write_text(json.dumps(configs["combined"] | {"u2s_style2idx": table}))
    save_file(load_file(combined / "model.safetensors"), tmp_path / "model.safetensors")
    assert np.array_equal(EmovaStyle(str(tmp_path)).embed([Style()])[0], style_table[125 - 41].numpy())


def test_centroid_files(combined, centroids, style_table):
    by_name = EmovaStyle(str(combined), centroids=str(centroids))
    assert np.array_equal(by_name.embed([Style()])[0], style_table[41].numpy())
    lines = ["condition|style_centroid_file", f"{CONDITIONS[41]}|./some/where/{CONDITIONS[0]}_centroid_style_embedding.npy"]
    (centroids / "condition2style_centroid.txt").write_text("\n".join(lines))
    indexed = EmovaStyle(str(combined), centroids=str(centroids))
    assert np.array_equal(indexed.embed([Style()])[0], style_table[0].numpy())
    assert indexed.choices["emotion"] == ("neutral",)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (lambda content: content[:-4], "bytes"),
        (lambda content: b"\x80\x04" + content[2:], "NumPy file"),
        (lambda content: content.replace(b"<f4", b"<i4"), "float32"),
    ],
)
def test_a_broken_centroid_file_is_named(combined, centroids, spoil, message):
    path = centroids / f"{CONDITIONS[41]}_centroid_style_embedding.npy"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(LoadError, match=message) as error:
        EmovaStyle(str(combined), centroids=str(centroids)).load()
    assert error.value.path == str(path)


def test_places_without_styles(combined, tmp_path, vits_tensors, configs):
    with pytest.raises(LoadError, match="holds no"):
        EmovaStyle(str(combined), centroids=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(configs["u2s"]))
    save_file({name: value.contiguous() for name, value in vits_tensors.items()}, tmp_path / "weights.safetensors")
    with pytest.raises(LoadError, match=r"style_embedding\.weight") as error:
        EmovaStyle(str(tmp_path)).load()
    assert "centroids" in error.value.hint


def test_the_style_of_a_recording(styles, combined):
    vectors = styles.embed_recordings([VOICE, VOICE.resample(16000)])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert np.array_equal(styles.embed_recordings([VOICE])[0], vectors[0])
    with pytest.raises(InputError, match="too short"):
        styles.embed_recordings([Audio.silence(0.001, 22050)])


def test_bring_your_own_voice(combined):
    styles = EmovaStyle(str(combined), device="cpu")
    styles.add_voice("anna", VOICE)
    assert "anna" in styles.choices["speaker"]
    own = styles.embed_recordings([VOICE])[0]
    assert np.array_equal(styles.embed([Style("anna", "sad")])[0], own)
    loud = Audio(VOICE.samples[::-1].copy(), 22050)
    styles.add_voice("anna", loud, like=Style(emotion="angry"))
    assert np.array_equal(styles.embed([Style("anna", "angry")])[0], styles.embed_recordings([loud])[0])
    assert np.array_equal(styles.embed([Style("anna", "happy")])[0], own)
    with pytest.raises(InputError, match="already"):
        styles.add_voice("male", VOICE)


@given(st.floats(0, 1))
def test_interpolation_keeps_the_length(weight):
    first, second = np.eye(4, dtype=np.float32)[0], 3 * np.eye(4, dtype=np.float32)[1]
    mixed = interpolate(first, second, weight)
    assert np.linalg.norm(mixed) == pytest.approx(1 + 2 * weight, abs=1e-5)
    assert np.array_equal(interpolate(first, second, 0.0), first)
    assert np.allclose(interpolate(first, second, 1.0), second)


def test_interpolation_refuses_nonsense():
    vector = np.ones(4, np.float32)
    for first, second, weight in ((vector, vector[:3], 0.5), (vector, vector, 1.5), (vector, -vector, 0.5)):
        with pytest.raises(InputError):
            interpolate(first, second, weight)
