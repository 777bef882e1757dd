"""A tool that ran is never forgotten, however the answer it ran for was interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from test_conversation import quiet, tone
from test_words import PATIENCE_S, Gate

from emova_sdk import Audio, Message, Pipeline
from emova_sdk.live import EnergyActivity, Interrupted, LiveEvent, LiveSession, LiveSettings, UserTurn
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVocoder
from emova_sdk.types import ToolCall, ToolResult


class Booking(FakeLLMCore):
    """Books a table in answer to the first question, and keeps what it was told."""

    def __init__(self, gate: Gate | None = None) -> None:
        super().__init__(transcript="book")
        self.told: list[Sequence[Message]] = []
        self._gate = gate

    def generate(self, messages: Any, *, task: Any = "chat", **options: Any) -> Any:
        if task == "chat":
            self.told.append(tuple(messages))
            if len(self.told) > 1:
                options["tools"] = ()
            if len(self.told) == 2 and self._gate is not None:
                self._gate.pass_through()  # the tool has run, and nothing was said yet
        yield from super().generate(messages, task=task, **options)


def conversation(core: Booking, book: Callable[[], str]) -> LiveSession:
    pipeline = Pipeline(
        speech_tokenizer=FakeSpeechTokenizer(), llm_core=core, style_module=FakeStyleModule(), vocoder=FakeVocoder()
    )
    settings = LiveSettings(unfinished=(), stop_words=())
    return LiveSession(pipeline.session(tools=[book]), activity=EnergyActivity(), settings=settings)


def interrupted(live: LiveSession, gate: Gate) -> list[LiveEvent]:
    """Ask, speak over what is still being done, let that end, and wait for the next answer."""
    events = live.push(Audio.concat([tone(1.0), quiet(0.8)]))
    assert gate.entered.wait(PATIENCE_S)
    events += live.push(Audio.concat([tone(1.0), quiet(0.3)]))
    assert gate.in_time  # speaking over it did not wait for it
    gate.opened.set()
    return events + live.finish()


def parts_told(core: Booking) -> list[Any]:
    """Calls and results in the request for the last answer."""
    return [part for message in core.told[-1] for part in message.parts if isinstance(part, ToolCall | ToolResult)]


@pytest.mark.parametrize("during", ["the tool", "the answer after it"])
def test_a_tool_that_ran_is_told_after_an_interruption(during: str) -> None:
    gate, booked = Gate(), list[str]()

    def book() -> str:
        """Book a table."""
        if during == "the tool":
            gate.pass_through()
        booked.append("table")
        return "booked for two"

    core = Booking(gate if during == "the answer after it" else None)
    live = conversation(core, book)
    events = interrupted(live, gate)
    assert booked == ["table"]
    (cut,) = (event for event in events if isinstance(event, Interrupted))
    assert cut.heard_s == 0.0
    assert cut.turn is not None
    assert [result.content for result in cut.turn.tool_results] == ["booked for two"]
    call, result = parts_told(core)
    assert (call.name, result.content) == ("book", "booked for two")
    first, second = (event.audio.duration_s for event in events if isinstance(event, UserTurn))
    assert second < first + 1.0  # the question is in the history, and is not asked again
    assert [turn.role for turn in live.session.history] == ["user", "assistant"] * 2


def test_a_tool_is_remembered_when_the_conversation_is_closed_while_it_runs() -> None:
    gate = Gate()

    def book() -> str:
        """Book a table."""
        gate.pass_through()
        return "booked for two"

    live = conversation(Booking(), book)
    events = live.push(Audio.concat([tone(1.0), quiet(0.8)]))
    assert gate.entered.wait(PATIENCE_S)
    opening = threading.Timer(0.05, gate.opened.set)
    opening.start()
    live.close()
    opening.join()
    assert [result.content for result in live.session.history[-1].tool_results] == ["booked for two"]
    assert not any(isinstance(event, ToolResult) for event in events)
