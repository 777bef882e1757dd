"""Finding recordings of the reference implementation, and the weights they were made with.

A test marked `golden("s2u")` runs once for every recording of that kind, anywhere below `EMOVA_GOLDEN_DIR` (default:
`golden/` here and `shared/golden` beside the repository), and gets its folder as `golden`; networks at full size are slow. The kind is told by what a folder holds, never by its
name; `test_recordings.py` fails for a folder of no known kind, so that none is passed over.
"""

import zlib

import numpy as np
import pytest
from golden_recordings import KINDS, golden_roots, is_large, meta_of, recordings


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "golden(kind, having=()): run for every recording of this kind whose meta.json has these keys"
    )


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None:
        return
    (kind,) = marker.args
    assert kind in KINDS
    folders = [folder for folder, found in recordings(*golden_roots()).items() if found == kind]
    folders = [folder for folder in folders if all(key in meta_of(folder) for key in marker.kwargs.get("having", ()))]
    if not folders:
        skipped = pytest.mark.skip(reason=f"`EMOVA_GOLDEN_DIR` holds no recordings of the kind `{kind}`")
        metafunc.parametrize("golden", [pytest.param(None, marks=skipped)], indirect=True, scope="module")
    else:
        marks = [[pytest.mark.slow] if is_large(folder) else [] for folder in folders]
        cases = [pytest.param(folder, marks=mark, id=folder.name) for folder, mark in zip(folders, marks, strict=True)]
        metafunc.parametrize("golden", cases, indirect=True, scope="module")


@pytest.fixture(scope="module")
def golden(request):
    return request.param


@pytest.fixture(scope="session")
def seeded_tensor():
    """The weight recipe of the speech recordings: (name, shape, seed) to a float32 array."""
    return _seeded_tensor


_SCALES = (
    ("conv_post.weight", 0.3),
    (("q_proj.weight", "k_proj.weight"), 2.0),
    ("out_proj.weight", 0.5),
    (("conv.conv.weight", "pre_quant.weight"), 1.5),
    ("", 1.0),
)


def _seeded_tensor(name, shape, seed):
    noise = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())])).standard_normal(tuple(shape))
    if name.endswith((".GAMMA", "norm.weight", ".weight_g")):
        value = 1 + 0.1 * noise
    elif name.endswith((".BETA", ".bias", ".logs")):
        value = 0.1 * noise
    elif name.endswith(".weight_v"):
        value = noise
    elif name.endswith(".m"):
        value = -1 + 0.1 * noise
    elif name.endswith((".emb_rel_k", ".emb_rel_v")):
        value = noise / np.sqrt(shape[-1])
    elif name.endswith(("emb.weight", "emb_g.weight")):
        value = noise / np.sqrt(shape[1])
    else:
        scale = next(scale for end, scale in _SCALES if name.endswith(end))
        value = scale * noise / np.sqrt(np.prod(shape[1:]))
    return value.astype(np.float32)
