"""A whole conversation with nano from one export: without torch, from any folder, as the original and as the kit demands."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nano_recipe.networks import blocks as nano_blocks
from nano_recipe.networks import exports as nano_exports
from nano_recipe.networks import features as nano_features
from nano_recipe.networks import style as nano_style

from emova_sdk import Audio, Image, Message, Pipeline, SpeechUnits, Style, acoustics
from emova_sdk.cli.app import run
from emova_sdk.components.base import SLOTS
from emova_sdk.components.exported import (
    OnnxLLMCore,
    OnnxSpeechTokenizer,
    OnnxStyleModule,
    OnnxVisionEncoder,
    OnnxVocoder,
)
from emova_sdk.components.nano import features
from emova_sdk.components.nano.g2p import phones as phones_of
from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
from emova_sdk.components.nano.vocoder import NanoUnitVocoder
from emova_sdk.components.trials import Measure, sounds_agree
from emova_sdk.errors import ConfigError, LoadError
from emova_sdk.exporters.export import export_components
from emova_sdk.exporters.precision_search import MARGIN
from emova_sdk.exporters.verify import verify_export
from emova_sdk.processor import KINDS
from emova_sdk.testing import run_checks


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """Nano as it is shipped."""
    return {
        "vision_encoder": NanoVisionEncoder(),
        "speech_tokenizer": NanoSpeechTokenizer(),
        "llm_core": NanoLLM(),
        "style_module": NanoStyleModule(),
        "vocoder": NanoUnitVocoder(),
    }


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The language model again, in the standard's operators alone, by the command."""
    folder = tmp_path_factory.mktemp("portable") / "out"
    assert run(["export", "onnx", "-c", "emova-nano", "--component", "llm_core", "--portable", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def bundle(parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export, moved away from where it was made."""
    made = tmp_path_factory.mktemp("made") / "nano"
    export_components(parts, made, source="mine")
    return shutil.move(made, tmp_path_factory.mktemp("moved") / "elsewhere")


@pytest.fixture(scope="module")
def question() -> Audio:
    units = TextToUnits()("what color is the small star")
    return NanoUnitVocoder().synthesize([units], NanoStyleModule().embed([Style(emotion="sad")]))[0]


SCENE = np.full((96, 96, 3), 240, np.uint8)
SCENE[20:40, 50:75] = (220, 30, 30)


@pytest.mark.slow
def test_a_turn_from_the_export_is_the_turn_of_the_original(bundle: Path, parts: dict[str, Any], question: Audio) -> None:
    original = Pipeline(**parts).session().ask(question, Image(SCENE))
    with Pipeline.from_config(bundle) as pipeline:
        exported = pipeline.session().ask(question, Image(SCENE))
    assert exported.transcript == original.transcript or exported.transcript.text == original.transcript.text
    assert (exported.text, exported.style) == (original.text, original.style)
    assert exported.audio.samples.shape == original.audio.samples.shape
    assert np.abs(exported.audio.samples - original.audio.samples).max() < 0.01


def linked(bundle: Path, folder: Path) -> Path:
    """An export as a hub's cache keeps it: every file is a link to one in a folder beside it, named by its digest."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "1"
    blobs.mkdir(parents=True)
    for file in (one for one in bundle.rglob("*") if one.is_file()):
        blob, link = blobs / hashlib.sha256(file.read_bytes()).hexdigest(), snapshot / file.relative_to(bundle)
        shutil.copy(file, blob)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@pytest.mark.slow
def test_an_export_in_a_hub_cache_talks_and_is_verified(bundle: Path, tmp_path: Path, question: Audio) -> None:
    snapshot = linked(bundle, tmp_path / "cache")
    with Pipeline.from_config(bundle) as plain, Pipeline.from_config(snapshot) as pipeline:
        for slot, part in pipeline.load().slots().items():
            assert type(part) is type(plain.slots()[slot])
        assert pipeline.session().ask(question, Image(SCENE)).text == plain.session().ask(question, Image(SCENE)).text
    assert set(verify_export(None, snapshot)) == set(SLOTS)


@pytest.mark.slow
def test_the_language_model_is_found_in_either_flavour(bundle: Path, tmp_path: Path) -> None:
    snapshot = linked(bundle, tmp_path / "cache")
    manifest = json.loads((snapshot / "manifest.json").read_text())
    decoder = next(one for one in manifest["components"]["llm_core"] if one["name"] == "decoder")
    decoder["name"] = "decoder_portable"
    (snapshot / "manifest.json").unlink()
    (snapshot / "manifest.json").write_text(json.dumps(manifest))
    with OnnxLLMCore(str(snapshot)) as core:
        core.load()
    decoder["name"] = "layers"
    (snapshot / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LoadError, match="holds no llm_core graph `decoder`"):
        OnnxLLMCore(str(snapshot))


@pytest.mark.slow
def test_a_portable_export_does_the_work_and_becomes_engines(portable: Path, parts: dict[str, Any], tmp_path: Path) -> None:
    manifest = json.loads((portable / "manifest.json").read_text())
    assert [record["name"] for record in manifest["components"]["llm_core"]][1] == "decoder_portable"
    assert {one["trial"] for one in manifest["trials"]["llm_core"]} == {"answering", "transcribing", "reading aloud"}
    question = [Message("user", ("what color is the star",), Style())]
    with Pipeline.from_config(portable) as pipeline:
        exported = pipeline.slots()["llm_core"]
        assert list(exported.generate(question)) == list(parts["llm_core"].generate(question))
    pytest.importorskip("tensorrt_rtx", reason="needs the package tensorrt-rtx, which the extra `dev` brings on Linux x86-64")
    engines = tmp_path / "engines"
    assert run(["export", "tensorrt", str(portable), "--target", "rtx", "--out", str(engines)]) == 0
    assert sorted(file.stem for file in engines.rglob("*.engine")) == [
        "decoder_portable", "embed", "reader_phones", "reader_units",
    ]  # fmt: skip


def failing(pairs: Any) -> set[str]:
    """Measures by which sounds differ more than int8 may make them."""
    expected, found = zip(*pairs, strict=True)
    return {one.name for one in sounds_agree(expected, found) if not within(one)}


def within(one: Measure) -> bool:
    return one.value >= one.limits["int8"] if one.least else one.value <= one.limits["int8"]


BARE = Path(__file__).parents[2] / "examples" / "bare_onnx_runtime" / "nano_speech.py"


@pytest.mark.slow
def test_an_export_ends_in_sound_in_bare_onnx_runtime(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imports = [node for node in ast.walk(ast.parse(BARE.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert modules - sys.stdlib_module_names == {"numpy", "onnxruntime"}

    def spoken(what: str) -> Audio:
        monkeypatch.setattr(sys, "argv", [str(BARE), str(bundle), what, str(tmp_path / "out.wav")])
        runpy.run_path(str(BARE), run_name="__main__")
        return Audio.open(tmp_path / "out.wav")

    phones = phones_of("what color is the small star")
    man = NanoStyleModule().embed([Style(speaker="male")])
    expected = NanoUnitVocoder().synthesize([TextToUnits().of_phones(phones)], man)[0]
    pairs = [(expected, spoken(" ".join(phones)))]
    expected.save(tmp_path / "heard.wav")
    whole = Audio.open(
        tmp_path / "heard.wav"
    ).samples  # the example hears the pauses at the ends as well, which `encode` leaves out
    heard = SpeechUnits(NanoSpeechTokenizer().networks.run("hearing", audio=whole)["units"]).reduced()
    again = NanoUnitVocoder().synthesize([heard], man)[0]
    pairs += [(again, spoken(str(tmp_path / "heard.wav")))]
    for pair in pairs:
        assert abs(pair[0].duration_s - pair[1].duration_s) < 0.05
        assert not failing([pair])


@pytest.mark.slow
def test_the_manifest_says_how_the_components_do_their_work(bundle: Path) -> None:
    trials = json.loads((bundle / "manifest.json").read_text())["trials"]
    assert {one["trial"] for one in trials["vocoder"]} == {f"speech, {e}" for e in ("neutral", "happy", "sad", "angry")}
    assert {one["measure"] for one in trials["vocoder"]} == {"mel distance", "level", "clipped"}
    assert {one["trial"] for one in trials["llm_core"]} == {"answering", "transcribing", "reading aloud"}
    assert all(one["passed"] for records in trials.values() for one in records)


@pytest.mark.slow
def test_what_bears_8_bits_bears_them_on_other_inputs_too(tmp_path: Path) -> None:
    component: dict[str, Any] = {"style_module": NanoStyleModule()}
    export_components(component, tmp_path / "small", precision="int8", source="mine")
    found = verify_export(component, tmp_path / "small")["style_module"]["style"]
    made = json.loads((tmp_path / "small" / "manifest.json").read_text())["components"]["style_module"][0]
    assert made["precision"] == "int8"
    assert made["processors"]["safe"] == list(KINDS), made["processors"]["because"]
    assert len(found) > len(made["parity"])
    least = min(one["cosine"] for one in made["parity"])
    assert least >= 1 - MARGIN * 0.01


def test_sounds_that_are_silent_broken_or_clipped_do_not_pass(question: Audio) -> None:
    def wrong(samples: Any) -> set[str]:
        pair = (question, Audio(samples.astype(np.float32), question.sample_rate))
        return failing([pair])

    assert not wrong(question.samples)
    assert "level" in wrong(question.samples * 1e-4)
    assert "clipped" in wrong(np.clip(question.samples * 50, -1, 1))
    assert "mel distance" in wrong(question.samples[::-1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OnnxVisionEncoder, OnnxSpeechTokenizer, OnnxLLMCore, OnnxStyleModule, OnnxVocoder])
def test_what_runs_the_export_conforms(bundle: Path, kind: Any) -> None:
    failed = [f"{one.name}: {one.message}" for one in run_checks(lambda: kind(str(bundle), threads=1)) if not one.passed]
    assert not failed, "\n".join(failed)


@pytest.mark.slow
def test_options_of_another_family_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no option `seed`"):
        OnnxVocoder(str(bundle), seed=3)
    with pytest.raises(LoadError, match="cannot be read"):
        OnnxVocoder(str(tmp_path))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["components"]["vocoder"][0]["metadata"]["family"] = "birds"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LoadError, match="family `birds`"):
        OnnxVocoder(str(tmp_path))


def test_the_front_end_in_numpy_is_that_of_training(question: Audio) -> None:
    sound = features.at_level(question.samples)
    wave = torch.from_numpy(sound)
    mel = nano_features.NanoLogMel()(wave[None])[0]
    assert np.abs(features.log_mel(sound) - mel.numpy()).max() < 1e-3
    assert torch.allclose(nano_exports.ProductLogMel()(wave), mel, atol=1e-3), "and so is that of the exported graph"
    tracked = acoustics.pitch_track(sound)
    inputs = nano_style.style_input(mel, *map(torch.from_numpy, tracked))
    for mine, theirs in zip(features.style_input(features.log_mel(sound), *tracked), inputs, strict=True):
        assert np.allclose(mine, theirs.numpy(), atol=2e-2)
    states, durations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.array([2, 1, 4, 3, 2])
    spread = nano_blocks.length_regulate(torch.from_numpy(states)[None], torch.from_numpy(durations)[None])[0][0]
    assert np.allclose(features.length_regulate(states, durations), spread.numpy(), atol=1e-6)
