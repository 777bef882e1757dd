"""A tiny EMOVA checkpoint and a few samples to train it on, made from nothing."""

import json

import numpy as np
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config

from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
from emova_sdk.components.emova.language.prompts import PUBLISHED, with_images
from emova_sdk.components.emova.language.reply_format import format_reply
from emova_sdk.components.emova.language.templates import TEMPLATES

REPLY = format_reply(
    text="a red square",
    emotion="happy",
    pitch="high",
    units=[3, 1, 2, 3],
    user_text="what is it",
    user_emotion="neutral",
    user_pitch="normal",
)
SAMPLES = [
    {
        "id": "dialogue",
        "image": "red.png",
        "conversations": [
            {"from": "human", "value": with_images(PUBLISHED.chat + "<|speech_1|><|speech_2|>", 1)},
            {"from": "gpt", "value": REPLY},
        ],
    },
    {
        "id": "asr",
        "conversations": [
            {"from": "human", "value": PUBLISHED.transcribe + "<|speech_3|><|speech_1|>"},
            {"from": "gpt", "value": "hello there"},
        ],
    },
]


def tiny_tokenizer():
    """Byte-level pairs learned from the samples, ChatML marks; no speech tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=marks, initial_alphabet=alphabet, show_progress=False)
    texts = [TEMPLATES["qwen2"].system, REPLY, *(PUBLISHED.chat, PUBLISHED.transcribe, PUBLISHED.speak)]
    tokenizer.train_from_iterator(texts * 2, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>")


def tiny_model(tokenizer, **text):
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = EmovaConfig(
        text_config=Qwen2Config(
            vocab_size=len(tokenizer), **{**sizes, **text}, bos_token_id=None, eos_token_id=tokenizer.eos_token_id
        ),
        vision_config={"type": "Qwen2VisionTower", "depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 48},
    )
    return EmovaForConditionalGeneration(config)


def write_checkpoint(folder):
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_data(folder):
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full((60, 60, 3), (200, 30, 30), np.uint8)).save(folder / "red.png")
    path = folder / "data.json"
    path.write_text(json.dumps(SAMPLES), encoding="utf-8")
    return path
