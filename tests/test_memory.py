"""Sessions that persist: round trips, cuts, forgetting, exchange, crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emova_sdk import Audio, Image, MediaRef, Pipeline, Session, Style
from emova_sdk.errors import BackendError, ConfigError, InputError
from emova_sdk.memory import SessionStore

QUESTION = Audio((0.3 * np.sin(2 * np.pi * 220 * np.arange(12_000) / 16_000)).astype(np.float32), 16_000)
PICTURE = Image(np.full((8, 8, 3), (10, 10, 250), np.uint8))


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline.from_config("fake")


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "talk.db")


def test_a_turn_survives_sqlite_and_a_new_process(store: SessionStore, pipeline: Pipeline, tmp_path: Path) -> None:
    session = store.session(pipeline, "anna")
    session.ask(QUESTION, PICTURE, style=Style("male", "sad", "low"))
    session.ask("tell me more")
    session.truncate(0.3)
    script = (
        "import json, sys\n"
        "from emova_sdk.memory import SessionStore\n"
        "store = SessionStore(sys.argv[1])\n"
        "turns = store.turns('anna')\n"
        "sums = [float(abs(turn.audio.load(store.media).samples).sum()) if turn.audio else 0 for turn in turns]\n"
        "print(json.dumps([[turn.to_dict() for turn in turns], sums]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "talk.db")], capture_output=True, text=True, check=True)
    kept, sums = json.loads(done.stdout)

    def without_names(turn: dict[str, Any]) -> dict[str, Any]:
        return {**turn, "audio": turn["audio"] and {**turn["audio"], "uri": ""}, "images": len(turn["images"])}

    assert [without_names(turn) for turn in kept] == [without_names(turn.to_dict()) for turn in session.history]
    expected = [abs(turn.audio.samples).sum() if isinstance(turn.audio, Audio) else 0 for turn in session.history]
    assert sums == pytest.approx(expected)
    assert kept[3]["interrupted"]
    assert kept[1]["style"]["emotion"] == "sad"


def test_a_session_goes_on_with_another_store(store: SessionStore, pipeline: Pipeline, tmp_path: Path) -> None:
    with store:
        first = store.session(pipeline, "anna")
        first.ask(QUESTION, PICTURE, style=Style(emotion="sad"))
    with SessionStore(tmp_path / "talk.db") as again:
        later = again.session(pipeline, "anna")
        assert [turn.to_dict() | {"audio": None, "images": None} for turn in later.history] == [
            turn.to_dict() | {"audio": None, "images": None} for turn in first.history
        ]
        user, assistant = later.history
        assert isinstance(user.audio, MediaRef)
        assert user.audio.load(again.media) == QUESTION  # type: ignore[arg-type]
        assert user.images[0].load(again.media) == PICTURE  # type: ignore[union-attr, arg-type]
        assert assistant.audio.load(again.media) == first.history[1].audio  # type: ignore[union-attr, arg-type]
        later.ask("and again")
        assert len(again.turns("anna")) == 4
        assert user.audio.load(again.media) == QUESTION  # type: ignore[arg-type]


def test_a_cut_answer_is_kept_as_heard_and_its_old_sound_is_gone(store: SessionStore, pipeline: Pipeline) -> None:
    session = store.session(pipeline, "anna")
    reply = session.ask("hello there")
    session.truncate(reply.audio.duration_s / 2)  # type: ignore[union-attr]
    kept = store.turns("anna")[1]
    assert kept.interrupted
    assert kept.heard_text == session.history[1].heard_text
    assert kept.audio.load(store.media) == session.history[1].audio  # type: ignore[union-attr, arg-type]
    assert len(list((store.media / "anna").iterdir())) == 1  # type: ignore[operator]
    session.take_back()
    assert store.turns("anna") == []
    assert list((store.media / "anna").iterdir()) == []  # type: ignore[operator]


def test_forgetting_a_session_removes_its_sound_and_no_other(store: SessionStore, pipeline: Pipeline) -> None:
    for name in ("anna", "bert"):
        store.session(pipeline, name).ask(QUESTION)
    store.forget("anna")
    assert [one.id for one in store.sessions()] == ["bert"]
    assert store.turns("anna") == []
    assert not (store.media / "anna").exists()  # type: ignore[operator]
    assert store.turns("bert")[0].audio.load(store.media) == QUESTION  # type: ignore[union-attr, arg-type]
    with pytest.raises(InputError, match="no session `anna`"):
        store.forget("anna")


def test_retention_forgets_what_was_not_used(store: SessionStore, pipeline: Pipeline) -> None:
    store.session(pipeline, "anna").ask("hello")
    assert store.retain(days=1) == []
    time.sleep(0.01)
    assert store.retain(days=0) == ["anna"]
    assert store.sessions() == []


def test_export_and_import_keep_every_turn(store: SessionStore, pipeline: Pipeline, tmp_path: Path) -> None:
    store.session(pipeline, "anna").ask(QUESTION, style=Style("male", "happy"))
    file = store.export("anna", tmp_path / "anna.jsonl")
    assert store.load(file, session_id="copy") == "copy"
    assert store.turns("copy") == store.turns("anna")
    with pytest.raises(InputError, match="already"):
        store.load(file)
    with pytest.raises(InputError, match="no session"):
        store.export("nobody", tmp_path / "x.jsonl")


def test_an_export_with_media_is_complete(store: SessionStore, pipeline: Pipeline, tmp_path: Path) -> None:
    session = store.session(pipeline, "anna")
    session.ask(QUESTION, PICTURE, style=Style("male", "happy"))
    file = store.export("anna", tmp_path / "anna.jsonl", media=True)
    store.forget("anna")
    with SessionStore(tmp_path / "elsewhere" / ".." / "other.db") as other:
        other.load(file)
        user, assistant = other.turns("anna")
        assert user.audio.load(other.media) == QUESTION  # type: ignore[union-attr, arg-type]
        assert user.images[0].load(other.media) == PICTURE  # type: ignore[union-attr, arg-type]
        assert assistant.audio.load(other.media) == session.history[1].audio  # type: ignore[union-attr, arg-type]
        assert "data:" not in str(user.to_dict())
    with SessionStore(tmp_path / "no-media.db", keep_media=False) as other:
        other.load(file)
        assert other.turns("anna")[0].audio.uri == ""  # type: ignore[union-attr]
    broken = file.read_text().replace("base64,", "base64,#")
    file.write_text(broken)
    with pytest.raises(InputError, match="base64"):
        store.load(file)
    assert store.sessions() == []


def test_what_is_forgotten_is_in_no_file_any_more(store: SessionStore, pipeline: Pipeline, tmp_path: Path) -> None:
    for name in ("anna", "bert"):
        for turn in range(3):
            store.session(pipeline, name).ask(f"{name} in zanzibar {turn} " + "and so on " * 300, QUESTION)

    def found(word: bytes) -> int:
        return sum(file.read_bytes().count(word) for file in tmp_path.rglob("*") if file.is_file())

    assert found(b"anna in zanzibar") >= 3
    store.forget("anna")
    assert found(b"anna in zanzibar") == 0
    assert found(b"bert in zanzibar") >= 3


@pytest.mark.parametrize(
    "text", ["", "not json", '{"format": "other"}', "[1]", '{"format": "emova-session/1", "id": "x"}\n{"id": 1}']
)
def test_a_file_that_is_no_export_is_refused_and_nothing_is_added(store: SessionStore, tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(text)
    with pytest.raises(InputError):
        store.load(file)
    assert store.sessions() == []


def test_what_is_sensitive_or_large_can_be_left_out(tmp_path: Path, pipeline: Pipeline) -> None:
    with SessionStore(tmp_path / "talk.db", keep_media=False, keep_user_style=False) as store:
        store.session(pipeline, "anna").ask(QUESTION)
        user = store.turns("anna")[0]
        assert user.perceived is None
        assert isinstance(user.audio, MediaRef)
        assert user.audio.duration_s == QUESTION.duration_s
        assert not list(tmp_path.glob("*.media"))


def test_a_store_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder for media"):
        SessionStore("sqlite://")
    with pytest.raises(ConfigError, match=r"folder `.*missing` does not exist"):
        SessionStore(tmp_path / "missing" / "talk.db")
    with pytest.raises(ConfigError, match="is a folder, not a database"):
        SessionStore(tmp_path)
    (tmp_path / "broken.db").write_bytes(b"this is not a database, but it is long enough to look at" * 20)
    with pytest.raises(BackendError):
        SessionStore(tmp_path / "broken.db")
    with pytest.raises(InputError, match="folder"):
        SessionStore(tmp_path / "talk.db").append("../up", [])


def test_sessions_of_several_threads_lose_nothing(store: SessionStore, pipeline: Pipeline) -> None:
    def converse(name: str) -> None:
        session = store.session(pipeline, name)
        for turn in range(5):
            session.ask(f"turn {turn}")

    threads = [threading.Thread(target=converse, args=(f"s{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.id: one.turns for one in store.sessions()} == {f"s{i}": 10 for i in range(4)}


def test_a_kill_in_the_middle_loses_at_most_that_turn(tmp_path: Path, pipeline: Pipeline) -> None:
    program = (
        "import sys\n"
        "from emova_sdk import Pipeline\n"
        "from emova_sdk.memory import SessionStore\n"
        "session = SessionStore(sys.argv[1]).session(Pipeline.from_config('fake'), 'anna')\n"
        "for turn in range(10_000):\n"
        "    session.ask(f'this is turn {turn}')\n"
        "    print(turn, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "talk.db")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    done = -1
    for line in process.stdout:
        done = int(line)
        if done >= 15:
            os.kill(process.pid, signal.SIGKILL)
            break
    rest = [int(line) for line in process.stdout.read().split() if line.isdigit()]
    process.stdout.close()
    process.wait()
    done = max([done, *rest])
    with SessionStore(tmp_path / "talk.db") as store:
        turns = store.turns("anna")
        assert len(turns) in {2 * (done + 1), 2 * (done + 2)}  # one more may be recorded and not yet reported
        for turn in turns:
            if turn.role == "assistant":
                assert turn.audio.load(store.media)  # type: ignore[union-attr, arg-type]
        store.session(pipeline, "anna").ask("and on")
        assert len(list((store.media / "anna").iterdir())) <= len(turns) // 2 + 1  # type: ignore[operator]


@pytest.mark.parametrize(
    "database", ["nonsense://x", "mysql+nope://x", "://", "sqlite:///a\0b", "no/such/x.db", "x" * 300 + "/x.db", "."]
)
def test_a_database_that_cannot_be_opened_is_an_error_of_the_sdk(tmp_path, monkeypatch, database):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, BackendError)):
        SessionStore(database, media=tmp_path / "media")


def test_every_door_to_a_kept_session_is_the_same(store: SessionStore, pipeline: Pipeline) -> None:
    pipeline.session(memory=store, id="anna").ask("hello")
    assert [turn.text for turn in store.session(pipeline, "anna").history] == ["hello", "You said: hello."]
    assert Session(pipeline, memory=store, id="anna").history == store.turns("anna")
    for name in ("../up", "a b", "x" * 65):
        with pytest.raises(InputError, match="not usable as a folder"):
            pipeline.session(memory=store, id=name)
