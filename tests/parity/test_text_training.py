"""Training from the published data format gives the tokens, labels and loss that the reference recorded."""

import json

import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

from emova_sdk.components.emova.language.checkpoints import Checkpoint, load_model
from emova_sdk.components.emova.language.processing import EmovaProcessor
from emova_sdk.components.emova.language.prompts import IMAGE_ID
from emova_sdk.components.emova.language.templates import template
from emova_sdk.training.data import ConversationDataset, collate, encode, read_samples

ATOL = 2e-5
RECORDINGS = pytest.mark.golden("llm", having=["train"])


@pytest.fixture
def recorded(golden):
    meta = json.loads((golden / "meta.json").read_text())
    return meta, load_file(golden / "inputs.safetensors"), load_file(golden / "outputs.safetensors")


@pytest.fixture
def samples(recorded, tmp_path):
    meta, inputs, _ = recorded
    for name, pixels in inputs.items():
        if name.endswith("_rgb_uint8"):
            PIL.Image.fromarray(pixels.numpy()).save(tmp_path / f"{name.split('_')[1]}.png")
    path = tmp_path / "data.json"
    path.write_text(json.dumps(meta["train"]["samples"]))
    return read_samples(path)


@RECORDINGS
def test_tokens_and_labels_are_those_of_the_reference(golden, recorded, samples):
    meta, inputs, _ = recorded
    config = json.loads((golden / "config.json").read_text())
    tokenizer = Checkpoint.open(golden).tokenizer
    kept = inputs["train.attention_mask"].bool()
    for row, sample in enumerate(samples):
        encoded = encode(sample.turns, template(config["conv_template"]), tokenizer, image_id=IMAGE_ID)
        assert encoded.ids == inputs["train.input_ids"][row][kept[row]].tolist()
        assert encoded.labels == inputs["train.labels"][row][kept[row]].tolist()
    if "modality_lengths" in meta["train"]:
        assert [sample.length for sample in samples] == meta["train"]["modality_lengths"]


@RECORDINGS
def test_the_loss_is_that_of_the_reference(golden, recorded, samples, tmp_path):
    meta, _, outputs = recorded
    config = json.loads((golden / "config.json").read_text())
    checkpoint = Checkpoint.open(golden)
    processor = EmovaProcessor.from_checkpoint(checkpoint)
    dataset = ConversationDataset(
        samples,
        template(config["conv_template"]),
        processor.tokenizer,
        image_id=checkpoint.config.image_token_index,
        image_processor=processor.image_processor,
        image_folder=tmp_path,
    )
    batch = collate([dataset[index] for index in range(len(dataset))], pad_id=0, side=config["tokenizer_padding_side"])
    model = load_model(checkpoint)
    with torch.inference_mode():
        loss = model(**batch).loss
    wanted = outputs.get("train.loss_eval_mode", outputs.get("train.loss", torch.tensor(meta["train"]["loss"])))
    torch.testing.assert_close(loss, wanted.reshape(()).to(loss), atol=ATOL, rtol=0)
