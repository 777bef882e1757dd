"""Pipes, paths as people type them, files that are there already, and consoles of few characters."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from emova_sdk.cli.app import run
from emova_sdk.cli.keyboard import _split
from emova_sdk.cli.options import typed_path, unused
from emova_sdk.cli.output import print_table
from emova_sdk.errors import InputError
from emova_sdk.pipeline import Pipeline
from emova_sdk.types import Audio, Image


@pytest.fixture
def stdin(monkeypatch):
    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))

    return give


def test_a_hyphen_is_stdin(emova, stdin, voice, picture):
    named = emova("listen", str(voice), "--json").data("listen")
    stdin(voice.read_bytes())
    assert emova("listen", "-", "--json").data("listen") == named
    stdin(voice.read_bytes())
    assert emova("chat", "--audio", "-", "--json").data("chat")["transcript"] == named["transcript"]
    stdin(picture.read_bytes())
    assert emova("look", "-", "what is it").out == emova("look", str(picture), "what is it").out
    stdin(b"good morning\n")
    assert emova("chat", "-", "--json").data("chat")["text"] == "You said: good morning."
    stdin(b"good morning\n")
    assert emova("speak", "-", "--json").data("speak")["text"] == "good morning"
    assert "only one input can be `-`" in emova("chat", "-", "--audio", "-").err
    stdin(b"")
    assert "is empty" in emova("listen", "-").err


def test_a_hyphen_is_stdout(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    for command in (["speak", "hello"], ["chat", "hello"]):
        assert run([*command, "--out", "-", "-c", "fake"]) == 0
        sound, told = capfdbinary.readouterr()
        assert Audio.open(sound).duration_s > 0
        assert told
    assert run(["speak", "hello", "--out", "-", "--json", "-c", "fake"]) == 1
    assert b"both write to stdout" in capfdbinary.readouterr().err


def test_input_and_output_are_checked_before_anything_is_loaded(emova, monkeypatch):
    monkeypatch.setattr(Pipeline, "load", lambda self: pytest.fail("the weights were loaded"))
    for command in (
        ["listen", "nope.wav"],
        ["look", "nope.png", "what"],
        ["chat", "--audio", "nope.wav"],
        ["chat", "hello", "--image", "nope.png"],
        ["speak", "hello", "--out", "nowhere/a.wav"],
        ["chat", "hello", "--out", "nowhere/a.wav"],
    ):
        assert "does not exist" in emova(*command).err


def test_nothing_is_replaced_unless_it_is_wanted(emova):
    for command in (["speak", "hello"], ["chat", "hello"]):
        assert emova(*command, "--out", f"{command[0]}.wav").code == 0
        refused = emova(*command, "--out", f"{command[0]}.wav")
        assert refused.code == 1
        assert "--force" in refused.err
        assert emova(*command, "--out", f"{command[0]}.wav", "--force").code == 0
    assert "speech.wav: " in emova("speak", "hello").out
    assert "speech-2.wav: " in emova("speak", "hello").out
    assert unused(Path("speech.wav")) == Path("speech-3.wav")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (r"/audio C:\sounds\a.wav", [r"C:\sounds\a.wav"]),
        (r'/audio "C:\my sounds\a.wav" and now', [r"C:\my sounds\a.wav", "and now"]),
        (r"/audio \\server\share\a.wav", [r"\\server\share\a.wav"]),
        (r"/audio my\ sound.wav what's this", ["my sound.wav", "what's this"]),
        ("/image 'a b.png'", ["a b.png"]),
        ("/image a'b c'.png", ["ab c.png"]),
        ("/emotion", []),
    ],
)
def test_paths_are_read_as_they_are_typed(line, expected):
    assert _split(line)[1] == expected


def test_an_open_quotation_mark_is_told():
    with pytest.raises(InputError, match="quotation mark"):
        _split('/audio "a b.wav')


def test_what_a_desktop_drops_on_a_terminal_is_a_path():
    assert typed_path("file:///tmp/a%20b.wav") == Path("/tmp/a b.wav")
    assert typed_path("~/a.wav") == Path.home() / "a.wav"
    assert typed_path("~nobody-of-that-name/a.wav") == Path("~nobody-of-that-name/a.wav")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
@pytest.mark.parametrize(
    "command", [["chat", "great \U0001f60a \u4f60", "--trace"], ["chat", "\u4f60", "--json"], ["components", "list"]]
)
def test_a_console_of_few_characters_shows_any_text(monkeypatch, encoding, command):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("EMOVA_CONFIG", "fake")
    assert run(command) == 0
    out.flush()
    assert out.buffer.getvalue()


def test_a_full_disk_is_told_in_words(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "reply.wav")

    monkeypatch.setattr(Audio, "save", full)
    assert run(["speak", "hello", "-c", "fake", "--out", "reply.wav"]) == 1
    assert capsys.readouterr().err == (
        "error: `reply.wav`: no space left on device\nhint: free some space, or choose another folder\n"
    )


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_no_table_is_cut(monkeypatch, capsys, columns):
    rows = [("reader_phones", "fp32", "run hf download Emova-ollm/emova-qwen-2-5-3b-hf to get it and then try again")]
    print_table(("graph", "kind", "what"), rows)
    assert rows[0][2] in capsys.readouterr().out, "a pipe has no width"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(("graph", "kind", "what"), rows)
    shown = capsys.readouterr().out
    for word in " ".join(rows[0]).split():
        assert word in shown, "no word is divided"


def test_help_shows_no_path_of_this_machine(emova):
    assert str(Path(__file__).parents[2]) not in emova("bench", "--help").out


def test_shipped_input_is_there_by_one_call(emova, tmp_path):
    assert Audio.example().duration_s > 1
    assert Image.example().size[0] > 10
    assert emova("demo", "--input", "given").code == 0
    assert {path.name for path in (tmp_path / "given").iterdir()} == {"question.wav", "happy.wav", "sad.wav", "scene.png"}
    with pytest.raises(InputError, match="no example"):
        Audio.example("other")


def test_completion_and_version(emova, monkeypatch):
    assert emova("-V").out == emova("version").out
    assert "--install-completion" in emova("--help").out


def test_check_fills_in_the_environment_and_names_the_endpoint(emova):
    Path("mine.toml").write_text(
        '[llm_core]\ntype = "openai"\nmodel = "m"\nbase_url = "${env:NO_SUCH_VARIABLE|http://127.0.0.1:9/v1}"\nretries = 0\n'
    )
    done = emova("components", "check", "-c", "mine.toml", "--slot", "llm_core")
    assert "checking llm_core sends requests to http://127.0.0.1:9/v1" in done.err
    assert "missing an" not in done.out
