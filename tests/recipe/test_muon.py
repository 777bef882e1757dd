"""Muon in float32 is PyTorch's, but for the rounding of bfloat16."""

import pytest
import torch
from nano_recipe import muon

from emova_sdk.processor import Processor

SLOW, QUICK = Processor("slow", ("AVX2",), ("BF16", "AMX")), Processor("quick", ("AVX2", "BF16"), ())


def moved(optimizer, steps=3):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((24, 8), (8, 24), (16, 16))]
    made = optimizer(weights)
    before = [weight.detach().clone() for weight in weights]
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        made.step()
    return [weight.detach() - start for weight, start in zip(weights, before, strict=True)], made


@pytest.mark.parametrize("options", [{"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.02}, {"nesterov": False}])
@pytest.mark.parametrize("machine", [SLOW, QUICK], ids=lambda machine: machine.name)
def test_weights_move_as_by_pytorch(machine, options, monkeypatch):
    monkeypatch.setattr(muon, "processor", lambda: machine)
    wanted, theirs = moved(lambda weights: torch.optim.Muon(weights, lr=0.01, **options))
    found, ours = moved(lambda weights: muon.Muon(weights, lr=0.01, **options))
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() < 0.03 * other.norm()
    assert ours.state_dict()["state"].keys() == theirs.state_dict()["state"].keys()
    ours.load_state_dict(theirs.state_dict())


def test_singular_values_come_near_one():
    torch.manual_seed(0)
    found = muon.orthogonalized(torch.randn(30, 12), (3.4445, -4.7750, 2.0315), steps=5, eps=1e-7)
    values = torch.linalg.svdvals(found)
    assert 0.5 < values.min() <= values.max() < 1.3
