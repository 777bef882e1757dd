"""Speech units become tokens that are found by name, whatever their order."""

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer

from emova_sdk.errors import LoadError
from emova_sdk.training.speech_tokens import insert_speech_tokens, speech_token, speech_token_ids


def test_missing_tokens_are_added_and_rows_rounded_up():
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    before, rows = len(tokenizer), model.get_input_embeddings().weight.detach().clone()
    ids = insert_speech_tokens(tokenizer, model, units=20, multiple=128)
    assert ids == list(range(before, before + 20))
    weight = model.get_input_embeddings().weight
    assert weight.shape[0] == -(-(before + 20) // 128) * 128
    assert weight[:before].equal(rows)
    assert weight[before:].std() < 10 * rows.std()
    assert model.get_output_embeddings().weight.shape == weight.shape
    assert model.config.text_config.vocab_size == weight.shape[0]
    assert model(input_ids=torch.tensor([ids[:3]])).logits.shape[-1] == weight.shape[0]


def test_a_model_with_room_is_left_alone():
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer, num_hidden_layers=1)
    insert_speech_tokens(tokenizer, model, units=4, multiple=1024)
    rows = model.get_input_embeddings().weight
    assert insert_speech_tokens(tokenizer, model, units=9, multiple=1024)[:4] == speech_token_ids(tokenizer, units=4)
    assert model.get_input_embeddings().weight is rows


def test_tokens_are_found_by_name_and_survive_decoding():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([speech_token(unit) for unit in (2, 0, 1)])
    ids = speech_token_ids(tokenizer, units=3)
    assert tokenizer.convert_ids_to_tokens(ids) == ["<|speech_0|>", "<|speech_1|>", "<|speech_2|>"]
    assert ids != sorted(ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<|speech_0|><|speech_1|><|speech_2|>"
    assert insert_speech_tokens(tokenizer, units=3) == ids


def test_tokens_are_found_beside_letters():
    tokenizer = tiny_tokenizer()
    (unit,) = insert_speech_tokens(tokenizer, units=1)
    assert unit in tokenizer("a<|speech_0|>b").input_ids


def test_a_missing_token_is_named():
    with pytest.raises(LoadError, match="speech_0"):
        speech_token_ids(tiny_tokenizer(), units=1)
