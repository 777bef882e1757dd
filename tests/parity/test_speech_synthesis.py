"""Units to speech: every tensor that was recorded from the reference, compared."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from emova_sdk import SpeechUnits
from emova_sdk.components.emova.speech.vocoder import EmovaVocoder
from emova_sdk.components.emova.speech.weights import load_vits
from emova_sdk.models.vits import Vits, VitsConfig, frames_of

pytestmark = pytest.mark.golden("u2s")

TOLERANCE = {
    "enc_hidden": 5e-5,
    "prior_mean": 5e-5,
    "prior_logstd": 5e-5,
    "logw": 1e-4,
    "z_p": 5e-4,
    "z": 5e-4,
    "waveform": 1e-5,
    "spectrogram": 1e-4,
    "embedding": 1e-5,
    "embedding_batch": 1e-5,
    "posterior/mean": 1e-4,
    "posterior/logstd": 1e-4,
    "posterior/z": 2e-3,
    "posterior/z_p": 2e-3,
}


class Recording:
    def __init__(self, golden, seeded_tensor):
        self.folder = golden
        self.meta = json.loads((golden / "meta.json").read_text())
        self.inputs = load_file(golden / "inputs.safetensors")
        self.outputs = load_file(golden / "outputs.safetensors")
        checks = json.loads((golden / "weights_check.json").read_text())
        seed = self.meta["weights"]["seed"]
        weights = {name: torch.from_numpy(seeded_tensor(name, c["shape"], seed)) for name, c in checks.items()}
        for name, check in checks.items():
            assert weights[name].double().sum().item() == pytest.approx(check["sum"], rel=1e-6, abs=1e-4)
            assert weights[name].flatten()[:3].tolist() == pytest.approx(check["first"])
        config = VitsConfig.from_dict(json.loads((golden / "config.json").read_text()))
        self.net = Vits(config, posterior=True).eval()
        load_vits(self.net, weights, path=golden / "weights.safetensors")
        self.computed = {}

    def keep(self, case, **tensors):
        self.computed |= {f"{case}/{name}": value for name, value in tensors.items()}

    @torch.inference_mode()
    def synthesize(self, case):
        net, settings = self.net, self.meta["cases"][case]
        units, lengths = self.inputs[f"{case}/units"].long(), self.inputs[f"{case}/unit_len"]
        style = self.inputs.get(f"{case}/style_embedding")
        encoded = net.encode(units, lengths)
        noise, noise_scale = self.inputs[f"{case}/noise_dur"], settings["noise_scale_w"]
        logs = net.log_durations(encoded, noise, style, noise_scale=noise_scale)
        durations = frames_of(logs, encoded.mask, length_scale=settings["length_scale"])
        noise = self.inputs[f"{case}/noise_prior"]
        assert noise.shape[-1] == max(1, int(durations.sum(1).max())) == settings["frames"]
        prior, mask = net.spread(encoded, durations, noise, noise_scale=settings["noise_scale"])
        latents = net.flow.reverse(prior, mask, style)
        waveform = net.generator(latents * mask, style)
        self.keep(case, enc_hidden=encoded.hidden, prior_mean=encoded.mean, prior_logstd=encoded.logstd)
        self.keep(case, unit_mask=encoded.mask, logw=logs, durations=durations, frame_mask=mask, z_p=prior, z=latents)
        self.keep(case, waveform=waveform)

    @torch.inference_mode()
    def style(self):
        spectrogram = self.net.spectrogram(self.inputs["style_encoder/audio_22050"])
        lengths = self.inputs["style_encoder/batch_len"]
        frames = torch.arange(spectrogram.shape[-1])
        both = torch.cat([spectrogram, spectrogram * (frames < lengths[1])])
        embedding = self.net.style_encoder(spectrogram, torch.tensor([spectrogram.shape[-1]]))
        self.keep("style_encoder", spectrogram=spectrogram, embedding=embedding)
        self.keep("style_encoder", embedding_batch=self.net.style_encoder(both, lengths))

    @torch.inference_mode()
    def posterior(self):
        spectrogram = self.computed["style_encoder/spectrogram"]
        style = self.computed["style_encoder/embedding"][..., None]
        mask = torch.ones_like(spectrogram[:, :1])
        noise = self.inputs["posterior/noise"]
        latents, mean, logstd = self.net.posterior_encoder(spectrogram, mask, noise, style)
        self.keep("posterior", z=latents, mean=mean, logstd=logstd, z_p=self.net.flow(latents, mask, style))


@pytest.fixture(scope="module")
def recording(golden, seeded_tensor):
    recording = Recording(golden, seeded_tensor)
    for case in recording.meta["cases"]:
        recording.synthesize(case)
    if "style_encoder/audio_22050" in recording.inputs:
        recording.style()
    if "posterior/noise" in recording.inputs:
        recording.posterior()
    return recording


def test_every_tensor_equals_the_recorded_one(recording):
    for name, expected in recording.outputs.items():
        found, tensor = recording.computed[name], name.split("/")[1]
        assert found.shape == expected.shape, name
        tolerance = TOLERANCE.get(name, TOLERANCE.get(tensor))
        if tolerance is None:
            assert torch.equal(found.float(), expected.float()), name
        else:
            assert (found - expected).abs().max() <= tolerance, name


def test_no_recorded_tensor_is_left_uncompared(recording):
    assert set(recording.outputs) <= set(recording.computed)


def test_units_are_numbered_after_the_text_symbols(recording):
    offset = recording.net.config.unit_offset
    for case in recording.meta["cases"]:
        units, symbols = recording.inputs[f"{case}/units"], recording.inputs[f"{case}/symbol_ids"]
        assert torch.equal(torch.where(units < 0, 0, units + offset), symbols)


def test_the_waveform_in_pieces_equals_the_whole(recording):
    net, case = recording.net, next(iter(recording.meta["cases"]))
    style = recording.inputs.get(f"{case}/style_embedding")
    latents, whole = recording.computed[f"{case}/z"][:1], recording.computed[f"{case}/waveform"][:1]
    latents = latents * recording.computed[f"{case}/frame_mask"][:1]
    style = None if style is None else style[:1]
    context, step = net.generator.context_frames, net.config.samples_per_frame
    for start in (0, 37, latents.shape[-1] - 37):
        if not 0 <= start < latents.shape[-1]:
            continue
        begin, stop = max(0, start - context), start + 37
        with torch.inference_mode():
            piece = net.generator(latents[..., begin : stop + context], style)
        expected = whole[..., start * step : stop * step]
        found = piece[..., (start - begin) * step :][..., : expected.shape[-1]]
        assert (found - expected).abs().max() <= 1e-6


def test_the_component_loads_the_recorded_folder(recording):
    vocoder = EmovaVocoder(str(recording.folder), device="cpu")
    assert vocoder.units.size == recording.net.config.n_units
    if not (recording.folder / "weights.safetensors").exists():
        vocoder._net = recording.net
    else:
        loaded, made = vocoder.net.state_dict(), recording.net.state_dict()
        assert all(torch.equal(value, made[name]) for name, value in loaded.items())
    case = next(iter(recording.meta["cases"]))
    length = min(8, int(recording.inputs[f"{case}/unit_len"][0]))
    units = SpeechUnits.of(recording.inputs[f"{case}/units"][0, :length].tolist())
    style = recording.inputs.get(f"{case}/style_embedding")
    row = None if style is None else style[0, :, 0].numpy()
    whole = vocoder.synthesize([units], None if row is None else row[None])[0].samples
    stream = vocoder.stream(row)
    pieces = [chunk.audio.samples for chunk in [*stream.push(units), *stream.finish()]]
    assert np.abs(np.concatenate(pieces) - whole).max() <= 1e-6
