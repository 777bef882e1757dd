"""``emova train``: the recipes and what they refuse, and nano from nothing to a preset that works."""

from __future__ import annotations

import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest
import torch
from nano_recipe import llm as nano_llm
from nano_recipe import speech_data, voices
from nano_recipe import stages as nano_stages
from rendered import write_work

from emova_sdk import registry
from emova_sdk.components.nano.llm import NanoLLM
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.types import Message, SpeechUnits, TextDelta

SIZES = {"target": 2, "styled": 3, "plain": 1, "test": 1}
needs_programs = pytest.mark.skipif(
    not all(which(name) for name in ("flite", "espeak-ng", "festival")) or find_spec("pyworld") is None,
    reason="needs flite, espeak-ng, festival and pyworld (`make train-deps`)",
)


def test_list(emova):
    names = [one["name"] for one in emova("train", "recipe", "--list", "--json").data("train-list")["recipes"]]
    assert {"prealign", "align", "sft", "sft-lora"} <= set(names)
    assert "instruction tuning with LoRA" in emova("train", "recipe", "--list").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["recipe"], "no recipe was given"),
        (["recipe", "nothing"], "no recipe `nothing`"),
        (["recipe", "sft", "--set", "model=x", "--set", "nonsense=1"], "sft"),
        (["nano", "--budget-s", "0", "--out", "work"], "budget of `0` seconds"),
        (["nano", "--stage", "tokenizer", "--budget-s", "3", "--out", "work"], "needs what the stage `data` writes"),
    ],
)
def test_wrong_use_is_one_clear_error(emova, arguments, told):
    done = emova("train", *arguments)
    assert done.code == 1, done.err
    assert told in done.err and "hint: " in done.err


def test_missing_programs_are_named_with_what_installs_them(emova, monkeypatch):
    monkeypatch.setattr(voices, "which", lambda _: None)
    done = emova("train", "nano", "--budget-s", "3", "--out", "work")
    assert done.code == 1
    assert "`flite, espeak-ng, festival`" in done.err and "`make train-deps`" in done.err


def test_a_budget_is_divided_among_all_stages():
    parts = nano_stages.divided("all", 600)
    assert list(parts) == ["data", "tokenizer", "style", "vocoder", "vision", "llm"]
    assert sum(parts.values()) == pytest.approx(600)
    assert nano_stages.divided("style", 7) == {"style": 7}
    with pytest.raises(InputError, match="no stage"):
        nano_stages.divided("hearing", 7)


def test_a_stage_that_is_done_is_skipped_and_a_new_tokenizer_sets_aside_what_was_built_on_it(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(nano_stages, "run_speech_stage", lambda name, out, *, budget_s: ran.append((name, budget_s)))
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "shard-0000.npz").touch()
    (tmp_path / "vocoder").mkdir()
    assert not nano_stages.run_stage("tokenizer", tmp_path, budget_s=5).skipped
    assert (tmp_path / "vocoder.earlier").is_dir() and not (tmp_path / "vocoder").exists()
    assert nano_stages.run_stage("tokenizer", tmp_path, budget_s=4).skipped
    assert not nano_stages.run_stage("tokenizer", tmp_path, budget_s=6).skipped
    assert ran == [("tokenizer", 5), ("tokenizer", 6)]
    with pytest.raises(ConfigError, match="no trained"):
        nano_stages.assemble_preset(tmp_path)


@pytest.mark.slow
def test_units_that_say_nothing_leave_a_model_that_answers_typed_words_and_declines_speech(tmp_path):
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "train.jsonl").write_text(
        '{"text": "hello", "units": [3]}\n' * 2 + '{"text": "hello", "units": [3, 4]}\n'
    )
    with torch.random.fork_rng():
        done = nano_stages.run_stage("llm", tmp_path, budget_s=0.5)
    assert "no units tell sounds apart" in done.note
    llm = NanoLLM(path=str(tmp_path / "llm_core"))
    assert any(isinstance(event, TextDelta) for event in llm.generate([Message("user", ("hello",))]))
    heard = list(llm.generate([Message("user", (SpeechUnits.of([3]),))]))
    assert "".join(event.text for event in heard if isinstance(event, TextDelta)) == "I did not catch that."


@pytest.mark.slow
def test_nano_from_rendered_speech_to_a_preset_on_a_tiny_budget(emova, monkeypatch):
    """The stages after the first are the real ones, from nothing; the speech is nano's own."""
    write_work(Path("work"))
    monkeypatch.setattr(nano_llm, "SPLICED", 20)
    call = ("train", "nano", "--budget-s", "2", "--out", "work")
    with torch.random.fork_rng():
        told = emova(*call)
    assert told.code == 0, told.err
    assert "data       done before" in told.out and "the trained emova-nano; try `emova chat -c work`" in told.out
    said = emova("chat", "hello", "-c", "work", "--json").data("chat")
    assert json.dumps(said["text"])
    again = emova("train", "nano", "--stage", "style", "--budget-s", "0.1", "--out", "work", "--json").data("train")
    assert again["stages"] == [{"stage": "style", "seconds": 0.0, "skipped": True}] and again["missing"] == []


@needs_programs
@pytest.mark.slow
def test_nano_from_nothing_to_a_preset_on_a_tiny_budget(emova, monkeypatch):
    """The stages are the real ones; only the plans of what is said are cut short."""
    monkeypatch.setattr(speech_data, "make_plan", partial(speech_data.make_plan, **SIZES))
    monkeypatch.setattr(speech_data, "make_dialogue_plan", partial(speech_data.make_dialogue_plan, train=6, test=3))
    monkeypatch.setattr(speech_data, "make_manner_plan", partial(speech_data.make_manner_plan, sentences=1, speakers=3))
    monkeypatch.setattr(nano_llm, "SPLICED", 20)
    call = ("train", "nano", "--budget-s", "3", "--out", "work", "--workers", "1", "--json")
    with torch.random.fork_rng():
        first = emova(*call).data("train")
    assert [one["stage"] for one in first["stages"]] == list(nano_stages.SHARES)
    assert first["missing"] == [] and first["preset"] == str(Path("work/preset"))
    again = emova(*call).data("train")
    assert all(one["skipped"] for one in again["stages"])
    figures = emova("eval", "nano", "--preset", "work/preset", "--cases", "3", "--out", "card.md", "--json").data("eval")
    assert {row["group"] for row in figures["figures"]} == {"pictures", "typed turns", "pictures, model alone"}
    assert "rendered" in figures["left_out"]["speech"]
    assert Path("card.md").read_text().startswith("| what |")
    if "nano" in registry.names("llm_core"):
        said = emova("chat", "hello", "-c", "work", "--json").data("chat")
        assert json.dumps(said["text"])
