"""The figures of a model on speech of one's own: what is wrong counts, what is not known is told apart."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

from emova_sdk.components.emova.language.prompts import CORRECTED, PUBLISHED
from emova_sdk.components.emova.language.reply_format import format_reply
from emova_sdk.config import PipelineConfig, load_config
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.evaluation.figures import Card
from emova_sdk.evaluation.own_model import HeardCase, SpokenCase, figures, measure_model, read_units
from emova_sdk.testing import fakes
from emova_sdk.training.speech_tokens import insert_speech_tokens
from emova_sdk.types import Audio, Metadata, PerceivedStyle, SpeechUnits, Style, TextDelta, Transcript, UserStyle

FAKE = load_config("fake")


def heard(text, transcript, right=None, told=None, problems=()):
    return HeardCase(SpokenCase("x", SpeechUnits.of([1]), text, right), transcript, told, problems)


def measured(rows):
    card = Card()
    figures(rows, card)
    return {figure.name: figure for figure in card.figures}, card


def test_word_error_is_over_all_words_and_has_width():
    found, card = measured([heard("Hello, there!", "hello there"), heard("go home now please", "go home")])
    assert found["word_error"].value == pytest.approx(2 / 6)
    assert found["word_error"].low < 2 / 6 < found["word_error"].high and found["word_error"].n == 2
    assert card.facts["transcription.words"] == 6
    assert card.left_out == {"emotion": "the data tell no emotions"}


def test_chinese_is_compared_by_character():
    found, _ = measured([heard("你好吗", "你好"), heard("hello", "hello")])
    assert found["character_error"].value == pytest.approx(1 / 3)
    assert (found["word_error"].value, found["word_error"].n) == (0, 1)


def test_an_emotion_that_is_not_known_is_counted_apart():
    told = [("sad", "sad"), ("sad", "happy"), ("happy", "happy"), ("angry", None)]
    found, card = measured([heard("a", "a", right, emotion) for right, emotion in told])
    known = found["right_where_known"]
    assert (known.value, known.guess, known.n) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
    assert (found["unknown"].value, found["unknown"].n) == (0.25, 4)
    assert card.facts["emotion.labelled"] == {"sad": 2, "happy": 1, "angry": 1}


def test_a_reply_that_cannot_be_read_counts_and_is_not_dropped():
    found, card = measured([heard("a", "a"), heard("a", "a", problems=("not_json",)), heard("a", "", problems=("empty",))])
    assert found["valid"].value == pytest.approx(1 / 3) and found["valid"].n == 3
    assert found["valid"].low < 1 / 3 < found["valid"].high
    assert (card.facts["replies.unreadable"], card.facts["transcription.empty"]) == (2, 1)
    assert card.facts["replies.problems"] == {"not_json": 1, "empty": 1}


class Scripted(fakes.FakeLLMCore):
    """Writes down `two words`, hears `sad`, and replies what cannot be read."""

    def generate(self, messages, *, task="chat", **_):
        assert all(isinstance(part, SpeechUnits) for part in messages[-1].parts)
        if task == "transcribe":
            yield Transcript("two words")
            return
        yield UserStyle(PerceivedStyle(Style(emotion="sad"), {"emotion": 0.5}, "llm_core"))
        yield TextDelta("what")
        yield Metadata({"reply_problems": [{"kind": "not_json", "message": "", "text": ""}]})


def data(path, *records):
    lines = [
        {"id": str(n), "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}], **more}
        for n, (asked, answered, more) in enumerate(records)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def dialogue(text, emotion):
    style = {"emotion": "neutral", "pitch": "low", "user_pitch": "low"}
    return format_reply(text="x", units=[1], user_text=text, user_emotion=emotion, **style)


def test_of_data_with_units_only_the_language_model_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("emova_sdk.config.registry.create", lambda slot, *_, **__: {"llm_core": Scripted}[slot]())
    path = data(
        tmp_path / "data.jsonl",
        (PUBLISHED.transcribe + "<|speech_1|>", "two words", {"emotion": "sad"}),
        (PUBLISHED.speak + "two words", "<|speech_1|>", {}),
        (CORRECTED.chat + "<|speech_2|>", dialogue("other words", "happy"), {}),
    )
    steps = []
    card = measure_model(FAKE, path, step=lambda *counts: steps.append(counts))
    found = {figure.name: figure for figure in card.figures}
    assert steps == [(1, 2), (2, 2)]
    assert found["word_error"].value == pytest.approx(1 / 4)
    assert (found["right_where_known"].value, found["valid"].value) == (0.5, 0)
    assert (card.facts["emotion.heard_by"], card.facts["conversations_without_speech"]) == ("llm_core", 1)
    assert {figure.n for figure in measure_model(FAKE, path, cases=1).figures} == {1}


def test_tasks_about_the_same_speech_are_one_case(tmp_path):
    path = data(
        tmp_path / "data.jsonl",
        (PUBLISHED.transcribe + "<|speech_1|>", "two words", {}),
        (PUBLISHED.chat + "<|speech_1|>", dialogue("two words", "happy"), {}),
        ("typed", "answer", {}),
    )
    (case,), skipped = read_units(path)
    assert (case.text, case.emotion, skipped) == ("two words", "happy", 1)


def test_recordings_are_heard_by_the_ears_of_the_config(tmp_path):
    for name, level in (("loud", 0.35), ("quiet", 0.04)):
        Audio(level * np.sin(np.arange(8000) / 10).astype(np.float32), 16_000).save(tmp_path / f"{name}.wav")
    path = tmp_path / "table.csv"
    path.write_text("audio,text,emotion\nloud.wav,one two,angry\nquiet.wav,three,\n")
    card = measure_model(FAKE, path)
    found = {figure.name: figure for figure in card.figures}
    assert (found["word_error"].n, found["valid"].n, found["valid"].value) == (2, 2, 1.0)
    assert found["unknown"].n == 1 and card.facts["emotion.heard_by"] == "style_module"


@pytest.mark.parametrize(("content", "match"), [("audio,text\nno.wav,x\n", "row 2 of"), ("audio\n", "no column `text`")])
def test_a_bad_table_is_one_error(tmp_path, content, match):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(InputError, match=match):
        measure_model(FAKE, tmp_path / "table.csv")


def test_what_is_missing_is_said_first(tmp_path):
    path = data(tmp_path / "data.jsonl", ("typed", "answer", {}))
    with pytest.raises(InputError, match="holds no speech"):
        measure_model(FAKE, path)
    with pytest.raises(ConfigError, match="no component for `llm_core`"):
        measure_model(PipelineConfig(), path)


def test_a_native_checkpoint_that_learned_nothing_is_measured_as_such(tmp_path):
    spec = spec_from_file_location("tiny_emova", Path(__file__).parents[1] / "training" / "tiny.py")
    tiny = module_from_spec(spec)
    spec.loader.exec_module(tiny)
    torch.manual_seed(0)
    tokenizer = tiny.tiny_tokenizer()
    insert_speech_tokens(tokenizer, units=8)
    tiny.tiny_model(tokenizer, max_position_embeddings=220).save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    path = data(tmp_path / "data.jsonl", (PUBLISHED.transcribe + "<|speech_1|>", "two words", {"emotion": "sad"}))
    overrides = ["llm_core.type=emova", f"llm_core.model={(tmp_path / 'checkpoint').as_posix()}", "llm_core.device=cpu"]
    card = measure_model(load_config("fake", overrides=overrides), path)
    found = {figure.name: figure for figure in card.figures}
    assert (found["valid"].value, found["unknown"].value) == (0, 1)
    assert found["word_error"].value >= 1 and "right_where_known" not in found
