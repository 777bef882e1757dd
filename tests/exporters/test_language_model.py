"""EMOVA's language model leaves torch: its export answers as it does, keeps conversations as it does, and says what is wrong."""

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

from emova_sdk import Message, Pipeline, SpeechUnits, Style, VisionFeatures
from emova_sdk.components.base import GenerationOptions
from emova_sdk.components.emova.language.llm import EmovaLLM
from emova_sdk.components.exported import OnnxLLMCore, TensorrtLLMCore
from emova_sdk.errors import ExportError, InputError, LoadError
from emova_sdk.exporters.export import export_components
from emova_sdk.exporters.tensorrt import export_engines
from emova_sdk.testing import run_checks

SHORT = GenerationOptions(max_tokens=12)
PICTURE = VisionFeatures(np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32), (2, 2))
CONVERSATIONS: dict[str, Any] = {
    "typed": ([Message("user", ("hello there",))], {}),
    "spoken": ([Message("user", (SpeechUnits.of([1, 2, 3]),))], {"style": Style(emotion="sad")}),
    "dictated": ([Message("user", (SpeechUnits.of([4, 2]),))], {"task": "transcribe"}),
    "read aloud": ([Message("user", ("good morning",))], {"task": "speak"}),
    "seen": ([Message("user", (PICTURE, "what is this?", PICTURE))], {}),
    "continued": ([Message("user", ("hello",)), Message("assistant", ("yes",)), Message("user", ("and?",))], {}),
}


@pytest.fixture(scope="module")
def source() -> Any:
    """The makers of tiny checkpoints that the components' own tests use."""
    path = Path(__file__).parents[1] / "components" / "emova" / "tiny_llm.py"
    spec = spec_from_file_location("tiny_llm_for_bundles", path)
    found = module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def original(source: Any, tmp_path_factory: pytest.TempPathFactory) -> EmovaLLM:
    return EmovaLLM(str(source.write_origin(tmp_path_factory.mktemp("llm"))), history="full")


@pytest.fixture(scope="module")
def bundle(original: EmovaLLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "out"
    export_components({"llm_core": original}, folder)
    return folder


@pytest.fixture(scope="module")
def exported(bundle: Path) -> OnnxLLMCore:
    return OnnxLLMCore(str(bundle), threads=1)


@pytest.mark.parametrize("name", list(CONVERSATIONS))
def test_an_export_answers_as_its_original(original: EmovaLLM, exported: OnnxLLMCore, name: str) -> None:
    messages, options = CONVERSATIONS[name]
    expected = list(original.generate(messages, options=SHORT, **options))
    assert expected
    assert list(exported.generate(messages, options=SHORT, **options)) == expected
    assert list(exported.generate(messages, options=SHORT, **options)) == expected, "what was kept answers otherwise"


def test_it_keeps_to_the_interface(bundle: Path) -> None:
    failed = [check for check in run_checks(lambda: OnnxLLMCore(str(bundle), threads=1)) if not check.passed]
    assert not failed


def test_each_file_runs_in_a_bare_session(bundle: Path) -> None:
    record = json.loads((bundle / "manifest.json").read_text())["components"]["llm_core"]
    assert [one["name"] for one in record] == ["embed", "decoder"]
    for one in record:
        onnx.checker.check_model(str(bundle / one["file"]), full_check=True)
    embed = onnxruntime.InferenceSession(str(bundle / "llm_core/embed.onnx"))
    (rows,) = embed.run(None, {"ids": np.array([5, 6, 7]), "features": np.zeros((0, 64), np.float32)})
    decoder = onnxruntime.InferenceSession(str(bundle / "llm_core/decoder.onnx"))
    empty = {
        one.name: np.zeros((1, 2, 8, 16), np.float32) for one in decoder.get_inputs() if one.name not in {"embeds", "past"}
    }
    logits = decoder.run(["logits"], {"embeds": rows, "past": np.zeros(1, np.int32), **empty})[0]
    assert np.isfinite(logits).all()


@pytest.mark.slow
def test_the_flavour_for_other_runtimes_is_written_when_asked_for(original: EmovaLLM, tmp_path: Path) -> None:
    manifest = export_components({"llm_core": original}, tmp_path / "out", portable=True)
    assert [one["name"] for one in manifest["components"]["llm_core"]] == ["embed", "decoder_portable"]
    messages, _ = CONVERSATIONS["typed"]
    portable = OnnxLLMCore(str(tmp_path / "out"), threads=1)
    assert list(portable.generate(messages, options=SHORT)) == list(original.generate(messages, options=SHORT))


def test_the_folder_is_a_config(bundle: Path) -> None:
    with Pipeline.from_config(str(bundle)) as pipeline:
        reply = pipeline.session().ask("hello")
    assert reply.text


def test_a_conversation_too_long_is_refused(exported: OnnxLLMCore) -> None:
    with pytest.raises(InputError, match="the model reads 1024"):
        list(exported.generate([Message("user", ("word " * 2000,))]))


def test_after_closing_it_opens_again(bundle: Path) -> None:
    core = OnnxLLMCore(str(bundle), threads=1)
    messages, _ = CONVERSATIONS["typed"]
    before = list(core.generate(messages, options=SHORT))
    core.close()
    core.close()
    assert list(core.generate(messages, options=SHORT)) == before


BREAKS: dict[str, Any] = {
    "cut off": (lambda folder: (folder / "llm_core/decoder.onnx.data").write_bytes(b"short"), "is not what was exported"),
    "changed": (lambda folder: _flip(folder / "llm_core/decoder.onnx.data"), "is not what was exported"),
    "weights gone": (lambda folder: (folder / "llm_core/embed.onnx.data").unlink(), "is missing"),
    "tokenizer gone": (lambda folder: (folder / "llm_core/tokenizer.json").unlink(), "tokenizer.json` is missing"),
    "tokenizer changed": (lambda folder: _flip(folder / "llm_core/tokenizer.json"), "tokenizer.json` is not what was exported"),
    "facts changed": (lambda folder: _flip(folder / "llm_core/llm.json"), "llm.json` is not what was exported"),
    "no tokenizer": (lambda folder: _unlisted(folder, "tokenizer.json", None), "no tokenizer"),
    "tokenizer broken": (lambda folder: _unlisted(folder, "tokenizer.json", "{}"), "no tokenizer"),
    "facts broken": (lambda folder: _unlisted(folder, "llm.json", "[]"), "does not describe a language model"),
    "facts of another": (lambda folder: _unlisted(folder, "llm.json", "{}"), "does not describe a language model"),
    "other version": (lambda folder: _manifest(folder, schema=99), "has the form 99"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "cannot be read: no such file"),
    "another family": (lambda folder: _family(folder, "nobody"), "of the family `nobody`"),
}


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)


def _unlisted(folder: Path, name: str, content: str | None) -> None:
    """Another file in place of one whose digest the manifest does not tell."""
    _manifest(folder, assets={})
    (folder / "llm_core" / name).unlink()
    if content is not None:
        (folder / "llm_core" / name).write_text(content)


def _manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _family(folder: Path, name: str) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for graph in manifest["components"]["llm_core"]:
        graph["metadata"]["family"] = name
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", list(BREAKS))
def test_what_is_broken_is_one_error(bundle: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(bundle, tmp_path / "broken")
    harm, message = BREAKS[name]
    harm(folder)
    with pytest.raises(LoadError, match=message) as caught:
        OnnxLLMCore(str(folder)).load()
    assert caught.value.hint


@pytest.mark.slow
def test_its_engines_answer_as_well(original: EmovaLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a stand-in for TensorRT: a portable export, engines with the files beside it, and the slot that runs them."""
    export_components({"llm_core": original}, tmp_path / "onnx", portable=True)
    expected = {name: list(original.generate(CONVERSATIONS[name][0], options=SHORT)) for name in ("typed", "seen", "continued")}
    standin_tensorrt.install(monkeypatch)
    export_engines(tmp_path / "onnx", tmp_path / "engines", device="cpu", originals={"llm_core": original})
    core = TensorrtLLMCore(str(tmp_path / "engines"), device="cpu")
    for name, events in expected.items():
        assert list(core.generate(CONVERSATIONS[name][0], options=SHORT)) == events
    core.close()


def test_engines_want_a_portable_export(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin_tensorrt.install(monkeypatch)
    with pytest.raises(ExportError, match="holds operators of ONNX Runtime"):
        export_engines(bundle, tmp_path / "engines")
