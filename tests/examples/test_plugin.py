"""The example plug-in: installed by pip, found by its name, used from TOML alone, and passing the conformance kit."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emova_sdk.pipeline import Pipeline
from emova_sdk.registry import components

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the package into a folder of its own, without a network."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed, and nothing is downloaded here")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("pyproject.toml", "emova_whistle.py"):
        (source / name).write_text((PLUGIN / name).read_text())
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, source], check=True, capture_output=True
    )
    return target


@pytest.fixture
def importable(installed, monkeypatch):
    monkeypatch.syspath_prepend(str(installed))
    yield installed
    sys.modules.pop("emova_whistle", None)


def test_it_is_two_files():
    assert sorted(path.name for path in PLUGIN.iterdir() if path.is_file()) == ["emova_whistle.py", "pyproject.toml"]


def test_it_is_listed(importable):
    found = next(info for info in components("vocoder") if info.name == "whistle")
    assert (found.distribution, found.error) == ("emova-whistle 0.1.0", "")
    assert [option.name for option in found.options] == ["lowest_hz", "sample_rate"]


def test_it_works_from_toml_alone(importable, tmp_path):
    config = tmp_path / "assistant.toml"
    config.write_text('extends = "fake"\n[vocoder]\ntype = "whistle"\nlowest_hz = 500\n')
    with Pipeline.from_config(config) as pipeline:
        reply = pipeline.session().ask("hello")
        assert reply.audio is not None
        assert reply.audio.sample_rate == 16_000
        assert reply.audio.duration_s > 0.5


def test_it_passes_the_conformance_kit(importable):
    from emova_whistle import WhistleVocoder

    from emova_sdk.testing import run_checks

    for result in run_checks(WhistleVocoder):
        assert result.passed, result.message


def test_it_works_in_a_process_of_its_own(installed):
    code = "from emova_sdk import Pipeline; print(Pipeline.from_config('fake', overrides=['vocoder.type=whistle']).speak('hi'))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "Audio(0.08 s, 16000 Hz)"
