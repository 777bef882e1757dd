"""Tiny EMOVA checkpoints with random weights, in the published layouts."""

import json
import random

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
from emova_sdk.components.emova.language.prompts import PUBLISHED

UNITS = 48
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
TOWERS = {
    "qwen2vit": {
        "type": "Qwen2VisionTower",
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 2,
        "hidden_size": 48,
        "max_pixels": 12544,
    },
    "internvit": {
        "type": "InternVisionTower",
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "norm_type": "rms_norm",
        "qkv_bias": False,
        "qk_normalization": True,
    },
    "clip": {
        "type": "CLIPVisionTower",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "patch_size": 14,
        "image_size": 56,
        "mm_vision_select_layer": -2,
    },
    "unit": {"type": "UNITVisionTower", "embed_dim": 64, "depth": 2, "num_heads": 2, "image_size": 56, "table_size": 70},
}
MLP = {"type": "MLPProjector", "mlp_depth": 2}
CABS = {
    "type": "CAbstractorMMProjector",
    "conv_block_depth": 1,
    "conv_hidden_size": 24,
    "downsample_size": [2, 2],
    "num_input_token": 16,
}
PINPOINTS = [[56, 112], [112, 56], [112, 112]]


def tokenizer(marks=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), units=UNITS):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(marks), initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([PUBLISHED.chat, PUBLISHED.transcribe], trainer)
    bpe.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    names = [f"<|speech_{unit}|>" for unit in range(units)]
    random.Random(0).shuffle(names)  # the published tokenizers have them in no order either
    bpe.add_tokens([AddedToken(name, single_word=True) for name in names])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=marks[0], eos_token=marks[-1])


def config(words, *, kind="qwen2", tower="qwen2vit", projector=None, tied=False, text=None, **options):
    text = {
        **TEXT,
        **(text or {}),
        "model_type": kind,
        "vocab_size": len(words),
        "tie_word_embeddings": tied,
        "eos_token_id": words.eos_token_id,
    }
    if kind == "emova_deepseek_moe":
        text |= {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_key_value_heads": 4}
    return EmovaConfig(
        text_config=text,
        vision_config=dict(TOWERS[tower]) if tower else None,
        mm_projector_config=dict(projector or MLP),
        image_token_index=len(words),
        **options,
    )


def build(seed=0, **options):
    torch.manual_seed(seed)
    return EmovaForConditionalGeneration(config(tokenizer(), **options)).eval()


def origin_name(name):
    return name.replace("model.language_model.", "model.").replace("vision_tower.network.", "vision_tower.vision_tower.")


def hf_name(name):
    name = name.replace("model.language_model.", "language_model.model.").replace("vision_tower.network.", "vision_tower.")
    name = name.replace("lm_head.", "language_model.lm_head.").replace("mm_projector.", "multi_modal_projector.")
    return name.removeprefix("model.") if name.startswith(("model.vision", "model.multi", "model.image")) else name


def write_origin(folder, seed=0, **options):
    """The training code's layout: flat config, rows rounded up, no image token."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    model = build(seed, **options)
    settings = model.config
    rows = -(-len(words) // 128) * 128
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and settings.tie_word_embeddings:
            continue
        more = rows - len(words) if tensor.shape[0] == len(words) else 0
        tensors[origin_name(name)] = torch.cat([tensor, torch.randn(more, *tensor.shape[1:])])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    text = settings.text_config.to_dict()
    kinds = {"qwen2": "emova_qwen2", "llama": "emova_llama", "emova_deepseek_moe": "emova_deepseekv2"}
    flat = {name: text[name] for name in text if name not in {"model_type", "dtype", "rope_parameters"}}
    flat |= {
        "model_type": kinds[text["model_type"]],
        "use_mla": False,
        "vocab_size": rows,
        "rope_theta": 10000.0,
        "mm_vision_tower": {**settings.vision_config.settings(), "delay_load": True},
        "mm_projector": settings.mm_projector_config,
        "mm_hidden_size": settings.mm_projector_config["mm_hidden_size"],
        "mm_patch_merge_type": settings.mm_patch_merge_type,
        "image_aspect_ratio": settings.image_aspect_ratio,
        "image_grid_pinpoints": settings.image_grid_pinpoints,
        "tokenizer_padding_side": "left",
        "tokenizer_model_max_length": 8192,
    }
    (folder / "config.json").write_text(json.dumps(flat))
    words.save_pretrained(folder)
    return folder


def write_hf(folder, seed=0, **options):
    """The layout for the Auto classes, with the published prefixes: nested config, image token in the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    words.add_tokens([AddedToken("<image>", special=True, normalized=False)], special_tokens=True)
    torch.manual_seed(seed)
    model = EmovaForConditionalGeneration(config(words, **options)).eval()
    model.config.image_token_index = len(words) - 1
    tied = model.config.tie_word_embeddings
    tensors = {
        hf_name(name): tensor.contiguous().clone()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    raw = {
        "architectures": ["EMOVAForConditionalGeneration"],
        "auto_map": {"AutoModel": "modeling_emova.EMOVAForConditionalGeneration"},
        "model_type": "emova",
        "image_token_index": len(words) - 1,
        "ignore_index": -100,
        "text_config": {name: value for name, value in model.config.text_config.to_dict().items() if name != "dtype"},
        "vision_config": {**model.config.vision_config.settings(), "model_type": "qwen2_vl", "trainable": True},
        "mm_projector_config": {"type": "MLPProjector", "mlp_depth": 2, "trainable": True},
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(raw))
    words.save_pretrained(folder)
    return folder
