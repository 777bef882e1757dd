"""Training data from recordings: every row becomes conversations that are read back, or is one error that names it."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emova_sdk.components.emova.language.prompts import PUBLISHED
from emova_sdk.components.emova.language.reply import parse_reply
from emova_sdk.errors import InputError
from emova_sdk.testing.fakes import FakeSpeechTokenizer
from emova_sdk.training.data import read_samples
from emova_sdk.training.recordings import build_data, read_table
from emova_sdk.types import Audio

EARS = FakeSpeechTokenizer()
ASK = {"audio": "a.wav", "text": "hello there", "emotion": "sad", "pitch": "low", "speaker": "ann"}
ANSWER = {"answer": "oh no", "answer_audio": "b.wav", "answer_emotion": "happy"}


def tone(hertz, sample_rate=16_000):
    return Audio(0.2 * np.sin(2 * np.pi * hertz * np.arange(sample_rate // 5) / sample_rate).astype(np.float32), sample_rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("recordings")
    tone(200).save(place / "a.wav")
    tone(900, 8_000).save(place / "b.wav")
    (place / "noise.wav").write_text("no sound")
    return place


def units(folder, name):
    return EARS.encode([Audio.open(folder / name).resample(16_000)])[0]


def table(folder, rows, name="table.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def build(folder, rows, **options):
    out = folder / "data.jsonl"
    return build_data(table(folder, rows), EARS, output=out, force=True, **options), read_samples(out)


def test_a_recording_teaches_to_write_down_and_to_say(folder):
    built, (heard, said) = build(folder, [ASK])
    spoken = units(folder, "a.wav").to_text()
    assert heard.turns == (("user", PUBLISHED.transcribe + spoken), ("assistant", "hello there"))
    assert said.turns == (("user", PUBLISHED.speak + "hello there"), ("assistant", spoken))
    assert heard.labels == {"emotion": "sad", "pitch": "low", "speaker": "ann"}
    assert (built.recordings, dict(built.tasks), built.units) == (1, {"transcribe": 1, "speak": 1}, len(units(folder, "a.wav")))
    assert built.seconds == pytest.approx(0.2)


def test_an_answer_teaches_to_answer_and_its_recording_to_answer_aloud(folder):
    _, samples = build(folder, [{**ASK, **ANSWER}])
    _, _, written, dialogue = samples
    assert written.turns == (("user", "hello there"), ("assistant", "oh no"))
    assert dialogue.turns[0][1] == PUBLISHED.chat + units(folder, "a.wav").to_text()
    reply = parse_reply(dialogue.turns[1][1])
    assert not reply.problems
    assert (reply.transcript, reply.user_style.emotion, reply.text) == ("hello there", "sad", "oh no")
    assert (reply.style.emotion, reply.style.pitch) == ("happy", "normal")
    assert reply.units == units(folder, "b.wav")


def test_only_the_tasks_that_are_wanted_are_written(folder):
    built, samples = build(folder, [{**ASK, **ANSWER}], tasks=["dialogue"])
    assert len(samples) == 1 and dict(built.tasks) == {"dialogue": 1}
    with pytest.raises(InputError, match="no task `sing`"):
        build(folder, [ASK], tasks=["sing"])
    with pytest.raises(InputError, match=r"no row of .* gives a conversation"):
        build(folder, [ASK], tasks=["chat"])


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_tables_of_a_spreadsheet_are_read(folder, suffix, delimiter):
    path = folder / f"sheet{suffix}"
    lines = [("audio", "text", "mood"), ("a.wav", '"two\nlines\u2028and more"', "x"), ("a.wav", "second", "")]
    path.write_text("\r\n".join(delimiter.join(line) for line in lines), encoding="utf-8-sig", newline="")
    found = read_table(path)
    assert [one.text for one in found.recordings] == ["two lines and more", "second"]
    assert (found.bad, found.unused) == ((), ("mood",))


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"audio": "a.wav"}, "`text` is empty"),
        ({"text": "x"}, "`audio` is empty"),
        ({**ASK, "audio": "none.wav"}, "none.wav` does not exist"),
        ({**ASK, "audio": "a\0.wav"}, "does not exist"),
        ({**ASK, "audio": "noise.wav"}, r"noise\.wav"),
        ({**ASK, "emotion": "hapy"}, "`emotion` is `hapy`"),
        ({**ASK, "text": 3}, "`text` is not a text"),
        ({**ASK, "text": "see <image>"}, "a mark of the format"),
        ({**ASK, "text": "end<|im_end|>"}, "a mark of the format"),
        ({**ASK, "text": "\ud800"}, "half a character"),
        ({**ASK, "answer_audio": "b.wav"}, "`answer_audio` has no `answer`"),
        ({"audio": "a.wav", "text": "x", **ANSWER}, "`answer_audio` needs `emotion` and `pitch`"),
    ],
)
def test_a_bad_row_is_one_error_that_names_it_or_is_counted(folder, row, match):
    out = folder / "bad.jsonl"
    path = table(folder, [ASK, row, ASK], "bad_rows.jsonl")
    with pytest.raises(InputError, match=match) as caught:
        build_data(path, EARS, output=out)
    assert caught.value.message.startswith(f"row 2 of `{path}`") and caught.value.hint
    assert not out.exists() and not list(folder.glob("*.part"))
    built = build_data(path, EARS, output=out, skip_bad=True)
    assert (built.recordings, [bad.row for bad in built.bad]) == (2, [2])
    assert len(read_samples(out)) == 4
    out.unlink()


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("empty.csv", b"", "is empty"),
        ("heading.csv", b"audio,text\n", "has no rows"),
        ("names.csv", b"path,text\na.wav,x\n", "no column `audio`, only path, text"),
        ("quote.csv", b'audio,text\na.wav,"x', "cannot be read at line"),
        ("latin.csv", "audio,text\na.wav,caf\xe9\n".encode("latin-1"), "not UTF-8"),
        ("lines.jsonl", b"{}\n[1]\n", "row 2 of .* is not an object"),
        ("broken.jsonl", b"{", "row 1 of .* is not JSON"),
        ("table.xlsx", b"x", r"does not end in \.csv"),
    ],
)
def test_a_file_that_is_no_table_is_one_error(folder, name, content, match):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=match):
        read_table(folder / name)


def test_too_many_cells_are_a_bad_row(folder):
    path = folder / "cells.csv"
    path.write_text("audio,text\na.wav,no, not that\n")
    assert "more cells than columns" in read_table(path).bad[0].error.message


def test_what_is_there_stays_whole(folder):
    out = folder / "kept.jsonl"
    out.write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        build_data(table(folder, [ASK]), EARS, output=out)
    with pytest.raises(InputError, match="row 2"):
        build_data(table(folder, [ASK, {**ASK, "audio": "noise.wav"}]), EARS, output=out, force=True)
    assert out.read_text() == "mine"


def test_nothing_is_written_when_no_row_can_be_used(folder):
    with pytest.raises(InputError, match=r"gives a conversation; the first: row 1 of"):
        build_data(table(folder, [{"audio": "a.wav"}]), EARS, output=folder / "none.jsonl", skip_bad=True)
    assert not (folder / "none.jsonl").exists()


def test_a_silent_nothing_is_a_bad_row(folder):
    Audio(np.zeros(0, np.float32), 16_000).save(folder / "nothing.wav")
    with pytest.raises(InputError, match=r"row 1 of .*nothing\.wav"):
        build(folder, [{**ASK, "audio": "nothing.wav"}])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_characters="<"), max_size=30))
def test_any_text_is_read_back_or_refused(folder, text):
    path = table(folder, [{"audio": "a.wav", "text": text}], "any.jsonl")
    if read_table(path).bad:
        assert not text.split() or not text.isprintable()
        return
    build_data(path, EARS, output=folder / "any_data.jsonl", force=True)
    heard, said = read_samples(folder / "any_data.jsonl")
    assert heard.turns[1][1].split() == text.split()
    assert said.turns[0][1] == PUBLISHED.speak + " ".join(text.split())
