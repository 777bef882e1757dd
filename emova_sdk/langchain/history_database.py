"""The database of chat histories: messages as JSON, by session."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from emova_sdk.errors import BackendError, ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

__all__ = ["MessageDatabase"]


class MessageDatabase:
    """Messages of any number of sessions.

    Args:
        url: Of SQLAlchemy.

    Raises:
        ConfigError: If the database cannot be opened.
        MissingDependencyError: If SQLAlchemy is not installed.
    """

    def __init__(self, url: str) -> None:
        self._engine, self._messages, self._identity = _opened(url)
        self.id = self._own_id()

    def read(self, session_id: str) -> list[str]:
        """Return a session's messages, oldest first."""
        from sqlalchemy import select

        columns = self._messages.c
        query = select(columns.message).where(columns.session_id == session_id).order_by(columns.id)
        with self._transaction() as connection:
            return [row[0] for row in connection.execute(query)]

    def append(self, session_id: str, messages: Sequence[str]) -> None:
        """Add messages, all or none."""
        if messages:
            rows = [{"session_id": session_id, "message": message} for message in messages]
            with self._transaction() as connection:
                connection.execute(self._messages.insert(), rows)

    def forget(self, session_id: str) -> None:
        """Remove a session's messages."""
        with self._transaction() as connection:
            connection.execute(self._messages.delete().where(self._messages.c.session_id == session_id))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _own_id(self) -> str:
        """A name of the database that stays with it wherever it is moved."""
        from sqlalchemy import select
        from sqlalchemy.exc import IntegrityError

        query = select(self._identity.c.name)
        with self._transaction() as connection:
            found = connection.execute(query).scalar()
        if found is None:
            with suppress(IntegrityError), self._engine.begin() as connection:  # another process may be first
                connection.execute(self._identity.insert(), {"id": 1, "name": uuid4().hex})
            with self._transaction() as connection:
                found = connection.execute(query).scalar()
        return str(found)

    @contextmanager
    def _transaction(self) -> Generator[Connection, None, None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise BackendError(
                f"the history's database failed: {reason}", "check that it can be reached and written"
            ) from error


def _opened(url: str) -> tuple[Engine, Table, Table]:
    try:
        import sqlalchemy as sql
        from sqlalchemy import event
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        hint = "pip install sqlalchemy"
        raise MissingDependencyError("a chat history needs SQLAlchemy", hint, package="sqlalchemy") from error
    tables = sql.MetaData()
    messages = sql.Table(
        "emova_messages",
        tables,
        sql.Column("id", sql.Integer, primary_key=True, autoincrement=True),
        sql.Column("session_id", sql.String(255), nullable=False, index=True),
        sql.Column("message", sql.Text, nullable=False),
    )
    identity = sql.Table(
        "emova_database",
        tables,
        sql.Column("id", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("name", sql.String(32), nullable=False),
    )
    try:
        engine = sql.create_engine(url)
        if url.startswith("sqlite"):  # what is deleted is overwritten, not only unlinked
            event.listen(engine, "connect", lambda one, _: one.execute("PRAGMA secure_delete=ON"))
        tables.create_all(engine)
    except (SQLAlchemyError, ImportError) as error:
        raise ConfigError(
            f"the history's database cannot be opened: {error}", "check the URL, e.g. sqlite:///emova.db"
        ) from error
    return engine, messages, identity
