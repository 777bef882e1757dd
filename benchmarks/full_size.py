"""Checkpoints of EMOVA at full size with seeded weights: they cost what the released ones cost and mean nothing.

    python benchmarks/full_size.py DIR [--size 3b] [--layers 2] [--tower-layers 32]

Speech tokenizer, vocoder and style encoder are whole. The language model has the width, the heads and the vocabulary of the
released ones and as many layers as asked for; so has the vision tower. Types and names are those of the published files.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from speech import seeded, speech_like
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
from emova_sdk.components.emova.speech.weights import released_tensors
from emova_sdk.models.spiral import SpiralConfig, SpiralTokenizer
from emova_sdk.models.vits import Vits, VitsConfig

SIZES = {
    "3b": {"hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16, "num_key_value_heads": 2},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4},
}
BASE, UNITS, ROWS = 151643, 4096, 155776
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|reserved_{number}|>" for number in range(19)))
SHARD_BYTES = 1e9


# --- speech ---


def speech_checkpoint(folder):
    """Tokenizer, vocoder and styles in the released combined layout."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = seeded(SpiralTokenizer(SpiralConfig()))
    read_what_varies(tokenizer)
    parts = {"encoder": tokenizer, "decoder": seeded(Vits(VitsConfig()))}
    tensors = {f"{part}.{name}": value for part, net in parts.items() for name, value in released_tensors(net).items()}
    table = torch.randn(126, 256, generator=torch.Generator().manual_seed(4))
    tensors["style_embedding.weight"] = torch.nn.functional.normalize(table, dim=1)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


@torch.inference_mode()
def read_what_varies(net):
    """Let units depend on the four directions in which the encoder's output varies most: seeded ones hear one unit in all."""
    sound = torch.from_numpy(speech_like(10, 16000).samples)[None]
    noise = 0.1 * torch.randn(1, 160000, generator=torch.Generator().manual_seed(1)) * torch.linspace(0, 1, 160000)
    heard = torch.cat([net.encoder(*net.log_mel(one, torch.tensor([one.shape[1]])))[0][0] for one in (sound, noise)])
    mean = heard.mean(0)
    _, spread, directions = torch.linalg.svd(heard - mean, full_matrices=False)
    weight = directions[:4] * (len(heard) ** 0.5 / spread[:4])[:, None]
    net.pre_quant.weight.data, net.pre_quant.bias.data = weight.clone(), -(weight @ mean)


# --- language and pictures ---


def seeing_checkpoint(folder, size="3b", layers=2, tower_layers=32):
    """Language model, tower and projector in the layout of the training code, bfloat16, in files of a gigabyte."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save_pretrained(folder)
    config = described(size, layers, tower_layers)
    (folder / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        model = EmovaForConditionalGeneration(EmovaConfig.from_dict(config))
    shapes = {published(name): tensor.shape for name, tensor in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        del shapes["lm_head.weight"]
    write_shards(folder, shapes)
    return folder


def described(size, layers, tower_layers):
    return {
        **SIZES[size],
        "num_hidden_layers": layers,
        "model_type": "emova_qwen2",
        "vocab_size": ROWS,
        "tie_word_embeddings": size == "3b",
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "bos_token_id": BASE,
        "eos_token_id": BASE + 2,
        "mm_vision_tower": {
            "type": "Qwen2VisionTower",
            "depth": tower_layers,
            "embed_dim": 1280,
            "num_heads": 16,
            "hidden_size": 3584,
        },
        "mm_projector": {"type": "MLPProjector", "mlp_depth": 2},
        "mm_hidden_size": 3584,
        "image_aspect_ratio": "native_anyres",
        "torch_dtype": "bfloat16",
    }


def published(name):
    name = name.replace("model.language_model.", "model.")
    return name.replace("vision_tower.network.", "vision_tower.vision_tower.")


def write_shards(folder, shapes):
    noise = torch.Generator().manual_seed(0)
    shard, places = {}, {}

    def write():
        file = f"model-{len(set(places.values())):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, file))
        shard.clear()

    for name, shape in shapes.items():
        shard[name] = drawn(name, shape, noise)
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
            write()
    if shard:
        write()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def drawn(name, shape, noise):
    """Unit gain, so that activations stay in a realistic range."""
    if len(shape) == 1:
        is_gain = re.search(r"(norm\d?|ln_q|layernorm)\.weight$", name)
        return (torch.ones if is_gain else torch.zeros)(shape, dtype=torch.bfloat16)
    scale = int(np.prod(shape[1:])) ** -0.5
    return torch.randn(shape, generator=noise, dtype=torch.bfloat16).mul_(scale)


def tokenizer():
    """As many tokens as the published ones have; only single bytes are ever used of the text's."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {letter: number for number, letter in enumerate(letters)}
    words |= {f"unused {number}": number for number in range(len(words), BASE)}
    bpe = Tokenizer(models.BPE(vocab=words, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in SPECIAL])
    bpe.add_tokens([AddedToken(f"<|speech_{unit}|>", single_word=True) for unit in range(UNITS)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=SPECIAL[0], eos_token=SPECIAL[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=list(SIZES), default="3b")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tower-layers", type=int, default=32)
    options = parser.parse_args()
    print(speech_checkpoint(options.folder / "speech"))
    print(seeing_checkpoint(options.folder / "seeing", options.size, options.layers, options.tower_layers))


if __name__ == "__main__":
    main()
