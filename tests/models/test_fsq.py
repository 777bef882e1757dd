import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emova_sdk.models.fsq import FSQ


@given(st.lists(st.integers(2, 9), min_size=1, max_size=4))
def test_ids_and_codes_are_each_others_inverse(levels):
    quantizer = FSQ(levels)
    ids = torch.arange(quantizer.size)
    codes = quantizer.ids_to_codes(ids)
    assert torch.equal(quantizer.codes_to_ids(codes), ids)
    assert codes.min() >= -1
    assert codes.max() <= 1
    assert len(torch.unique(codes, dim=0)) == quantizer.size == math.prod(levels)


@given(st.lists(st.integers(2, 9), min_size=1, max_size=4), st.integers(0, 2**31))
def test_every_latent_has_an_id(levels, seed):
    quantizer = FSQ(levels)
    latents = torch.randn(50, len(levels), generator=torch.Generator().manual_seed(seed)) * 4
    ids = quantizer.encode(latents)
    assert ids.min() >= 0
    assert ids.max() < quantizer.size
    assert torch.equal(quantizer.ids_to_codes(ids), quantizer(latents))


def test_the_released_code_book():
    quantizer = FSQ([8, 8, 8, 8])
    assert quantizer.ids_to_codes(torch.tensor([0, 4095])).tolist() == [[-1] * 4, [0.75] * 4]
    assert quantizer.ids_to_codes(torch.tensor([1]))[0].tolist() == [-0.75, -1, -1, -1]
    assert quantizer.encode(torch.full((4,), -9.0)) == 0
    assert quantizer.bound(torch.tensor([50.0])).max() == pytest.approx(2.9965, abs=1e-4)


def test_gradients_pass_straight_through_the_rounding():
    quantizer = FSQ([8, 5])
    latents = torch.tensor([[0.3, -0.2]], requires_grad=True)
    quantizer(latents).sum().backward()
    smooth = torch.tensor([[0.3, -0.2]], requires_grad=True)
    (quantizer.bound(smooth) / torch.tensor([4, 2])).sum().backward()
    assert torch.allclose(latents.grad, smooth.grad)
    assert latents.grad.abs().min() > 0


def test_it_has_no_weights_and_refuses_nonsense():
    assert not FSQ([8, 8]).state_dict()
    for levels in ([], [8, 1]):
        with pytest.raises(ValueError, match="levels"):
            FSQ(levels)
