"""Exports of native EMOVA are compared with their originals at work: what a wrong export does is caught, whatever its graphs say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emova_sdk import Audio
from emova_sdk.components.trials import Trial, results_of, run_trials, sequences_agree, sounds_agree, speech_like, vectors_agree


def test_sequences_vectors_and_sounds_are_judged_by_the_precision() -> None:
    trial = Trial("hearing", lambda part: part, lambda left, right: sequences_agree("units agreeing", left, right))
    half = ([[1, 2, 3, 4]], [[1, 2, 9, 9]])
    [strict], [lenient] = (results_of(trial, *half, precision=one) for one in ("fp32", "int4"))
    assert (strict.value, strict.allowed, strict.passed) == (0.5, ">= 0.99", False)
    assert (lenient.allowed, lenient.passed, lenient.cases) == (">= 0.75", False, 1)
    one = np.ones((2, 3), np.float32)
    values = [vectors_agree("cosine", [one], [other])[0].value for other in (one, -one, one[:1], one * np.nan, 0 * one)]
    assert values == pytest.approx([1.0, -1.0, -1.0, -1.0, 0.0])
    assert vectors_agree("cosine", [0 * one], [0 * one])[0].value == 1.0


def test_silence_noise_clipping_and_other_speech_do_not_pass_for_speech() -> None:
    voice = speech_like(0.8, 22_050, seed=1)

    def failed(samples: Any, precision: str = "int8") -> set[str]:
        trial = Trial("speech", lambda part: part, sounds_agree)
        pair = [voice], [Audio(np.asarray(samples, np.float32), voice.sample_rate)]
        return {one.measure for one in results_of(trial, *pair, precision=precision) if not one.passed}

    assert not failed(voice.samples, "fp32")
    assert not failed(np.concatenate([np.zeros(100, np.float32), voice.samples])), "a few milliseconds later"
    assert "level" in failed(voice.samples * 1e-4)
    assert "clipped" in failed(np.clip(voice.samples * 50, -1, 1))
    assert "mel distance" in failed(voice.samples[::-1])


def test_an_export_that_cannot_do_the_work_fails_the_trial() -> None:
    def run(samples: Any) -> list[Audio]:
        return [Audio(samples, 16_000)]

    sound = np.zeros(800, np.float32)
    [found] = run_trials([Trial("speech", run, sounds_agree)], sound, sound * np.nan, precision="int8")
    assert (found.passed, found.measure) == (False, "runs (audio holds NaN or infinite samples)")


def test_a_measure_without_a_limit_for_a_precision_is_not_judged() -> None:
    trial = Trial(
        "answering", lambda part: part, lambda left, right: sequences_agree("words", left, right, limits={"fp32": 1.0})
    )
    assert run_trials([trial], ["a"], ["b"], precision="int4") == []
    assert not run_trials([trial], ["a"], ["b"], precision="fp32")[0].passed


def test_native_exports_say_how_their_components_did(bundle: Path) -> None:
    trials = json.loads((bundle / "manifest.json").read_text())["trials"]
    assert {role: {one["measure"] for one in found} for role, found in trials.items()} == {
        "speech_tokenizer": {"units agreeing"},
        "style_module": {"cosine of style vectors"},
        "vocoder": {"mel distance", "level", "clipped"},
    }
    assert all(one["passed"] for found in trials.values() for one in found)
    assert "## vocoder: trials" in (bundle / "report.md").read_text()


@pytest.fixture
def _deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export whose graphs are right and whose host code is wrong: it hears the first half of everything."""
    from emova_sdk.components.emova.speech.exported_speech import ExportedSpeechTokenizer

    encode = ExportedSpeechTokenizer._encode
    monkeypatch.setattr(ExportedSpeechTokenizer, "_encode", lambda self, samples: encode(self, samples[: len(samples) // 2]))


@pytest.mark.usefixtures("_deaf")
def test_a_component_that_works_otherwise_is_refused_though_its_graphs_agree(tiny: Path, tmp_path: Path) -> None:
    from emova_sdk.components.emova.speech.speech_tokenizer import EmovaSpeechTokenizer
    from emova_sdk.errors import ParityError
    from emova_sdk.exporters.export import export_components

    with pytest.raises(ParityError, match="speech_tokenizer, hearing: units agreeing is"):
        export_components({"speech_tokenizer": EmovaSpeechTokenizer(str(tiny), device="cpu")}, tmp_path / "out")
    assert not list(tmp_path.iterdir())
