"""The published data format: read and checked, labels on the assistant's words, batches that lose nothing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SAMPLES, tiny_model, tiny_tokenizer, write_data

from emova_sdk.components.emova.language.prompts import IMAGE_ID, IMAGE_MARK
from emova_sdk.components.emova.language.templates import template
from emova_sdk.components.emova.vision.image_processing import EmovaImageProcessor
from emova_sdk.errors import InputError
from emova_sdk.training.data import (
    IGNORED,
    ConversationDataset,
    ConversationSample,
    collate,
    encode,
    picture_first,
    read_samples,
)
from emova_sdk.training.sampling import ModalitySampler, modality_order

HUMAN, GPT = {"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def write(tmp_path):
    def written(records, name="data.json"):
        path = tmp_path / name
        text = records if isinstance(records, str) else json.dumps(records)
        path.write_text(text, encoding="utf-8")
        return path

    return written


def test_lists_lines_and_folders_are_read(write, tmp_path):
    first = write([{"id": 1, "conversations": [HUMAN, GPT]}], "a.json")
    second = write(
        '\n{"id": "2", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}\n', "b.jsonl"
    )
    assert [sample.id for sample in read_samples(first)] == ["1"]
    assert [sample.id for sample in read_samples([second, str(first)])] == ["2", "1"]
    assert [sample.id for sample in read_samples(tmp_path)] == ["1", "2"]
    assert read_samples(first)[0].turns == (("user", "hi"), ("assistant", "hello"))


def test_a_greeting_is_dropped_escapes_are_decoded_and_pictures_moved(write):
    record = {
        "image": ["a.png"],
        "conversations": [
            GPT,
            {"from": "human", "value": "look <image> here"},
            {"from": "gpt", "value": "\\u4f60\\n好", "re_encode": True},
        ],
    }
    (sample,) = read_samples(write([record]))
    assert sample.turns == (("user", "<image>\nlook  here"), ("assistant", "你\n好"))
    assert (sample.images, sample.length) == (("a.png",), 5)
    assert ConversationSample("x", (("user", "two words"), ("assistant", None))).length == -2


@pytest.mark.parametrize(
    ("records", "match"),
    [
        ("[{", "not JSON"),
        ('{"id": 1}\n{oops}', "record 1 has no `conversations`"),
        ('{"id": 1, "conversations": [{"from": "human", "value": "x"}]}\n{oops}', "line 2.*not JSON"),
        ([1], "record 1 is not an object"),
        ([{"conversations": []}], "no `conversations`"),
        ([{"conversations": [HUMAN, {"from": "gpt"}]}], "turn 2 is not a turn"),
        ([{"conversations": [{"from": "user", "value": "x"}]}], "turn 1 is not a turn"),
        ([{"conversations": [HUMAN, HUMAN]}], "do not alternate"),
        ([{"conversations": [{"from": "human", "value": IMAGE_MARK}, GPT]}], "1 `<image>` and 0 pictures"),
        ([{"image": "a.png", "conversations": [HUMAN, GPT]}], "0 `<image>` and 1 pictures"),
        ([{"image": 3, "conversations": [HUMAN, GPT]}], "`image` is not a path"),
        ([{"conversations": [HUMAN, {"from": "gpt", "value": "\\x", "re_encode": True}]}], "broken escape"),
    ],
)
def test_a_broken_record_is_one_error_that_names_it(write, records, match):
    with pytest.raises(InputError, match=match) as caught:
        read_samples(write(records))
    assert "data.json" in str(caught.value)


def test_missing_files_and_empty_folders_are_errors(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(tmp_path / "none.json")
    with pytest.raises(InputError, match="holds no"):
        read_samples(tmp_path)


def test_labels_are_the_assistants_words_and_what_closes_them(tokenizer):
    turns = [("user", "what is it"), ("assistant", "a square"), ("user", "sure"), ("assistant", "yes")]
    encoded = encode(turns, template("qwen2"), tokenizer)
    learned = [token for token, label in zip(encoded.ids, encoded.labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(learned) == "a square<|im_end|>\nyes<|im_end|>\n"
    assert all(label in (IGNORED, token) for token, label in zip(encoded.ids, encoded.labels, strict=True))


def test_nothing_is_learned_from_a_text_that_ends_its_own_turn(tokenizer):
    encoded = encode([("user", "hi"), ("assistant", "a<|im_end|>\nb")], template("qwen2"), tokenizer)
    assert set(encoded.labels) == {IGNORED}
    assert "<|im_end|>" in encoded.warning


def test_captions_of_the_first_stage(tokenizer):
    encoded = encode([("user", f"{IMAGE_MARK}\nwhat?"), ("assistant", "a square")], template("plain"), tokenizer)
    assert encoded.ids[0] == IMAGE_ID
    assert tokenizer.decode(encoded.ids[1:]) == "a square\n"
    assert encoded.labels == [IGNORED, *encoded.ids[1:]]
    with pytest.raises(InputError, match="caption"):
        encode([("user", "hi"), ("assistant", "a square")], template("plain"), tokenizer)


def test_text_without_a_picture_is_not_moved():
    assert picture_first("  a b ") == "  a b "


@pytest.fixture
def dataset(tmp_path, tokenizer):
    path = write_data(tmp_path)
    processor = EmovaImageProcessor.from_config(tiny_model(tokenizer).config)
    return ConversationDataset(
        read_samples(path),
        template("qwen2"),
        tokenizer,
        image_id=len(tokenizer),
        image_processor=processor,
        image_folder=tmp_path,
    )


def test_pictures_take_one_place_for_each_row_of_features(dataset, tokenizer):
    item = dataset[0]
    places = item["input_ids"] == len(tokenizer)
    grid = item["pictures"]["image_grid_thw"][0]
    assert int(places.sum()) == int(grid.prod()) // 4
    assert set(item["labels"][places].tolist()) == {IGNORED}
    assert dataset[1]["pictures"] is None
    assert dataset.lengths[0] > 0 > dataset.lengths[1]
    assert len(dataset) == len(SAMPLES)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_holds_every_item_unchanged(dataset, side):
    items = [dataset[0], dataset[1]]
    batch = collate(items, pad_id=7, side=side)
    for row, item in enumerate(items):
        kept = batch["attention_mask"][row].bool()
        assert batch["input_ids"][row][kept].equal(item["input_ids"])
        assert batch["labels"][row][kept].equal(item["labels"])
        assert set(batch["input_ids"][row][~kept].tolist()) <= {7}
        assert set(batch["labels"][row][~kept].tolist()) <= {IGNORED}
        assert bool(kept[-1 if side == "left" else 0])
    assert batch["pixel_values"].equal(torch.as_tensor(items[0]["pictures"]["pixel_values"]))
    assert set(collate(items[1:], pad_id=7)) == {"input_ids", "labels", "attention_mask"}


def test_long_samples_are_cut_but_not_inside_a_picture(dataset):
    dataset.max_length = 100
    assert len(dataset[0]["input_ids"]) == 100
    first = (dataset[0]["input_ids"] == dataset.image_id).nonzero()[0].item()
    dataset.max_length = first + 1
    with pytest.raises(InputError, match=f"do not fit into {first + 1} tokens"):
        dataset[0]


def test_a_broken_picture_names_its_sample(dataset, tmp_path):
    (tmp_path / "red.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"`red.png` of sample `dialogue`"):
        dataset[0]
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(tmp_path / "red.png")
    assert dataset[0]["pictures"] is not None


def test_a_sample_that_ends_its_own_turn_is_logged(dataset, caplog):
    dataset.samples[1] = ConversationSample("odd", (("user", "x"), ("assistant", "<|im_end|>\n")))
    assert set(dataset[1]["labels"].tolist()) == {IGNORED}
    assert "`odd`" in caplog.text


# --- order


LENGTHS = [5, -3, 9, 2, -7, 4, -1, 8, 3, -2, 6, -9, 1]


def test_every_sample_is_drawn_once_and_mega_batches_hold_one_modality():
    order = modality_order(LENGTHS, 2, 2, torch.Generator().manual_seed(0))
    assert sorted(order) == list(range(len(LENGTHS)))
    for start in range(0, 8, 4):
        assert len({LENGTHS[index] > 0 for index in order[start : start + 4]}) == 1


def test_the_sampler_is_repeatable_and_differs_between_epochs():
    sampler = ModalitySampler(LENGTHS, batch_size=2, world_size=1, seed=3)
    first = list(sampler)
    assert (list(sampler), len(sampler)) == (first, len(LENGTHS))
    sampler.set_epoch(1)
    assert sorted(sampler) == sorted(first)
    assert list(sampler) != first


def test_a_sample_without_text_is_refused():
    with pytest.raises(InputError, match="length 0"):
        modality_order([1, 0], 1, 1)


def test_a_line_ends_where_json_lines_end(write):
    record = {"id": "1", "conversations": [HUMAN, {"from": "gpt", "value": "one\u2028two\x85three"}]}
    (sample,) = read_samples(write(json.dumps(record, ensure_ascii=False) + "\r\n", "data.jsonl"))
    assert sample.turns[1][1] == "one\u2028two\x85three"
