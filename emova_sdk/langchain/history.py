"""A chat history that keeps what was said and how, in any database of SQLAlchemy, its sounds and pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from emova_sdk.errors import InputError
from emova_sdk.langchain.history_database import MessageDatabase
from emova_sdk.langchain.history_media import HistoryMedia, compact
from emova_sdk.langchain.messages import with_transcripts
from emova_sdk.langchain.turns import messages_of, turns_of
from emova_sdk.types import Turn

__all__ = ["EmovaChatHistory"]


class EmovaChatHistory(BaseChatMessageHistory):
    """The messages of one session.

    Sounds and pictures become files in ``media_folder``, named by their content, and blocks with a ``file_id``; everything
    else of a message is kept as it is, style included. Adding messages is one transaction: after a crash they are all there
    or none is. `clear` forgets the session, its files too; no other history shares these, whatever its folder or name.

    Args:
        session_id: Name of the session.
        connection: A database URL of SQLAlchemy.
        media_folder: Where files go; for a SQLite file a folder beside it by default; otherwise, media stay in the messages,
            sounds as FLAC.

    Raises:
        ConfigError: If the database cannot be opened.
        MissingDependencyError: If SQLAlchemy is not installed.
    """

    def __init__(
        self, session_id: str, *, connection: str = "sqlite:///emova.db", media_folder: str | Path | None = None
    ) -> None:
        if not session_id:
            raise InputError("the session has no name", "pass a `session_id`")
        if not _storable(session_id):
            raise InputError("the session's name holds half a character", "pass another `session_id`")
        self.session_id = session_id
        self._database = MessageDatabase(connection)
        folder = Path(media_folder) if media_folder is not None else _beside(connection)
        self._media = None if folder is None else HistoryMedia(folder, self._database.id, session_id)

    @property
    def media_folder(self) -> Path | None:
        """Where files named by ``file_id`` are; give it to `ChatEmova` as well, or to each of its calls."""
        return None if self._media is None else self._media.folder

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # the base declares a plain attribute
        """The messages so far, oldest first; sounds and pictures as ``file_id``, and beside each question what was heard."""
        return with_transcripts(messages_from_dict([json.loads(row) for row in self._database.read(self.session_id)]))

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages, all or none."""
        self._database.append(self.session_id, [self._written(message) for message in messages])

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
            text = json.dumps(data, ensure_ascii=False, allow_nan=False)
            # half a character cannot be stored as it is
            return text if _storable(text) else json.dumps(data, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"a message cannot be kept as JSON: {error}", "keep artifacts small and of plain values"
            ) from error


def _storable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _beside(connection: str) -> Path | None:
    """Return the folder beside a SQLite file, None for any other database."""
    path = connection.partition(":///")[2]
    if not connection.startswith("sqlite") or path in {"", ":memory:"} or "?" in path:
        return None
    return Path(path).with_suffix(".media")
