"""The turns of a session, in this process and in the memory that stores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from emova_sdk.types import Audio, Image, MediaRef, Turn


@runtime_checkable
class TurnMemory(Protocol):
    """Keeps the turns of sessions, by the session's name."""

    def turn_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's turns, oldest first; none for a new session."""
        ...

    def turns(self, session_id: str) -> list[Turn]:
        """Return the turns of a session, oldest first."""
        ...

    def load_media(self, ref: MediaRef) -> Audio | Image:
        """Return a sound or picture of a turn; `InputError` if it was not kept or is gone."""
        ...

    def append(self, session_id: str, turns: Sequence[Turn]) -> None:
        """Add turns, all or none."""
        ...

    def replace(self, session_id: str, turn: Turn) -> None:
        """Put a turn in the place of the one with its id."""
        ...

    def remove(self, session_id: str, turn_ids: Iterable[str]) -> None:
        """Remove turns."""
        ...


class TurnLog:
    """The turns of one session, oldest first; those that the memory has of it come by themselves.

    Args:
        session_id: Name of the session.
        turns: Turns to go on from.
        memory: Keeps them; without one they are gone with the process.
    """

    def __init__(self, session_id: str, turns: Iterable[Turn], memory: TurnMemory | None) -> None:
        self._session_id = session_id
        self._memory = memory
        self._turns = list(turns)
        self._stored: set[str] = set()  # ids of the turns that the memory has
        self._unsaved: dict[str, Turn] = {}
        self.reload()

    @property
    def turns(self) -> list[Turn]:
        """The turns so far, oldest first (a copy)."""
        return list(self._turns)

    def __contains__(self, turn_id: str) -> bool:
        return self._place_of(turn_id) is not None

    def put(self, turns: Sequence[Turn]) -> None:
        """Add turns, or put them in the place of those with their ids, here and in the memory.

        What the memory fails to keep stays here, and is kept with the next turns.
        """
        for turn in turns:
            place = self._place_of(turn.id)
            if place is None:
                self._turns.append(turn)
            else:
                self._turns[place] = turn
        if self._memory is not None:
            self._unsaved |= {turn.id: turn for turn in turns}
            self._save(self._memory)

    def remove(self, turn_ids: set[str]) -> None:
        """Remove turns, here and from the memory."""
        self._turns = [turn for turn in self._turns if turn.id not in turn_ids]
        if self._memory is not None and turn_ids & self._stored:
            self._memory.remove(self._session_id, turn_ids)
        self._stored -= turn_ids
        for turn_id in turn_ids:
            self._unsaved.pop(turn_id, None)

    def reload(self) -> None:
        """Take up what another session of this name has added to the memory, or removed from it."""
        if self._memory is None:
            return
        ids = self._memory.turn_ids(self._session_id)
        if ids == [turn.id for turn in self._turns if turn.id in self._stored]:
            return
        mine = {turn.id: turn for turn in self._turns}
        before = [turn for turn in self._turns if turn.id not in self._stored and turn.id not in ids]
        kept = [mine.get(turn.id, turn) for turn in self._memory.turns(self._session_id)]
        self._stored = {turn.id for turn in kept}
        self._turns = [*before, *kept]

    def _place_of(self, turn_id: str) -> int | None:
        return next((place for place, turn in enumerate(self._turns) if turn.id == turn_id), None)

    def _save(self, memory: TurnMemory) -> None:
        new = [turn for turn in self._unsaved.values() if turn.id not in self._stored]
        changed = [turn for turn in self._unsaved.values() if turn.id in self._stored]
        if new:
            memory.append(self._session_id, new)
        self._stored |= {turn.id for turn in new}
        for turn in changed:
            memory.replace(self._session_id, turn)
        self._unsaved.clear()
