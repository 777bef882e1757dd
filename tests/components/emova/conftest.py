"""A tiny speech tokenizer, vocoder and style table with seeded weights, in the published combined layout."""

import json

import pytest
import torch
from safetensors.torch import save_file

from emova_sdk.components.emova.speech.style import CONDITIONS
from emova_sdk.components.emova.speech.weights import released_tensors
from emova_sdk.models.spiral import SpiralConfig, SpiralTokenizer
from emova_sdk.models.vits import Vits, VitsConfig

S2U = {
    "n_mels": 20,
    "stages": [
        {
            "convs": [
                {"channels": 16, "kernel": 5, "stride": 2, "relu": True},
                {"channels": 16, "kernel": 5, "stride": 2, "relu": True},
            ],
            "dim": 16,
            "heads": 2,
            "ffn": 32,
            "layers": 1,
            "pos_conv_kernel": 8,
            "pos_conv_groups": 2,
        }
    ],
    "fsq_levels": [4, 4, 4],
    "ctc_decoder": {"channels": 8, "kernel": 5, "layers": 2, "n_phones": 9, "blank_index": 9},
}
U2S = {
    "n_symbols": 70,
    "unit_offset": 6,
    "n_units": 64,
    "n_speakers": 3,
    "filter_length": 128,
    "hop_length": 32,
    "win_length": 128,
    "inter_channels": 8,
    "hidden_channels": 16,
    "filter_channels": 24,
    "n_layers": 2,
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "upsample_rates": [8, 4],
    "upsample_kernel_sizes": [16, 8],
    "upsample_initial_channel": 32,
    "gin_channels": 12,
}
CONFIG = {
    "s2u_unit_type": "40ms_444",
    "u2s_num_styles": 126,
    "u2s_style2idx": {name: row for row, name in enumerate(CONDITIONS)},
    "s2u": S2U,
    "u2s": U2S,
}


def seeded(module):
    torch.manual_seed(11)
    for parameter in module.parameters():
        scale = 1.0 if parameter.dim() < 2 else parameter[0].numel() ** -0.5
        parameter.data.normal_(0, 0.1 if parameter.dim() < 2 else scale)
    return module.eval()


def with_weight_norm(tensors, *, old):
    """The same weights as magnitude and direction, in torch's old or new spelling."""
    split = {}
    for name, value in tensors.items():
        position = ".pos_conv." in name
        normed = position or any(part in name for part in ("dec.ups.", "dec.resblocks.", "in_layers.", "res_skip_layers."))
        if not normed or not name.endswith(".weight"):
            split[name] = value.clone()
            continue
        dims = (0, 1) if position else tuple(range(1, value.dim()))
        magnitude = value.norm(dim=dims, keepdim=True)
        base = name.removesuffix(".weight")
        names = ("weight_g", "weight_v") if old else ("parametrizations.weight.original0", "parametrizations.weight.original1")
        split[f"{base}.{names[0]}"], split[f"{base}.{names[1]}"] = magnitude, value * 3
    return split


@pytest.fixture(scope="session")
def spiral():
    return seeded(SpiralTokenizer(SpiralConfig.from_dict(S2U)))


@pytest.fixture(scope="session")
def vits():
    return seeded(Vits(VitsConfig.from_dict(U2S)))


@pytest.fixture(scope="session")
def style_table():
    return torch.nn.functional.normalize(torch.randn(126, 12, generator=torch.Generator().manual_seed(4)), dim=1)


@pytest.fixture(scope="session")
def spiral_tensors(spiral):
    constants = {"encoder.mask_emb": torch.zeros(20), "quantizer._levels_np": torch.tensor([4, 4, 4])}
    return with_weight_norm(released_tensors(spiral), old=True) | constants


@pytest.fixture(scope="session")
def vits_tensors(vits):
    training = {
        "emb_g.weight": torch.zeros(3, 12),
        "dp.post_pre.weight": torch.zeros(16, 1, 1),
        "enc_q.pre.bias": torch.zeros(16),
    }
    return with_weight_norm(released_tensors(vits), old=False) | training


@pytest.fixture(scope="session")
def combined(tmp_path_factory, spiral_tensors, vits_tensors, style_table):
    """Folder in the layout of the hub repository."""
    folder = tmp_path_factory.mktemp("emova_speech")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tensors = {f"encoder.{name}": value.contiguous() for name, value in spiral_tensors.items()}
    tensors |= {f"decoder.{name}": value.contiguous() for name, value in vits_tensors.items()}
    save_file(tensors | {"style_embedding.weight": style_table}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def configs():
    return {"s2u": S2U, "u2s": U2S, "combined": CONFIG}


@pytest.fixture
def check_all():
    """Run every rule of the conformance kit on what a factory makes."""
    from emova_sdk.testing import run_checks

    def run(factory):
        failed = [f"{result.name}: {result.message}" for result in run_checks(factory) if not result.passed]
        assert not failed, "\n".join(failed)

    return run
