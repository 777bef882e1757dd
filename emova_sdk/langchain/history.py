"""A chat history that keeps what was said and how, in any database of SQLAlchemy, its sounds and pictures beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from emova_sdk.audio import write_atomically
from emova_sdk.errors import ConfigError, InputError, MissingDependencyError
from emova_sdk.langchain.turns import messages_of, turns_of
from emova_sdk.types import Turn

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table

__all__ = ["EmovaChatHistory"]

_SUFFIX = {
    "audio/wav": ".wav", "audio/x-wav": ".wav", "audio/mp3": ".mp3", "audio/mpeg": ".mp3", "audio/flac": ".flac",
    "audio/ogg": ".ogg", "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif",
}  # fmt: skip


class EmovaChatHistory(BaseChatMessageHistory):
    """The messages of one session.

    Sounds and pictures become files in ``media_folder``, named by their content, and blocks with a ``file_id``; everything
    else of a message is kept as it is, style included. Adding messages is one transaction: after a crash they are all there
    or none is. `clear` forgets the session, its files too.

    Args:
        session_id: Name of the session.
        connection: A database URL of SQLAlchemy.
        media_folder: Where files go; for a SQLite file a folder beside it by default; otherwise, media stay in the messages.

    Raises:
        ConfigError: If the database cannot be opened.
        MissingDependencyError: If SQLAlchemy is not installed.
    """

    def __init__(
        self, session_id: str, *, connection: str = "sqlite:///emova.db", media_folder: str | Path | None = None
    ) -> None:
        if not session_id:
            raise InputError("the session has no name", "pass a `session_id`")
        self.session_id = session_id
        self._engine, self._table = _opened(connection)
        self._folder = Path(media_folder) if media_folder is not None else _beside(connection)

    @property
    def media_folder(self) -> Path | None:
        """Where files named by ``file_id`` are; give it to `ChatEmova` as well."""
        return self._folder

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # the base declares a plain attribute
        """The messages so far, oldest first; sounds and pictures as ``file_id``."""
        from sqlalchemy import select

        rows = self._table.c
        query = select(rows.message).where(rows.session_id == self.session_id).order_by(rows.id)
        with self._engine.connect() as connection:
            return messages_from_dict([json.loads(row[0]) for row in connection.execute(query)])

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, all or none."""
        kept = [{"session_id": self.session_id, "message": self._written(message)} for message in messages]
        if kept:
            with self._engine.begin() as connection:
                connection.execute(self._table.insert(), kept)

    def clear(self) -> None:
        """Forget the session: its messages, sounds and pictures."""
        with self._engine.begin() as connection:
            connection.execute(self._table.delete().where(self._table.c.session_id == self.session_id))
        if self._folder is not None:
            shutil.rmtree(self._folder / self._subfolder, ignore_errors=True)

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    # --- as turns ---

    @property
    def turns(self) -> list[Turn]:
        """The same as turns of a session, to go on from: ``pipeline.session(history=history.turns)``."""
        return turns_of(self.messages, media_folder=self._folder)

    def add_turns(self, turns: Iterable[Turn]) -> None:
        """Append turns of a session."""
        self.add_messages(messages_of(turns))

    # --- media ---

    @property
    def _subfolder(self) -> str:
        # a session's name may hold anything; a folder's may not
        return hashlib.sha256(self.session_id.encode()).hexdigest()[:16]

    def _written(self, message: BaseMessage) -> str:
        data = message_to_dict(message)
        content = data["data"]["content"]
        if self._folder is not None and isinstance(content, list):
            data["data"]["content"] = [self._outside(block) for block in cast("list[Any]", content)]
        try:
            return json.dumps(data, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"a message cannot be kept as JSON: {error}", "keep artifacts small and of plain values"
            ) from error

    def _outside(self, block: Any) -> Any:
        """Move the data of a block to a file, and name the file in its place."""
        if not isinstance(block, Mapping):
            return block
        kept = dict(cast("Mapping[str, Any]", block))
        if kept.get("type") not in {"audio", "image"} or not isinstance(kept.get("base64"), str):
            return kept
        data = base64.b64decode(kept.pop("base64"))
        suffix = _SUFFIX.get(str(kept.get("mime_type", "")).partition(";")[0].lower(), ".bin")
        name = f"{self._subfolder}/{hashlib.sha256(data).hexdigest()[:32]}{suffix}"
        path = cast("Path", self._folder) / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda file: file.write(data))
        return {**kept, "file_id": name}


def _opened(connection: str) -> tuple[Engine, Table]:
    try:
        import sqlalchemy as sql
        from sqlalchemy import event
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        hint = "pip install sqlalchemy"
        raise MissingDependencyError("a chat history needs SQLAlchemy", hint, package="sqlalchemy") from error
    table = sql.Table(
        "emova_messages",
        sql.MetaData(),
        sql.Column("id", sql.Integer, primary_key=True, autoincrement=True),
        sql.Column("session_id", sql.String(255), nullable=False, index=True),
        sql.Column("message", sql.Text, nullable=False),
    )
    try:
        engine = sql.create_engine(connection)
        if connection.startswith("sqlite"):  # what is deleted is overwritten, not only unlinked
            event.listen(engine, "connect", lambda one, _: one.execute("PRAGMA secure_delete=ON"))
        table.create(engine, checkfirst=True)
    except (SQLAlchemyError, ImportError) as error:
        raise ConfigError(
            f"the history's database cannot be opened: {error}", "check the URL, e.g. sqlite:///emova.db"
        ) from error
    return engine, table


def _beside(connection: str) -> Path | None:
    """Return the folder beside a SQLite file, None for any other database."""
    path = connection.partition(":///")[2]
    if not connection.startswith("sqlite") or path in {"", ":memory:"} or "?" in path:
        return None
    return Path(path).with_suffix(".media")
