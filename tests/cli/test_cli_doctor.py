"""``emova doctor``: what it finds here, and what it says when something is wrong."""

from __future__ import annotations

import builtins
import subprocess
import sys
from types import SimpleNamespace

import pytest

from emova_sdk.cli import diagnosis
from emova_sdk.packages import PACKAGES


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
    assert diagnosis.check_onnxruntime()[0].status == "problem"
    assert diagnosis.check_tensorrt().status == "optional"
    found = {package.name: diagnosis.check_installed(package) for package in PACKAGES}
    assert diagnosis.check_cuda() == []
    assert (found["torch"].status, found["numpy"].status) == ("optional", "problem")
    assert "it adds" in found["torch"].detail
    assert found["pillow"].fix == "pip install pillow"


def test_what_is_there_is_named(versions, monkeypatch):
    versions(tensorrt_rtx="1.2")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace())
    assert diagnosis.check_tensorrt().detail == "tensorrt-rtx 1.2 (builds engines for RTX GPUs, without one too)"
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert diagnosis.check_tensorrt().status == "problem"
    assert "tensorrt-rtx" in diagnosis.check_tensorrt().fix
    versions(torch="9")
    monkeypatch.setattr(diagnosis, "_cuda_of_torch", lambda: "13.0")
    monkeypatch.setattr(diagnosis, "_gpus", lambda: ["GPU 0"])
    assert diagnosis.check_cuda()[0].detail == "torch is built for CUDA 13.0: GPU 0"
    monkeypatch.setattr(diagnosis, "_gpus", list)
    assert "nvidia-smi" in diagnosis.check_cuda()[0].fix


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
    monkeypatch.setattr(diagnosis, "entry_points_of", lambda _group: [])
    assert diagnosis.check_package().status == "problem"
    assert diagnosis.installed("no-such-distribution-at-all") is None


def test_presets(monkeypatch, tmp_path):
    far = tmp_path / "far.toml"
    far.write_text('[llm_core]\ntype = "fake"\nmodel = "nobody/no-such-model"\n')
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[llm_core]\ntype = "nonsense"\n')
    monkeypatch.setattr(diagnosis, "presets", lambda: {str(far): far, str(wrong): wrong})
    first, second = diagnosis.check_presets()
    assert first.fix == "run hf download nobody/no-such-model"
    assert "nonsense" in second.detail


def test_each_broken_plug_in_is_one_line(monkeypatch, tmp_path, emova):
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[emova_sdk.presets]\nghost = odd_gone\n[emova_sdk.vocoder]\nleaves = odd_leaves:X\nchatty = odd_chatty:Chatty\n"
    )
    (tmp_path / "odd_leaves.py").write_text("raise SystemExit(3)")
    chatty = "print('hello from afar')\nfrom emova_sdk.testing import FakeVocoder\nclass Chatty(FakeVocoder): ..."
    (tmp_path / "odd_chatty.py").write_text(chatty)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [(one.name, one.status) for one in diagnosis.check_plug_ins()]
    assert found == [("vocoder leaves", "problem"), ("preset ghost", "problem")]
    listed = emova("components", "list", "--slot", "vocoder", "--json").data("components-list")
    assert [one["name"] for one in listed["components"] if one["error"]] == ["leaves"]
    assert "BROKEN: vocoder `leaves` of odd 1.0 cannot be imported: SystemExit: 3" in emova("components", "list").out
    assert emova("chat", "hello", "--json", "--set", "vocoder.type=chatty").data("chat")["text"]


def test_doctor_imports_nothing_of_what_it_looks_for():
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'torch', 'transformers', 'huggingface_hub', 'sqlalchemy', 'langchain_core'}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from emova_sdk.cli.app import run\n"
        "print(run(['doctor']), run(['chat', 'hello', '-c', 'fake']), run(['chat', 'hello', '-c', 'fake', '--db', 'x.db']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1].split()[1:] == ["0", "1"], done.stderr
    assert "pip install sqlalchemy" in done.stderr
    assert "python" in done.stdout


def test_weights_are_looked_for_in_nested_tables_too(tmp_path):
    options = {"ears": {"model": "nobody/no-such-model"}, "path": str(tmp_path), "model": "not a name at all !", "seed": 3}
    assert diagnosis.missing_weights(options) == ["nobody/no-such-model"]
