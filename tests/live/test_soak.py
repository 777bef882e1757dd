"""The soak of `benchmarks/live_soak.py`, one call for each caller instead of minutes, each as fast as it can be."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

if not Path("/proc/self/statm").exists():
    pytest.skip("resources are read from /proc", allow_module_level=True)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = spec_from_file_location("live_soak", Path(__file__).parents[2] / "benchmarks" / "live_soak.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_conversations_at_once_lose_no_turn_hear_no_other_and_leave_nothing(bench: ModuleType) -> None:
    report = bench.soak("fake", sessions=5, calls=1, paced=False)
    assert report["faults"] == []
    assert report["calls"] == 5
    assert report["turns"] == 3 * report["calls"]
    assert report["lost_turns"] == 0
    assert report["interruptions"] == report["false_interruptions"] == report["calls"]
    assert report["threads"][0] == report["threads"][1]
    assert report["files"][0] == report["files"][1]
    assert report["sessions_alive"][0] == report["sessions_alive"][1]
    assert report["kept_after_forgetting"] == 0


def test_sound_of_another_conversation_would_be_noticed(bench: ModuleType) -> None:
    noise = np.random.default_rng(0).normal(size=2_000).astype(np.float32)
    frame = np.split(noise[:1_536], 3)
    assert bench.within(np.concatenate([frame[0], frame[2]]), noise)
    assert bench.within(np.pad(noise[1_536:], (0, 48 + 512)), noise)
    assert not bench.within(noise[100:612], noise)
    assert not bench.within(-frame[1], noise)
