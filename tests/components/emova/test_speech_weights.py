"""Every published layout loads; everything else is one error that names the tensor or the file."""

import json
import shutil
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from emova_sdk import Audio, SpeechUnits
from emova_sdk.components.emova.speech.speech_checkpoint import SpeechCheckpoint, read_tensors
from emova_sdk.components.emova.speech.speech_tokenizer import EmovaSpeechTokenizer
from emova_sdk.components.emova.speech.style import EmovaStyle
from emova_sdk.components.emova.speech.vocoder import EmovaVocoder
from emova_sdk.errors import LoadError

CLIP = Audio(np.random.default_rng(0).standard_normal(9000).astype(np.float32) * 0.1, 16000)
UNITS = SpeechUnits.of([3, 9, 27, 60])


def store(folder, config, tensors, name):
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if name.endswith(".safetensors"):
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)
    else:
        torch.save(tensors, folder / name)
    return str(folder)


def hear(model):
    return EmovaSpeechTokenizer(model, device="cpu", reduced=False).encode([CLIP])[0]


def speak(model):
    return EmovaVocoder(model, device="cpu").synthesize([UNITS], None)[0].samples


def test_the_speech_tokenizer_in_every_layout(combined, spiral_tensors, configs, tmp_path):
    expected = hear(str(combined))
    alone = store(tmp_path / "a", configs["s2u"], spiral_tensors, "weights.safetensors")
    lightning = store(tmp_path / "b", configs["s2u"], {"state_dict": spiral_tensors, "epoch": 3}, "val_wer=0.03.ckpt")
    assert hear(alone) == hear(lightning) == hear(f"{lightning}/val_wer=0.03.ckpt") == expected
    assert len(expected) == 9000 // 640 + 1


def test_the_vocoder_in_every_layout(combined, vits_tensors, configs, tmp_path):
    lower = {name.replace(".GAMMA", ".gamma").replace(".BETA", ".beta"): value for name, value in vits_tensors.items()}
    saved = {"model": lower, "iteration": 1, "optimizer": {}, "learning_rate": 1e-4}
    original = {"train": {"seed": 1}, "data": {}, "model": dict(configs["u2s"], use_spectral_norm=False)}
    flat = store(tmp_path / "a", configs["u2s"], vits_tensors, "weights.safetensors")
    pickled = store(tmp_path / "b", original, saved, "G_322000.pth")
    assert np.array_equal(speak(flat), speak(str(combined)))
    assert np.array_equal(speak(pickled), speak(str(combined)))


def test_weights_that_were_folded_or_halved_before(combined, vits, configs, tmp_path):
    from emova_sdk.components.emova.speech.weights import released_tensors

    folded = store(tmp_path / "a", configs["u2s"], released_tensors(vits), "weights.safetensors")
    assert np.abs(speak(folded) - speak(str(combined))).max() < 1e-5
    half = {name: value.half() for name, value in released_tensors(vits).items()}
    assert np.isfinite(speak(store(tmp_path / "b", configs["u2s"], half, "weights.safetensors"))).all()


def test_hyper_parameters_of_foreign_classes_are_never_built(spiral_tensors, configs, tmp_path, monkeypatch):
    foreign = types.ModuleType("not_installed_here")

    class Settings(dict):
        def __init__(self, values):
            super().__init__(values)
            self.kept = "state"

        def __reduce__(self):
            return Settings, ({"a": 1},), {"kept": "state"}

    Settings.__module__, Settings.__qualname__ = foreign.__name__, "Settings"
    foreign.Settings = Settings
    monkeypatch.setitem(sys.modules, foreign.__name__, foreign)
    saved = {"state_dict": spiral_tensors, "hyper_parameters": Settings({"a": 1})}
    model = store(tmp_path / "a", configs["s2u"], saved, "epoch=3.ckpt")
    monkeypatch.delitem(sys.modules, foreign.__name__)
    assert len(hear(model)) == 15


@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        (lambda t: t.pop("encoder.pre_quant.bias"), "encoder.pre_quant.bias"),
        (lambda t: t.pop("encoder.encoder.feature_encoder.block_modules.2.pos_conv.0.weight_g"), "pos_conv.0.weight"),
        (lambda t: t.update({"encoder.encoder.more": torch.zeros(1)}), "encoder.encoder.more"),
        (lambda t: t.update({"encoder.pre_quant.bias": torch.zeros(5)}), "encoder.pre_quant.bias"),
        (lambda t: t.update({"encoder.quantizer._levels_np": torch.tensor([8, 4, 2])}), "encoder.quantizer._levels_np"),
    ],
)
def test_a_wrong_tensor_of_the_speech_tokenizer_is_named(combined, configs, tmp_path, change, tensor):
    tensors = load_file(combined / "model.safetensors")
    change(tensors)
    model = store(tmp_path / "a", configs["combined"], tensors, "model.safetensors")
    with pytest.raises(LoadError, match=r"model\.safetensors") as error:
        EmovaSpeechTokenizer(model).load()
    assert tensor in error.value.tensor
    assert tensor in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        (lambda t: t.pop("decoder.enc_p.encoder.norm_layers_1.0.GAMMA"), "decoder.enc_p.encoder.norm_layers_1.0.GAMMA"),
        (lambda t: t.pop("decoder.dp.flows.7.pre.weight"), "decoder.dp.flows.7.pre.weight"),
        (lambda t: t.update({"decoder.dec.more": torch.zeros(1)}), "decoder.dec.more"),
        (lambda t: t.update({"decoder.dec.conv_post.weight": torch.zeros(1, 8, 5)}), "decoder.dec.conv_post.weight"),
    ],
)
def test_a_wrong_tensor_of_the_vocoder_is_named(combined, configs, tmp_path, change, tensor):
    tensors = load_file(combined / "model.safetensors")
    change(tensors)
    model = store(tmp_path / "a", configs["combined"], tensors, "model.safetensors")
    with pytest.raises(LoadError) as error:
        EmovaVocoder(model).load()
    assert error.value.tensor == tensor


def test_weights_of_the_other_network_are_refused(vits_tensors, spiral_tensors, configs, tmp_path):
    model = store(tmp_path / "a", configs["s2u"], vits_tensors, "weights.safetensors")
    with pytest.raises(LoadError, match="lacks the tensor"):
        EmovaSpeechTokenizer(model).load()
    model = store(tmp_path / "b", configs["u2s"], spiral_tensors, "weights.safetensors")
    with pytest.raises(LoadError, match="lacks the tensor"):
        EmovaVocoder(model).load()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 42\n"


@pytest.mark.parametrize(
    ("component", "name"),
    [
        (EmovaSpeechTokenizer, "model.safetensors"),
        (EmovaSpeechTokenizer, "weights.ckpt"),
        (EmovaVocoder, "model.safetensors"),
        (EmovaVocoder, "G_1.pth"),
        (EmovaStyle, "model.safetensors"),
    ],
)
@pytest.mark.parametrize(
    "spoil", [lambda _: LFS, lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"<html>"]
)
def test_a_broken_file_is_named(combined, configs, tmp_path, component, name, spoil):
    model = store(tmp_path / "a", configs["combined"], load_file(combined / "model.safetensors"), name)
    path = tmp_path / "a" / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(LoadError) as error:
        component(model).load()
    assert error.value.path == str(path)
    assert error.value.hint


def test_places_without_a_model(tmp_path):
    with pytest.raises(LoadError, match="does not exist"):
        EmovaSpeechTokenizer(str(tmp_path / "nothing"))
    with pytest.raises(LoadError, match=r"model\.safetensors"):
        EmovaSpeechTokenizer(str(tmp_path)).load()
    (tmp_path / "config.json").write_text('{"architectures": ["Something"]}')
    with pytest.raises(LoadError, match="describes no speech tokenizer"):
        EmovaSpeechTokenizer(str(tmp_path))
    with pytest.raises(LoadError, match="describes no vocoder"):
        EmovaVocoder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"stages": [], "n_melz": 3}')
    with pytest.raises(LoadError, match="n_melz"):
        EmovaSpeechTokenizer(str(tmp_path))
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(LoadError, match="not a JSON file"):
        EmovaVocoder(str(tmp_path))


def test_a_hub_id_that_cannot_be_fetched_is_one_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LoadError, match="cannot be fetched from the hub") as error:
        SpeechCheckpoint("nobody/nothing-of-the-kind").config()
    assert "local folder" in error.value.hint


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (lambda t: t.pop("style_embedding.weight"), None),
        (lambda t: t.update({"style_embedding.weight": torch.zeros(126, 5)}), 5),
    ],
)
def test_a_wrong_table_of_styles_is_named(combined, configs, tmp_path, change, shape):
    tensors = load_file(combined / "model.safetensors")
    change(tensors)
    with pytest.raises(LoadError, match="lacks" if shape is None else "shape") as error:
        EmovaStyle(store(tmp_path / "a", configs["combined"], tensors, "model.safetensors")).load()
    assert error.value.tensor == "style_embedding.weight"


def test_a_pinned_revision_is_found_without_a_network(combined, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40
    shutil.copytree(combined, tmp_path / "models--owner--name" / "snapshots" / commit)
    found = EmovaSpeechTokenizer("owner/name", revision=commit, device="cpu", reduced=False).encode([CLIP])[0]
    assert found == hear(str(combined))
    assert EmovaStyle("owner/name", revision=commit).choices["speaker"] == ("female", "male")
    with pytest.raises(LoadError, match="cannot be fetched from the hub"):
        EmovaVocoder("owner/name", revision="b" * 40)
    with pytest.raises(LoadError, match="cannot be fetched from the hub"):
        EmovaVocoder("owner/no such name")


def test_only_what_is_asked_for_is_read(combined):
    found = read_tensors(combined / "model.safetensors", part="style_embedding.")
    assert list(found) == ["style_embedding.weight"]
