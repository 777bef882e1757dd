"""An answer in progress, as events, text, audio, or the whole reply."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar, cast

from emova_sdk.errors import InputError
from emova_sdk.turn_builder import TurnBuilder
from emova_sdk.types import Audio, AudioDelta, Event, PerceivedStyle, Style, TextDelta, Timings, ToolCall, Transcript, Turn

Item_co = TypeVar("Item_co", covariant=True)


@dataclass(frozen=True)
class Reply:
    """A whole answer.

    Attributes:
        transcript: What the user said; None without speech.
        user_style: How the user said it, if known.
        text: Text of the answer.
        style: Style in which it was spoken; None without a voice.
        audio: Audio of the answer; None without a voice.
        timings: How long it took.
        tool_calls: Tools the model called.
        turn: The assistant's entry in the history.
    """

    transcript: Transcript | None
    user_style: PerceivedStyle | None
    text: str
    style: Style | None
    audio: Audio | None
    timings: Timings
    tool_calls: tuple[ToolCall, ...]
    turn: Turn


class Response(Iterator[Event]):
    """An answer in progress. It can be iterated once, and is computed as it is iterated.

    `cancel`, or leaving a ``with`` block, stops it. Whatever it had yielded by then stays in the history, and
    `Session.truncate` says how much of that was really played.
    """

    def __init__(self, events: Generator[Event, None, None], builder: TurnBuilder) -> None:
        self._events = events
        self._builder = builder
        self._cancelled = False
        self._advancing = threading.Lock()
        self._advanced_by: int | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """Return the next event; see `emova_sdk.types.events`.

        Raises:
            InputError: If a tool that this answer called asks for it.
            EmovaError: Whatever a component cannot do.
        """
        if self._advanced_by == threading.get_ident():
            raise InputError("a tool cannot read the answer that called it", "`cancel()` is all it can do with that")
        with self._advancing:
            self._advanced_by = threading.get_ident()
            try:
                event = next(self._events)
            finally:
                self._advanced_by = None
        if self._cancelled:  # meanwhile, by another thread or a tool
            self.cancel()
        return event

    def text(self) -> Iterator[str]:
        """Yield the pieces of the text, to the end of the answer."""
        return (event.text for event in self if isinstance(event, TextDelta))

    def audio(self) -> Iterator[Audio]:
        """Yield the pieces of the audio, to the end of the answer."""
        return (event.audio for event in self if isinstance(event, AudioDelta))

    def reply(self) -> Reply:
        """Consume the rest, and return the whole answer.

        Raises:
            InputError: If nothing came of it before it was cancelled, or another answer is still being given.
            EmovaError: Whatever a component cannot do.
        """
        for _ in self:
            pass
        built = self._builder
        if built.error is not None:
            raise built.error
        turn = built.recorded
        if turn is None:
            raise InputError("nothing came of this answer: it was cancelled, or refused", "ask again")
        sound = turn.audio if isinstance(turn.audio, Audio) else None
        timings = turn.timings or Timings()
        return Reply(built.transcript, built.perceived, turn.text, turn.style, sound, timings, turn.tool_calls, turn)

    def cancel(self) -> None:
        """Stop the answer, from any thread. While an event is being made, the answer stops with it."""
        self._cancelled = True
        if self._advancing.acquire(blocking=False):
            try:
                self._events.close()
            finally:
                self._advancing.release()

    close = cancel  # for `contextlib.closing`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


class Closable(Protocol[Item_co]):
    """An iterator that can be stopped: a generator, or a `Response`."""

    def __next__(self) -> Item_co:
        """Return the next item."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


async def astream(items: Closable[Item_co]) -> AsyncGenerator[Item_co, None]:
    """Take the items of a generator without blocking the event loop.

    The generator runs in one thread of its own, one step at a time. Cancelling the task (or closing the asynchronous
    generator) closes it, and the thread is gone afterwards.
    """
    loop = asyncio.get_running_loop()
    worker = ThreadPoolExecutor(1, thread_name_prefix="emova-astream")
    end = object()
    try:
        while (item := await loop.run_in_executor(worker, next, items, end)) is not end:
            yield cast("Item_co", item)
    finally:
        closed = loop.run_in_executor(worker, items.close)
        worker.shutdown(wait=False)
        await asyncio.shield(closed)
