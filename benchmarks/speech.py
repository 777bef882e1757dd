"""Speed of EMOVA's speech tokenizer and vocoder at full size, precisions side by side in one run.

    python benchmarks/speech.py [--seconds 10] [--runs 3] [--threads 2] [--json FILE]

Weights are seeded, not released ones: they cost the same and sound like nothing. The contenders take turns, so that a
busy machine slows all of them alike; the best run counts. Ratios come first, then times, then what the machine can do
(measured matrix products and copies) and how much of it was used.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from emova_sdk import Audio, SpeechUnits
from emova_sdk.components.emova.speech.speech_tokenizer import EmovaSpeechTokenizer
from emova_sdk.components.emova.speech.vocoder import EmovaVocoder
from emova_sdk.components.emova.speech.weights import released_tensors
from emova_sdk.models.spiral import SpiralConfig, SpiralTokenizer
from emova_sdk.models.vits import Vits, VitsConfig

# Multiply-adds count twice. Of the released networks, per second of audio.
TOKENIZER_GFLOP, GENERATOR_GFLOP = 4.6, 53.0
PRECISIONS = ("float32", "bfloat16")


def seeded(model):
    """Weights of unit gain, so that activations and durations stay in a realistic range."""
    noise = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        draw = torch.randn(parameter.shape, generator=noise)
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")) or ".norms" in name:
            parameter.data = 1 + 0.1 * draw if name.endswith("weight") else 0.1 * draw
        elif parameter.dim() < 2:
            parameter.data = 0.1 * draw
        else:
            parameter.data = draw * parameter[0].numel() ** -0.5
    return model


def seeded_checkpoint(folder):
    """A checkpoint of both networks in the released combined layout."""
    tensors = {f"encoder.{name}": value for name, value in released_tensors(seeded(SpiralTokenizer(SpiralConfig()))).items()}
    vits = seeded(Vits(VitsConfig()))
    tensors |= {f"decoder.{name}": value for name, value in released_tensors(vits).items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, Path(folder) / "model.safetensors")
    return str(folder)


def fastest(contenders, runs):
    """Let the contenders take turns; return the best wall time and the best processor time of each, in seconds."""
    times = {name: [] for name in contenders}
    for _ in range(runs):
        for name, work in contenders.items():
            wall, busy = time.perf_counter(), time.process_time()
            work()
            times[name].append((time.perf_counter() - wall, time.process_time() - busy))
    return tuple({name: min(run[at] for run in found) for name, found in times.items()} for at in range(2))


def machine_limits():
    """Matrix products in GFLOP/s and a large copy in GB/s (read and write), best of 30."""
    limits = {}
    for name in PRECISIONS:
        left, right = (torch.randn(2048, 2048).to(getattr(torch, name)) for _ in range(2))
        best = fastest({"": lambda left=left, right=right: left @ right}, 30)[0][""]
        limits[name] = 2 * 2048**3 / best / 1e9
    source, target = torch.zeros(2**26), torch.zeros(2**26)
    limits["copy_gb_s"] = 2 * source.nbytes / fastest({"": lambda: target.copy_(source)}, 30)[0][""] / 1e9
    return limits


def speech_like(seconds, rate):
    """Noise and harmonics with a rhythm: full-size work does not depend on what is said."""
    steps = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 140 * k * steps) / k for k in range(1, 9))
    noise = np.random.default_rng(0).standard_normal(len(steps))
    return Audio((0.1 * (1 + np.sin(9 * steps)) * (tone + 0.3 * noise)).astype(np.float32), rate)


def tokenizer_figures(model, seconds, runs):
    parts = {name: EmovaSpeechTokenizer(model, device="cpu", dtype=name, reduced=False) for name in PRECISIONS}
    clip = speech_like(seconds, 16000)
    units = {name: part.encode([clip])[0].ids for name, part in parts.items()}
    times, busy = fastest({name: lambda part=part: part.encode([clip]) for name, part in parts.items()}, runs)
    return {"s": times, "cpu_s": busy, "audio_s": seconds, "same_units": float((units["float32"] == units["bfloat16"]).mean())}


def reply(vocoder, seconds):
    """Units and the tempo at which they last the given time."""
    units = SpeechUnits.of(np.random.default_rng(0).integers(0, 4096, round(18 * seconds)))
    plain = replace(vocoder.sampling, noise_scale_duration=0.0)
    net = vocoder.net
    with torch.inference_mode():
        encoded = net.encode(torch.from_numpy(units.ids)[None], torch.tensor([len(units)]))
        natural = torch.exp(net.log_durations(encoded, torch.zeros(1, 2, len(units)), None)).sum().item()
    wanted = seconds * vocoder.sample_rate / net.config.samples_per_frame - len(units) / 2
    return units, replace(plain, length_scale=wanted / natural)


def vocoder_figures(model, seconds, runs):
    parts = {name: EmovaVocoder(model, device="cpu", dtype=name) for name in PRECISIONS}
    style = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    style /= np.linalg.norm(style)
    units, sampling = reply(parts["float32"], seconds)
    sound = {}

    def speak(name):
        sound[name] = parts[name].synthesize([units], style[None], sampling=sampling)[0].samples

    def begin(name):
        flow = parts[name].stream(style, sampling=sampling)
        flow.push(units)
        pieces = flow.drain()
        next(pieces)
        return pieces

    def gap(name):
        """Longest silence a listener hears who starts with the first piece, in seconds."""
        flow = parts[name].stream(style, sampling=sampling)
        flow.push(units)
        worst, until = 0.0, None
        for piece in flow.drain():
            now = time.perf_counter()
            worst = max(worst, now - (until or now))
            until = max(now, until or now) + piece.audio.duration_s
        return worst

    for part in parts.values():
        part.synthesize([SpeechUnits.of([1, 2, 3])], style[None])
    times, busy = fastest({name: lambda name=name: speak(name) for name in parts}, runs)
    first, first_busy = fastest({name: lambda name=name: begin(name).close() for name in parts}, 4 * runs)
    streams, _ = fastest({name: lambda name=name: list(begin(name)) for name in parts}, runs)
    error = sound["bfloat16"] - sound["float32"]
    return {
        "s": times,
        "cpu_s": busy,
        "audio_s": len(sound["float32"]) / 22050,
        "first_s": first,
        "first_cpu_s": first_busy,
        "stream_s": streams,
        "gap_s": {name: min(gap(name) for _ in range(runs)) for name in parts},
        "snr_db": float(10 * np.log10((sound["float32"] ** 2).sum() / (error**2).sum())),
    }


def report(found):
    limits, tokenizer, vocoder = found["limits"], found["tokenizer"], found["vocoder"]
    for title, part, work in (("tokenizer", tokenizer, TOKENIZER_GFLOP), ("vocoder", vocoder, GENERATOR_GFLOP)):
        ratio, busy = (part[clock]["float32"] / part[clock]["bfloat16"] for clock in ("s", "cpu_s"))
        print(f"{title}: bfloat16 is {ratio:.2f} times as fast as eager float32 ({busy:.2f} by processor time)")
        for name in PRECISIONS:
            wall, audio = part["s"][name], part["audio_s"]
            print(
                f"  {name:9} {wall:7.2f} s ({part['cpu_s'][name]:.2f} s of processor) for {audio:.1f} s of sound,"
                f" RTF {wall / audio:.3f}; {work * audio / wall:.0f} of the machine's {limits[name]:.0f} GFLOP/s"
            )
    print(f"tokenizer: {tokenizer['same_units']:.1%} of the units agree between the precisions (seeded weights)")
    print(f"vocoder: bfloat16 differs from float32 by {vocoder['snr_db']:.1f} dB SNR (seeded weights)")
    for name in PRECISIONS:
        first, whole, stream = vocoder["first_s"][name], vocoder["s"][name], vocoder["stream_s"][name]
        print(
            f"  {name:9} first sound after {first:.3f} s = {first / whole:.1%} of the {whole:.2f} s of the whole"
            f" ({vocoder['first_cpu_s'][name] / vocoder['cpu_s'][name]:.1%} by processor time);"
            f" the whole as a stream takes {stream:.2f} s, and a listener waits {1000 * vocoder['gap_s'][name]:.0f} ms at most"
        )
    print(
        f"machine: {found['machine']}, {found['threads']} threads, load {found['load_before']:.1f} before and"
        f" {found['load_after']:.1f} after; matrix products {limits['float32']:.0f} GFLOP/s float32,"
        f" {limits['bfloat16']:.0f} bfloat16; copy {limits['copy_gb_s']:.1f} GB/s"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the clip and of the reply")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        model = seeded_checkpoint(folder)
        found = {
            "limits": machine_limits(),
            "tokenizer": tokenizer_figures(model, options.seconds, options.runs),
            "vocoder": vocoder_figures(model, options.seconds, options.runs),
        }
    found |= {"threads": options.threads, "machine": platform.machine(), "torch": torch.__version__}
    found |= {"load_before": before, "load_after": os.getloadavg()[0]}
    report(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
