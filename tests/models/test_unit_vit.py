"""UNIT's tower, where no recording reaches."""

import pytest
import torch

from emova_sdk.models.unit_vit import UnitVit


@pytest.mark.parametrize(("cls_tokens", "registers"), [(1, 0), (2, 0), (2, 3)])
def test_the_summary_is_the_first_class_token(cls_tokens, registers):
    torch.manual_seed(0)
    sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2, "image_size": 28, "patch_size": 14}
    network = UnitVit(**sizes, cls_tokens=cls_tokens, registers=registers).eval()
    seen = []
    network.unit_model.model.norm.register_forward_hook(lambda _module, _inputs, tokens: seen.append(tokens))
    with torch.inference_mode():
        summary, patches = network(torch.randn(2, 3, 28, 28))
    assert summary.shape == (2, 16)
    assert patches.shape == (2, 4, 16)
    assert torch.equal(summary, seen[0][:, 0])
    assert torch.equal(patches, seen[0][:, cls_tokens + registers :])
