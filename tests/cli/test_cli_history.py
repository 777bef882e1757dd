"""``emova chat --db`` and ``emova history``: what is kept, shown, drawn, exchanged and forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage

from emova_sdk.canvas import EMOTION_COLOURS
from emova_sdk.cli.emotion_plot import TurnEmotion, draw_emotions, emotions_of
from emova_sdk.errors import InputError
from emova_sdk.langchain import EmovaChatHistory, audio_block
from emova_sdk.memory import SessionStore
from emova_sdk.types import EMOTIONS, Audio, Image, PerceivedStyle, Style, Turn


@pytest.fixture
def kept(emova, voice):
    """A database with a session of two exchanges."""
    assert emova("chat", "--audio", str(voice), "--db", "talk.db", "--session", "anna").code == 0
    assert emova("chat", "and now?", "--emotion", "sad", "--db", "talk.db", "--session", "anna").code == 0
    return "talk.db"


def test_chat_goes_on_with_a_session(emova, kept):
    shown = emova("history", "show", "anna", "--db", kept, "--json").data("history-show")
    assert [turn["role"] for turn in shown["turns"]] == ["user", "assistant"] * 2
    assert shown["turns"][0]["audio"]["media_type"] == "audio/wav"
    assert shown["turns"][3]["style"]["emotion"] == "sad"
    told = emova("history", "show", "anna", "--db", kept).out.splitlines()
    assert len(told) == 4
    assert told[2] == "you: and now?  (style not heard)"
    assert told[3].startswith("emova: ")


def test_chat_keeps_a_session_under_a_name_of_its_own(emova):
    assert emova("chat", "hello", "--db", "talk.db").code == 0
    [session] = emova("history", "list", "--db", "talk.db", "--json").data("history-list")["sessions"]
    assert (session["id"], session["turns"]) == ("chat", 2)


def test_a_session_without_a_database_is_refused(emova):
    done = emova("chat", "hello", "--session", "anna")
    assert done.code == 1
    assert "--db FILE" in done.err


def test_list_for_a_person(emova, kept):
    assert "anna" in emova("history", "list", "--db", kept).out


def test_a_session_moves_to_another_database(emova, kept):
    assert emova("history", "export", "anna", "--db", kept).out == "anna.jsonl: 4 turns of anna\n"
    assert emova("history", "import", "anna.jsonl", "--db", "other.db", "--session", "hanna").out == "hanna: 4 turns\n"
    twice = emova("history", "import", "anna.jsonl", "--db", "other.db", "--session", "hanna")
    assert twice.code == 1 and "`hanna` already" in twice.err
    here, there = (
        emova("history", "show", name, "--db", db, "--json").data("history-show")["turns"]
        for name, db in (("anna", kept), ("hanna", "other.db"))
    )
    assert [turn["text"] for turn in here] == [turn["text"] for turn in there]


def test_forgetting_leaves_nothing(emova, kept):
    assert list(Path("talk.db.media/anna").iterdir())
    assert emova("history", "forget", "anna", "--db", kept).out == "anna is forgotten\n"
    assert not Path("talk.db.media/anna").exists()
    assert emova("history", "list", "--db", kept, "--json").data("history-list") == {"sessions": []}
    assert emova("history", "forget", "anna", "--db", kept).code == 1


def test_plot_writes_a_picture(emova, kept):
    told = emova("history", "plot", "anna", "--db", kept, "--out", "moods.png").out
    assert told == "moods.png: 3 emotions in 4 turns\n"
    assert Image.open("moods.png").size[0] == 1920
    assert emova("history", "plot", "anna", "--db", kept, "--out", "moods.gif").code == 1


@pytest.mark.parametrize("command", ["show", "plot", "export"])
def test_a_session_or_database_that_is_not_there_is_one_clear_error(emova, kept, command):
    nobody = emova("history", command, "nobody", "--db", kept)
    assert nobody.code == 1 and "no session `nobody`" in nobody.err
    nowhere = emova("history", command, "anna", "--db", "nowhere.db")
    assert nowhere.code == 1 and "no database `nowhere.db`" in nowhere.err
    assert not Path("nowhere.db").exists()


def test_moods_come_from_what_was_heard_and_spoken():
    turns = [
        Turn("user", "typed"),
        Turn("assistant", "aha", style=Style(emotion="happy")),
        Turn("user", "said", perceived=PerceivedStyle(Style(emotion="sad"), {"emotion": 0.5})),
        Turn("assistant", "written"),
        Turn("user", "said", perceived=PerceivedStyle.nothing_known()),
    ]
    assert emotions_of(turns) == [TurnEmotion(2, "emova", "happy"), TurnEmotion(3, "you", "sad", 0.5)]


def test_dots_stand_in_the_lane_of_their_emotion():
    assert set(EMOTION_COLOURS) == set(EMOTIONS)
    for emotion, colour in EMOTION_COLOURS.items():
        pixels = draw_emotions([TurnEmotion(1, "emova", emotion)], turns=2).pixels[:, 400:]
        rows = np.flatnonzero((pixels == np.array(colour)).all(-1).any(1))
        empty = draw_emotions([], turns=2).pixels[:, 400:]
        assert len(rows) and not (empty == np.array(colour)).all(-1).any()
    crowded = draw_emotions([TurnEmotion(n, "you", "sad", 0.5) for n in range(1, 400)], turns=400)
    assert crowded.size == draw_emotions([], turns=0).size


def test_retention(emova, kept):
    assert emova("history", "retain", "--db", "talk.db", "--days", "1").out == "0 forgotten\n"
    assert emova("history", "retain", "--db", "talk.db", "--days", "0").out.startswith("1 forgotten: ")
    assert json.loads(emova("history", "list", "--db", "talk.db", "--json").out)["sessions"] == []

    assert emova("chat", "hello", "--db", "talk.db").code == 0
    assert emova("history", "retain", "--db", "talk.db", "--days", "1e300").out == "0 forgotten\n"
    for days in ("nan", "inf"):
        refused = emova("history", "retain", "--db", "talk.db", "--days", days)
        assert refused.code != 0 and refused.err.startswith("error: ") and "report what it shows" not in refused.err
    assert emova("history", "retain", "--db", "talk.db", "--days", "-1").code == 2


@pytest.mark.parametrize("days", [-1.0, float("nan"), float("inf"), -float("inf")])
def test_retention_takes_a_number_of_days(tmp_path, days):
    with SessionStore(tmp_path / "talk.db") as store, pytest.raises(InputError, match="number of days"):
        store.retain(days=days)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["history", "import", ".", "--db", "talk.db"], "`.` is a folder"),
        (["history", "import", "nope", "--db", "talk.db"], "`nope` does not exist"),
        (["chat", "hello", "--db", "no/such/t.db"], "the folder `no/such` does not exist"),
        (["chat", "hello", "--db", "."], "`.` is a folder"),
        (["export", "tensorrt", "nope", "--out", "engines"], "`nope/manifest.json` cannot be read: no such file"),
        (["export", "verify", "nope"], "`nope/manifest.json` cannot be read: no such file"),
    ],
)
def test_a_path_that_leads_nowhere_is_said_in_words(emova, arguments, told):
    done = emova(*arguments)
    assert done.code == 1 and told in done.err and "hint: " in done.err
    assert "[Errno" not in done.err


def test_an_export_with_media_needs_nothing_else(emova, kept):
    name = json.loads(emova("history", "list", "--db", "talk.db", "--json").out)["sessions"][0]["id"]
    assert emova("history", "export", name, "--db", "talk.db", "--media").code == 0
    emova("history", "forget", name, "--db", "talk.db")
    assert emova("history", "import", f"{name}.jsonl", "--db", "other.db").code == 0
    assert list(Path("other.db.media").glob("*/*.wav"))


@pytest.mark.parametrize("command", ["plot", "picture", "export"])
def test_no_file_is_named_as_stdout_is(emova, kept, command):
    refused = emova("history", command, "anna", "--db", kept, "--out", "-")
    assert refused.code == 1 and "`-` does not end in" in refused.err
    assert not Path("-").exists()


def test_a_langchain_history_is_listed_shown_and_drawn(emova, voice):
    history = EmovaChatHistory("ada", connection="talk.db")
    question = HumanMessage(content_blocks=[audio_block(Audio.open(voice))])
    facts = {"transcript": "good morning", "user_style": PerceivedStyle(Style(emotion="sad"), {"emotion": 0.5}).to_dict()}
    history.add_messages([question, AIMessage("Oh.", response_metadata={"emova": facts})])
    history.close()
    assert "ada" in emova("history", "list", "--db", "talk.db").out
    assert emova("history", "show", "ada", "--db", "talk.db").out.startswith("you: good morning  (sad (50%)")
    assert emova("history", "picture", "ada", "--db", "talk.db").out == "ada.png: 2 turns, 1 with sound\n"
    refused = emova("history", "export", "ada", "--db", "talk.db")
    assert refused.code == 1 and "LangChain history" in refused.err
    assert emova("history", "forget", "ada", "--db", "talk.db").code == 0
