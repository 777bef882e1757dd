"""Finds recordings of the reference implementation.

They live outside the repository: under ``EMOVA_GOLDEN_DIR``, by default ``../shared/golden`` beside it. A test module names
the directories it compares in ``GOLDENS`` (a glob over directory names) and takes the fixture ``golden``; without any such
directory its tests are skipped and say so.
"""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
GOLDEN_DIR = Path(os.environ.get("EMOVA_GOLDEN_DIR", REPOSITORY.parent / "shared" / "golden"))


def golden_directories(pattern: str) -> list[Path]:
    """Every directory of that name, at any depth."""
    return sorted(path for path in GOLDEN_DIR.rglob(pattern) if path.is_dir()) if GOLDEN_DIR.is_dir() else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" not in metafunc.fixturenames:
        return
    pattern = metafunc.module.GOLDENS
    found = golden_directories(pattern)
    if found:
        metafunc.parametrize("golden", found, ids=[path.name for path in found])
    else:
        reason = f"no recordings `{pattern}` under {GOLDEN_DIR.name} (set EMOVA_GOLDEN_DIR)"
        metafunc.parametrize("golden", [pytest.param(None, marks=pytest.mark.skip(reason=reason))], ids=["none"])
