"""Stored sessions: turns in a database, audio and images beside it, each exchange written whole or not at all."""

from emova_sdk.memory.database import StoredSession
from emova_sdk.memory.store import FORMAT, SessionStore

__all__ = ["FORMAT", "SessionStore", "StoredSession"]
