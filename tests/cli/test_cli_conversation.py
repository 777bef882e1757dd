"""The conversation at the keyboard, with its lines from a string."""

from __future__ import annotations

import io
import json
from pathlib import Path

import jsonschema
import pytest

from emova_sdk.cli.json_records import schema
from emova_sdk.types import Audio


@pytest.fixture
def converse(emova, monkeypatch):
    def lines(*said, options=()):
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(said) + "\n"))
        return emova("chat", *options)

    return lines


def test_each_line_is_answered_until_the_end(converse):
    done = converse("hello", "", "how are you")
    assert done.code == 0
    assert done.out.count("emova: ") == 2
    assert "how are you" in done.out


def test_quit_ends_it(converse):
    assert converse("hello", "/quit", "not this").out.count("emova: ") == 1


def test_json_lines(converse, voice):
    done = converse("hello", f"/audio {voice}", "/help", options=["--json", "--out", "a.wav"])
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert len(answers) == 2
    for number, answer in enumerate(answers, start=1):
        jsonschema.validate(answer, schema("chat"))
        assert answer["audio"]["path"] == f"a-{number}.wav"
        assert Audio.open(f"a-{number}.wav").duration_s > 0
    assert "/quit" in done.err


def test_sounds_and_pictures(converse, voice, picture):
    done = converse(f"/image {picture}", "what is it", f"/image {picture} and this", f"/audio {voice} so there")
    assert done.out.count("I see") == 2
    assert "you: " in done.out
    assert "(you sound " in done.out


def test_emotion_holds_until_it_is_taken_back(converse):
    done = converse("/emotion angry", "hello", "/emotion", "hello")
    styles = [line for line in done.out.splitlines() if line.startswith("  (")]
    assert "angry" in styles[0]
    assert "angry" not in styles[1]


def test_save(converse):
    done = converse("/save a.wav", "hello", "/save a.wav", "/save a.mp3")
    assert "written to a.wav" in done.out
    assert Path("a.wav").exists()
    assert "there is no spoken answer to save" in done.err
    assert "a.mp3" in done.err


def test_errors_do_not_end_it(converse):
    done = converse("/nonsense", '/audio "a', "/audio missing.wav", "/emotion bored", "hello")
    assert done.code == 0
    assert done.err.count("error: ") == 4
    assert done.out.count("emova: ") == 1


def test_without_a_voice_nothing_is_written(converse):
    Path("text.toml").write_text('[llm_core]\ntype = "fake"\n')
    done = converse("hello", options=["-c", "text.toml", "--out", "a.wav"])
    assert "no voice" in done.out
    assert not list(Path().glob("*.wav"))


def test_ctrl_c_stops_the_answer_only(converse, monkeypatch):
    from emova_sdk.session import Session

    respond, calls = Session.respond, []

    def interrupted_once(self, *parts, style=None):
        events = respond(self, *parts, style=style)
        calls.append(parts)
        for event in events:
            yield event
            if len(calls) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(Session, "respond", interrupted_once)
    done = converse("hello", "again")
    assert done.code == 0
    assert "[stopped]" in done.out
    assert "again" in done.out


def test_tools_are_shown(capsys):
    from emova_sdk import Pipeline
    from emova_sdk.cli.keyboard import follow, print_reply
    from emova_sdk.types import TextDelta, ToolCall, ToolResult

    def events():
        yield TextDelta("let me see")
        yield ToolCall("1", "add", {"a": 1})
        yield ToolResult("1", "add", "boom", failed=True)
        yield TextDelta("it failed")

    follow(events())
    assert capsys.readouterr().out.splitlines() == [
        "emova: let me see",
        "  asks add(a=1)",
        "  add failed: boom",
        "emova: it failed",
    ]

    def add(a: int) -> int:
        return a + 1

    with Pipeline.from_config("fake") as pipeline:
        reply = pipeline.session(tools=[add]).ask("please use add")
    print_reply(reply, None)
    assert "emova: " in capsys.readouterr().out


def test_at_a_terminal_there_is_a_prompt(converse, monkeypatch, emova):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal("hello\n"))
    done = emova("chat")
    assert "Type a message" in done.out
    assert "> emova: " in done.out
