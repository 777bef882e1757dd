"""A whole spoken turn of emova-nano, in PyTorch and from exports, side by side in one process.

    emova export onnx -c emova-nano --precision int8 --out build/nano-int8
    python benchmarks/nano_turn.py build/nano-int8 [MORE] [--turns 20] [--threads 2]

The contenders take turns, so that a busy machine slows all of them alike; medians, and ratios to PyTorch within the run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from emova_sdk import Audio, Image, Pipeline
from emova_sdk.types import AudioDelta

INPUT = Path(__file__).parents[1] / "examples" / "input"


def turn(pipeline: Pipeline, question: Audio, scene: Image) -> tuple[float, float]:
    """Seconds to the first sound and to the end."""
    begin, first = time.perf_counter(), 0.0
    for event in pipeline.session().respond(question, scene):
        if isinstance(event, AudioDelta) and not first:
            first = time.perf_counter() - begin
    return first, time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    question, scene = Audio.open(INPUT / "question.flac"), Image.open(INPUT / "scene.png")
    contenders = {"PyTorch": Pipeline.from_config("emova-nano").load()}
    slots = ("vision_encoder", "speech_tokenizer", "llm_core", "style_module", "vocoder")
    threads = [f"{slot}.threads={chosen.threads}" for slot in slots]
    contenders |= {name: Pipeline.from_config(name, overrides=threads).load() for name in chosen.bundles}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(chosen.turns + 2):
        for name, pipeline in contenders.items():
            times = turn(pipeline, question, scene)
            if number >= 2:  # the first two warm up
                found[name].append(times)
    whole = {name: statistics.median(last for _, last in times) for name, times in found.items()}
    for name, times in found.items():
        first = statistics.median(first for first, _ in times)
        print(
            f"{name}: first audio {first * 1e3:.0f} ms, turn {whole[name] * 1e3:.0f} ms, {whole['PyTorch'] / whole[name]:.2f} x"
        )


if __name__ == "__main__":
    main()
