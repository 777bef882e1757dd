"""The speech half of the recipe, from nothing to components that work, on a budget of seconds."""

from importlib.util import find_spec
from shutil import which

import numpy as np
import pytest
import torch
from nano_recipe import speech_data, speech_stages
from nano_recipe.budget import Budget, TrainingCheckpoint, scheduled
from nano_recipe.tokenizer import UNKNOWN, phone_owners, pull_at, unit_labels

from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vocoder import NanoUnitVocoder
from emova_sdk.types import Audio, Style

SIZES = {"target": 2, "taught": 1, "styled": 3, "plain": 1, "test": 1}


def have_programs():
    return all(which(name) for name in ("flite", "espeak-ng", "festival")) and find_spec("pyworld") is not None


needs_programs = pytest.mark.skipif(
    not have_programs(), reason="needs flite, espeak-ng, festival and pyworld (`make train-deps`)"
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    out = tmp_path_factory.mktemp("nano")
    budget = Budget(60)
    speech_data.render_all(out, speech_data.make_plan(**SIZES), budget=budget)
    lines = speech_data.make_dialogue_plan(train=SIZES["target"], test=3 * SIZES["test"])
    speech_data.render_all(out, lines, budget=budget, first=speech_stages.DIALOGUE_SHARDS)
    for stage in ("tokenizer", "style", "text_to_units", "vocoder"):
        speech_stages.run_speech_stage(stage, out, budget_s=0.3)
    return out


@needs_programs
@pytest.mark.slow
def test_from_nothing_to_components(work, tmp_path):
    folders = speech_stages.export_speech(work, tmp_path)
    tokenizer, style, vocoder, reader = (
        make(path=str(folder))
        for make, folder in zip((NanoSpeechTokenizer, NanoStyleModule, NanoUnitVocoder, TextToUnits), folders, strict=True)
    )
    assert tokenizer.units == vocoder.units == reader.units
    assert style.style == vocoder.style
    units = reader("the red ball")
    sound = vocoder.synthesize([units], style.embed([Style(emotion="sad")]))[0]
    assert sound.duration_s > 0
    heard = tokenizer.encode([Audio(np.tile(sound.samples, 9), 16000)])[0]
    assert len(heard) <= 25 * 9 * sound.duration_s + 1


@needs_programs
@pytest.mark.slow
def test_a_stage_goes_on_where_it_stopped(work):
    counters = torch.load(work / "style" / "last.pt", weights_only=True)["counters"]
    speech_stages.run_speech_stage("style", work, budget_s=counters["used"] + 0.2)
    later = torch.load(work / "style" / "last.pt", weights_only=True)["counters"]
    assert later["step"] > counters["step"]


@needs_programs
@pytest.mark.slow
def test_rendering_is_repeatable_and_skips_what_exists(work, tmp_path):
    plan = speech_data.make_plan(**SIZES)
    path = speech_data.shard_path(work, 0)
    before = path.stat().st_mtime_ns
    assert speech_data.render_all(work, plan, budget=Budget(10)) == 0
    assert path.stat().st_mtime_ns == before
    again = speech_data.render(plan[0][:2])
    kept = speech_data.load_shard(path)[:2]
    assert all(np.array_equal(a.samples, b.samples) and a.phones == b.phones for a, b in zip(again, kept, strict=True))


def test_units_are_pulled_no_faster_in_a_short_run_than_in_a_long_one():
    assert pull_at(0.0, 144) == 0
    assert pull_at(1.0, 144) == pytest.approx(0.64)
    assert pull_at(0.05, 1500) == pytest.approx(1 / 3)
    assert pull_at(0.15, 6000) == pull_at(1.0, 6000) == 1


def test_plans_are_the_same_every_time_and_keep_test_voices_out_of_training():
    from nano_recipe.voices import TEST_VOICES

    first, second = (speech_data.make_plan(**SIZES) for _ in range(2))
    assert first == second
    assert not any(p.voice in TEST_VOICES for shard in first for p in shard if p.split == "train")


def test_every_phone_gets_a_unit_where_there_is_room():
    owners = phone_owners((0.10, 0.11, 0.30, 0.32, 0.50), 13)
    assert sorted(set(owners.tolist())) == [0, 1, 2, 3, 4]
    assert np.all(np.diff(owners) >= 0)
    assert np.all(unit_labels(("k",), (), 4) == UNKNOWN)


def test_budgets_count_what_was_used_before():
    now = [0.0]
    budget = Budget(10, used=4, clock=lambda: now[0])
    assert budget.share == pytest.approx(0.4)
    now[0] = 6.1
    assert budget.spent


def test_the_learning_rate_rises_then_falls():
    rates = [scheduled(share, 1.0) for share in (0.0, 0.03, 0.5, 1.0)]
    assert rates[0] < rates[1] > rates[2] > rates[3] > 0


def test_checkpoints_bring_model_and_optimizer_back(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint = TrainingCheckpoint(tmp_path / "a.pt")
    assert checkpoint.load(model, optimizer) == {}
    checkpoint.save(model, optimizer, step=3)
    other = torch.nn.Linear(2, 2)
    assert checkpoint.load(other, torch.optim.AdamW(other.parameters())) == {"step": 3}
    assert torch.equal(other.weight, model.weight)
