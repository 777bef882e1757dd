import numpy as np
import pytest
from nano_recipe.scenes import demo_scene, draw

from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder, shrink
from emova_sdk.errors import LoadError
from emova_sdk.types import Image


def test_a_picture_fills_the_square_with_the_colour_of_its_border():
    pixels = np.full((40, 160, 3), 250, np.uint8)
    pixels[10:30, 60:100] = (200, 0, 0)
    small = shrink(Image(pixels))
    assert small.shape == (64, 64, 3)
    assert (small[0] == 250).all() and (small[-1] == 250).all()
    assert small[32, 32, 0] == 200


@pytest.mark.parametrize("shape", [(2, 2), (1, 500), (64, 64), (700, 300)])
def test_any_size_is_seen(shape):
    features = NanoVisionEncoder().encode([Image(np.full((*shape, 3), 128, np.uint8))])[0]
    assert tuple(features.embeddings.shape) == (16, 128)


def test_a_scene_looks_the_same_at_any_resolution():
    eyes = NanoVisionEncoder()
    small, large = eyes.encode([draw(demo_scene(), 64), draw(demo_scene(), 512)])
    sizes = [np.linalg.norm(one.embeddings, axis=-1) for one in (small, large)]
    likeness = (small.embeddings * large.embeddings).sum(-1) / np.prod(sizes, axis=0)
    assert float(likeness.min()) > 0.95


def test_a_missing_folder_is_named():
    with pytest.raises(LoadError, match=r"config\.json"):
        NanoVisionEncoder(path="/nowhere")
