"""Speed of decoding one conversation: this package's decoder beside transformers' `generate`, in one run.

    python benchmarks/llm.py [--sizes 256x8,512x12] [--tokens 48] [--rounds 4] [--threads 1] [--dtype float32] [--device cpu]

Weights are random: they cost the same and mean nothing. The contenders take turns, so that a busy machine slows all of them
alike; the best round counts. All write the same greedy tokens, which is checked. On a GPU, or for large sizes, the share of
the memory bandwidth is what matters: every token reads all weights once.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from transformers import Qwen2Config

from emova_sdk.components.emova.configuration import EmovaConfig
from emova_sdk.components.emova.modeling import EmovaForConditionalGeneration
from emova_sdk.models.fast_decoder import FastDecoder

PROMPT = 16
SIZES = {"7b": {"hidden": 3584, "layers": 28, "heads": 28, "kv": 4, "inner": 18944, "vocabulary": 155776}}


def sizes_of(text):
    """`256x8` is a hidden size and a number of layers; `7b` is a released size."""
    if text in SIZES:
        return SIZES[text]
    hidden, layers = (int(part) for part in text.split("x"))
    heads = hidden // 64
    kv, inner = max(1, heads // 2), 3 * hidden
    return {"hidden": hidden, "layers": layers, "heads": heads, "kv": kv, "inner": inner, "vocabulary": 12288}


def build(size, dtype, device):
    torch.manual_seed(0)
    text = Qwen2Config(
        vocab_size=size["vocabulary"],
        hidden_size=size["hidden"],
        intermediate_size=size["inner"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["kv"],
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    with torch.device(device):
        model = EmovaForConditionalGeneration(EmovaConfig(text_config=text, image_token_index=size["vocabulary"]))
    return model.to(dtype).eval()


def generate(model, ids, tokens):
    whole = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
    return whole[0, ids.shape[1] :].tolist()


def decode(model, decoder, ids, tokens):
    table, cache = model.get_input_embeddings(), decoder.new_cache()
    state, written = decoder.run(table(ids[0]), cache), []
    while True:
        token = decoder.logits(state).argmax()
        written.append(int(token))
        if len(written) == tokens:
            return written
        state = decoder.run(table(token[None]), cache)


def read_rate(device):
    """Bytes a second of a matrix-vector product that does not fit a cache."""
    matrix = torch.randn(16384, 4096, device=device)
    vector = torch.randn(4096, device=device)
    best = min(timed(lambda: matrix @ vector, device) for _ in range(5))
    return matrix.numel() * 4 / best


def timed(work, device):
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(name, options):
    size = sizes_of(name)
    model = build(size, getattr(torch, options.dtype), options.device)
    twin = build(size, getattr(torch, options.dtype), options.device)
    decoder = FastDecoder(twin.model.language_model, twin.lm_head)
    ids = torch.arange(3, 3 + PROMPT, device=options.device)[None]
    contenders = {
        "generate": lambda: generate(model, ids, options.tokens),
        "fast": lambda: decode(twin, decoder, ids, options.tokens),
    }
    seconds = {contender: [] for contender in contenders}
    with torch.inference_mode():
        written = {contender: work() for contender, work in contenders.items()}
        for _ in range(options.rounds):
            for contender, work in contenders.items():
                seconds[contender].append(timed(work, options.device))
    rates = {contender: options.tokens / min(times) for contender, times in seconds.items()}
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return {
        "size": name,
        "ratio": rates["fast"] / rates["generate"],
        "tokens_per_s": rates,
        "megabytes": weights / 1e6,
        "bandwidth_share": rates["fast"] * weights / options.read_rate,
        "same_tokens": written["generate"] == written["fast"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256x8,512x12")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.read_rate = read_rate(options.device)
    results = [measure(name, options) for name in options.sizes.split(",")]
    if options.json:
        print(json.dumps(results, indent=1))
        return
    reads = f"matrix-vector reads {options.read_rate / 1e9:.1f} GB/s"
    print(f"{options.threads} threads, {options.dtype}, {options.device}; {reads}")
    for result in results:
        rates = result["tokens_per_s"]
        print(
            f"{result['size']:>8}: {result['ratio']:.2f}x `generate` "
            f"({rates['fast']:.0f} and {rates['generate']:.0f} tokens/s), "
            f"{100 * result['bandwidth_share']:.0f} % of the bandwidth, same tokens: {result['same_tokens']}"
        )


if __name__ == "__main__":
    main()
