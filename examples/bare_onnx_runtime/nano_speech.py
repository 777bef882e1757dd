"""Speech from an export of emova-nano with NumPy and ONNX Runtime alone: units of a recording, or of phones, are spoken.

    emova export onnx -c emova-nano --out build/nano
    python nano_speech.py build/nano question.wav again.wav
    python nano_speech.py build/nano "sil hh ah l ow sil" hello.wav

The voice is the neutral one that was trained, a man's; other styles change its features before they become sound.
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime

PHONES = "sil aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
RATE, HOP, FFT, BINS = 16000, 160, 1024, 513


def run(export, name, **inputs):
    """Outputs of the graph SLOT/NAME of an export."""
    records = json.loads((export / "manifest.json").read_text())["components"][name.split("/")[0]]
    file = next(record["file"] for record in records if record["name"] == name.split("/")[1])
    return onnxruntime.InferenceSession(str(export / file), providers=["CPUExecutionProvider"]).run(None, inputs)


def spread(states, log_durations, shortest, longest):
    """Each state for its duration, then the place within it: (units, width) to (frames, width + 4)."""
    durations = np.clip(np.rint(np.exp(log_durations)), shortest, longest).astype(int)
    owner = np.repeat(np.arange(len(durations)), durations)
    length, since = durations[owner], np.arange(len(owner)) - (durations.cumsum() - durations)[owner]
    share = (since + 0.5) / length
    place = np.stack([share, 1 - share, np.log1p(length), np.log1p(since)], 1)
    return np.concatenate([states[owner], place], 1).astype(np.float32)


def hear(export, file):
    """Units of a recording of 16 kHz, mono, 16 bits: 25 a second."""
    with wave.open(file) as opened:
        pcm = np.frombuffer(opened.readframes(opened.getnframes()), np.int16)
    return run(export, "speech_tokenizer/hearing", audio=pcm.astype(np.float32) / 32768)[0]


def read(export, phones):
    """Units of phones in ARPAbet, `sil` for a pause."""
    classes = np.array([PHONES.split().index(phone) for phone in phones.split()])
    return run(export, "llm_core/reader_units", spread=spread(*run(export, "llm_core/reader_phones", phones=classes), 1, 12))[0]


def features(export, units):
    """Pitch (frames,) in Hz, 0 where there is none; log power and share of noise (frames, 513): every 10 ms."""
    voice = json.loads((export / "vocoder" / "config.json").read_text())
    states = run(export, "vocoder/units", units=units)
    pitch, voicing, bands, noise = run(export, "vocoder/frames", spread=spread(*states, 2, 40))
    beside = np.stack([np.convolve(band, np.ones(7), "same") for band in bands.T], 1)
    bands = bands + voice["dynamics"] * (bands - beside / np.convolve(np.ones(len(bands)), np.ones(7), "same")[:, None])
    around = np.lib.stride_tricks.sliding_window_view(np.pad(bands, ((0, 0), (4, 4)), "edge"), 9, 1).mean(-1)
    bands = bands + voice["sharpening"] * (bands - around)
    mel = 700 * np.expm1(np.linspace(0, np.log1p(8000 / 700), bands.shape[1])) / 8000 * (BINS - 1)
    power = np.stack([np.interp(np.arange(BINS), mel, row) for row in bands]) + voice["gain"]
    noise = np.stack([np.interp(np.arange(BINS), [32, 96, 192, 320, 448], row) for row in noise])
    return np.where(voicing > 0, voice["median"] * np.exp(pitch * voice["expansion"]), 0), power, noise


def causal(log_amplitude):
    """The spectrum of the minimum-phase filter of a log amplitude (513,)."""
    cepstrum = np.fft.irfft(log_amplitude, FFT)
    return np.exp(np.fft.rfft(np.concatenate([cepstrum[:1], 2 * cepstrum[1 : FFT // 2], cepstrum[FFT // 2 : BINS]]), FFT))


def say(export, units):
    """Samples of units: a noise for each frame and a pulse for each period, each through its filter."""
    f0, power, noise = features(export, units[np.diff(units, prepend=-1) != 0])  # a run of one unit counts once
    sound, rng, window = (
        np.zeros(len(f0) * HOP + 2 * FFT),
        np.random.default_rng(0),
        np.sin(np.pi * (np.arange(320) + 0.5) / 320),
    )
    for at, voiced in enumerate(f0 > 0):
        grain = np.fft.rfft(rng.standard_normal(2 * HOP) * window, FFT)
        level = power[at] / 2 + (np.log(np.clip(noise[at], 1e-3, 1)) if voiced else 0)
        sound[at * HOP : at * HOP + FFT] += np.fft.irfft(grain * causal(level))
    times, known = np.arange((len(f0) - 1) * HOP), np.flatnonzero(f0)
    nearest = np.rint(times / HOP).astype(int)
    hertz = np.where(f0[nearest] > 0, np.interp(times, known * HOP, f0[known]) if len(known) else 0, 0)
    for at in np.flatnonzero(np.diff(np.floor(np.cumsum(hertz / RATE)), prepend=0)):
        level = (power[nearest[at]] + np.log(np.clip(1 - noise[nearest[at]] ** 2, 1e-6, 1))) / 2
        sound[at + HOP : at + HOP + FFT] += np.fft.irfft(causal(level)) * np.sqrt(RATE / hertz[at])
    return np.clip(sound[: len(f0) * HOP], -1, 1)


if __name__ == "__main__":
    export, said, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    samples = say(export, hear(export, said) if said.endswith(".wav") else read(export, said))
    with wave.open(out, "wb") as written:
        written.setparams((1, 2, RATE, 0, "NONE", ""))
        written.writeframes((samples * 32767).astype("<i2").tobytes())
    print(f"{out}: {len(samples) / RATE:.2f} s")
