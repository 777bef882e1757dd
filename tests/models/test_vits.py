import math

import pytest
import torch

from emova_sdk.models.durations import inverse_spline
from emova_sdk.models.vits import (
    EncodedUnits,
    LatentGraph,
    PriorGraph,
    RelativeAttention,
    Vits,
    VitsConfig,
    WaveGraph,
    frames_of,
)


def config(**changes):
    small = {
        "n_symbols": 70,
        "unit_offset": 6,
        "n_units": 64,
        "filter_length": 64,
        "hop_length": 8,
        "win_length": 64,
        "inter_channels": 8,
        "hidden_channels": 12,
        "filter_channels": 16,
        "n_layers": 2,
        "resblock_kernel_sizes": (3, 5),
        "resblock_dilation_sizes": ((1, 3), (1, 2)),
        "upsample_rates": (4, 2),
        "upsample_kernel_sizes": (8, 4),
        "upsample_initial_channel": 16,
        "gin_channels": 10,
    }
    return VitsConfig.from_dict(small | changes)


VARIANTS = [
    config(),
    config(kernel_size=5, n_heads=3, window_size=2, n_layers=1),
    config(upsample_rates=(2, 2, 2), upsample_kernel_sizes=(4, 4, 4)),
    config(resblock_kernel_sizes=(7,), resblock_dilation_sizes=((1, 3, 5),), inter_channels=6, gin_channels=4),
]


def network(shape, **options):
    torch.manual_seed(5)
    return Vits(shape, **options).eval()


@torch.inference_mode()
def synthesize(net, units, lengths, style, *, seed=0):
    torch.manual_seed(seed)
    encoded = net.encode(units, lengths)
    logs = net.log_durations(encoded, torch.randn(len(units), 2, units.shape[1]), style)
    durations = frames_of(logs, encoded.mask)
    frames = max(1, int(durations.sum(1).max()))
    prior, mask = net.spread(encoded, durations, torch.randn(len(units), net.config.inter_channels, frames))
    latents = net.flow.reverse(prior, mask, style)
    return durations, net.generator(latents * mask, style)


@pytest.mark.parametrize("shape", VARIANTS)
@pytest.mark.parametrize("styled", [True, False])
def test_lengths_follow_the_durations(shape, styled):
    net = network(shape)
    style = torch.randn(2, shape.gin_channels, 1) if styled else None
    units = torch.randint(0, shape.n_units, (2, 9))
    durations, wave = synthesize(net, units, torch.tensor([9, 5]), style)
    assert wave.shape == (2, 1, int(durations.sum(1).max()) * shape.samples_per_frame)
    assert (durations[0] >= 1).all()
    assert (durations[1, :5] >= 1).all()
    assert not durations[1, 5:].any()


@pytest.mark.parametrize("shape", VARIANTS)
@torch.inference_mode()
def test_padding_changes_nothing_before_the_noise(shape):
    net = network(shape)
    units = torch.randint(0, shape.n_units, (1, 6))
    padded = torch.cat([units, torch.full((1, 4), -1)], 1)
    style, noise = torch.randn(1, shape.gin_channels, 1), torch.randn(1, 2, 10)
    alone, together = net.encode(units, torch.tensor([6])), net.encode(padded, torch.tensor([6]))
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other[..., :6], atol=1e-5)
        assert not other[..., 6:].any()
    one = net.log_durations(alone, noise[..., :6], style)
    assert torch.allclose(one, net.log_durations(together, noise, style)[..., :6], atol=1e-5)


@pytest.mark.parametrize("shape", VARIANTS)
@torch.inference_mode()
def test_pieces_of_flow_and_generator_equal_the_whole(shape):
    net = network(shape)
    style = torch.randn(1, shape.gin_channels, 1)
    prior = torch.randn(1, shape.inter_channels, 150)
    mask = torch.ones(1, 1, 150)
    latents, whole = net.flow.reverse(prior, mask, style), None
    whole = net.generator(latents, style)
    context, step = net.flow.context_frames, shape.samples_per_frame
    part = net.flow.reverse(prior[..., 60 - context : 90 + context], mask[..., : 30 + 2 * context], style)
    assert torch.allclose(part[..., context : context + 30], latents[..., 60:90], atol=1e-5)
    context = net.generator.context_frames
    piece = net.generator(latents[..., 60 - context : 90 + context], style)
    error = (piece[..., context * step :][..., : 30 * step] - whole[..., 60 * step : 90 * step]).abs().max()
    assert error <= 1e-6


@torch.inference_mode()
def test_the_context_is_as_small_as_it_can_be():
    generator = network(config()).generator
    latents, style = torch.randn(1, 8, 81), torch.randn(1, 10, 1)
    moved = latents.clone()
    moved[..., 40] += 100
    changed = (generator(latents, style) - generator(moved, style))[0, 0].abs().reshape(81, -1).amax(1) > 0
    reach = changed.nonzero()[:, 0] - 40
    assert generator.context_frames - 1 <= int(reach.abs().max()) <= generator.context_frames


def test_released_context_and_size():
    with torch.device("meta"):
        net = Vits(VitsConfig(), posterior=True)
    assert net.generator.context_frames == 13
    assert net.flow.context_frames == 32
    assert net.config.samples_per_frame == 256
    # What the released file stores besides: magnitudes of weight norm and the training side of the durations.
    assert sum(parameter.numel() for parameter in net.parameters()) == 40_722_651


@torch.inference_mode()
def test_flow_forward_and_reverse_are_inverse():
    net = network(config())
    latents, mask, style = torch.randn(2, 8, 20), torch.ones(2, 1, 20), torch.randn(2, 10, 1)
    for condition in (style, None):
        there = net.flow(latents, mask, condition)
        assert torch.allclose(net.flow.reverse(there, mask, condition), latents, atol=1e-4)


def test_the_spline_is_monotonic_on_its_interval_and_the_identity_outside():
    torch.manual_seed(1)
    values = torch.linspace(-7, 7, 400)
    widths, heights, slopes = (torch.randn(1, size).expand(400, size) * 2 for size in (10, 10, 9))
    out = inverse_spline(values, widths, heights, slopes)
    assert (out.diff() > 0).all()
    outside = values.abs() > 5
    assert torch.equal(out[outside], values[outside])
    ends = inverse_spline(torch.tensor([-5.0, 5.0]), widths[:2], heights[:2], slopes[:2])
    assert ends.tolist() == pytest.approx([-5, 5], abs=1e-4)
    assert torch.isfinite(out).all()


@torch.inference_mode()
def test_relative_attention_equals_its_definition():
    torch.manual_seed(2)
    attention = RelativeAttention(8, 2, 3)
    attention.relative_keys.normal_()
    attention.relative_values.normal_()
    hidden, mask = torch.randn(1, 8, 11), torch.ones(1, 1, 11)
    found = attention(hidden, mask)

    query, key, value = (
        p(hidden)[0].reshape(2, 4, 11).transpose(1, 2) for p in (attention.query, attention.key, attention.value)
    )
    mixed = torch.zeros(2, 11, 4)
    for head in range(2):
        for i in range(11):
            score = torch.tensor([float(query[head, i] @ key[head, j]) for j in range(11)]) / math.sqrt(4)
            for j in range(11):
                if abs(j - i) <= 3:
                    score[j] += query[head, i] @ attention.relative_keys[0, j - i + 3] / math.sqrt(4)
            weights = torch.softmax(score, 0)
            for j in range(11):
                mixed[head, i] += weights[j] * value[head, j]
                if abs(j - i) <= 3:
                    mixed[head, i] += weights[j] * attention.relative_values[0, j - i + 3]
    expected = attention.out(mixed.transpose(1, 2).reshape(1, 8, 11))
    assert torch.allclose(found, expected, atol=1e-5)


@torch.inference_mode()
def test_the_prior_is_repeated_by_the_durations():
    net = network(config())
    mean = torch.arange(3.0).reshape(1, 1, 3).expand(1, 8, 3)
    encoded = EncodedUnits(mean, mean, torch.zeros(1, 8, 3), torch.ones(1, 1, 3))
    prior, mask = net.spread(encoded, torch.tensor([[2, 0, 3]]), torch.zeros(1, 8, 7), noise_scale=1.0)
    assert prior[0, 0].tolist() == [0, 0, 2, 2, 2, 0, 0]
    assert mask[0, 0].tolist() == [1, 1, 1, 1, 1, 0, 0]


@torch.inference_mode()
def test_style_vectors_have_length_one_and_ignore_padding():
    net = network(config())
    spectrogram = torch.rand(1, 33, 30)
    alone = net.style_encoder(spectrogram, torch.tensor([30]))
    assert alone.norm() == pytest.approx(1, abs=1e-5)
    audio = torch.randn(1, 400)
    assert net.spectrogram(audio).shape == (1, 33, 400 // 8)


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="hidden"):
        VitsConfig.from_dict({"hidden": 3})


@torch.inference_mode()
def test_the_graphs_for_export_say_what_the_network_says():
    net = network(config())
    units, style, noise = torch.randint(0, 64, (2, 9)), torch.randn(2, 10), torch.randn(2, 2, 9)
    lengths = torch.tensor([9, 6])
    encoded = net.encode(units, lengths)
    durations = frames_of(net.log_durations(encoded, noise, style[..., None]), encoded.mask, length_scale=1.3)
    found, mean, logstd = PriorGraph(net)(units, lengths, style, noise, torch.tensor([0.8]), torch.tensor([1.3]))
    assert torch.equal(found, durations)
    noise = torch.randn(2, 8, int(durations.sum(1).max()))
    prior, mask = net.spread(encoded, durations, noise)
    expected = net.flow.reverse(prior, mask, style[..., None]) * mask
    latents = LatentGraph(net)(found, mean, logstd, style, noise, torch.tensor([0.667]))
    assert torch.allclose(latents, expected, atol=1e-6)
    wave = WaveGraph(net)(latents, style)
    assert torch.allclose(wave, net.generator(expected, style[..., None])[:, 0], atol=1e-6)
