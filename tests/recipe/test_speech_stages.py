"""The speech half of the recipe after its first stage, on speech that nano itself said: from shards to components."""

import json

import numpy as np
import pytest
import torch
from nano_recipe import speech_data, speech_stages
from nano_recipe import stages as nano_stages
from nano_recipe.examples import utterance_from
from nano_recipe.network_files import read_tokenizer
from nano_recipe.perceptual_loss import PerceptualLoss
from nano_recipe.speech_units import ELSEWHERE, clear_unit_ids, snapped, unit_ids
from nano_recipe.tokenizer import UNKNOWN, collated, examples, phone_weights, unit_labels
from nano_recipe.vocoder import envelope_points, load_voices
from nano_recipe.voices import TEACHER
from rendered import TEXTS, plans, said, utterance, write_work

from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
from emova_sdk.components.nano.style import NanoStyleModule
from emova_sdk.components.nano.text_to_units import TextToUnits
from emova_sdk.components.nano.vocoder import NanoUnitVocoder
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.types import Audio, Style


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    out = write_work(tmp_path_factory.mktemp("work") / "nano")
    with torch.random.fork_rng():
        for stage in ("tokenizer", "style", "vocoder"):
            nano_stages.run_stage(stage, out, budget_s=0.3)
    return out


def test_shards_come_back_as_they_were_written(work):
    first = speech_data.load_shard(speech_data.shard_path(work, 0))[0]
    again = utterance(first.plan)
    assert first.plan == again.plan and first.phones == again.phones and first.ends == again.ends
    assert np.array_equal(first.samples, again.samples) and np.array_equal(first.mel, again.mel)
    assert speech_data.shard_count(work) == 3
    assert len(list(speech_data.load_all(work))) == 12 + 12 + 3 + 6


def test_training_examples_have_a_phone_for_each_unit_and_leave_tested_texts_out(work):
    found = examples(work, "train")
    assert found and all(len(e.labels) == -(-len(e.mel) // 4) for e in found)
    mel, frames, labels, targets, lengths = collated(found[:3], np.random.default_rng(0))
    assert mel.shape[0] == len(frames) == labels.shape[0] == 3 and mel.shape[2] == 80
    assert lengths.sum() == len(targets) and labels.shape[1] >= frames.max() // 4
    assert np.all(unit_labels(("k",), (), 3) == UNKNOWN)


def test_stages_yield_components_that_fit_each_other(work, tmp_path):
    folders = speech_stages.export_speech(work, tmp_path)
    tokenizer, style, vocoder, reader = (
        make(path=str(folder))
        for make, folder in zip((NanoSpeechTokenizer, NanoStyleModule, NanoUnitVocoder, TextToUnits), folders, strict=True)
    )
    assert tokenizer.units == vocoder.units == reader.units and style.style == vocoder.style
    sound = vocoder.synthesize([reader("the red ball")], style.embed([Style(emotion="sad")]))[0]
    assert sound.duration_s > 0 and np.isfinite(sound.samples).all()
    assert style.perceive([Audio(np.tile(sound.samples, 9), 16000)])[0].scores


def test_units_are_written_for_the_language_model(work):
    rows = [json.loads(line) for line in (work / "units" / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 15 * (1 + ELSEWHERE) and {"text", "units", "durations", "emotion"} <= set(rows[0])
    assert [row["text"] for row in rows[::2]] == [row["text"] for row in rows[1::2]]
    assert not any(said.speakable for said in map(utterance_from, rows[1::2])), "nobody learns to speak from changed sound"
    assert all(len(row["units"]) == len(row["durations"]) for row in rows)


def test_rare_phones_count_more(work):
    weights = phone_weights(examples(work, "train"))
    labels = np.concatenate([e.labels for e in examples(work, "train")])
    counts = np.bincount(labels[labels != UNKNOWN], minlength=len(weights))
    common, rare = counts.argmax(), np.where(counts > 0, counts, counts.max()).argmin()
    assert weights[rare] > weights[common] > 0
    assert float((weights * torch.from_numpy(counts)).sum() / counts.sum()) == pytest.approx(1.0, abs=1e-5)
    assert torch.isfinite(phone_weights([])).all()


def test_clear_units_are_read_as_what_was_meant_and_stay_near_what_was_heard():
    tokenizer = read_tokenizer()
    said = utterance(plans("train", 1)[0])
    heard = unit_ids(tokenizer, said.mel)
    phones = unit_labels(said.phones, said.ends, len(heard))
    clear = clear_unit_ids(tokenizer, said.mel, phones)

    def read_as(ids):
        codes = tokenizer.fsq.ids_to_codes(torch.from_numpy(ids))
        return tokenizer.unit_reader(codes).argmax(-1).numpy()

    def confidence(ids, phones):
        codes = tokenizer.fsq.ids_to_codes(torch.from_numpy(ids))
        return torch.softmax(tokenizer.unit_reader(codes), -1).detach().numpy()[np.arange(len(ids)), phones] + 1e-6

    assert clear.shape == heard.shape
    assert (read_as(clear) == phones).mean() > (read_as(heard) == phones).mean()
    meant = read_as(heard)
    again = clear_unit_ids(tokenizer, said.mel, meant)
    assert (read_as(again) == meant).all(), "what was right is still read so"
    assert (again == heard).mean() > 0.5, "most of it is what was heard"
    assert (confidence(again, meant) >= confidence(heard, meant)).all(), "the rest is only surer"


@pytest.mark.parametrize(
    ("units", "ends", "frames"),
    [
        ([3, 1, 2, 1], (0.13, 0.15, 0.25, 0.28), [13, 2, 10, 3]),
        ([2, 1], (), [8, 4]),
        ([2, 2], (0.04, 0.12, 0.16), [8, 8]),
        ([1, 1, 1], (0.01, 0.02, 0.12), [2, 6, 4]),
    ],
    ids=["at the ends of phones", "no phones known", "no phone near", "no run is lost"],
)
def test_runs_end_where_phones_end(units, ends, frames):
    assert snapped(np.array(units), ends).tolist() == frames
    assert sum(frames) == 4 * sum(units)


def test_the_voice_learns_from_its_teacher_alone_in_three_kinds_of_units(work):
    taught = [u for u in speech_data.load_all(work) if u.plan.taught and u.plan.split == "train"]
    assert taught and {u.plan.voice for u in taught} == {TEACHER}
    found = [
        v for v in load_voices(work, work / "tokenizer" / "last.pt", work / "text_to_units" / "last.pt") if v.split == "train"
    ]
    assert len(found) == 3 * len(taught)
    assert all(v.durations.sum() == len(v.features) for v in found)


def test_what_sounds_alike_is_near_for_the_own_ear():
    ear = PerceptualLoss(read_tokenizer())
    sound = torch.from_numpy(said(TEXTS[0], Style(speaker="male")))
    spectrum = torch.stft(sound, 1024, 160, window=torch.hann_window(1024), return_complex=True).abs().square().T
    points = torch.from_numpy(envelope_points()).round().long()
    meant = torch.log(spectrum[None, :, points] + 1e-6)
    frames = torch.tensor([meant.shape[1]])
    louder, noise = meant + 1.0, torch.randn(meant.shape, generator=torch.Generator().manual_seed(0))
    assert float(ear.distance(meant, meant, frames)) == 0
    assert float(ear.distance(louder, meant, frames)) < 0.1 < float(ear.distance(meant + noise, meant, frames))
    spoken = (meant + 0.1 * noise).requires_grad_(True)
    ear.distance(spoken, meant, frames).backward()
    assert spoken.grad is not None and bool(spoken.grad.abs().sum() > 0)


@pytest.mark.parametrize("stage", ["tokenizer", "style", "vocoder", "text_to_units"])
def test_a_stage_goes_on_where_it_stopped(work, stage):
    counters = torch.load(work / stage / "last.pt", weights_only=True)["counters"]
    with torch.random.fork_rng():
        speech_stages.run_speech_stage(stage, work, budget_s=counters["used"] / 0.9 + 0.1)
    assert torch.load(work / stage / "last.pt", weights_only=True)["counters"]["step"] >= counters["step"]


def test_what_is_wrong_is_said(work, tmp_path):
    with pytest.raises(InputError, match="no speech stage"):
        speech_stages.run_speech_stage("hearing", work, budget_s=1)
    with pytest.raises(ConfigError, match="no trained"):
        nano_stages.assemble_preset(tmp_path)
    assert nano_stages.run_stage("data", work, budget_s=1).skipped
