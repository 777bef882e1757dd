"""A session: one conversation on a pipeline, with its history of turns.

Everything about a session happens in the thread that iterates its answer; several sessions share one pipeline.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import aclosing, closing
from typing import Any, Protocol, TypedDict, cast, get_args, runtime_checkable
from uuid import uuid4

from emova_sdk.arguments import checked, checked_except, items_of
from emova_sdk.components.base import GenerationOptions
from emova_sdk.context import Context, Truncation
from emova_sdk.errors import BackendError, ContextLengthError, InputError
from emova_sdk.policy import StylePolicy
from emova_sdk.response import Reply, Response, astream
from emova_sdk.tools import Tool, TurnContext, as_tools
from emova_sdk.turn_builder import UNITS_PER_CHARACTER, Input, TurnBuilder, TurnWatch
from emova_sdk.turn_log import TurnLog, TurnMemory
from emova_sdk.types import (
    Audio,
    Event,
    Image,
    Metadata,
    SpokenEvent,
    Style,
    ToolResult,
    Transcript,
    Turn,
    UserStyle,
    well_formed,
)
from emova_sdk.wiring import Wiring

MAX_TOOL_ROUNDS = 8
"""How often a model may ask for tools before it has to answer."""


@runtime_checkable
class TurnObserver(Protocol):
    """Watches the answers of sessions, e.g. `emova_sdk.telemetry.Telemetry`."""

    def begin(self, session: Session, answer: TurnBuilder) -> TurnWatch:
        """Take note that an answer begins."""
        ...


class SessionOptions(TypedDict, total=False):
    """The options of a `Session` but for its name and memory, for functions that begin one."""

    style: Style | None
    policy: StylePolicy | None
    tools: Sequence[Tool | Callable[..., Any]]
    system: str
    history: Iterable[Turn]
    history_limit: int | None
    truncation: Truncation | None
    options: GenerationOptions
    observer: TurnObserver | None


class Session:
    """One conversation.

    Args:
        pipeline: The components; may be shared with other sessions.
        style: Style of the answers where the model chooses none; speaker and speed always apply.
        policy: Rules for the style of answers; the pipeline's by default.
        tools: Functions (or `Tool`s) the model may call.
        system: Instructions for the model.
        history: Earlier turns; those that ``memory`` has of this session are added automatically.
        history_limit: How many of the latest turns are sent to the model; the pipeline's limit by default.
        truncation: What is left out of a longer conversation, see `emova_sdk.context.Truncation`; the pipeline's by default.
            The history keeps all of it.
        options: Options of generation.
        memory: Keeps the turns beyond the process, e.g. `emova_sdk.memory.SessionStore`. What other sessions of the same name
            add to it is taken up before every answer.
        observer: Watches the answers, e.g. `emova_sdk.telemetry.Telemetry`.
        id: Name of the session; generated if left out.

    Raises:
        ConfigError: If one of the tools cannot be used as a tool, or an option is out of range.
    """

    @checked_except("tools", "history_limit", "truncation")
    def __init__(
        self,
        pipeline: Wiring,
        *,
        style: Style | None = None,
        policy: StylePolicy | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        system: str = "",
        history: Iterable[Turn] = (),
        history_limit: int | None = None,
        truncation: Truncation | None = None,
        options: GenerationOptions = GenerationOptions(),
        memory: TurnMemory | None = None,
        observer: TurnObserver | None = None,
        id: str = "",  # noqa: A002 - what it is
    ) -> None:
        self.id = id or uuid4().hex
        self._memory = memory
        self._observer = observer
        self.pipeline = pipeline
        pipeline.require_speaker(style)
        self.style = style or pipeline.style
        self.policy = policy or pipeline.policy
        self.tools = as_tools(tools)
        self.options = options
        self._log = TurnLog(self.id, items_of(history, Turn, "`history` holds"), memory)
        self._context = Context(
            pipeline,
            system=system,
            limit=pipeline.limits.history_turns if history_limit is None else history_limit,
            truncation=pipeline.limits.truncation if truncation is None else truncation,
            load_media=memory.load_media if memory is not None else None,
        )
        self._context.resume(self.history)
        self._busy = threading.Lock()
        self._answer: TurnBuilder | None = None
        self._units_per_character = UNITS_PER_CHARACTER

    @property
    def history(self) -> list[Turn]:
        """The turns so far, oldest first (a copy)."""
        return self._log.turns

    @checked_except("parts")
    def ask(self, *parts: Input, style: Style | None = None) -> Reply:
        """Send text, audio or images, and wait for the whole answer.

        Args:
            parts: Text, `Audio` and `Image`, in order.
            style: Style of the answer, whatever the model would choose; None leaves it to the model.

        Raises:
            InputError: If a part cannot be used, or another answer is still being given.
            ConfigError: If the pipeline lacks what a part needs.
        """
        return self.respond(*parts, style=style).reply()

    async def aask(self, *parts: Input, style: Style | None = None) -> Reply:
        """Like `ask`, without blocking the event loop; cancelling the task cancels the answer."""
        response = self.respond(*parts, style=style)
        async with aclosing(astream(response)) as events:
            async for _ in events:
                pass
        return response.reply()

    @checked_except("parts")
    def respond(self, *parts: Input, style: Style | None = None, endpointing_s: float | None = None) -> Response:
        """Like `ask`, but return a stream of the answer's events, text or audio.

        A cancelled answer stays in the history as far as its events were taken; `truncate` says what was really heard. A tool
        that ran stays in it in any case.

        Args:
            parts: See `ask`.
            style: See `ask`.
            endpointing_s: Seconds since the user stopped speaking; the turn's timings count from there.

        Raises:
            InputError: At the call, if a part is of the wrong kind; when the first event is taken, if it cannot be used or
                another answer is still being given.
        """
        answer = self._begin(parts, style, endpointing_s)
        return Response(self._run(answer), answer)

    def arespond(
        self, *parts: Input, style: Style | None = None, endpointing_s: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """Like `respond`, for ``async for event in ...``: a thread does the work.

        Cancelling a task that waits for the next event cancels the answer. A loop that may be left otherwise closes the events
        with `contextlib.aclosing`; until then the session is still answering.
        """
        return astream(self.respond(*parts, style=style, endpointing_s=endpointing_s))

    @checked
    def truncate(self, audio_s: float) -> Turn:
        """Cut the text, sound and units of the last answer after ``audio_s`` seconds of its sound: no more was played.

        Raises:
            InputError: If there is no answer to truncate, one is still being given, or ``audio_s`` is no number of seconds.
        """
        if not audio_s >= 0:  # neither is NaN
            raise InputError(f"`{audio_s}` is no number of seconds", "pass 0 or more")
        if self._busy.locked():  # what would be cut is the answer before
            raise InputError("this session is still answering", "cancel the answer first")
        if self._answer is None or self._answer.turn_id not in self._log:
            raise InputError("there is no answer to truncate", "call it after an answer was given or interrupted")
        turn = self._answer.truncate(audio_s, self._units_per_character)
        self._log.put([turn])
        return turn

    def take_back(self) -> Turn | None:
        """Forget the last exchange, as if the user had said nothing yet (an answer nobody heard is no part of a conversation).

        What a tool did cannot be taken back: if one was called, the exchange stays as far as that, and nothing of the answer
        counts as heard.

        Returns:
            The assistant's turn that stays, or None.

        Raises:
            InputError: If there is nothing to take back, or an answer is being given.
        """
        answer = self._answer
        if answer is None:
            raise InputError("there is no exchange to take back", "only the newest one can be, and only once")
        if self._busy.locked():
            raise InputError("this session is still answering", "cancel the answer first")
        self._answer = None
        if answer.tool_results or answer.running:
            turn = answer.unheard()
            self._log.put([turn])
            return turn
        self._log.remove({answer.user_id, answer.turn_id})
        return None

    @checked
    def picture(self, *, title: str = "") -> Image:
        """Draw the words, style, waveform and pitch of each turn; `Image.save` writes the image.

        Args:
            title: Headline.
        """
        from emova_sdk.picture import draw_turns, panels_of

        return draw_turns(panels_of(self.history, self._context.load_media), title=title)

    # --- one answer ---

    def _begin(self, parts: Sequence[Input], style: Style | None, endpointing_s: float | None = None) -> TurnBuilder:
        for part in parts:
            if not isinstance(part, get_args(Input)):
                raise InputError(
                    f"a `{type(part).__name__}` cannot be said to a session", "pass text, an `Audio` or an `Image`"
                )
        if not any(part.strip() if isinstance(part, str) else True for part in parts):
            raise InputError("there is nothing to answer", "pass text, an `Audio` or an `Image`")
        if endpointing_s is not None and not 0 <= endpointing_s < math.inf:
            raise InputError(f"`endpointing_s = {endpointing_s}` is no number of seconds", "pass 0 or more")
        self.pipeline.require_speaker(style)
        given = tuple(well_formed(part) if isinstance(part, str) else part for part in parts)
        began = time.perf_counter() - (endpointing_s or 0.0)
        return TurnBuilder(given, style, began, endpointing_s, unit_space=self._unit_space())

    def _unit_space(self) -> str:
        llm = self.pipeline.llm_core
        return str(llm.units) if llm is not None and llm.units is not None else ""

    def _run(self, answer: TurnBuilder) -> Generator[Event, None, None]:
        if not self._busy.acquire(blocking=False):
            raise InputError("this session is still answering", "cancel the earlier answer first, or use another session")
        whole = False
        try:
            self._log.reload()
            answer.watch = self._observer.begin(self, answer) if self._observer is not None else None
            yield from self._events_of(answer)
            whole = True
        except GeneratorExit:
            raise
        except Exception as error:
            answer.error = error
            answer.metadata["error"] = well_formed(str(getattr(error, "message", error)))
            raise
        finally:
            try:
                self._record(answer, whole=whole)
            finally:
                self._busy.release()
                if answer.watch is not None:
                    answer.watch.end()

    def _events_of(self, answer: TurnBuilder) -> Generator[Event, None, None]:
        yield from self._understand(answer)
        for _ in range(MAX_TOOL_ROUNDS):
            asked = len(answer.tool_calls)
            with answer.stage("write", _name_of(self.pipeline.llm_core)), closing(self._written(answer)) as events:
                for written in events:
                    event = answer.note(written)
                    if isinstance(event, get_args(Event)):
                        yield cast("Event", event)
            if len(answer.tool_calls) == asked:
                return
            answer.end_round()
            yield from self._call_tools(answer)
        raise BackendError(f"the model asked for tools {MAX_TOOL_ROUNDS} times without answering", "give it fewer tools")

    def _understand(self, answer: TurnBuilder) -> Generator[Event, None, None]:
        """Encode the input; the model can be asked after this."""
        shown = 0
        for part in answer.parts:
            if isinstance(part, Audio):
                yield from self._perceive(answer, part)
                with answer.stage("hear", _name_of(self.pipeline.speech_tokenizer)):
                    answer.heard.append(self.pipeline.hear(part))
            elif isinstance(part, Image):
                with answer.stage("see", _name_of(self.pipeline.vision_encoder)):
                    self._context.encode(answer.user_id, shown, part)
                shown += 1
        answer.understood = time.perf_counter()

    def _perceive(self, answer: TurnBuilder, audio: Audio) -> Generator[UserStyle, None, None]:
        with answer.stage("perceive", _name_of(self.pipeline.style_module)):
            perceived = self.pipeline.perceive(audio)
        if perceived is not None:
            answer.perceived = perceived
            yield UserStyle(perceived)

    def _written(self, answer: TurnBuilder) -> Generator[SpokenEvent, None, None]:
        """What the model writes, spoken; a conversation longer than it reads is shortened until it fits."""
        preamble: list[SpokenEvent] = []  # before the answer: what was heard, which comes again
        while True:
            said = False
            try:
                with closing(self._voiced(answer)) as events:
                    for event in events:
                        before = isinstance(event, Transcript | UserStyle | Metadata)
                        said = said or not before
                        if not before or event not in preamble:
                            preamble += [event] if before else []
                            yield event
            except ContextLengthError:
                if said or not self._context.shorten(self._earlier(answer)):
                    raise
            else:
                return

    def _voiced(self, answer: TurnBuilder) -> Generator[SpokenEvent, None, None]:
        earlier = self._earlier(answer)
        now = [answer.user_turn(), *([answer.finish(whole=True)] if answer.tool_calls else [])]
        messages = self._context.messages(earlier, now)
        answer.metadata |= self._context.left_out(earlier)
        return self.pipeline.answer(
            messages,
            style=answer.style,
            default=self.style,
            policy=self.policy,
            perceived=answer.perceived,
            tools=[tool.spec for tool in self.tools.values()],
            options=self.options,
        )

    def _earlier(self, answer: TurnBuilder) -> list[Turn]:
        return [turn for turn in self._log.turns if turn.id not in (answer.user_id, answer.turn_id)]

    def _call_tools(self, answer: TurnBuilder) -> Generator[Event, None, None]:
        context = TurnContext(
            session_id=self.id,
            user_text=answer.user_text,
            user_style=answer.perceived,
            style=answer.style or self.style,
            history=tuple(self._earlier(answer)),
        )
        for call in answer.tool_calls[len(answer.tool_results) :]:
            tool = self.tools.get(call.name)
            known = ", ".join(self.tools) or "none"
            unknown = ToolResult(call.id, call.name, f"there is no tool `{call.name}`; the tools are: {known}", failed=True)
            with answer.stage("tool", call.name):
                answer.running = call
                result = tool.call(call, context) if tool else unknown
                answer.tool_results.append(result)
                answer.running = None
            if self._memory is not None:  # what a tool did is kept now: the process may not live until the answer ends
                self._log.put([answer.user_turn(), answer.finish(whole=False)])
            yield result

    def _record(self, answer: TurnBuilder, *, whole: bool) -> None:
        """Add the two turns; an answer that failed or was stopped before anything came of it leaves no trace."""
        came = answer.text or answer.audio or answer.tool_calls
        if answer.understood is None or not (whole or came):
            return
        turn = answer.finish(whole=whole)
        self._answer = answer
        if whole and answer.text and answer.units:
            self._units_per_character = answer.written_units / len(answer.text)
        if not whole and answer.audio:
            turn = answer.truncate(answer.audio_s, self._units_per_character)
        answer.recorded = turn
        self._log.put([answer.user_turn(), turn])


def _name_of(component: object) -> str:
    return "" if component is None else type(component).__name__
