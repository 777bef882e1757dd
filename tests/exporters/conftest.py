"""EMOVA's speech components at tiny size, and one export of them that all tests here share."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.onnx._internal.exporter._registration import ONNXRegistry

from emova_sdk.cli.app import run
from emova_sdk.components.emova.speech.weights import released_tensors
from emova_sdk.models.spiral import SpiralConfig, SpiralTokenizer
from emova_sdk.models.vits import Vits, VitsConfig


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What works on the export of all speech components is slow: tracing them takes a minute."""
    for item in items:
        found = getattr(item, "_fixtureinfo", None)
        if found and any(one.baseid.endswith("exporters") for one in found.name2fixturedefs.get("bundle", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _one_registry() -> Iterator[None]:
    """PyTorch reads the sources of all its translations before every export: two seconds each. Once is enough here."""
    made = cache(ONNXRegistry.from_torchlib.__func__)

    def again(kind: type[ONNXRegistry], opset_version: int) -> ONNXRegistry:
        registry = copy.copy(made(kind, opset_version))
        registry.functions = {target: list(found) for target, found in registry.functions.items()}
        return registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", classmethod(again))
        yield


SPEECH = ("speech_tokenizer", "style_module", "vocoder")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint that the components' own tests use."""
    path = Path(__file__).parents[1] / "components" / "emova" / "conftest.py"
    spec = spec_from_file_location("tiny_speech", path)
    source = module_from_spec(spec)
    spec.loader.exec_module(source)
    nets = {
        "encoder": source.seeded(SpiralTokenizer(SpiralConfig.from_dict(source.S2U))),
        "decoder": source.seeded(Vits(VitsConfig.from_dict(source.U2S))),
    }
    _vary_units(nets["encoder"])
    tensors = {
        f"{part}.{name}": value.contiguous()
        for part, net in nets.items()
        for name, value in source.with_weight_norm(released_tensors(net), old=part == "encoder").items()
    }
    table = torch.randn(126, 12, generator=torch.Generator().manual_seed(4))
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps(source.CONFIG))
    save_file(tensors | {"style_embedding.weight": torch.nn.functional.normalize(table, dim=1)}, folder / "model.safetensors")
    return folder


@torch.inference_mode()
def _vary_units(net: SpiralTokenizer) -> None:
    """Seeded weights alone hear one and the same unit in everything."""
    sound = torch.randn(1, 48000, generator=torch.Generator().manual_seed(1)) * torch.linspace(0, 1, 48000)
    latents, _ = net.latents(*net.log_mel(sound, torch.tensor([48000])))
    mean, spread = latents.mean((0, 1)), latents.std((0, 1))
    net.pre_quant.weight.data /= spread[:, None]
    net.pre_quant.bias.data = (net.pre_quant.bias - mean) / spread


def _config(folder: Path, model: Path) -> Path:
    """A config file with the three speech components of a checkpoint."""
    slots = (f'[{slot}]\ntype = "emova"\nmodel = "{model.as_posix()}"\ndevice = "cpu"\n' for slot in SPEECH)
    (folder / "assistant.toml").write_text("\n".join(slots))
    return folder / "assistant.toml"


@pytest.fixture(scope="session")
def written_config() -> Callable[[Path, Path], Path]:
    return _config


@pytest.fixture(scope="session")
def bundle(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is exported here is exported once, by the command."""
    folder = tmp_path_factory.mktemp("bundle")
    assert run(["export", "onnx", "-c", str(_config(folder, tiny)), "--out", str(folder / "out")]) == 0
    return folder / "out"
