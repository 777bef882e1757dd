"""``emova data build`` and ``emova eval model``: from recordings to data to figures."""

import json

import pytest

from emova_sdk.testing.fakes import FakeSpeechTokenizer


@pytest.fixture
def table(voice):
    path = voice.parent / "table.csv"
    path.write_text("audio,text,emotion,mood\nvoice.wav,hello there,sad,\nvoice.wav,good bye,,\n")
    return path


@pytest.mark.parametrize("ears", [["--tokenizer", "fake"], ["-c", "fake"], ["--tokenizer", "mine.toml"]])
def test_data_are_built_with_any_speech_tokenizer(emova, table, ears):
    (table.parent / "mine.toml").write_text('[speech_tokenizer]\ntype = "fake"\n')
    done = emova("data", "build", "table.csv", *ears, "--out", "data.jsonl", "--json")
    record = done.data("data-build")
    assert record["conversations"] == {"transcribe": 2, "speak": 2} and record["recordings"] == 2
    assert (record["units"]["space"], record["units"]["size"]) == ("fake-units", FakeSpeechTokenizer.units.size)
    assert record["unused_columns"] == ["mood"] and "unknown columns: mood" in done.err
    assert len((table.parent / "data.jsonl").read_text().splitlines()) == 4


def test_options_reach_the_tokenizer(emova, table):
    build = ("data", "build", "table.csv", "--tokenizer", "fake", "--out", "data.jsonl")
    assert emova(*build, "--set", "speech_tokenizer.sample_rate=8000").code == 0
    assert "not a multiple of 25" in emova(*build, "--set", "speech_tokenizer.sample_rate=8001", "--force").err


def test_nothing_is_overwritten_without_force(emova, table):
    out = table.parent / "data.jsonl"
    out.write_text("mine")
    done = emova("data", "build", "table.csv", "--out", "data.jsonl")
    assert done.code == 1 and "`--force`" in done.err and out.read_text() == "mine"
    told = emova("data", "build", "table.csv", "--out", "data.jsonl", "--force", "--task", "speak").out
    assert told.startswith("data.jsonl: 2 conversations (2 speak) from 2 recordings, 1.0 s")
    assert len(out.read_text().splitlines()) == 2


def test_a_bad_row_ends_it_or_is_left_out_and_counted(emova, table):
    with table.open("a") as file:
        file.write("lost.wav,where is it,,\n")
    done = emova("data", "build", "table.csv", "--out", "data.jsonl")
    assert done.code == 1 and "error: row 4 of `table.csv`: `lost.wav` does not exist" in done.err
    assert not (table.parent / "data.jsonl").exists()
    record = emova("data", "build", "table.csv", "--out", "data.jsonl", "--skip-bad", "--json").data("data-build")
    assert (record["recordings"], [bad["row"] for bad in record["bad"]]) == (2, [4])
    done = emova("data", "build", "table.csv", "--out", "data.jsonl", "--skip-bad", "--force")
    assert "1 row left out" in done.out and "skipped: row 4" in done.err


def test_what_is_no_tokenizer_is_one_error(emova, table):
    (table.parent / "mute.toml").write_text('[llm_core]\ntype = "fake"\n')
    for name, what in (("mute.toml", "no speech tokenizer"), ("fakr", "`fakr`")):
        done = emova("data", "build", "table.csv", "--tokenizer", name, "--out", "data.jsonl")
        assert done.code == 1 and what in done.err and "hint:" in done.err


def test_a_model_is_measured_on_recordings_and_on_the_data_made_of_them(emova, table):
    emova("data", "build", "table.csv", "--out", "data.jsonl")
    of_sound = emova("eval", "model", "--data", "table.csv", "--json").data("eval")
    of_units = emova("eval", "model", "--data", "data.jsonl", "--json").data("eval")
    shown = [{figure["name"]: figure for figure in one["figures"]} for one in (of_sound, of_units)]
    assert shown[0]["word_error"] == shown[1]["word_error"] and shown[0]["word_error"]["n"] == 2
    assert shown[0]["valid"]["value"] == shown[1]["valid"]["value"] == 1.0
    answering = emova("eval", "model", "--data", "data.jsonl", "--set", "llm_core.transcript=hello there", "--json").data(
        "eval"
    )
    assert answering["model"] == "fake --set llm_core.transcript=hello there"
    assert answering["figures"][0]["value"] == 0.5
    assert (of_sound["model"], of_units["facts"]["conversations_without_speech"]) == ("fake", 2)


def test_the_figures_are_a_table(emova, table):
    told = emova("eval", "model", "--data", "table.csv", "--cases", "1").out
    assert "word error" in told and "replies.unreadable: 0" in told
    rows = [line.split() for line in told.splitlines() if line.strip().startswith("replies ")]
    assert rows[0][:3] == ["replies", "valid", "100.0"]
    missing = emova("eval", "model", "--data", "none.csv")
    assert missing.code == 1 and "`none.csv` does not exist" in missing.err
    assert json.loads(emova("eval", "model", "--data", "table.csv", "--cases", "1", "--json").out)["figures"][-1]["n"] == 1
