"""Make the speech recordings of `golden/` that a plain clone tests with; run it again only when their form changes.

`python tests/parity/record.py RECORDINGS` reads the reference's recordings (they hold sound of real people and lie outside
this repository) and writes

* `golden/u2s_tiny`: the reference's own numbers, without what was computed from a recording of a person;
* `golden/s2u_synthetic`: units of made-up sounds, computed by this package at the settings of the reference's recording,
  after the tests have shown that the package equals the reference on the recording itself.

The weights of both are made by the recipe in `conftest.py` and are not kept.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from conftest import _seeded_tensor
from safetensors.torch import load_file, save_file
from test_speech_units import Recording

HERE = Path(__file__).parent / "golden"
OF_A_PERSON = ("style_encoder/", "posterior/")


def trim_synthesis(source: Path, target: Path) -> None:
    """Copy a recording of the vocoder, without what came from a person's voice and without its weights."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "weights_check.json"):
        shutil.copy(source / name, target / name)
    meta = json.loads((source / "meta.json").read_text())
    kept = {key: meta[key] for key in ("what", "reference", "weights", "n_parameters", "noise", "cases")}
    kept["weights"].pop("file")
    (target / "meta.json").write_text(json.dumps(kept, indent=1) + "\n")
    for name in ("inputs.safetensors", "outputs.safetensors"):
        tensors = {key: value for key, value in load_file(source / name).items() if not key.startswith(OF_A_PERSON)}
        save_file(tensors, target / name)


def sound(seconds: float, *, pitch: float, seed: int) -> np.ndarray:
    """Something like speech: a gliding tone with overtones and breath, in syllables of a quarter of a second."""
    at = np.arange(int(16000 * seconds)) / 16000
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(len(at))
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.2 * np.sin(3.1 * at))) / 16000
    voice = sum(np.sin(order * phase) / order for order in range(1, 9))
    return (0.2 * np.abs(np.sin(4 * np.pi * at)) * voice + 0.02 * noise).astype(np.float32)


def record_units(source: Path, target: Path) -> None:
    """Record the tokenizer on made-up sounds."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "config.json", target / "config.json")
    shutil.copy(source / "weights_check.json", target / "weights_check.json")
    one, two = sound(2.5, pitch=120, seed=1), sound(1.9, pitch=210, seed=2)
    clips = {"single": [one], "batch": [two, one], "short": [one[8000:8400]], "silence": [np.zeros(2000, np.float32)]}
    inputs = {}
    for case, found in clips.items():
        lengths = [len(clip) for clip in found]
        rows = [np.pad(clip, (0, max(lengths) - len(clip))) for clip in found]
        inputs |= {f"{case}/audio": torch.tensor(np.stack(rows)), f"{case}/audio_len": torch.tensor(lengths)}
    save_file(inputs, target / "inputs.safetensors")
    origin = json.loads((source / "meta.json").read_text())
    weights = {key: origin["weights"][key] for key in ("seed", "recipe", "names")}
    meta = {"what": "reduced width, made-up sounds", "recorded_by": "this package", "weights": weights}
    meta |= {"n_parameters": origin["n_parameters"], "units": {}, "unit_string_first_case": ""}
    (target / "meta.json").write_text(json.dumps(meta))
    save_file(_features_of_silence(source), target / "outputs.safetensors")
    recording = Recording(target, _seeded_tensor)
    for case in clips:
        recording.run(case)
    computed = {name: value.contiguous().clone() for name, value in recording.computed.items()}
    computed["const/mel_filterbank"] = recording.net.log_mel.filters.clone()
    save_file(computed, target / "outputs.safetensors")
    alone = {case: [_units_of(recording, clip) for clip in found] for case, found in clips.items()}
    for case, found in clips.items():
        rows, lengths = computed[f"{case}/unit_ids"].tolist(), computed[f"{case}/encoder_len"].tolist()
        together = [row[: int(length)] for row, length in zip(rows, lengths, strict=True)]
        meta["units"][case] = {
            "n_samples": [len(clip) for clip in found],
            "unreduced": [_text(row) for row in together],
            "reduced": [_text(_reduced(row)) for row in together],
            **({"unreduced_each_item_alone": [_text(row) for row in alone[case]]} if len(found) > 1 else {}),
        }
    meta["unit_string_first_case"] = "".join(f"<|speech_{unit}|>" for unit in _reduced(alone["single"][0]))
    (target / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def _features_of_silence(source: Path) -> dict[str, torch.Tensor]:
    recorded = load_file(source / "outputs.safetensors")
    return {name: recorded[name] for name in ("silence/logmel", "silence/logmel_len")}


@torch.inference_mode()
def _units_of(recording: Recording, clip: np.ndarray) -> list[int]:
    features, frames = recording.net.log_mel(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))
    ids, lengths = recording.net(features, frames)
    return ids[0, : int(lengths[0])].tolist()


def _reduced(units: list[int]) -> list[int]:
    return [unit for place, unit in enumerate(units) if place == 0 or unit != units[place - 1]]


def _text(units: list[int]) -> str:
    return " ".join(map(str, units))


if __name__ == "__main__":
    recordings = Path(sys.argv[1])
    trim_synthesis(recordings / "u2s_tiny_dev", HERE / "u2s_tiny")
    record_units(recordings / "s2u_tiny_dev", HERE / "s2u_synthetic")
