"""``emova doctor``: what it finds here, and what it says when something is wrong."""

from __future__ import annotations

import builtins
import importlib.metadata
import sys
from types import SimpleNamespace

import pytest

from emova_sdk.cli import diagnosis
from emova_sdk.errors import LoadError


@pytest.fixture
def versions(monkeypatch):
    """Pretend that exactly these distributions are installed."""

    def pretend(**installed):
        monkeypatch.setattr(diagnosis, "installed", lambda name: installed.get(name.replace("-", "_")))

    return pretend


def _without(monkeypatch, *modules, error=ImportError):
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name.partition(".")[0] in modules:
            raise error(f"no {name}")
        return real(name, *rest, **options)

    for module in modules:
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)


def test_doctor_as_json_and_as_a_table(emova, monkeypatch):
    findings = [diagnosis.check_python(), diagnosis.Finding("cuda", "optional", "no GPU", "buy one")]
    monkeypatch.setattr(diagnosis, "diagnose", lambda: findings)
    done = emova("doctor", "--json")
    assert done.code == 0
    assert done.data("doctor")["healthy"]
    told = emova("doctor").out
    assert "python" in told
    assert "cuda: buy one" in told
    findings.append(diagnosis.Finding("torch", "problem", "broken", "mend it"))
    assert emova("doctor").code == 1
    assert not emova("doctor", "--json").data("doctor")["healthy"]


def test_everything_is_looked_at_here():
    found = {finding.name: finding for finding in diagnosis.diagnose()}
    expected = {"python", "emova-sdk", "torch", "cuda", "onnxruntime", "tensorrt", "audio devices", "preset fake"}
    assert expected <= set(found)
    assert found["preset fake"].status == "ok"
    assert found["python"].status == "ok"
    for finding in found.values():
        assert finding.fix or finding.status == "ok"


def test_two_onnxruntime_wheels_are_a_problem(versions):
    versions(onnxruntime="1.31", onnxruntime_gpu="1.31")
    [finding] = diagnosis.check_onnxruntime()
    assert finding.status == "problem"
    assert "two wheels" in finding.detail
    assert "pip uninstall" in finding.fix


def test_missing_libraries(monkeypatch, versions):
    versions()
    _without(monkeypatch, "torch", "onnxruntime")
    assert diagnosis.check_torch()[0].status == "problem"
    assert diagnosis.check_onnxruntime()[0].status == "problem"
    assert {finding.status for finding in diagnosis.check_packages()} == {"problem"}
    assert diagnosis.check_tensorrt().status == "optional"


def test_what_is_there_is_named(versions, monkeypatch):
    versions(tensorrt_rtx="1.2")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace())
    assert diagnosis.check_tensorrt().detail == "tensorrt-rtx 1.2 (builds engines for RTX GPUs, without one too)"
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert diagnosis.check_tensorrt().status == "problem"
    assert "tensorrt-rtx" in diagnosis.check_tensorrt().fix
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 1, get_device_name=lambda index: f"GPU {index}")
    torch = SimpleNamespace(__version__="9", get_num_threads=lambda: 2, cuda=cuda, version=SimpleNamespace(cuda="13.0"))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert diagnosis.check_torch()[1].detail == "CUDA 13.0: GPU 0"
    cuda.is_available = lambda: False
    assert "nvidia-smi" in diagnosis.check_torch()[1].fix


def test_audio_devices(monkeypatch):
    ear, mouth = (
        {"index": i, "name": "x", "max_input_channels": i, "max_output_channels": o, "default_samplerate": 16_000.0}
        for i, o in ((1, 0), (0, 2))
    )
    sound = SimpleNamespace(query_devices=lambda: [ear, mouth], default=SimpleNamespace(device=(1, 0)))
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    assert diagnosis.check_audio_devices().detail == "1 microphones, 1 loudspeakers"
    assert diagnosis.check_audio_devices().status == "ok"
    sound.query_devices = list
    assert diagnosis.check_audio_devices().status == "optional"
    _without(monkeypatch, "sounddevice", error=OSError)
    assert "libportaudio2" in diagnosis.check_audio_devices().fix
    _without(monkeypatch, "sounddevice")
    assert "emova-sdk[live]" in diagnosis.check_audio_devices().fix


def test_programs(monkeypatch):
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: None)
    assert "make train-deps" in diagnosis.check_programs().fix
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: name)
    assert diagnosis.check_programs().status == "ok"


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ())
    assert diagnosis.check_package().status == "problem"
    assert diagnosis.installed("no-such-distribution-at-all") is None


def test_presets(monkeypatch, tmp_path):
    far = tmp_path / "far.toml"
    far.write_text('[llm_core]\ntype = "fake"\nmodel = "nobody/no-such-model"\n')
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[llm_core]\ntype = "nonsense"\n')
    monkeypatch.setattr("emova_sdk.presets.presets", lambda: {str(far): far, str(wrong): wrong})
    first, second = diagnosis.check_presets()
    assert first.fix == "run hf download nobody/no-such-model"
    assert "nonsense" in second.detail

    def broken():
        raise LoadError("gone", "reinstall it")

    monkeypatch.setattr("emova_sdk.presets.presets", broken)
    assert diagnosis.check_presets()[0].status == "problem"


def test_weights_are_looked_for_in_nested_tables_too(tmp_path):
    options = {"ears": {"model": "nobody/no-such-model"}, "path": str(tmp_path), "model": "not a name at all !", "seed": 3}
    assert diagnosis.missing_weights(options) == ["nobody/no-such-model"]
