"""Speech to units: every tensor that was recorded from the reference, compared."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from emova_sdk import Audio
from emova_sdk.components.emova.speech.speech_tokenizer import EmovaSpeechTokenizer
from emova_sdk.components.emova.speech.weights import load_spiral
from emova_sdk.models.spiral import ConvNorm, SpiralConfig, SpiralTokenizer, Transformer

pytestmark = pytest.mark.golden("s2u")

TOLERANCE = {
    "logmel": 5e-4,
    "conv0_out": 2e-4,
    "stage1_conv": 2e-4,
    "stage1_out": 2e-4,
    "encoder_out": 2e-4,
    "pre_quant": 2e-4,
    "bounded": 2e-4,
    "boundary_margin": 2e-4,
    "ctc_logits": 1e-3,
    "mel_filterbank": 1e-7,
    "window": 1e-7,
}


class Recording:
    def __init__(self, golden, seeded_tensor):
        self.folder = golden
        self.meta = json.loads((golden / "meta.json").read_text())
        self.inputs = load_file(golden / "inputs.safetensors")
        self.outputs = load_file(golden / "outputs.safetensors")
        checks = json.loads((golden / "weights_check.json").read_text())
        seed = self.meta["weights"]["seed"]
        self.weights = {name: torch.from_numpy(seeded_tensor(name, c["shape"], seed)) for name, c in checks.items()}
        for name, check in checks.items():
            assert self.weights[name].double().sum().item() == pytest.approx(check["sum"], rel=1e-6, abs=1e-4)
            assert self.weights[name].flatten()[:3].tolist() == pytest.approx(check["first"])
        self.net = SpiralTokenizer(SpiralConfig.from_dict(json.loads((golden / "config.json").read_text()))).eval()
        load_spiral(self.net, self.weights, path=golden / "weights.safetensors")
        self.computed = {}

    @property
    def cases(self):
        return sorted({name.split("/")[0] for name in self.inputs})

    @torch.inference_mode()
    def run(self, case):
        """Everything the reference recorded of one case, computed here."""
        net, audio = self.net, self.inputs[f"{case}/audio"]
        features, frames = net.log_mel(audio, self.inputs[f"{case}/audio_len"])
        found = {"logmel": features, "logmel_len": frames}
        if not audio.any():
            # The features of silence are a rounding artefact: only what follows from the recorded ones is defined.
            assert torch.isfinite(features).all()
            features = found["logmel"] = self.outputs[f"{case}/logmel"]
        hooks = self._watch(found)
        found["encoder_out"], found["encoder_len"] = hidden, units = net.encoder(features, frames)
        for hook in hooks:
            hook.remove()
        found["pre_quant"] = latents = net.pre_quant(hidden)
        found["bounded"] = bounded = net.quantizer.bound(latents)
        found["boundary_margin"] = (0.5 - (bounded - bounded.round()).abs()).amin(-1)
        found["codes"] = codes = net.quantizer(latents)
        found["unit_ids"], _ = net(features, frames)
        found["ctc_logits"] = logits = net.phones(codes[:, : int(units.max())], units)
        found["ctc_greedy"] = logits.argmax(-1)
        self.computed |= {f"{case}/{name}": value for name, value in found.items()}

    def _watch(self, found):
        blocks = list(self.net.encoder.blocks)
        first = next(block for block in blocks if isinstance(block, Transformer))
        before = blocks[blocks.index(first) - 1]
        assert isinstance(blocks[0], ConvNorm)
        named = {"conv0_out": blocks[0], "stage1_conv": before, "stage1_out": first}
        return [
            block.register_forward_hook(lambda _m, _i, out, name=name: found.__setitem__(name, out[0]))
            for name, block in named.items()
        ]


@pytest.fixture(scope="module")
def recording(golden, seeded_tensor):
    recording = Recording(golden, seeded_tensor)
    for case in recording.cases:
        recording.run(case)
    recording.computed["const/mel_filterbank"] = recording.net.log_mel.filters
    recording.computed["const/window"] = recording.net.log_mel.window
    return recording


def test_every_tensor_equals_the_recorded_one(recording):
    for name, expected in recording.outputs.items():
        if name.startswith("long"):
            continue
        case, tensor = name.split("/")
        found = recording.computed[name]
        assert found.shape == expected.shape, name
        if tensor in ("unit_ids", "codes"):
            clear = recording.outputs[f"{case}/boundary_margin"] > 1e-3
            assert torch.equal(found[clear].float(), expected[clear].float()), name
        elif tensor in TOLERANCE:
            assert (found - expected).abs().max() <= TOLERANCE[tensor], name
        else:
            assert torch.equal(found.long(), expected.long()), name


def test_no_recorded_tensor_is_left_uncompared(recording):
    compared = {name for name in recording.outputs if name in recording.computed}
    long = {f"{case}/{tensor}" for case in recording.meta.get("long", {}) for tensor in ("unit_ids", "reduced_ids")}
    assert compared | long == set(recording.outputs)


def test_the_encoder_alone_on_recorded_features(recording):
    for case in recording.cases:
        with torch.inference_mode():
            outputs = recording.outputs
            hidden, _ = recording.net.encoder(outputs[f"{case}/logmel"], outputs[f"{case}/logmel_len"].long())
        assert (hidden - outputs[f"{case}/encoder_out"]).abs().max() <= 2e-4, case


def component(recording, **options):
    """The component on the recording's folder; on weights made by recipe where the folder holds none."""
    made = EmovaSpeechTokenizer(str(recording.folder), device="cpu", reduced=False, **options)
    if not (recording.folder / "weights.safetensors").exists():
        made._net = recording.net
    return made


def clips(recording, case):
    audio, lengths = recording.inputs[f"{case}/audio"], recording.inputs[f"{case}/audio_len"]
    rate = recording.net.config.sample_rate
    return [Audio(row[:length].numpy(), rate) for row, length in zip(audio, lengths.tolist(), strict=True)]


def test_the_component_says_the_units_of_each_clip_alone(recording):
    for case in recording.cases:
        if not recording.inputs[f"{case}/audio"].any():
            continue
        units = recording.meta["units"][case]
        expected = units.get("unreduced_each_item_alone", units["unreduced"])
        clear = (recording.outputs[f"{case}/boundary_margin"] > 1e-3).numpy()
        # One batched run of a full-size network is enough: batches are tested on small ones as well.
        small = recording.meta["n_parameters"] < 10_000_000
        for batch_size in (1, 4) if small else (4,):
            found = component(recording, batch_size=batch_size).encode(clips(recording, case))
            for row, (ids, text) in enumerate(zip(found, expected, strict=True)):
                wanted = np.array(text.split(), np.int64)
                assert len(ids) == len(wanted), case
                assert np.array_equal(ids.ids[clear[row, : len(ids)]], wanted[clear[row, : len(ids)]]), case
                if np.array_equal(ids.ids, wanted):
                    reduced = units["reduced"][row] if expected is units["unreduced"] else None
                    assert reduced is None or " ".join(map(str, ids.reduced().ids)) == reduced, case


def test_the_original_batches_are_to_be_had(recording):
    for case in recording.cases:
        if not recording.inputs[f"{case}/audio"].any():
            continue
        clear = (recording.outputs[f"{case}/boundary_margin"] > 1e-3).numpy()
        found = component(recording, reference=True, batch_size=64).encode(clips(recording, case))
        for row, (ids, text) in enumerate(zip(found, recording.meta["units"][case]["unreduced"], strict=True)):
            wanted = np.array(text.split(), np.int64)
            assert np.array_equal(ids.ids[clear[row, : len(ids)]], wanted[clear[row, : len(ids)]]), case


def test_the_original_way_with_long_sounds(recording):
    source = next((case for case in recording.cases if case == "single"), recording.cases[0])
    for case, long in recording.meta.get("long", {}).items():
        clip = clips(recording, source)[0]
        tiled = Audio(np.resize(clip.samples, long["n_samples"]), clip.sample_rate)
        expected = recording.outputs[f"{case}/unit_ids"].numpy()
        found = component(recording, reference=True).encode([tiled])[0]
        assert len(found) == len(expected) == long["n_units"]
        # No margins were recorded here, so a unit on the very boundary may fall to either side.
        same = (found.ids == expected).mean()
        assert same >= 0.999
        if same == 1:
            assert np.array_equal(found.reduced().ids, recording.outputs[f"{case}/reduced_ids"].numpy())
        ours = component(recording).encode([tiled])[0]
        assert len(ours) == long["expected_if_trimmed"]


def test_units_as_text(recording):
    first = recording.meta["unit_string_first_case"]
    case = next(iter(recording.meta["units"]))
    found = component(recording).encode(clips(recording, case)[:1])[0]
    assert found.reduced().to_text() == first
