import numpy as np
import pytest
import torch

from emova_sdk.models.log_mel import LogMel, mel_filterbank
from emova_sdk.models.spiral import ConvNorm, ConvShape, PhoneShape, SpiralConfig, SpiralTokenizer, StageShape


def config(*, kernel=16, levels=(8, 6, 5), mels=20, width=24, layers=2, pad=16, strides=(2, 2)):
    convs = (ConvShape(16, 5, strides[0], True), ConvShape(width, 5, strides[1], True), ConvShape(width, 1, 1, False))
    return SpiralConfig(
        n_mels=mels,
        pad_frames_to=pad,
        fsq_levels=levels,
        stages=(
            StageShape(convs, width, 4, 32, layers, kernel, 4),
            StageShape((ConvShape(32, 3, 1, True), ConvShape(16, 1, 1, False)), 16, 2, 24, 1, kernel, 2),
        ),
        ctc_decoder=PhoneShape(8, 5, 2, 10, 10),
    )


VARIANTS = [
    config(),
    config(kernel=7),
    config(levels=(5, 5), mels=33),
    config(width=32, layers=1, pad=4),
    config(strides=(2, 1)),
]


def network(shape):
    torch.manual_seed(3)
    return SpiralTokenizer(shape).eval()


@pytest.mark.parametrize("shape", VARIANTS)
@torch.inference_mode()
def test_one_unit_for_every_started_step(shape):
    net = network(shape)
    for samples in (257, 640, 641, 5000):
        features, frames = net.log_mel(torch.randn(1, samples), torch.tensor([samples]))
        ids, units = net(features, frames)
        assert features.shape[-1] % shape.pad_frames_to == 0
        assert units.item() == -(-samples // shape.samples_per_unit) <= ids.shape[1]
        assert ids.min() >= 0
        assert ids.max() < net.quantizer.size


@pytest.mark.parametrize("shape", VARIANTS)
@torch.inference_mode()
def test_padding_and_neighbours_change_nothing(shape):
    net = network(shape)
    clips = [torch.randn(1, samples) for samples in (3000, 900, 5000)]
    alone = [net.log_mel(clip, torch.tensor([clip.shape[1]])) for clip in clips]
    longest = max(features.shape[-1] for features, _ in alone)
    padded = torch.cat([torch.nn.functional.pad(f, (0, longest - f.shape[-1]), value=9.0) for f, _ in alone])
    together, units = net.latents(padded, torch.cat([frames for _, frames in alone]))
    for row, (features, frames) in enumerate(alone):
        single, count = net.latents(features, frames)
        assert units[row] == count[0]
        assert torch.allclose(together[row, : units[row]], single[0, : count[0]], atol=1e-5)


@torch.inference_mode()
def test_the_level_of_the_input_does_not_matter():
    front = LogMel()
    audio, lengths = torch.randn(1, 4000), torch.tensor([4000])
    loud, _ = front(audio, lengths)
    quiet, _ = front(audio * 0.1, lengths)
    assert torch.allclose(loud, quiet, atol=2e-3)
    assert loud[..., :25].mean(-1).abs().max() < 1e-4
    assert not loud[..., 25:].any()
    assert torch.isfinite(front(torch.zeros(1, 4000), lengths)[0]).all()


def test_mel_filters_have_slaney_areas_and_order():
    filters = mel_filterbank(16000, 512, 128).double()
    areas = filters.sum(1) * 16000 / 512
    assert areas[-40:].numpy() == pytest.approx(np.ones(40), abs=0.05)
    peaks = filters.argmax(1)
    assert (peaks.diff() >= 0).all()
    assert filters.min() == 0


def test_padding_of_strided_convolutions_goes_to_the_right():
    assert ConvNorm(128, ConvShape(8, 5, 2, True)).padding == (1, 2)
    assert ConvNorm(128, ConvShape(8, 5, 1, True)).padding == (2, 2)
    # The original decides by the channels; odd ones pad both sides alike.
    assert ConvNorm(33, ConvShape(8, 5, 2, True)).padding == (2, 2)


@torch.inference_mode()
def test_phones_are_scored_for_every_unit():
    net = network(config())
    codes = net.quantizer.ids_to_codes(torch.tensor([[1, 2, 3, 4]]))
    logits = net.phones(codes, torch.tensor([3]))
    assert logits.shape == (1, 4, 11)
    moved = codes.clone()
    moved[:, 3] = 0
    assert torch.equal(logits[:, :3], net.phones(moved, torch.tensor([3]))[:, :3])


def test_released_shape_and_size():
    with torch.device("meta"):
        net = SpiralTokenizer(SpiralConfig())
    assert net.config.samples_per_unit == 640
    # The released file also stores the magnitudes of weight norm, one for each tap of two position convolutions.
    assert sum(parameter.numel() for parameter in net.parameters()) + 2 * 128 == 94_688_373
    assert sum(parameter.numel() for parameter in net.phones.parameters()) == 94_688_373 - 90_620_292


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="n_melz"):
        SpiralConfig.from_dict({"n_melz": 3})
