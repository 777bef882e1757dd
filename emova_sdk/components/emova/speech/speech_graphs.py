"""EMOVA's speech networks as graphs for export: what is dynamic, valid inputs of any size, and how exactly they must agree.

Axes are declared here and nowhere else. Noise, lengths and scales are inputs; facts that a runtime needs beside the graphs
are in their metadata. The graphs are those of the networks in float32 on the CPU, whatever a component itself runs in.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from emova_sdk.components.base import Space
from emova_sdk.components.graph import Axis, Graph
from emova_sdk.models.spiral import SpiralTokenizer
from emova_sdk.models.style_encoder import Spectrogram, StyleEncoder
from emova_sdk.models.vits import LatentGraph, PriorGraph, Vits, WaveGraph

_Module = TypeVar("_Module", bound=nn.Module)
_Sizes = Mapping[str, int]
_Inputs = dict[str, Tensor]

_BATCH = Axis("batch", 1, 1, 8)
_UNITS = Axis("units", 1, 50, 1024)
_FRAMES = Axis("frames", 1, 128, 8192)
_LONGEST_S = 60
_MISMATCH = 0.01  # of units next to a rounding boundary, or durations next to a whole frame
_LATENTS_ATOL = 1e-3
"""Of the numbers that are rounded to units. Clips of two frames are divided by deviations near 0, which makes errors large;
a level is hundreds of times as wide."""
_CALIBRATION_PHRASES = 8


def _for_export(net: _Module) -> _Module:
    plain = all(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in net.parameters())
    return net if plain else deepcopy(net).float().cpu()


def _rng(sizes: _Sizes) -> torch.Generator:
    return torch.Generator().manual_seed(sum(sizes.values()))


def _sound(sizes: _Sizes) -> Tensor:
    """Noise under a slow swell, (batch, samples): neither silent nor stationary."""
    batch, samples = sizes["batch"], sizes["samples"]
    swell = torch.sin(torch.arange(samples) * (20.0 / max(samples, 1))) * 0.4 + 0.5
    return 0.1 * swell * torch.randn(batch, samples, generator=_rng(sizes))


def _styles(sizes: _Sizes, size: int) -> Tensor:
    return normalize(torch.randn(sizes["batch"], size, generator=_rng(sizes)), dim=-1)


def _lengths(sizes: _Sizes, longest: int) -> Tensor:
    """A length for each row: the first is the longest, the last about half as long."""
    batch = sizes["batch"]
    return torch.tensor([max(1, longest - row * longest // (2 * batch)) for row in range(batch)])


# --- speech tokenizer ---


class _TokenizerGraph(nn.Module):
    """Samples to units, with the front end."""

    def __init__(self, net: SpiralTokenizer) -> None:
        super().__init__()
        self.log_mel, self.encoder = net.log_mel, net.encoder
        self.pre_quant, self.quantizer = net.pre_quant, net.quantizer

    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Zero-padded samples (batch, samples) and lengths (batch,) to units, valid units and latents."""
        hidden, valid = self.encoder(*self.log_mel(audio, lengths))
        latents = self.pre_quant(hidden)
        return self.quantizer.encode(latents), valid, latents


def tokenizer_graph(net: SpiralTokenizer, space: Space) -> Graph:
    """Waveform to units: float32 (batch, samples) and int64 lengths (batch,), padded with zeros.

    Outputs are ids, int64 (batch, units), of which those past ``valid`` (batch,) belong to padding, and the numbers
    before rounding, float32 (batch, units, dims), which show what a changed unit is worth. A row of a batch is what it is
    alone, but for the frame in which its padding begins.
    """
    net, config = _for_export(net), net.config
    samples = Axis("samples", net.log_mel.shortest, 3 * config.sample_rate, _LONGEST_S * config.sample_rate)

    def sample(sizes: _Sizes) -> _Inputs:
        audio, lengths = _sound(sizes), _lengths(sizes, sizes["samples"])
        return {"audio": audio * (torch.arange(sizes["samples"]) < lengths[:, None]), "lengths": lengths}

    facts = {
        "family": "emova",
        "units": space.name,
        "units_size": str(space.size),
        "sample_rate": str(config.sample_rate),
        "samples_per_unit": str(config.samples_per_unit),
        "shortest": str(net.log_mel.shortest),
    }
    return Graph(
        "tokenizer",
        _TokenizerGraph(net).eval(),
        sample({"batch": 2, "samples": 5003}),
        ("units", "valid", "latents"),
        {"audio": {0: _BATCH, 1: samples}, "lengths": {0: _BATCH}},
        atol=_LATENTS_ATOL,
        mismatch=_MISMATCH,
        certain={"units": lambda outputs: net.quantizer.settled(torch.from_numpy(outputs["latents"]))},
        sample=sample,
        metadata=facts,
    )


# --- vocoder ---


def vocoder_graphs(net: Vits, units: Space, style: Space) -> list[Graph]:
    """The vocoder in three stages, so that a host can stream.

    * ``prior``: units to durations and the prior of each unit. The host sums the durations and draws the frames' noise.
    * ``latents``: spreads the prior over the frames of the noise and runs the flow. Given only the first frames of the noise
      it makes only the first latents; the last ``flow_context`` of those are not final.
    * ``generator``: latents to samples, in pieces with ``generator_context`` frames on each side that equal the whole.
    """
    net = _for_export(net)
    facts = {
        "family": "emova",
        "units": units.name,
        "units_size": str(units.size),
        "style": style.name,
        "style_size": str(style.size),
        "channels": str(net.config.inter_channels),
        "sample_rate": str(net.config.sampling_rate),
        "samples_per_frame": str(net.config.samples_per_frame),
        "flow_context": str(net.flow.context_frames),
        "generator_context": str(net.generator.context_frames),
    }
    return [_prior_graph(net, units, facts), _latents_graph(net, facts), _generator_graph(net, units, facts)]


def _prior_inputs(net: Vits, units: Space, sizes: _Sizes) -> _Inputs:
    batch, count = sizes["batch"], sizes["units"]
    return {
        "units": torch.randint(0, units.size, (batch, count), generator=_rng(sizes)),
        "lengths": _lengths(sizes, count),
        "style": _styles(sizes, net.config.gin_channels),
        "noise": torch.randn(batch, 2, count, generator=_rng(sizes)),
        "noise_scale": torch.tensor([0.8]),
        "length_scale": torch.tensor([1.0]),
    }


def _prior_graph(net: Vits, units: Space, facts: Mapping[str, str]) -> Graph:
    def sample(sizes: _Sizes) -> _Inputs:
        return _prior_inputs(net, units, sizes)

    dynamic = {
        "units": {0: _BATCH, 1: _UNITS},
        "lengths": {0: _BATCH},
        "style": {0: _BATCH},
        "noise": {0: _BATCH, 2: _UNITS},
    }
    return Graph(
        "prior",
        PriorGraph(net).eval(),
        sample({"batch": 2, "units": 13}),
        ("durations", "mean", "logstd"),
        dynamic,
        mismatch=_MISMATCH,
        sample=sample,
        metadata=facts,
    )


def _latents_graph(net: Vits, facts: Mapping[str, str]) -> Graph:
    channels = net.config.inter_channels

    def sample(sizes: _Sizes) -> _Inputs:
        batch, count, frames, rng = sizes["batch"], sizes["units"], sizes["frames"], _rng(sizes)
        lengths = _lengths(sizes, count)
        durations = torch.tensor(
            [[frames // length + (at < frames % length) if at < length else 0 for at in range(count)] for length in lengths]
        )
        return {
            "durations": durations,
            "mean": torch.randn(batch, channels, count, generator=rng),
            "logstd": 0.3 * torch.randn(batch, channels, count, generator=rng) - 0.5,
            "style": _styles(sizes, net.config.gin_channels),
            "noise": torch.randn(batch, channels, frames, generator=rng),
            "noise_scale": torch.tensor([0.667]),
        }

    dynamic = {
        "durations": {0: _BATCH, 1: _UNITS},
        "mean": {0: _BATCH, 2: _UNITS},
        "logstd": {0: _BATCH, 2: _UNITS},
        "style": {0: _BATCH},
        "noise": {0: _BATCH, 2: _FRAMES},
    }
    inputs = sample({"batch": 2, "units": 13, "frames": 47})
    return Graph("latents", LatentGraph(net).eval(), inputs, ("latents",), dynamic, sample=sample, metadata=facts)


def _generator_graph(net: Vits, units: Space, facts: Mapping[str, str]) -> Graph:
    channels = net.config.inter_channels

    def sample(sizes: _Sizes) -> _Inputs:
        latents = torch.randn(sizes["batch"], channels, sizes["frames"], generator=_rng(sizes))
        return {"latents": latents, "style": _styles(sizes, net.config.gin_channels)}

    @torch.inference_mode()
    def calibration() -> list[_Inputs]:
        return [_spoken(net, units, seed) for seed in range(_CALIBRATION_PHRASES)]

    return Graph(
        "generator",
        WaveGraph(net).eval(),
        sample({"batch": 2, "frames": 47}),
        ("audio",),
        {"latents": {0: _BATCH, 2: _FRAMES}, "style": {0: _BATCH}},
        sample=sample,
        calibration=calibration,
        metadata=facts,
    )


def _spoken(net: Vits, units: Space, seed: int) -> _Inputs:
    """What the generator is given when units are spoken: latents of one phrase, cut to two seconds, and its style."""
    inputs = _prior_inputs(net, units, {"batch": 1, "units": 24 + seed})
    durations, mean, logstd = PriorGraph(net)(*inputs.values())
    frames = min(int(durations.sum()), 172)
    noise = torch.randn(1, net.config.inter_channels, frames, generator=torch.Generator().manual_seed(seed))
    latents = LatentGraph(net)(durations, mean, logstd, inputs["style"], noise, torch.tensor([0.667]))
    return {"latents": latents.clone(), "style": inputs["style"]}


# --- style ---


class _StyleGraph(nn.Module):
    """Samples to style vectors, with the spectrogram."""

    def __init__(self, spectrogram: Spectrogram, encoder: StyleEncoder) -> None:
        super().__init__()
        self.spectrogram, self.encoder = spectrogram, encoder

    def forward(self, audio: Tensor) -> Tensor:
        """Samples (batch, samples) to vectors of length 1 (batch, size)."""
        spectrogram = self.spectrogram(audio)
        lengths = torch.full((audio.shape[0],), spectrogram.shape[-1], device=audio.device)
        return self.encoder(spectrogram, lengths)


def style_graph(spectrogram: Spectrogram, encoder: StyleEncoder, *, sample_rate: int) -> Graph:
    """The voice of recordings of equal length: float32 (batch, samples) to vectors of length 1, float32 (batch, size)."""
    module = _for_export(_StyleGraph(spectrogram, encoder)).eval()
    samples = Axis("samples", spectrogram.shortest, 3 * sample_rate, _LONGEST_S * sample_rate)

    def sample(sizes: _Sizes) -> _Inputs:
        return {"audio": _sound(sizes)}

    facts = {
        "family": "emova",
        "style": "emova-style",
        "sample_rate": str(sample_rate),
        "shortest": str(spectrogram.shortest),
    }
    inputs = sample({"batch": 2, "samples": 5003})
    dynamic = {"audio": {0: _BATCH, 1: samples}}
    return Graph("style_encoder", module, inputs, ("style",), dynamic, sample=sample, metadata=facts)
