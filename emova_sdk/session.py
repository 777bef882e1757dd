"""A session: one conversation on a pipeline, with its history of turns.

Everything about a session happens in the thread that iterates its answer; several sessions share one pipeline.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, get_args
from uuid import uuid4

from emova_sdk.answer import UNITS_PER_CHARACTER, Answer, Input, Reply, TurnWatch
from emova_sdk.components.base import GenerationOptions
from emova_sdk.errors import BackendError, InputError
from emova_sdk.policy import StylePolicy
from emova_sdk.tools import Tool, TurnContext, as_tools
from emova_sdk.types import (
    Audio,
    AudioDelta,
    Event,
    Image,
    LLMEvent,
    Message,
    Part,
    Style,
    ToolCall,
    ToolResult,
    Turn,
    UserStyle,
)

if TYPE_CHECKING:
    from emova_sdk.pipeline import Pipeline

MAX_TOOL_ROUNDS = 8
"""How often a model may ask for tools before it has to answer."""

Item = TypeVar("Item")


class TurnMemory(Protocol):
    """Keeps the turns of sessions, by the session's name."""

    def append(self, session_id: str, turns: Sequence[Turn]) -> None:
        """Add turns, all or none."""
        ...

    def replace(self, session_id: str, turn: Turn) -> None:
        """Put a turn in the place of the one with its id."""
        ...

    def remove(self, session_id: str, turn_ids: Iterable[str]) -> None:
        """Remove turns."""
        ...


class TurnObserver(Protocol):
    """Watches the answers of sessions, e.g. `emova_sdk.telemetry.Telemetry`."""

    def begin(self, session: Session, answer: Answer) -> TurnWatch:
        """Take note that an answer begins."""
        ...


class Session:
    """One conversation.

    Args:
        pipeline: What it runs on; shared with other sessions.
        style: Style the answers are spoken in where the model chooses none; speaker and speed always hold.
        policy: Rules on how answers are spoken; the pipeline's by default.
        tools: Functions (or `Tool`s) the model may call.
        system: Instructions to the model.
        history: Turns to go on from.
        options: How the model writes.
        memory: Keeps the turns beyond the process, e.g. `emova_sdk.memory.SessionStore`.
        observer: Watches the answers, e.g. `emova_sdk.telemetry.Telemetry`.
        id: Name of the session; made up when left out.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        style: Style | None = None,
        policy: StylePolicy | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        system: str = "",
        history: Iterable[Turn] = (),
        options: GenerationOptions = GenerationOptions(),
        memory: TurnMemory | None = None,
        observer: TurnObserver | None = None,
        id: str = "",  # noqa: A002 - what it is
    ) -> None:
        self.id = id or uuid4().hex
        self._memory = memory
        self._observer = observer
        self.pipeline = pipeline
        self.style = style or pipeline.style
        self.policy = policy or pipeline.policy
        self.tools = as_tools(tools)
        self.options = options
        self._turns = list(history)
        self._messages = [Message("system", (system,))] if system else []
        self._messages += [_message_of(turn) for turn in self._turns]
        self._busy = threading.Lock()
        self._answer: Answer | None = None
        self._units_per_character = UNITS_PER_CHARACTER

    @property
    def history(self) -> list[Turn]:
        """The turns so far, oldest first (a copy)."""
        return list(self._turns)

    def ask(self, *parts: Input, style: Style | None = None) -> Reply:
        """Say, show or type something and wait for the whole answer.

        Args:
            parts: Text, `Audio` and `Image`, in order.
            style: Style to answer in whatever the model chooses; None leaves it to the model.

        Raises:
            InputError: If a part cannot be used, or another answer is still being given.
            ConfigError: If the pipeline lacks what a part needs.
        """
        answer = self._begin(parts, style)
        for _ in self._run(answer):
            pass
        return answer.reply()

    def respond(self, *parts: Input, style: Style | None = None, waited_s: float | None = None) -> Generator[Event, None, None]:
        """As `ask`, but yield the events of the answer while it is made; closing the generator interrupts it.

        An interrupted answer stays in the history as far as its events were taken; `cut` says what was really heard.

        Args:
            parts: See `ask`.
            style: See `ask`.
            waited_s: Seconds since the user stopped speaking; the turn's timings count from there.
        """
        yield from self._run(self._begin(parts, style, waited_s))

    def cut(self, heard_s: float) -> Turn:
        """Say that only ``heard_s`` seconds of the last answer were played: its text, sound and units are cut there.

        Raises:
            InputError: If there is no answer to cut.
        """
        if self._answer is None or not self._turns or self._turns[-1].role != "assistant":
            raise InputError("there is no answer to cut", "call `cut` after an answer was given or interrupted")
        turn, message = self._answer.cut(heard_s, self._units_per_character)
        if self._memory is not None:
            self._memory.replace(self.id, turn)
        self._turns[-1], self._messages[-1] = turn, message
        return turn

    def take_back(self) -> None:
        """Forget the last exchange, as if the user had said nothing yet (an answer nobody heard is no part of a conversation).

        Raises:
            InputError: If there is nothing to take back, or an answer is being given.
        """
        if self._answer is None:
            raise InputError("there is no exchange to take back", "only the newest one can be, and only once")
        if self._busy.locked():
            raise InputError("this session is still answering", "close the answer first")
        if self._memory is not None:
            self._memory.remove(self.id, [turn.id for turn in self._turns[-2:]])
        self._turns = self._turns[:-2]
        self._messages = self._messages[: -2 - len(self._answer.tool_messages)]
        self._answer = None

    # --- one answer ---

    def _begin(self, parts: Sequence[Input], style: Style | None, waited_s: float | None = None) -> Answer:
        if not any(part if isinstance(part, str) else True for part in parts):
            raise InputError("there is nothing to answer", "pass text, an `Audio` or an `Image`")
        for part in parts:
            if not isinstance(part, get_args(Input)):
                raise InputError(
                    f"a `{type(part).__name__}` cannot be said to a session", "pass text, an `Audio` or an `Image`"
                )
        return Answer(tuple(parts), style, time.perf_counter() - (waited_s or 0.0), waited_s)

    def _run(self, answer: Answer) -> Generator[Event, None, None]:
        if not self._busy.acquire(blocking=False):
            raise InputError("this session is still answering", "close the earlier answer first, or use another session")
        whole = False
        try:
            answer.watch = self._observer.begin(self, answer) if self._observer is not None else None
            yield from self._events_of(answer)
            whole = True
        except GeneratorExit:
            raise
        except Exception as error:
            answer.error = error
            answer.metadata["error"] = str(getattr(error, "message", error))
            raise
        finally:
            try:
                self._record(answer, whole=whole)
            finally:
                self._busy.release()
                if answer.watch is not None:
                    answer.watch.end()

    def _events_of(self, answer: Answer) -> Generator[Event, None, None]:
        yield from self._understand(answer)
        for _ in range(MAX_TOOL_ROUNDS):
            calls: list[ToolCall] = []
            with answer.stage("write", _name_of(self.pipeline.llm_core)), closing(self._voiced(answer)) as events:
                for event in events:
                    answer.note(event)
                    if isinstance(event, ToolCall):
                        calls.append(event)
                    if isinstance(event, get_args(Event)):
                        yield cast("Event", event)
            if not calls:
                return
            yield from self._call_tools(answer, calls)
        raise BackendError(f"the model asked for tools {MAX_TOOL_ROUNDS} times without answering", "give it fewer tools")

    def _understand(self, answer: Answer) -> Generator[Event, None, None]:
        """Encode the input; the message for the model is ready after this."""
        parts: list[Part] = []
        for part in answer.parts:
            if isinstance(part, Audio):
                yield from self._perceive(answer, part)
                with answer.stage("hear", _name_of(self.pipeline.speech_tokenizer)):
                    parts.append(self.pipeline.hear(part))
            elif isinstance(part, Image):
                with answer.stage("see", _name_of(self.pipeline.vision_encoder)):
                    parts.append(self.pipeline.see(part))
            else:
                parts.append(part)
        answer.question = Message("user", tuple(parts), style=answer.perceived)
        answer.understood = time.perf_counter()

    def _perceive(self, answer: Answer, audio: Audio) -> Generator[UserStyle, None, None]:
        with answer.stage("perceive", _name_of(self.pipeline.style_module)):
            perceived = self.pipeline.perceive(audio)
        if perceived is not None:
            answer.perceived = perceived
            yield UserStyle(perceived)

    def _voiced(self, answer: Answer) -> Generator[LLMEvent | AudioDelta, None, None]:
        """What the model writes, spoken."""
        return self.pipeline.answer(
            [*self._messages, cast("Message", answer.question), *answer.tool_messages],
            style=answer.style,
            default=self.style,
            policy=self.policy,
            perceived=answer.perceived,
            tools=[tool.spec for tool in self.tools.values()],
            options=self.options,
        )

    def _call_tools(self, answer: Answer, calls: list[ToolCall]) -> Generator[Event, None, None]:
        context = TurnContext(
            session_id=self.id,
            user_text=answer.user_text,
            user_style=answer.perceived,
            style=answer.style or self.style,
            history=tuple(self._turns),
        )
        answer.tool_messages.append(Message("assistant", tuple(calls)))
        for call in calls:
            tool = self.tools.get(call.name)
            known = ", ".join(self.tools) or "none"
            unknown = ToolResult(call.id, call.name, f"there is no tool `{call.name}`; the tools are: {known}", failed=True)
            with answer.stage("tool", call.name):
                result = tool.call(call, context) if tool else unknown
                answer.tool_results.append(result)
            answer.tool_messages.append(Message("tool", (result,)))
            yield result

    def _record(self, answer: Answer, *, whole: bool) -> None:
        """Add the two turns; an answer that failed or was stopped before anything came of it leaves no trace."""
        if answer.question is None or not (whole or answer.text or answer.audio):
            return
        answer.finish(whole=whole)
        self._answer = answer
        if whole and answer.text and answer.units:
            self._units_per_character = answer.written_units / len(answer.text)
        turn = cast("Turn", answer.turn)
        message = answer.message(turn)
        if not whole and answer.audio:
            turn, message = answer.cut(answer.audio_s, self._units_per_character)
        turns = [answer.user_turn(), turn]
        if self._memory is not None:
            self._memory.append(self.id, turns)
        self._turns += turns
        self._messages += [answer.question, *answer.tool_messages, message]


def _name_of(component: object) -> str:
    return "" if component is None else type(component).__name__


def _message_of(turn: Turn) -> Message:
    """A turn of a saved history, as the model is told of it."""
    return Message(
        turn.role, (turn.heard_text or turn.text,), style=turn.perceived or turn.requested_style, interrupted=turn.interrupted
    )


async def astream(generator: Generator[Item, None, None]) -> AsyncGenerator[Item, None]:
    """Give any generator an asynchronous face.

    The items come in order; the generator runs in one thread of its own, one step at a time. Cancelling the task (or
    closing the asynchronous generator) closes it, and the thread is gone afterwards.
    """
    loop = asyncio.get_running_loop()
    worker = ThreadPoolExecutor(1, thread_name_prefix="emova-astream")
    end = object()
    try:
        while (item := await loop.run_in_executor(worker, next, generator, end)) is not end:
            yield cast("Item", item)
    finally:
        closed = loop.run_in_executor(worker, generator.close)
        worker.shutdown(wait=False)
        await asyncio.shield(closed)
