"""A chat history that keeps what was said and how: messages in the database of sessions, sounds and pictures beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import sqlalchemy as sql
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
from sqlalchemy.exc import SQLAlchemyError

from emova_sdk.errors import ConfigError, InputError
from emova_sdk.langchain.chat_media import MessageMedia, compact
from emova_sdk.langchain.messages import with_transcripts
from emova_sdk.langchain.records import messages_of, turns_of
from emova_sdk.memory.database import MESSAGE, RECORDS, SESSIONS, SessionDatabase, utc_now
from emova_sdk.types import Turn

__all__ = ["EmovaChatHistory"]


class EmovaChatHistory(BaseChatMessageHistory):
    """The messages of one session, in the database that `emova_sdk.memory.SessionStore` keeps its sessions in.

    Sounds and pictures become files in ``media_folder``, named by their content, and blocks with a ``file_id``; everything
    else of a message is kept as it is, style included. Adding messages is one transaction: after a crash they are all there
    or none is. `clear` forgets the session, its files too; no other history shares these, whatever its folder or name.

    Args:
        session_id: Name of the session.
        connection: A path of an SQLite file, or any SQLAlchemy URL.
        media_folder: Where files go; ``NAME.media`` beside an SQLite file by default; otherwise, media stay in the messages,
            sounds as FLAC.

    Raises:
        InputError: If the name is empty, or of a session of `SessionStore`.
        ConfigError: If the database cannot be used.
        BackendError: If it cannot be opened.
        MissingDependencyError: If SQLAlchemy is not installed.
    """

    def __init__(
        self, session_id: str, *, connection: str | Path = "sqlite:///emova.db", media_folder: str | Path | None = None
    ) -> None:
        if not session_id:
            raise InputError("the session has no name", "pass a `session_id`")
        if not _storable(session_id):
            raise InputError("the session's name holds half a character", "pass another `session_id`")
        self.session_id = session_id
        self._database = SessionDatabase(connection)
        folder = Path(media_folder) if media_folder is not None else self._database.media
        _take_over(self._database, folder)
        self._media = None if folder is None else MessageMedia(folder, self._database.folder_of(session_id))
        self._messages()  # says so if they are none

    @property
    def media_folder(self) -> Path | None:
        """Where files named by ``file_id`` are; give it to `ChatEmova` as well, or to each of its calls."""
        return None if self._media is None else self._media.folder

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # the base declares a plain attribute
        """The messages so far, oldest first; sounds and pictures as ``file_id``, and beside each question what was heard."""
        return with_transcripts(messages_from_dict(self._messages()))

    def _messages(self) -> list[dict[str, Any]]:
        records = [json.loads(record) for record in self._database.records(self.session_id)]
        if not all(MESSAGE in record for record in records):
            hint = "choose another name, or go on with it by `SessionStore.session`"
            raise InputError(f"`{self.session_id}` is a session of `SessionStore`, and no LangChain history", hint)
        return [record[MESSAGE] for record in records]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, all or none."""
        if messages:
            self._database.append(self.session_id, [(uuid4().hex, self._written(message)) for message in messages])

    def clear(self) -> None:
        """Forget the session: its messages, sounds and pictures."""
        self._database.forget(self.session_id)
        if self._media is not None:
            self._media.forget()

    def close(self) -> None:
        """Close the connections to the database."""
        self._database.close()

    # --- as turns ---

    @property
    def turns(self) -> list[Turn]:
        """The same as turns of a session, to go on from: ``pipeline.session(history=history.turns)``."""
        return turns_of(self.messages, media_folder=self.media_folder)

    def add_turns(self, turns: Iterable[Turn]) -> None:
        """Append turns of a session."""
        self.add_messages(messages_of(turns))

    def _written(self, message: BaseMessage) -> str:
        data = message_to_dict(message)
        content = data["data"]["content"]
        if isinstance(content, list):
            kept = compact if self._media is None else self._media.keep
            data["data"]["content"] = [kept(block) for block in cast("list[Any]", content)]
        try:
            text = json.dumps({MESSAGE: data}, ensure_ascii=False, allow_nan=False)
            # half a character cannot be stored as it is
            return text if _storable(text) else json.dumps({MESSAGE: data}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"a message cannot be kept as JSON: {error}", "keep artifacts small and of plain values"
            ) from error


def _storable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


# --- databases of 0.1 ---


def _take_over(database: SessionDatabase, folder: Path | None) -> None:
    """Move what version 0.1 kept in a table of its own, and in another default folder.

    Raises:
        ConfigError: If a session of `SessionStore` has the name of a history.
    """
    columns = [sql.Column("id", sql.Integer), sql.Column("session_id", sql.String), sql.Column("message", sql.Text)]
    old = sql.Table("emova_messages", sql.MetaData(), *columns)

    def work(connection: sql.Connection) -> None:
        if not sql.inspect(connection).has_table(old.name):
            return
        try:
            connection.execute(sql.delete(old).where(old.c.id < 0))  # takes the lock
        except SQLAlchemyError:  # another process was first
            return
        rows = connection.execute(sql.select(old).order_by(old.c.id)).all()
        taken = set(connection.execute(sql.select(SESSIONS.c.id)).scalars())
        for name in dict.fromkeys(str(row.session_id) for row in rows):
            if name in taken:
                hint = f"export the session and forget it first: `emova history export {name} --db FILE`"
                raise ConfigError(f"`{name}` is a session and, from version 0.1, a LangChain history as well", hint)
            connection.execute(sql.insert(SESSIONS).values(id=name, created_at=utc_now(), updated_at=utc_now()))
            _move_media(database, name, folder)
        for row in rows:
            record = {"session_id": row.session_id, "turn_id": uuid4().hex, "data": f'{{"message": {row.message}}}'}
            connection.execute(sql.insert(RECORDS), record)
        old.drop(connection)

    database.transact(work)


def _move_media(database: SessionDatabase, name: str, folder: Path | None) -> None:
    own = database.folder_of(name)
    before = database.file.with_suffix(".media") / own if database.file is not None else None
    if before is not None and folder is not None and before.is_dir() and not (folder / own).exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(before, folder / own)
