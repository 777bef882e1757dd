"""The database of kept conversations: sessions, and their records as JSON, oldest first.

A record is a turn of a session, or a message of a LangChain history; both are kept in the same two tables.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from emova_sdk.errors import BackendError, ConfigError, MissingDependencyError
from emova_sdk.files import is_folder
from emova_sdk.packages import pip_command

try:
    import sqlalchemy as sql
    from sqlalchemy import event
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError
except ImportError as error:
    _hint = f"run {pip_command('sqlalchemy')}"
    raise MissingDependencyError("keeping conversations needs SQLAlchemy", _hint, package="sqlalchemy") from error

TABLES = sql.MetaData()
SESSIONS = sql.Table(
    "emova_sessions",
    TABLES,
    sql.Column("id", sql.String(255), primary_key=True),
    sql.Column("created_at", sql.DateTime, nullable=False),
    sql.Column("updated_at", sql.DateTime, nullable=False),
)
RECORDS = sql.Table(
    "emova_turns",
    TABLES,
    sql.Column("position", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("session_id", sql.ForeignKey("emova_sessions.id", ondelete="CASCADE"), nullable=False, index=True),
    sql.Column("turn_id", sql.String(64), nullable=False, index=True),
    sql.Column("data", sql.Text, nullable=False),
    sql.UniqueConstraint("session_id", "turn_id"),
)
_IDENTITY = sql.Table(
    "emova_database",
    TABLES,
    sql.Column("id", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("name", sql.String(32), nullable=False),
)

MESSAGE = "message"
"""The key of a record that holds a message of a LangChain history, and no turn."""

Record = tuple[str, str]
"""Id and JSON."""


@dataclass(frozen=True)
class StoredSession:
    """A session as a list shows it; times are UTC."""

    id: str
    created_at: datetime
    updated_at: datetime
    turns: int


class SessionDatabase:
    """Sessions and their records.

    Args:
        database: A path of an SQLite file, or any SQLAlchemy URL.

    Raises:
        ConfigError: If the URL cannot be used, or the folder of an SQLite file does not exist.
        BackendError: If the database cannot be opened.
    """

    def __init__(self, database: str | Path) -> None:
        url = str(database) if "://" in str(database) else f"sqlite:///{Path(database)}"
        self._engine = _engine(url)
        named = self._engine.url.database if url.startswith("sqlite") else None
        self.file = Path(named) if named and named != ":memory:" and not named.startswith("file:") else None
        """The SQLite file; None for any other database."""
        if self.file is not None:
            _require_place(self.file)
        if url.startswith("sqlite"):
            event.listen(self._engine, "connect", _prepare_sqlite)
        self.transact(TABLES.create_all)

    @property
    def media(self) -> Path | None:
        """The folder for media beside the SQLite file; None for any other database."""
        return self.file.with_name(f"{self.file.name}.media") if self.file is not None else None

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    # --- reading ---

    def sessions(self) -> list[StoredSession]:
        """List all sessions, the newest first."""
        count = sql.select(sql.func.count()).where(RECORDS.c.session_id == SESSIONS.c.id).scalar_subquery()
        query = sql.select(SESSIONS, count).order_by(SESSIONS.c.updated_at.desc())
        return [StoredSession(*row) for row in self.transact(lambda connection: connection.execute(query).all())]

    def unused_since(self, moment: datetime) -> list[str]:
        """Name the sessions to which nothing was added since then (UTC)."""
        query = sql.select(SESSIONS.c.id).where(SESSIONS.c.updated_at < moment)
        return list(self.transact(lambda connection: connection.execute(query).scalars().all()))

    def records(self, session_id: str, ids: Iterable[str] | None = None) -> list[str]:
        """Return a session's records as JSON, oldest first; only those of some ids if they are given."""
        query = sql.select(RECORDS.c.data).where(_of(session_id, ids)).order_by(RECORDS.c.position)
        return list(self.transact(lambda connection: connection.execute(query).scalars().all()))

    def ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's records, oldest first."""
        query = sql.select(RECORDS.c.turn_id).where(_of(session_id)).order_by(RECORDS.c.position)
        return list(self.transact(lambda connection: connection.execute(query).scalars().all()))

    # --- writing ---

    def append(self, session_id: str, records: Sequence[Record]) -> None:
        """Add records, all or none; a session that is not there yet begins."""

        def work(connection: sql.Connection) -> None:
            _touch(connection, session_id)
            if records:
                rows = [{"session_id": session_id, "turn_id": one, "data": data} for one, data in records]
                connection.execute(sql.insert(RECORDS), rows)

        self.transact(work)

    def replace(self, session_id: str, record: Record) -> None:
        """Put a record in the place of the one with its id."""
        change = sql.update(RECORDS).where(_of(session_id, [record[0]])).values(data=record[1])
        self.transact(lambda connection: connection.execute(change))

    def remove(self, session_id: str, ids: Iterable[str]) -> None:
        """Remove records."""
        self.transact(lambda connection: connection.execute(sql.delete(RECORDS).where(_of(session_id, ids))))

    def forget(self, session_id: str) -> bool:
        """Remove a session for good; return whether there was one."""

        def work(connection: sql.Connection) -> int:
            connection.execute(sql.delete(RECORDS).where(_of(session_id)))
            return connection.execute(sql.delete(SESSIONS).where(SESSIONS.c.id == session_id)).rowcount

        known = bool(self.transact(work))
        if known and self._engine.dialect.name == "sqlite":  # it still stands in SQLite's log of writes until that is emptied
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return known

    def transact(self, work: Callable[[sql.Connection], Any]) -> Any:
        """Do something in a transaction of its own.

        Raises:
            BackendError: If the database refuses.
        """
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise BackendError(
                f"the database refused: {reason}", "check its path, its rights and its disk", retryable=True
            ) from error

    # --- folders of LangChain histories ---

    def folder_of(self, session_id: str) -> str:
        """Name a folder for a session whose name may hold anything; sessions of two databases never share one."""
        told = f"{self._name}\n{session_id}".encode("utf-8", "surrogatepass")
        return hashlib.sha256(told).hexdigest()[:16]

    @cached_property
    def _name(self) -> str:
        """A name of the database that stays with it wherever it is moved."""

        def work(connection: sql.Connection) -> str | None:
            return connection.execute(sql.select(_IDENTITY.c.name)).scalar()

        found = self.transact(work)
        if found is None:
            with suppress(IntegrityError), self._engine.begin() as connection:  # another process may be first
                connection.execute(sql.insert(_IDENTITY).values(id=1, name=uuid4().hex))
            found = self.transact(work)
        return str(found)


def _of(session_id: str, ids: Iterable[str] | None = None) -> sql.ColumnElement[bool]:
    mine = RECORDS.c.session_id == session_id
    return mine if ids is None else mine & RECORDS.c.turn_id.in_(list(ids))


def _engine(url: str) -> sql.Engine:
    """Make an engine; nothing is opened yet."""
    if "\0" in url:
        raise ConfigError("the name of the database holds a NUL character", "name a file, or an SQLAlchemy URL")
    try:
        return sql.create_engine(url)
    except ModuleNotFoundError as error:
        package = error.name or str(error)
        message = f"this database needs the package `{package}`, which is not installed"
        raise MissingDependencyError(message, f"run pip install {package}", package=package) from error
    except (SQLAlchemyError, ValueError) as error:  # neither holds the URL: there may be a password in it
        hint = "name an SQLite file, or a URL such as postgresql+psycopg://host/name"
        raise ConfigError(f"the database URL cannot be used: {type(error).__name__}", hint) from error


def _require_place(file: Path) -> None:
    """Say what is in the way of a database file, before SQLite fails to open it without saying."""
    if is_folder(file):
        raise ConfigError(f"`{file}` is a folder, not a database", "name a file in it")
    if not is_folder(Path(os.path.abspath(file)).parent):  # noqa: PTH100 - as SQLite reads it: `no/../x.db` is `x.db`
        raise ConfigError(f"the folder `{file.parent}` does not exist", "create it, or choose another for the database")


def _prepare_sqlite(connection: Any, _: object) -> None:
    # a writer does not block readers, a kill at any moment leaves the last whole transaction, what is deleted is overwritten
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "busy_timeout=10000", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _touch(connection: sql.Connection, session_id: str) -> None:
    now = utc_now()
    mine = SESSIONS.c.id == session_id
    if not connection.execute(sql.update(SESSIONS).where(mine).values(updated_at=now)).rowcount:
        connection.execute(sql.insert(SESSIONS).values(id=session_id, created_at=now, updated_at=now))


def utc_now() -> datetime:
    """Return the time as databases keep it."""
    return datetime.now(UTC).replace(tzinfo=None)  # databases keep no zone: all times are UTC
