"""Finding recordings of the reference implementation, and the weights they were made with.

A test marked `golden("s2u")` runs once for every recording of that kind, anywhere below `EMOVA_GOLDEN_DIR` (default:
`shared/golden` beside the repository), and gets its folder as `golden`. The kind is told by what a folder holds, never by its
name; `test_recordings.py` fails for a folder of no known kind, so that none is passed over.
"""

import zlib

import numpy as np
import pytest
from golden_recordings import KINDS, golden_root, recordings


def pytest_configure(config):
    config.addinivalue_line("markers", "golden(kind): run for every recording of this kind")


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None:
        return
    (kind,), root = marker.args, golden_root()
    assert kind in KINDS
    folders = [folder for folder, found in recordings(root).items() if found == kind]
    if not folders:
        skipped = pytest.mark.skip(reason=f"no recordings of the kind `{kind}` below {root}")
        metafunc.parametrize("golden", [pytest.param(None, marks=skipped)], indirect=True, scope="module")
    else:
        ids = [str(folder.relative_to(root)) for folder in folders]
        metafunc.parametrize("golden", folders, ids=ids, indirect=True, scope="module")


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
