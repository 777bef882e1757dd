"""A language model and a tower become one checkpoint that keeps both as they were."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_model, tiny_tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

from emova_sdk.components.emova.language.checkpoints import Checkpoint, load_model
from emova_sdk.errors import ConfigError, LoadError
from emova_sdk.training.assemble import assemble
from emova_sdk.training.speech_tokens import speech_token_ids

SIZES = {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 48}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of a tiny language model and a tiny tower, and the two themselves."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    text = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
            num_key_value_heads=2, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    text.save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
    tower = tiny_model(tokenizer).model.vision_tower
    (folder / "tower").mkdir()
    state = {name.removeprefix("network."): tensor for name, tensor in tower.state_dict().items()}
    save_file(state, folder / "tower" / "model.safetensors")
    (folder / "tower" / "config.json").write_text(json.dumps(SIZES))
    return folder, text.eval(), tower


def test_both_parts_are_kept_and_speech_tokens_inserted(parts, tmp_path):
    folder, text, tower = parts
    checkpoint = Checkpoint.open(assemble(folder / "text", folder / "tower", output=tmp_path / "new", speech_units=6))
    model = load_model(checkpoint)
    assert len(speech_token_ids(checkpoint.tokenizer, units=6)) == 6
    for name, tensor in tower.state_dict().items():
        assert model.model.vision_tower.state_dict()[name].equal(tensor)
    ids = torch.tensor([[5, 9, 30]])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[..., : text.config.vocab_size]
        torch.testing.assert_close(logits, text(input_ids=ids).logits)


def test_a_model_without_eyes(parts, tmp_path):
    checkpoint = Checkpoint.open(assemble(parts[0] / "text", None, output=tmp_path / "new", speech_units=2))
    assert load_model(checkpoint).model.vision_tower is None


def test_what_does_not_fit_is_named(parts, tmp_path):
    folder = parts[0]
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "config.json").write_text(json.dumps(SIZES))
    with pytest.raises(LoadError, match="is missing"):
        assemble(folder / "text", tmp_path / "tower", output=tmp_path / "new", speech_units=2)
    (tmp_path / "tower" / "config.json").write_text(json.dumps({**SIZES, "embed_dim": 64}))
    save_file(parts[2].network.state_dict(), tmp_path / "tower" / "model.safetensors")
    with pytest.raises(LoadError, match="has shape"):
        assemble(folder / "text", tmp_path / "tower", output=tmp_path / "new", speech_units=2)
    with pytest.raises(ConfigError, match="not empty"):
        assemble(folder / "text", None, output=folder / "text")
