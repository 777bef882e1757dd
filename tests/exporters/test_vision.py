"""EMOVA's eyes leave torch: every tower's export sees what the tower sees, in pictures of any shape."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import standin_tensorrt
import torch

from emova_sdk import Image
from emova_sdk.components.emova.vision.vision import EmovaVision
from emova_sdk.components.exported import OnnxVisionEncoder, TensorrtVisionEncoder
from emova_sdk.errors import InputError, LoadError
from emova_sdk.exporters.export import export_components
from emova_sdk.exporters.parity import compare, require
from emova_sdk.exporters.tensorrt import export_engines
from emova_sdk.testing import run_checks


def _source() -> Any:
    path = Path(__file__).parents[1] / "components" / "emova" / "tiny_llm.py"
    spec = spec_from_file_location("tiny_llm_for_eyes", path)
    found = module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


SOURCE = _source()
TOWERS: dict[str, dict[str, Any]] = {
    "native": {},
    "tiles": {
        "tower": "internvit",
        "image_aspect_ratio": "anyres",
        "image_grid_pinpoints": SOURCE.PINPOINTS,
        "mm_patch_merge_type": "spatial_unpad",
    },
    "square": {"tower": "clip", "projector": SOURCE.CABS, "image_aspect_ratio": "pad"},
    "unit": {"tower": "unit", "image_aspect_ratio": "square"},
}
PICTURES = [
    Image(np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8))
    for number, size in enumerate([(60, 90), (28, 28), (200, 31), (5, 9)])
]


def _eyes(folder: Path, options: dict[str, Any]) -> EmovaVision:
    eyes = EmovaVision(str(SOURCE.write_origin(folder, **options)), device="cpu")
    eyes.load()
    with torch.no_grad():  # seeded weights alone see the same in everything
        for parameter in eyes.net.parameters():
            parameter.mul_(6 if parameter.ndim > 1 else 1)
    return eyes


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[] if name == "square" else [pytest.mark.slow]) for name in TOWERS]
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[EmovaVision, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    eyes = _eyes(folder / "model", TOWERS[request.param])
    export_components({"vision_encoder": eyes}, folder / "out")
    return eyes, folder / "out"


def test_an_export_sees_what_its_original_sees(pair: tuple[EmovaVision, Path]) -> None:
    eyes, bundle = pair
    for left, right in zip(eyes.encode(PICTURES), OnnxVisionEncoder(str(bundle), threads=1).encode(PICTURES), strict=True):
        expected = left.embeddings.numpy()
        assert right.embeddings.shape == expected.shape
        assert expected.std() > 1e-3
        assert np.allclose(right.embeddings, expected, atol=1e-4 * np.abs(expected).max())
        assert right.grid == left.grid


def test_its_file_is_valid_and_portable(pair: tuple[EmovaVision, Path]) -> None:
    path = pair[1] / "vision_encoder" / "vision.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    assert {node.domain for node in onnx.load(str(path)).graph.node} == {""}
    assert onnxruntime.InferenceSession(str(path)).get_outputs()[0].name == "rows"


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmovaVision, Path]:
    folder = tmp_path_factory.mktemp("native")
    eyes = _eyes(folder / "model", {})
    export_components({"vision_encoder": eyes}, folder / "out")
    return eyes, folder / "out"


@pytest.mark.slow
def test_pictures_of_several_sizes_are_seen_together(native: tuple[EmovaVision, Path]) -> None:
    eyes, bundle = native
    (graph,) = eyes.graphs()
    sizes = [{"patches": 4 * blocks, "pictures": pictures} for blocks, pictures in ((3, 3), (29, 4), (24, 2))]
    records = compare(graph, bundle / "vision_encoder/vision.onnx", sizes=sizes)
    require(records, "vision")
    assert min(record.cosine for record in records) > 0.99999


@pytest.mark.slow
def test_two_frames_of_a_clip_do_not_see_each_other(native: tuple[EmovaVision, Path]) -> None:
    eyes, bundle = native
    (graph,) = eyes.graphs()
    pixels = torch.randn(32, graph.inputs["pixels"].shape[1], generator=torch.Generator().manual_seed(3))
    grids = torch.tensor([[2, 4, 2], [1, 2, 8]])
    session = onnxruntime.InferenceSession(str(bundle / "vision_encoder/vision.onnx"))
    (rows,) = session.run(None, {"pixels": pixels.numpy(), "grids": grids.numpy()})
    with torch.inference_mode():
        expected = graph.original(pixels, grids).numpy()
    assert np.allclose(rows, expected, atol=1e-4 * np.abs(expected).max())


def test_it_keeps_to_the_interface_and_says_what_is_wrong(native: tuple[EmovaVision, Path], tmp_path: Path) -> None:
    bundle = native[1]
    assert not [check for check in run_checks(lambda: OnnxVisionEncoder(str(bundle), threads=1)) if not check.passed]
    with pytest.raises(InputError, match="aspect ratio"):
        OnnxVisionEncoder(str(bundle)).encode([Image(np.zeros((29, 29 * 201, 3), np.uint8))])
    broken = shutil.copytree(bundle, tmp_path / "broken")
    (broken / "vision_encoder/pictures.json").write_text("{}")
    with pytest.raises(LoadError, match=r"pictures.json` is not what was exported"):
        OnnxVisionEncoder(str(broken))
    manifest = json.loads((broken / "manifest.json").read_text())
    (broken / "manifest.json").write_text(json.dumps(manifest | {"assets": {}}))
    with pytest.raises(LoadError, match="how pictures are cut"):
        OnnxVisionEncoder(str(broken))


def test_an_engine_is_built_for_every_tower(pair: tuple[EmovaVision, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the package tensorrt-rtx, which the extra `dev` brings on Linux x86-64")
    manifest = export_engines(pair[1], tmp_path / "engines", target="rtx")
    [record] = manifest["components"]["vision_encoder"]
    assert (tmp_path / "engines" / record["file"]).stat().st_size > 100_000


def test_an_engine_sees_what_the_export_sees(
    native: tuple[EmovaVision, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = OnnxVisionEncoder(str(native[1]), threads=1).encode(PICTURES)
    standin_tensorrt.install(monkeypatch)
    export_engines(native[1], tmp_path / "engines", device="cpu")
    for left, right in zip(
        TensorrtVisionEncoder(str(tmp_path / "engines"), device="cpu").encode(PICTURES), expected, strict=True
    ):
        assert np.array_equal(left.embeddings, right.embeddings)
