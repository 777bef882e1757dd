"""Stored sessions: turns in a database, audio and images beside it, each exchange written whole or not at all.

Turns go to any database SQLAlchemy knows, SQLite by default. Media are files named by their content; they are written
(temporary name, then renamed) before the transaction that refers to them, so that a crash in the middle of a turn loses at
most that turn and leaves at most a file nobody refers to, which the session's next opening removes. Every session has a
folder of its own, so that forgetting it is deleting that folder.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, Unpack
from uuid import uuid4

from emova_sdk.errors import ConfigError, InputError
from emova_sdk.files import open_file, write_atomically
from emova_sdk.memory.database import MESSAGE, SessionDatabase, StoredSession, utc_now
from emova_sdk.session import Session, SessionOptions
from emova_sdk.types import Audio, Image, MediaRef, Turn
from emova_sdk.wiring import Wiring

FORMAT = "emova-session/1"
"""First line of an exported session."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Of a session, which is also the name of its folder."""


class SessionStore:
    """Keeps sessions.

    Args:
        database: A path of an SQLite file, or any SQLAlchemy URL.
        media: Folder for sounds and pictures; by default ``NAME.media`` beside an SQLite file. With ``keep_media=False``
            only their digest and length are kept.
        keep_media: Whether sounds and pictures are kept.
        keep_user_style: Whether the user's perceived style, which is sensitive, is kept.

    Raises:
        ConfigError: If a database that is no SQLite file is given without a folder for media, or the folder of an SQLite file
            does not exist.
        BackendError: If the database cannot be opened.
    """

    def __init__(
        self, database: str | Path, *, media: str | Path | None = None, keep_media: bool = True, keep_user_style: bool = True
    ) -> None:
        self.database = database
        self._database = SessionDatabase(database)
        media = media if media is not None else self._database.media
        if media is None and keep_media:
            raise ConfigError(
                "a database without a file of its own needs a folder for media", "pass `media=` or `keep_media=False`"
            )
        self.media = Path(media) if media is not None and keep_media else None
        self._keep_user_style = keep_user_style
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the database's connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- sessions ---

    def session(self, pipeline: Wiring, session_id: str | None = None, **options: Unpack[SessionOptions]) -> Session:
        """Begin a session that is kept, or go on with one, as if it had never been closed.

        A session may be open several times, also in several processes: each takes up what the others have added before it
        answers, and an exchange is kept whole or not at all.

        Args:
            pipeline: What it runs on.
            session_id: Name of a session; a new name begins a session, None makes one up.
            options: All others of `Session`.
        """
        name = _safe(session_id or uuid4().hex)
        self._sweep(name)
        return Session(pipeline, memory=self, id=name, **options)

    def sessions(self) -> list[StoredSession]:
        """List all sessions, the newest first."""
        return self._database.sessions()

    def turns(self, session_id: str) -> list[Turn]:
        """Return the turns of a session, oldest first; sounds and pictures as references into `media`.

        Raises:
            InputError: If it is the history of a LangChain model, see `is_chat_history`.
        """
        records = [json.loads(record) for record in self._database.records(session_id)]
        if any(map(_is_message, records)):
            hint = f"read it with `EmovaChatHistory({session_id!r}, connection=...)`, whose `turns` a session goes on from"
            raise InputError(f"`{session_id}` holds the messages of a LangChain history", hint)
        return [Turn.from_dict(record) for record in records]

    def is_chat_history(self, session_id: str) -> bool:
        """Whether a session was written by `emova_sdk.langchain.EmovaChatHistory`."""
        return any(_is_message(json.loads(record)) for record in self._database.records(session_id)[:1])

    # --- what a session calls ---

    def turn_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's turns, oldest first; none for a new session.

        Raises:
            InputError: If the name cannot be used.
        """
        return self._database.ids(_safe(session_id))

    def load_media(self, ref: MediaRef) -> Audio | Image:
        """Return a sound or picture of a turn.

        Raises:
            InputError: If it was not kept, is gone, or is not what it was.
        """
        if self.media is None and not ref.inline:
            raise InputError(f"media `{ref.sha256[:12]}` was not kept", "open the store with `keep_media=True`")
        return ref.load(self.media or "")

    def append(self, session_id: str, turns: Sequence[Turn]) -> None:
        """Add turns to a session, all or none."""
        _safe(session_id)
        with self._lock:  # no file is swept away between being written and being referred to
            self._database.append(session_id, [(turn.id, self._record(session_id, turn)) for turn in turns])

    def replace(self, session_id: str, turn: Turn) -> None:
        """Put a turn in the place of the one with its id (an answer that was cut)."""
        with self._lock:
            before = self._media_of(session_id, [turn.id])
            self._database.replace(session_id, (turn.id, self._record(session_id, turn)))
            self._sweep(session_id, before)

    def remove(self, session_id: str, turn_ids: Iterable[str]) -> None:
        """Remove turns (an exchange that was taken back), their media included."""
        ids = list(turn_ids)
        with self._lock:
            before = self._media_of(session_id, ids)
            self._database.remove(session_id, ids)
            self._sweep(session_id, before)

    # --- forgetting ---

    def forget(self, session_id: str) -> None:
        """Remove a session for good: turns, sounds and pictures.

        Raises:
            InputError: If there is no such session.
        """
        if not self._database.forget(session_id):
            raise InputError(f"there is no session `{session_id}`", "list them with `SessionStore.sessions`")
        for folder in (session_id if _NAME.fullmatch(session_id) else "", self._database.folder_of(session_id)):
            if self.media is not None and folder:
                shutil.rmtree(self.media / folder, ignore_errors=True)

    def retain(self, *, days: float) -> list[str]:
        """Forget every session that was not used for so many days; return their names.

        Raises:
            InputError: If ``days`` is no number of days.
        """
        if not 0 <= days < math.inf:  # neither is NaN
            raise InputError(f"`{days}` is no number of days", "pass 0 or more")
        try:
            before = utc_now() - timedelta(days=days)
        except OverflowError:  # before the first day of the calendar: no session is that old
            return []
        old = self._database.unused_since(before)
        for session_id in old:
            self.forget(session_id)
        return old

    # --- exchange ---

    def export(self, session_id: str, path: str | Path, *, media: bool = False) -> Path:
        """Write a session as JSON lines: a head, then one turn a line.

        Args:
            session_id: Name of the session.
            path: File to write.
            media: Whether sounds and pictures are written into it (base64); otherwise they stay where they are.

        Raises:
            InputError: If there is no such session, or the folder of ``path`` cannot be written to.
        """
        found = [one for one in self.sessions() if one.id == session_id]
        if not found:
            raise InputError(f"there is no session `{session_id}`", "list them with `SessionStore.sessions`")
        head = {"format": FORMAT, "id": session_id, "created_at": found[0].created_at.isoformat()}
        turns = [self._inlined(turn) if media else turn for turn in self.turns(session_id)]
        lines = [json.dumps(line, ensure_ascii=False) for line in (head, *(turn.to_dict() for turn in turns))]
        return write_atomically(path, "\n".join(lines) + "\n")

    def load(self, path: str | Path, *, session_id: str | None = None) -> str:
        """Read a session that `export` wrote; return its name.

        Raises:
            InputError: If the file is not such an export, or a session of that name exists.
        """
        with open_file(path, "exported session") as file:
            content = file.read()
        try:
            head, *turns = [json.loads(line) for line in content.decode().splitlines() if line.strip()]
            known = head.get("format") == FORMAT
        except (ValueError, AttributeError) as error:
            raise InputError(f"`{path}` cannot be read as an exported session: {error}", "export it again") from error
        if not known:
            raise InputError(f"`{path}` is not an exported session", f"its first line must say {FORMAT}")
        name = session_id or str(head["id"])
        if any(one.id == name for one in self.sessions()):
            raise InputError(f"there is a session `{name}` already", "pass another `session_id`")
        self.append(name, [_unpacked(Turn.from_dict(turn)) for turn in turns])
        return name

    # --- pieces ---

    def _record(self, session_id: str, turn: Turn) -> str:
        kept = turn if self._keep_user_style else replace(turn, perceived=None)
        if self.media is None and turn.role == "user":  # units can be made to speak again
            kept = replace(kept, units=None, unit_space="")
        record = kept.to_dict(self.media / _safe(session_id) if self.media is not None else None)
        for ref in _refs(record):
            if ref["uri"] and "/" not in ref["uri"]:
                ref["uri"] = f"{session_id}/{ref['uri']}"  # relative to the folder of all sessions
        return json.dumps(record, ensure_ascii=False)

    def _inlined(self, turn: Turn) -> Turn:
        folder = self.media
        return _with_media(turn, lambda ref: ref if folder is None else ref.inlined(folder))

    def _media_of(self, session_id: str, turn_ids: Iterable[str] | None = None) -> set[str]:
        found = self._database.records(session_id, turn_ids)
        return {ref["uri"] for record in found for ref in _refs(json.loads(record))}

    def _sweep(self, session_id: str, among: set[str] | None = None) -> None:
        """Remove media of a session that none of its turns refers to: those ``among`` given ones, or all (after a crash)."""
        folder = self.media / _safe(session_id) if self.media is not None else None
        if folder is None or not folder.is_dir():
            return
        with self._lock:
            used = self._media_of(session_id)
            for file in folder.iterdir():
                name = f"{session_id}/{file.name}"
                if name not in used and (among is None or name in among):
                    file.unlink(missing_ok=True)


def _with_media(turn: Turn, change: Callable[[MediaRef], Audio | Image | MediaRef]) -> Turn:
    """Change what a turn's references stand for."""

    def changed(one: Any) -> Any:
        return change(one) if isinstance(one, MediaRef) else one

    return replace(turn, audio=changed(turn.audio), images=tuple(changed(image) for image in turn.images))


def _unpacked(turn: Turn) -> Turn:
    """Take sounds and pictures out of a turn that was exported with them."""
    return _with_media(turn, lambda ref: ref.load("") if ref.inline else ref)


def _refs(turn: dict[str, Any]) -> list[dict[str, Any]]:
    return [ref for ref in [turn.get("audio"), *turn.get("images", ())] if ref]


def _is_message(record: dict[str, Any]) -> bool:
    return MESSAGE in record


def _safe(session_id: str) -> str:
    if not isinstance(session_id, str) or not _NAME.fullmatch(session_id):
        raise InputError(f"session name `{session_id}` is not usable as a folder", "use letters, digits, _, - and .")
    return session_id
