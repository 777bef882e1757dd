"""Sessions that persist: turns in a database, sounds and pictures beside it, nothing half written."""

from emova_sdk.memory.database import StoredSession
from emova_sdk.memory.store import FORMAT, SessionStore

__all__ = ["FORMAT", "SessionStore", "StoredSession"]
