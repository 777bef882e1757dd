import pytest
import torch
from nano_recipe.scenes import demo_scene, draw

from emova_sdk.components.nano.scene_qa import Seen, Sight, answer_question
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.components.nano.weights import PRESET
from emova_sdk.errors import LoadError
from emova_sdk.types import Image


@pytest.fixture(scope="module")
def sight():
    return Sight.load(PRESET / "llm_core")


def test_the_demo_scene_is_read_off_its_features(sight):
    features = NanoVisionEncoder().encode([draw(demo_scene(), 256)])[0]
    seen = sight.read(features.embeddings)
    assert [(item.size, item.color, item.shape, item.row, item.column) for item in seen] == [
        (shape.size, shape.color, shape.shape, shape.row, shape.column) for shape in demo_scene().shapes
    ]


def test_what_is_no_scene_is_not_read(sight):
    noise = torch.randint(0, 255, (64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plain = torch.full((64, 64, 3), 255, dtype=torch.uint8)
    for pixels in (noise, plain):
        features = NanoVisionEncoder().encode([Image(pixels.numpy())])[0]
        assert sight.read(features.embeddings) is None
    assert sight.read(torch.zeros(4, 128)) is None


def test_questions_are_told_from_other_talk(sight):
    assert sight.asks("is the red star left of the blue circle") == (
        "is_relation",
        {"color": "red", "shape": "star", "relation": "left of", "color2": "blue", "shape2": "circle"},
    )
    assert sight.asks("do you see a small orange star") is not None
    assert sight.asks("can you see an orange star") is not None
    assert sight.asks("i lost my keys") is None


def test_an_empty_place_has_no_relation():
    one = [Seen("red", "star", "big", 1, 1)]
    assert (
        answer_question(one, "what_relation", {"relation": "above", "color": "red", "shape": "star"})
        == "there is nothing above it"
    )
    assert answer_question(one, "count_all", {}) == "i see one shape"
    assert answer_question(one, "describe", {}) == "i see a red star"


def test_missing_files_are_named(tmp_path):
    with pytest.raises(LoadError):
        Sight.load(tmp_path)
