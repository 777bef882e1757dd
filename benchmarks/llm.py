"""Speed of decoding: this package's decoder beside transformers' `generate`, and sessions together beside one by one.

    python benchmarks/llm.py [--sizes 256x8,512x12] [--tokens 48] [--rounds 4] [--threads 2] [--dtype float32] [--device cpu]
                             [--sessions 4] [--compiled]

Weights are random: they cost the same and mean nothing. The contenders take turns, so that a busy machine slows all of them
alike; the best round counts. All write the same greedy tokens, which is checked. On a GPU, or for large sizes, the share of
the memory bandwidth is what matters: every token reads all weights once.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import torch
from transformers import Qwen2Config

from emova_sdk.components.emova.language.configuration import EmovaConfig
from emova_sdk.components.emova.language.modeling import EmovaForConditionalGeneration
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


def together(model, decoder, ids, tokens, sessions):
    """Tokens of several sessions with prompts of different lengths, each pass over the weights shared by all."""
    table, caches = model.get_input_embeddings(), [decoder.new_cache() for _ in range(sessions)]
    states = decoder.run_together([table(ids[0, : PROMPT - at]) for at in range(sessions)], caches)
    written = []
    for _ in range(tokens):
        chosen = [decoder.logits(state).argmax() for state in states]
        written.append([int(token) for token in chosen])
        states = decoder.run_together([table(token[None]) for token in chosen], caches)
    return [list(row) for row in zip(*written, strict=True)]


def multiply_rate(dtype, device):
    """Floating-point operations a second of a matrix product."""
    left, right = (torch.randn(2048, 2048, device=device, dtype=dtype) for _ in range(2))
    return 2 * 2048**3 / min(timed(lambda: left @ right, device) for _ in range(20))


def read_rate(device):
    """Bytes a second of a matrix-vector product that does not fit a cache."""
    matrix = torch.randn(16384, 4096, device=device)
    vector = torch.randn(4096, device=device)
    best = min(timed(lambda: matrix @ vector, device) for _ in range(20))
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
    decoder = FastDecoder(twin.model.language_model, twin.lm_head, compiled=options.compiled)
    ids = torch.arange(3, 3 + PROMPT, device=options.device)[None]
    contenders = {
        "generate": lambda: generate(model, ids, options.tokens),
        "fast": lambda: decode(twin, decoder, ids, options.tokens),
        "together": lambda: together(twin, decoder, ids, options.tokens, options.sessions),
    }
    seconds = {contender: [] for contender in contenders}
    with torch.inference_mode():
        written = {contender: work() for contender, work in contenders.items()}
        for _ in range(options.rounds):
            for contender, work in contenders.items():
                seconds[contender].append(timed(work, options.device))
    rates = {contender: options.tokens / min(times) for contender, times in seconds.items()}
    rates["together"] *= options.sessions
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return {
        "size": name,
        "ratio": rates["fast"] / rates["generate"],
        "tokens_per_s": rates,
        "megabytes": weights / 1e6,
        "bandwidth_share": rates["fast"] * weights / options.read_rate,
        "together_ratio": rates["together"] / rates["fast"],
        "same_tokens": written["generate"] == written["fast"] == written["together"][0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256x8,512x12")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sessions", type=int, default=4, help="conversations that are decoded together")
    parser.add_argument("--compiled", action="store_true", help="torch.compile, and CUDA graphs on a GPU")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.read_rate = read_rate(options.device)
    products = multiply_rate(getattr(torch, options.dtype), options.device)
    machine = f"matrix products {products / 1e9:.0f} GFLOP/s, matrix-vector reads {options.read_rate / 1e9:.1f} GB/s"
    if not options.json:
        print(f"{options.threads} threads, {options.dtype}, {options.device}, load {os.getloadavg()[0]:.1f}; {machine}")
    for name in options.sizes.split(","):
        result = measure(name, options)
        print(json.dumps(result) if options.json else told(result, options), flush=True)


def told(result, options):
    rates = result["tokens_per_s"]
    return (
        f"{result['size']:>8}: {result['ratio']:.2f}x `generate` "
        f"({rates['fast']:.0f} and {rates['generate']:.0f} tokens/s), "
        f"{100 * result['bandwidth_share']:.0f} % of the bandwidth; {options.sessions} sessions together "
        f"{result['together_ratio']:.2f}x ({rates['together']:.0f} tokens/s); same tokens: {result['same_tokens']}"
    )


if __name__ == "__main__":
    main()
