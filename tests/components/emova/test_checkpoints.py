"""Checkpoints of the language model on disk: both layouts, and every way one can be wrong."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_llm import CABS, PINPOINTS, build, tokenizer, write_hf, write_origin
from transformers import AutoModel

from emova_sdk.components.emova.language.checkpoints import Checkpoint, find_checkpoint, load_model, quantisation
from emova_sdk.components.emova.language.conversion import convert_origin_to_hf
from emova_sdk.components.emova.language.generation import speech_tokens
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
from emova_sdk.components.emova.language.weight_files import canonical_name
from emova_sdk.errors import InputError, LoadError, MissingDependencyError

IDS = torch.arange(3, 30)[None]


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits


@pytest.fixture
def origin(tmp_path):
    return write_origin(tmp_path / "origin")


def opened(folder):
    return load_model(Checkpoint.open(folder))


def rewritten(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tied": True},
        {"kind": "llama"},
        {"kind": "emova_deepseek_moe"},
        {
            "tower": "internvit",
            "projector": CABS,
            "image_aspect_ratio": "anyres",
            "image_grid_pinpoints": PINPOINTS,
            "mm_patch_merge_type": "spatial_unpad",
        },
        {"tower": "clip", "image_aspect_ratio": "pad"},
    ],
    ids=["qwen2", "tied", "llama", "deepseek", "internvit-anyres", "clip-pad"],
)
def test_the_origin_layout(options, tmp_path):
    checkpoint = Checkpoint.open(write_origin(tmp_path, **options))
    model, expected = load_model(checkpoint), build(**options)
    assert model.config.text_config.vocab_size == len(tokenizer())
    assert model.config.image_token_id == len(tokenizer())
    assert model.config.image_aspect_ratio == expected.config.image_aspect_ratio
    torch.testing.assert_close(logits(model), logits(expected), atol=1e-5, rtol=0)


def test_transformers_reads_published_names_too(tmp_path):
    model = AutoModel.from_pretrained(write_hf(tmp_path / "hf"))
    assert torch.equal(logits(model), logits(opened(tmp_path / "hf")))
    model = EmovaForConditionalGeneration.from_pretrained(write_origin(tmp_path / "origin", tied=True))
    expected = logits(opened(tmp_path / "origin"))
    torch.testing.assert_close(logits(model)[..., : expected.shape[-1]], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_the_hf_layout(tied, tmp_path):
    checkpoint = Checkpoint.open(write_hf(tmp_path, tied=tied))
    model = load_model(checkpoint)
    stored = load_file(tmp_path / "model.safetensors")
    state = model.state_dict()
    for name, tensor in stored.items():
        assert torch.equal(state[canonical_name(name)], tensor)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    assert model.config.image_token_id == len(tokenizer())


def test_origin_converts_to_hf_and_answers_the_same(origin, tmp_path):
    target = convert_origin_to_hf(origin, tmp_path / "hf")
    before, after = opened(origin), opened(target)
    torch.testing.assert_close(logits(after)[..., : len(tokenizer())], logits(before), atol=1e-6, rtol=0)
    assert {file.name for file in target.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "processor_config.json",
    }
    with pytest.raises(InputError, match="holds an earlier checkpoint"):
        convert_origin_to_hf(origin, target)
    (target / "notes.txt").write_text("of the earlier one")
    assert convert_origin_to_hf(origin, target, force=True) == target
    assert not (target / "notes.txt").exists()


def test_only_what_is_asked_for_is_loaded(origin):
    checkpoint = Checkpoint.open(origin)
    eyes = load_model(checkpoint, part="vision")
    assert {name.split(".")[0] for name in eyes.state_dict()} == {"vision_tower", "mm_projector"}
    language = load_model(checkpoint, part="language")
    assert language.model.vision_tower is None
    assert torch.equal(logits(language), logits(opened(origin)))


def test_shards(origin):
    model = opened(origin)
    model.save_pretrained(origin, max_shard_size="100KB")
    (origin / "model.safetensors").unlink(missing_ok=True)
    assert len(list(origin.glob("model-*.safetensors"))) > 1
    torch.testing.assert_close(logits(opened(origin)), logits(model), atol=1e-6, rtol=0)
    shard = sorted(origin.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(LoadError, match=re.escape(shard.name)) as raised:
        opened(origin)
    assert raised.value.path.endswith(shard.name)


def test_a_shard_without_its_tensor(origin):
    index = {"weight_map": {"model.norm.weight": "model.safetensors", "model.extra": "model.safetensors"}}
    (origin / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LoadError, match=r"`model\.extra` is listed"):
        opened(origin)


@pytest.fixture(params=["origin", "hf"])
def either(request, tmp_path):
    """A checkpoint in each layout, and how that layout spells a tensor of the language model."""
    if request.param == "origin":
        return write_origin(tmp_path / "origin"), lambda name: f"model.{name}"
    return write_hf(tmp_path / "hf"), lambda name: f"language_model.model.{name}"


def test_a_missing_tensor(either):
    folder, spelt = either
    rewritten(folder, lambda tensors: tensors.pop(spelt("layers.1.mlp.up_proj.weight")))
    with pytest.raises(LoadError, match=r"layers\.1\.mlp\.up_proj\.weight` is missing") as raised:
        opened(folder)
    assert "layers.1.mlp.up_proj.weight" in raised.value.tensor
    assert raised.value.hint


def test_an_extra_tensor(either):
    folder, spelt = either
    name = spelt("layers.7.mlp.up_proj.weight")
    rewritten(folder, lambda tensors: tensors.__setitem__(name, torch.zeros(2)))
    with pytest.raises(LoadError, match=rf"`{re.escape(name)}` in `model\.safetensors` is not part") as raised:
        opened(folder)
    assert raised.value.tensor == name


def test_a_wrong_shape(either):
    folder, spelt = either
    rewritten(folder, lambda tensors: tensors.__setitem__(spelt("norm.weight"), torch.zeros(65)))
    with pytest.raises(LoadError, match=rf"`{re.escape(spelt('norm.weight'))}`.*\[65\], the model needs \[64\]"):
        opened(folder)


def test_a_tensor_stored_twice(either):
    folder, _ = either
    for name in ("language_model.model.norm.weight", "model.norm.weight"):
        rewritten(folder, lambda tensors, name=name: tensors.__setitem__(name, torch.zeros(64)))
    with pytest.raises(LoadError, match="is stored twice"):
        opened(folder)


def test_a_tower_left_out(either):
    def drop(tensors):
        for name in [name for name in tensors if "vision_tower" in name]:
            del tensors[name]

    rewritten(either[0], drop)
    with pytest.raises(LoadError, match="vision_tower"):
        opened(either[0])


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda content: content[:-100], r"model\.safetensors` has \d+ bytes"),
        (lambda _: b"abc", "cut short"),
        (lambda _: b"", "cut short"),
        (lambda _: (20).to_bytes(8, "little") + b"x" * 30, "not a safetensors file"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "Git LFS pointer"),
    ],
    ids=["truncated", "only a stump", "empty", "something else", "a Git LFS pointer"],
)
def test_a_broken_file_is_named(either, spoil, match):
    file = either[0] / "model.safetensors"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(LoadError, match=match) as raised:
        opened(either[0])
    assert raised.value.path == str(file)
    assert raised.value.hint


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(name, origin):
    (origin / name).unlink()
    (origin / "tokenizer_config.json").unlink()
    with pytest.raises(LoadError, match=re.escape(name) if name != "tokenizer_config.json" else "tokenizer"):
        opened(origin)


@pytest.mark.parametrize(
    "content", ["{", "[1]", '{"text_config": {"model_type": "nope"}}', '{"vision_config": 3, "text_config": {}}']
)
def test_a_config_that_is_none(content, origin):
    (origin / "config.json").write_text(content)
    with pytest.raises(LoadError, match=r"config\.json"):
        opened(origin)


def test_a_tokenizer_of_another_checkpoint(origin):
    words = tokenizer(units=400)
    words.save_pretrained(origin)
    with pytest.raises(LoadError, match="tokenizer has"):
        opened(origin)


def test_a_tokenizer_in_a_folder_of_its_own(origin):
    (origin / "tokenizer").mkdir()
    for file in list(origin.glob("token*.json")):
        file.rename(origin / "tokenizer" / file.name)
    assert Checkpoint.open(origin).rows == len(tokenizer())


def test_units_are_found_by_name(origin):
    words = tokenizer()
    units = speech_tokens(Checkpoint.open(origin).tokenizer)
    assert list(units) == sorted(units)
    assert list(units.values()) != sorted(units.values())
    assert all(words.convert_ids_to_tokens(token) == f"<|speech_{unit}|>" for unit, token in units.items())


def test_neither_a_folder_nor_a_hub_id(tmp_path):
    for model in (tmp_path / "nothing", "./nothing", "one/two/three", "nothing"):
        with pytest.raises(LoadError, match="is not a folder"):
            find_checkpoint(model)


def test_offline_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LoadError, match="is not on this machine") as raised:
        find_checkpoint("owner/name", revision="0123abc")
    assert "HF_HUB_OFFLINE" in raised.value.hint


def cached(hub, folder, commit):
    """Put a checkpoint into a hub cache, as a download would have left it."""
    place = hub / "models--owner--name"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs" / "main").write_text(commit)


def test_a_pinned_revision_is_found_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    commits = {seed: str(seed) * 40 for seed in (1, 2)}
    for seed, commit in commits.items():
        cached(tmp_path / "hub", write_origin(tmp_path / commit, seed=seed), commit)
    for seed, commit in commits.items():
        found = find_checkpoint("owner/name", revision=commit)
        torch.testing.assert_close(logits(opened(found)), logits(build(seed)), atol=1e-5, rtol=0)
    assert find_checkpoint("owner/name") == find_checkpoint("owner/name", revision=commits[2])
    with pytest.raises(LoadError, match="is not on this machine"):
        find_checkpoint("owner/name", revision="3" * 40)


def test_published_prefixes():
    names = {
        "model.layers.0.mlp.up_proj.weight": "model.language_model.layers.0.mlp.up_proj.weight",
        "language_model.model.layers.0.mlp.up_proj.weight": "model.language_model.layers.0.mlp.up_proj.weight",
        "language_model.lm_head.weight": "lm_head.weight",
        "vision_tower.blocks.0.norm1.bias": "model.vision_tower.network.blocks.0.norm1.bias",
        "model.vision_tower.vision_tower.vision_model.encoder.x": "model.vision_tower.network.encoder.x",
        "model.vision_tower.norm.weight": "model.vision_tower.norm.weight",
        "multi_modal_projector.0.weight": "model.mm_projector.0.weight",
        "model.image_newline": "model.image_newline",
        "something.else": "something.else",
    }
    assert {name: canonical_name(name) for name in names} == names
    assert all(canonical_name(ours) == ours for ours in names.values())


def test_saving_what_was_loaded_writes_this_packages_names(origin, tmp_path):
    opened(origin).save_pretrained(tmp_path / "saved")
    assert all(canonical_name(name) == name for name in load_file(tmp_path / "saved" / "model.safetensors"))


def test_quantisation_needs_its_package(monkeypatch):
    monkeypatch.setattr("emova_sdk.components.emova.language.checkpoints.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="bitsandbytes"):
        quantisation("int8")
