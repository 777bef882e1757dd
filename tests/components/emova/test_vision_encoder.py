"""EMOVA's eyes as a component."""

import numpy as np
import pytest
import torch
from tiny_llm import PINPOINTS, write_hf, write_origin

from emova_sdk.components.base import Space
from emova_sdk.components.emova.language.checkpoints import Checkpoint, load_model
from emova_sdk.components.emova.language.processing import EmovaProcessor
from emova_sdk.components.emova.vision.image_tiling import native_size
from emova_sdk.components.emova.vision.vision import EmovaVision
from emova_sdk.errors import InputError, LoadError
from emova_sdk.models.anyres import best_size, candidate_sizes, content_box
from emova_sdk.types import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_origin(tmp_path_factory.mktemp("eyes"))


def drawing(height=60, width=90, seed=0):
    return Image(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_features_are_those_of_the_whole_model(folder):
    eyes = EmovaVision(str(folder))
    assert eyes.features == Space("emova-Qwen2VisionTower", 64)
    features = eyes.encode([drawing()])[0]
    checkpoint = Checkpoint.open(folder)
    inputs = dict(EmovaProcessor.from_checkpoint(checkpoint).image_processor([drawing().pixels]))
    with torch.inference_mode():
        expected = load_model(checkpoint).get_image_features(**inputs).pooler_output[0]
    torch.testing.assert_close(features.embeddings, expected, atol=1e-6, rtol=0)
    assert features.grid[0] * features.grid[1] == len(features)


def test_pictures_of_a_batch_do_not_matter_to_each_other(folder):
    eyes = EmovaVision(str(folder), cache=0)
    pictures = [drawing(seed=1), drawing(30, 40, seed=2)]
    together = eyes.encode(pictures)
    for features, picture in zip(together, pictures, strict=True):
        assert torch.equal(features.embeddings, eyes.encode([picture])[0].embeddings)
    assert eyes.encode([]) == []


def test_the_last_pictures_are_kept(folder):
    eyes = EmovaVision(str(folder), cache=2)
    first = eyes.encode([drawing(seed=1)])[0]
    assert eyes.encode([drawing(seed=1)])[0] is first
    eyes.encode([drawing(seed=2), drawing(seed=3)])
    assert eyes.encode([drawing(seed=1)])[0] is not first


def test_pixels_of_another_shape_are_another_picture(folder):
    eyes = EmovaVision(str(folder))
    pixels = drawing(40, 60).pixels
    one, other = eyes.encode([Image(pixels), Image(pixels.reshape(60, 40, 3))])
    assert one.grid != other.grid


def test_any_picture_is_seen(folder):
    eyes = EmovaVision(str(folder), max_pixels=28 * 28 * 4)
    for height, width in ((2, 2), (2, 300), (300, 2), (27, 27), (500, 31)):
        features = eyes.encode([drawing(height, width)])[0]
        assert len(features) == features.grid[0] * features.grid[1]


def test_a_picture_longer_than_any(folder):
    with pytest.raises(InputError, match="aspect ratio"):
        EmovaVision(str(folder)).encode([drawing(28, 28 * 300)])


def test_tiles(tmp_path):
    write_origin(
        tmp_path, tower="clip", image_aspect_ratio="anyres", image_grid_pinpoints=PINPOINTS, mm_patch_merge_type="spatial"
    )
    features = EmovaVision(str(tmp_path)).encode([drawing(100, 60)])[0]
    assert features.embeddings.shape == (16 + 4 * 16, 64)
    assert features.grid == (4, 4)


def test_a_checkpoint_in_hf_layout(tmp_path):
    assert len(EmovaVision(str(write_hf(tmp_path))).encode([drawing()])[0]) > 0


def test_a_checkpoint_without_eyes(tmp_path, folder):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = (tmp_path / "config.json").read_text().replace("mm_vision_tower", "unused")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(LoadError, match="no vision tower"):
        EmovaVision(str(tmp_path))


def test_sizes_of_native_pictures():
    limits = {"factor": 28, "min_pixels": 3136, "max_pixels": 12544}
    assert native_size(100, 70, **limits) == (112, 56)
    assert native_size(60, 150, **limits) == (56, 140)
    assert min(native_size(28, 5000, **limits)) == 28


def test_the_order_of_candidate_grids_is_the_published_one():
    grids = [(width // 10, height // 10) for width, height in candidate_sizes(10, slices=4)]
    assert grids == [(1, 2), (2, 1), (4, 1), (3, 1), (1, 4), (2, 2), (1, 3)]
    grids = [(width // 10, height // 10) for width, height in candidate_sizes(10, slices=9)]
    assert grids[:8] == [(3, 1), (5, 1), (2, 2), (1, 6), (1, 3), (1, 9), (7, 1), (4, 2)]


def test_small_pictures_tie_and_the_first_grid_wins():
    assert best_size((331, 74), [(448, 896), (896, 448)]) == (448, 896)


def test_padding_is_cropped_on_either_axis():
    assert content_box((200, 100), 8, 8) == (2, 6, 0, 8)
    assert content_box((100, 200), 8, 8) == (0, 8, 2, 6)
