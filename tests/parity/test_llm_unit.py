"""UNIT's tower and a projector behind it, against recordings of the reference."""

import json

import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

from emova_sdk.components.emova.language.configuration import EmovaConfig, EmovaVisionConfig, describe_tower
from emova_sdk.components.emova.language.weight_files import canonical_name
from emova_sdk.components.emova.vision.image_processing import EmovaImageProcessor
from emova_sdk.models.projector import build_projector
from emova_sdk.models.vision_tower import build_tower

ATOL = 2e-5


def parts(weights, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


@pytest.mark.golden("unit")
def test_every_recorded_output(golden):
    settings = json.loads((golden / "config.json").read_text())
    inputs, outputs = load_file(golden / "inputs.safetensors"), load_file(golden / "outputs.safetensors")
    tower_type = {"type": "UNITVisionTower", "unit_args": settings["unit_args"]}
    vision = EmovaVisionConfig(**describe_tower(settings["tower"], tower_type))
    tower, projector = build_tower(vision.settings()).eval(), build_projector(settings["mm_projector"]).eval()
    weights = {canonical_name(name): tensor for name, tensor in load_file(golden / "model.safetensors").items()}
    tower.load_state_dict(parts(weights, "model.vision_tower."), strict=True)
    projector.load_state_dict(parts(weights, "model.mm_projector."), strict=True)

    config = EmovaConfig(
        vision_config=vision.to_dict(), image_aspect_ratio="square", mm_projector_config=settings["mm_projector"]
    )
    processor = EmovaImageProcessor.from_config(config, settings["image_processor"])
    pixels = processor(PIL.Image.fromarray(inputs["image_rgb_uint8"].numpy()))["pixel_values"]
    assert torch.equal(pixels, inputs["pixel_values"])

    with torch.inference_mode():
        network = tower.network
        summary, spatial = network(pixels)
        features = tower(pixels)
        computed = {
            "unit_patch_generator_output": network.unit_model.model.patch_generator(
                network.unit_model.input_conditioner(pixels)
            ),
            "unit_summary": summary,
            "unit_spatial": spatial,
            "vision_tower_output": features,
            "projector_output": projector(features),
        }
    assert set(outputs) == set(computed)
    for name, recorded in outputs.items():
        torch.testing.assert_close(computed[name], recorded, atol=ATOL, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
