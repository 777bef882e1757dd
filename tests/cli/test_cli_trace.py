"""The trace of an answer: every step, in order, on one time line, and nothing of what was said."""

from __future__ import annotations

import io
import json

from emova_sdk.cli.trace import WIDTH, rows
from emova_sdk.types import Stage, Timings

TIMINGS = Timings(
    understood_s=0.8,
    first_token_s=0.9,
    first_audio_s=1.0,
    total_s=2.0,
    audio_s=1.5,
    endpointing_s=0.5,
    stages=(Stage("endpointing", 0.0, 0.5), Stage("hear", 0.5, 0.8, "Ears"), Stage("write", 0.8, 2.0, "Core")),
)


def test_steps_and_moments_stand_in_the_order_of_their_beginning():
    told = rows(TIMINGS)
    assert [row[0] for row in told] == ["endpointing", "hear", "write", "first token", "first audio"]
    assert [row[1] for row in told] == ["", "Ears", "Core", "", ""]
    assert (told[1][2], told[1][3]) == ("0.500 s", "0.300 s")
    lines = [row[4] for row in told]
    assert lines[0] == "█" * (WIDTH // 4)
    assert lines[2].endswith("█")
    assert len(lines[2]) == WIDTH
    assert lines[4] == " " * (WIDTH // 2) + "◆"


def test_an_answer_of_no_time_is_drawn_too():
    assert rows(Timings()) == []
    assert rows(Timings(total_s=0.0, stages=(Stage("write", 0.0, 0.0),)))[0][4] == "◆"


def test_chat_shows_it(emova, voice):
    done = emova("chat", "--audio", str(voice), "--trace")
    assert done.code == 0
    words = done.out[done.out.index("step") :]
    for expected in ("perceive", "FakeStyleModule", "hear", "write", "first token", "first audio", "◆"):
        assert expected in words
    for secret in ("You said", "%"):
        assert secret not in words


def test_a_conversation_shows_it_after_each_answer(emova, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\nand again\n"))
    assert emova("chat", "--trace").out.count("first token") == 2


def test_as_json_the_steps_are_there_anyway(emova):
    told = json.loads(emova("chat", "hello", "--json").out)["timings"]
    assert [stage["name"] for stage in told["stages"]] == ["write"]
    assert told["endpointing_s"] is None
