"""Speed of decoding one conversation from an export: ONNX Runtime beside transformers' `generate`, in one run.

    python benchmarks/exported_llm.py [--sizes 256x8,512x12] [--tokens 48] [--rounds 4] [--threads 1]

Weights are random: they cost the same and mean nothing. The contenders take turns, so that a busy machine slows all of them
alike; the best round counts. Exports run the graphs ``embed`` and ``decoder`` as `OnnxLLMCore` does, with no torch between
two tokens. A decoder reads all of its file for every token, so bytes and the machine's own reading rate give the limit. The
float32 export must write the tokens of `generate`; of the others the tokens up to the first other one are told (on random
weights nearly equal logits are the rule).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch
from llm import PROMPT, build, generate, read_rate, sizes_of, timed

from emova_sdk.components.runtimes.decoder_graphs import decoder_graphs, embed_graph
from emova_sdk.components.runtimes.decoder_modules import EmbedGraph
from emova_sdk.components.runtimes.decoder_session import DecoderSession
from emova_sdk.components.runtimes.onnx_session import open_session, run_session
from emova_sdk.exporters.onnx import export_onnx, files_of
from emova_sdk.exporters.quantize import quantize

PRECISIONS = ("fp32", "int8", "int4")


def export(model, folder):
    """Files of the graphs: ``embed``, and the decoder by precision."""
    width, vocabulary = model.get_input_embeddings().embedding_dim, model.config.get_text_config().vocab_size
    module = EmbedGraph(model.get_input_embeddings(), vocabulary).eval()
    embed = embed_graph(module, vocabulary=vocabulary, image_id=vocabulary, features=width, longest=1024, metadata={})
    (graph,) = decoder_graphs(model.model.language_model, model.lm_head, longest=1024, metadata={}, flavours=("runtime",))
    whole = export_onnx(graph, folder / "decoder.onnx")
    small = {one: quantize(graph, whole, folder / f"decoder.{one}.onnx", precision=one) for one in PRECISIONS[1:]}
    return export_onnx(embed, folder / "embed.onnx"), {"fp32": whole, **small}


def decode(embed, decoder, ids, tokens):
    """Greedy tokens."""
    nothing = np.zeros((0, decoder.width), np.float32)
    cache, written, rows = decoder.new_cache(), [], ids
    while True:
        embeds = run_session(embed, {"ids": rows, "features": nothing})["embeds"]
        written.append(int(decoder.run(embeds, cache).argmax()))
        if len(written) == tokens:
            return written
        rows = np.array(written[-1:])


def measure(name, options):
    torch.manual_seed(0)
    model = build(sizes_of(name), torch.float32, "cpu")
    ids = torch.arange(3, 3 + PROMPT)[None]
    with tempfile.TemporaryDirectory() as folder:
        embed_file, files = export(model, Path(folder))
        embed = open_session(embed_file, threads=options.threads)
        decoders = {one: DecoderSession(open_session(file, threads=options.threads)) for one, file in files.items()}
        bytes_of = {one: sum(part.stat().st_size for part in files_of(file)) for one, file in files.items()}
        contenders = {"generate": lambda: generate(model, ids, options.tokens)} | {
            one: lambda decoder=decoder: decode(embed, decoder, ids[0].numpy(), options.tokens)
            for one, decoder in decoders.items()
        }
        seconds = {one: [] for one in contenders}
        with torch.inference_mode():
            written = {one: work() for one, work in contenders.items()}
            for _ in range(options.rounds):
                for one, work in contenders.items():
                    seconds[one].append(timed(work, "cpu"))
    rates = {one: options.tokens / min(times) for one, times in seconds.items()}
    return {
        "size": name,
        "generate_tokens_per_s": rates["generate"],
        "exports": {
            one: {
                "ratio": rates[one] / rates["generate"],
                "tokens_per_s": rates[one],
                "megabytes": bytes_of[one] / 1e6,
                "bandwidth_share": rates[one] * bytes_of[one] / options.read_rate,
                "same_tokens": next(
                    (
                        at
                        for at, (left, right) in enumerate(zip(written["generate"], written[one], strict=True))
                        if left != right
                    ),
                    options.tokens,
                ),
            }
            for one in PRECISIONS
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256x8,512x12")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.read_rate = read_rate("cpu")
    results = [measure(name, options) for name in options.sizes.split(",")]
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, load {os.getloadavg()[0]:.1f}, "
        f"matrix-vector reads {options.read_rate / 1e9:.1f} GB/s"
    )
    for result in results:
        print(f"{result['size']}: generate {result['generate_tokens_per_s']:.0f} tokens/s")
        for one, found in result["exports"].items():
            print(
                f"  {found['ratio']:5.1f}x  {one}: {found['tokens_per_s']:.0f} tokens/s, {found['megabytes']:.0f} MB, "
                f"{100 * found['bandwidth_share']:.0f} % of the bandwidth, first {found['same_tokens']} tokens the same"
            )


if __name__ == "__main__":
    main()
