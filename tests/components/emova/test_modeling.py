"""EMOVA as a transformers model: what users of that library expect of one."""

import PIL.Image
import pytest
import torch
from tiny_llm import CABS, PINPOINTS, build, tokenizer, write_origin
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    pipeline,
)

from emova_sdk.components.emova.language.checkpoints import Checkpoint
from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.conversion import convert_origin_to_hf
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
from emova_sdk.components.emova.language.processing import EmovaProcessor, expand_images
from emova_sdk.components.emova.vision.image_processing import EmovaImageProcessor
from emova_sdk.models.vision_tower import build_tower

SELF_MINING = {"type": "SelfMiningMMProjector", "downsample_rate": 4, "downsample_size": [2, 2], "num_input_token": 16}
ANYRES = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": PINPOINTS}
FAMILIES = {
    "qwen2-qwen2vit": {"tied": True},
    "llama-qwen2vit-untied": {"kind": "llama"},
    "deepseek-qwen2vit": {"kind": "emova_deepseek_moe"},
    "internvit-cabs-unpad": {"tower": "internvit", "projector": CABS, "mm_patch_merge_type": "spatial_unpad", **ANYRES},
    "internvit-cabs-all-options": {
        "tower": "internvit",
        "projector": {**CABS, "add_pre_norm": True, "add_pos_embed": True, "mlp_depth": 3, "conv_block_depth": 2},
        "mm_patch_merge_type": "spatial_unpad",
        **ANYRES,
    },
    "internvit-selfmining-spatial": {
        "tower": "internvit",
        "projector": {**SELF_MINING, "kv_concat_x": False},
        "mm_patch_merge_type": "spatial",
        **ANYRES,
    },
    "internvit-selfmining-flat": {"tower": "internvit", "projector": SELF_MINING, **ANYRES},
    "clip-square": {"tower": "clip", "image_aspect_ratio": "square"},
    "clip-pad": {"tower": "clip", "image_aspect_ratio": "pad"},
    "unit-average": {
        "tower": "unit",
        "projector": {"type": "AvgPoolMMProjector", "downsample_size": [2, 2], "num_input_token": 16},
        "image_aspect_ratio": "square",
    },
}


def picture(width=90, height=70, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PIL.Image.fromarray(torch.randint(0, 255, (height, width, 3), dtype=torch.uint8, generator=generator).numpy())


def inputs_for(model, pictures):
    processor = EmovaImageProcessor.from_config(model.config)
    pixels = dict(processor(pictures))
    rows = processor.tokens_of(pixels)
    ids = [5, 6, *(token for count in rows for token in [-200, 7]), 8]
    return torch.tensor([expand_images(ids, iter(rows), image_id=model.config.image_token_index)]), pixels, rows


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_sees_and_saves(family, tmp_path):
    model = build(**FAMILIES[family])
    ids, pixels, rows = inputs_for(model, [picture(), picture(60, 110)])
    with torch.inference_mode():
        assert [len(one) for one in model.get_image_features(**pixels).pooler_output] == rows
        before = model(input_ids=ids, **pixels).logits
    model.save_pretrained(tmp_path)
    again = EmovaForConditionalGeneration.from_pretrained(tmp_path)
    with torch.inference_mode():
        # Weights read from a file lie elsewhere in memory, which may change the order of a sum.
        torch.testing.assert_close(again(input_ids=ids, **pixels).logits, before, atol=1e-6, rtol=0)
    saved = model.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in again.state_dict().items())


def test_pictures_matter():
    model = build()
    ids, pixels, _ = inputs_for(model, [picture(seed=1)])
    other = inputs_for(model, [picture(seed=2)])[1]
    with torch.inference_mode():
        assert not torch.allclose(model(input_ids=ids, **pixels).logits, model(input_ids=ids, **other).logits)


def test_features_in_place_of_pixels():
    model = build()
    ids, pixels, _ = inputs_for(model, [picture()])
    with torch.inference_mode():
        features = model.get_image_features(**pixels).pooler_output
        expected = model(input_ids=ids, **pixels).logits
        assert torch.equal(model(input_ids=ids, image_embeds=features).logits, expected)
        assert torch.equal(model(input_ids=ids, image_embeds=torch.cat(features)).logits, expected)
        new = model.generate(input_ids=ids, image_embeds=torch.cat(features), max_new_tokens=4, do_sample=False)
    assert new.shape[1] == ids.shape[1] + 4


def test_features_that_do_not_fit_are_refused():
    model = build()
    with pytest.raises(ValueError, match="2 image tokens do not match 3 rows"):
        model(
            input_ids=torch.tensor([[1, model.config.image_token_index, model.config.image_token_index]]),
            image_embeds=torch.zeros(3, 64),
        )


def test_a_model_without_a_tower_says_so():
    model = build(tower=None)
    assert model.model.vision_tower is None
    with pytest.raises(ValueError, match="no vision tower"):
        model(input_ids=torch.tensor([[1, 2]]), pixel_values=torch.zeros(4, 1176))


def test_unknown_towers_are_named():
    with pytest.raises(ValueError, match="unknown vision tower `Nope`"):
        build_tower({"type": "Nope"})


def test_generation_with_a_cache_equals_generation_without():
    model = build()
    ids, pixels, _ = inputs_for(model, [picture()])
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **pixels, "max_new_tokens": 8, "do_sample": False}
    cached = model.generate(**options, use_cache=True)
    assert torch.equal(cached, model.generate(**options, use_cache=False))
    assert torch.equal(cached, model.generate(**options, cache_implementation="static"))


def test_beams_repeat_the_pictures():
    model = build()
    ids, pixels, _ = inputs_for(model, [picture()])
    result = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), **pixels, max_new_tokens=4, num_beams=3, do_sample=False
    )
    assert result.shape == (1, ids.shape[1] + 4)


def test_padding_on_the_left_does_not_change_an_answer():
    model = build()
    short, long = torch.tensor([[4, 5, 6]]), torch.tensor([[7, 8, 9, 10, 11]])
    batch = torch.cat([torch.nn.functional.pad(short, (2, 0)), long])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    together = model.generate(input_ids=batch, attention_mask=mask, max_new_tokens=5, do_sample=False)[:, 5:]
    for row, alone in zip(together, (short, long), strict=True):
        assert torch.equal(
            model.generate(input_ids=alone, attention_mask=torch.ones_like(alone), max_new_tokens=5, do_sample=False)[
                0, alone.shape[1] :
            ],
            row,
        )


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = build(tower="internvit", projector=CABS, mm_patch_merge_type="spatial_unpad", **ANYRES).train()
        if checkpointing:
            model.activation_checkpointing_enable()
            assert model.model.vision_tower.network.gradient_checkpointing
        ids, pixels, _ = inputs_for(model, [picture()])
        model(
            input_ids=ids, labels=ids.masked_fill(ids == model.config.image_token_index, -100), use_cache=False, **pixels
        ).loss.backward()
        gradients.append(model.model.vision_tower.network.embeddings.patch_embedding.weight.grad)
    torch.testing.assert_close(*gradients)


def test_tied_and_untied_heads(tmp_path):
    for tied in (True, False):
        model = build(tied=tied)
        assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
        model.save_pretrained(tmp_path / str(tied))
        again = EmovaForConditionalGeneration.from_pretrained(tmp_path / str(tied))
        assert (again.lm_head.weight is again.get_input_embeddings().weight) == tied


def test_the_balance_loss_moves_the_gate_and_is_not_reported():
    model = build(kind="emova_deepseek_moe").train()
    gate = model.model.language_model.layers[1].mlp.gate
    ids = torch.arange(3, 40)[None]
    results = []
    for balance in (0.0, 0.5):
        gate.balance = balance
        model.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        results.append((loss.item(), gate.weight.grad.clone()))
    assert results[0][0] == results[1][0]
    assert not torch.allclose(results[0][1], results[1][1])


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return convert_origin_to_hf(write_origin(folder / "origin"), folder / "hf")


def test_auto_classes(converted):
    assert isinstance(AutoConfig.from_pretrained(converted), EmovaConfig)
    assert isinstance(AutoProcessor.from_pretrained(converted), EmovaProcessor)
    for auto in (AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText):
        assert isinstance(auto.from_pretrained(converted), EmovaForConditionalGeneration)


def test_processor_and_model_together(converted):
    model, processor = AutoModel.from_pretrained(converted), AutoProcessor.from_pretrained(converted)
    inputs = processor(text=["<image>\nwhat is it?", "hello"], images=[picture()], return_tensors="pt")
    new = model.generate(**inputs, max_new_tokens=3)
    assert len(processor.batch_decode(new[:, inputs["input_ids"].shape[1] :])) == 2
    with pytest.raises(ValueError, match="1 `<image>` for 0 pictures"):
        processor(text="<image>")


def test_the_chat_template_is_the_one_of_training(converted):
    processor = AutoProcessor.from_pretrained(converted)
    content = [{"type": "image"}, {"type": "text", "text": "what is it?"}]
    written = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    assert written == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\nwhat is it?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_image_text_pipeline(converted):
    see = pipeline("image-text-to-text", model=str(converted), device="cpu")
    content = [{"type": "image", "image": picture()}, {"type": "text", "text": "what is it?"}]
    answer = see(text=[{"role": "user", "content": content}], max_new_tokens=3, return_full_text=False)
    model, processor = AutoModelForImageTextToText.from_pretrained(converted), AutoProcessor.from_pretrained(converted)
    asked = [{"role": "user", "content": [{"type": "image"}, content[1]]}]
    prompt = processor.apply_chat_template(asked, add_generation_prompt=True)
    inputs = processor(text=prompt, images=picture(), return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=3)[0, inputs["input_ids"].shape[1] :]
    assert answer[0]["generated_text"] == processor.decode(written, skip_special_tokens=True)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's business
def test_lora(converted, tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    model = EmovaForConditionalGeneration.from_pretrained(converted)
    ids, pixels, _ = inputs_for(model, [picture()])
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned(input_ids=ids, labels=ids.masked_fill(ids == model.config.image_token_index, -100), **pixels).loss.backward()
    names = [name for name, tensor in tuned.named_parameters() if tensor.grad is not None]
    assert names
    assert all("lora" in name for name in names)
    tuned.eval()
    with torch.inference_mode():
        expected = tuned(input_ids=ids, **pixels).logits
    tuned.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(EmovaForConditionalGeneration.from_pretrained(converted), tmp_path).eval()
    with torch.inference_mode():
        torch.testing.assert_close(again(input_ids=ids, **pixels).logits, expected, atol=1e-6, rtol=0)


def test_device_map(converted):
    model = EmovaForConditionalGeneration.from_pretrained(converted, device_map={"": "cpu"})
    assert model.generate(input_ids=torch.tensor([[3, 4]]), max_new_tokens=2).shape == (1, 4)
    assert {"Qwen2DecoderLayer", "Qwen2VLVisionBlock"} <= set(model._no_split_modules)


def test_continuous_batching_by_transformers(converted):
    """For prompts of text and units; it knows ids alone, so pictures go through `SharedDecoder`."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model = EmovaForConditionalGeneration.from_pretrained(converted)
    prompts = [[5, 6, 7, 8], [9, 10], [30, 31, 32, 33, 34, 35, 36]]
    settings = GenerationConfig(
        max_new_tokens=6, do_sample=False, eos_token_id=model.generation_config.eos_token_id, pad_token_id=0
    )
    alone = [
        model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64), generation_config=settings
        )
        for ids in prompts
    ]
    memory = ContinuousBatchingConfig(num_blocks=16, page_size=16, max_batch_tokens=32)
    together = model.generate_batch(prompts, generation_config=settings, continuous_batching_config=memory)
    found = [together[f"req_{number}"].generated_tokens for number in range(3)]
    assert found == [whole[0, len(ids) :].tolist() for whole, ids in zip(alone, prompts, strict=True)]


def test_the_image_token_is_not_generated(converted):
    model = EmovaForConditionalGeneration.from_pretrained(converted)
    assert model.generation_config.suppress_tokens == [model.config.image_token_id]
    assert len(tokenizer()) == model.config.image_token_id
    assert Checkpoint.open(converted).rows == model.config.image_token_id + 1
