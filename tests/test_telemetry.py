"""What OpenTelemetry is told of a session's answers, and what it is not told unless asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the `otel` extra is not installed")

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from emova_sdk import Audio, Pipeline, Style
from emova_sdk.errors import BackendError
from emova_sdk.telemetry import Telemetry
from emova_sdk.testing.fakes import FakeLLMCore, FakeSpeechTokenizer, FakeStyleModule, FakeVocoder


class Watched:
    """A session whose spans and durations are kept here."""

    def __init__(self, llm: FakeLLMCore | None = None, *, tools: Any = (), **options: Any) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        meters = MeterProvider(metric_readers=[self.reader])
        telemetry = Telemetry(tracer_provider=self.tracers, meter_provider=meters, **options)
        pipeline = Pipeline(
            speech_tokenizer=FakeSpeechTokenizer(),
            llm_core=llm or FakeLLMCore(transcript="weather please"),
            style_module=FakeStyleModule(),
            vocoder=FakeVocoder(),
        )
        self.question = pipeline.speak("weather please", style=Style("male", "sad", "low"))
        self.session = pipeline.session(observer=telemetry, tools=tools)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def durations(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        found = [metric for one in data.resource_metrics for scope in one.scope_metrics for metric in scope.metrics]
        return {metric.name: metric.data.data_points[0] for metric in found}


def weather() -> str:
    """Tell the weather."""
    return "rain at Anna's"


def test_a_turn_is_a_span_with_its_steps_below() -> None:
    watched = Watched()
    reply = watched.session.ask(watched.question)
    spans = watched.spans()
    assert set(spans) == {"emova.perceive", "emova.hear", "chat FakeLLMCore", "invoke_agent emova"}
    turn, chat = spans["invoke_agent emova"], spans["chat FakeLLMCore"]
    assert turn.kind is SpanKind.INTERNAL
    assert chat.kind is SpanKind.CLIENT
    below = [span for span in spans.values() if span is not turn]
    assert all(span.parent is not None and span.parent.span_id == turn.context.span_id for span in below)
    facts = dict(turn.attributes or {})
    assert facts["gen_ai.operation.name"] == "invoke_agent"
    assert facts["gen_ai.provider.name"] == "emova"
    assert facts["gen_ai.conversation.id"] == watched.session.id
    assert facts["gen_ai.output.type"] == "speech"
    assert facts["emova.turn.id"] == reply.turn.id
    assert facts["emova.style.emotion"] == "sad"
    assert facts["emova.turn.first_audio_s"] == reply.timings.first_audio_s
    written = dict(chat.attributes or {})
    assert (written["gen_ai.operation.name"], written["gen_ai.request.max_tokens"]) == ("chat", 1024)
    assert 0 < written["gen_ai.response.time_to_first_chunk"] < reply.timings.total_s  # type: ignore[operator]
    assert written["emova.usage.output_units"] > 0  # type: ignore[operator]
    assert turn.start_time <= chat.start_time <= chat.end_time <= turn.end_time  # type: ignore[operator]


def test_durations_are_counted() -> None:
    watched = Watched()
    reply = watched.session.ask(watched.question)
    found = watched.durations()
    assert found["gen_ai.client.operation.duration"].count == 1
    assert found["gen_ai.client.operation.time_to_first_chunk"].sum < found["gen_ai.client.operation.duration"].sum
    assert found["emova.turn.first_audio"].sum == pytest.approx(reply.timings.first_audio_s)
    assert dict(found["gen_ai.client.operation.duration"].attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "emova",
        "gen_ai.request.model": "FakeLLMCore",
    }


def everything(watched: Watched) -> str:
    spans = watched.exporter.get_finished_spans()
    return " ".join(span.to_json() for span in spans)


def test_neither_words_nor_feelings_are_told_unless_asked() -> None:
    silent = Watched(tools=[weather])
    silent.session.ask(silent.question)
    told = everything(silent)
    for secret in ("weather please", "Anna", "user_style", "rain"):
        assert secret not in told
    open_ = Watched(tools=[weather], content=True, user_style=True)
    reply = open_.session.ask(open_.question)
    facts = dict(open_.spans()["invoke_agent emova"].attributes or {})
    (said,) = json.loads(str(facts["gen_ai.input.messages"]))
    assert said["parts"] == [{"type": "text", "content": "weather please"}]
    (answered,) = json.loads(str(facts["gen_ai.output.messages"]))
    assert answered == {"role": "assistant", "parts": [{"type": "text", "content": reply.text}], "finish_reason": "stop"}
    assert facts["emova.user_style.emotion"] == "sad"
    assert facts["emova.user_style.emotion.score"] == reply.user_style.scores["emotion"]  # type: ignore[union-attr]
    tool = dict(open_.spans()["execute_tool weather"].attributes or {})
    assert tool["gen_ai.tool.call.result"] == "rain at Anna's"
    assert tool["gen_ai.tool.call.arguments"] == "{}"


def test_a_tool_is_a_span_and_what_it_does_is_below() -> None:
    def current() -> str:
        """Look at the span that is current."""
        return str(trace.get_current_span().get_span_context().span_id)

    watched = Watched(tools=[current, broken])
    reply = watched.session.ask("current and broken")
    results = {result.name: result for result in reply.turn.tool_results}
    tool = watched.spans()["execute_tool current"]
    assert results["current"].content == str(tool.context.span_id)
    assert dict(tool.attributes or {})["gen_ai.tool.call.id"] == results["current"].id
    failed = watched.spans()["execute_tool broken"]
    assert failed.status.status_code is StatusCode.ERROR
    assert dict(failed.attributes or {})["error.type"] == "tool_failed"


def broken() -> str:
    """Break."""
    raise RuntimeError("private words")


def test_a_failure_is_named_and_its_words_are_not() -> None:
    class Failing(FakeLLMCore):
        def generate(self, messages, *, task="chat", **options):  # type: ignore[no-untyped-def]
            if task == "chat":
                raise BackendError("he said: private words")
            yield from super().generate(messages, task=task, **options)

    watched = Watched(Failing())
    with pytest.raises(BackendError):
        watched.session.ask("hello")
    for name in ("invoke_agent emova", "chat Failing"):
        span = watched.spans()[name]
        assert span.status.status_code is StatusCode.ERROR
        assert dict(span.attributes or {})["error.type"] == "BackendError"
    assert "private" not in everything(watched)
    assert watched.durations()["gen_ai.client.operation.duration"].attributes["error.type"] == "BackendError"


def test_a_closed_answer_is_interrupted_and_no_failure() -> None:
    watched = Watched()
    events = watched.session.respond(watched.question)
    for event in events:
        if event.kind == "audio_delta":
            break
    events.close()
    turn = watched.spans()["invoke_agent emova"]
    assert dict(turn.attributes or {})["emova.turn.interrupted"] is True
    assert turn.status.status_code is StatusCode.UNSET
    assert len(watched.spans()) == 4


def test_a_span_begins_where_the_user_stopped_speaking() -> None:
    watched = Watched()
    for _ in watched.session.respond(watched.question, endpointing_s=0.7):
        pass
    turn = watched.spans()["invoke_agent emova"]
    heard = watched.spans()["emova.perceive"]
    assert (heard.start_time - turn.start_time) / 1e9 >= 0.7  # type: ignore[operator]
    facts = dict(turn.attributes or {})
    assert facts["emova.turn.endpointing_s"] == 0.7
    assert facts["emova.turn.first_audio_s"] > 0.7  # type: ignore[operator]
    assert watched.durations()["emova.turn.endpointing"].sum == pytest.approx(0.7)


def test_what_is_said_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    watched = Watched(tools=[weather])
    watched.session.ask(watched.question)
    logged = " ".join(record.getMessage() for record in caplog.records)
    for secret in ("weather", "sad", "rain"):
        assert secret not in logged


def test_silence_is_no_turn() -> None:
    watched = Watched()
    with pytest.raises(ValueError, match="empty"):
        watched.session.ask(Audio.silence(0.0, 16_000))
    assert dict(watched.spans()["invoke_agent emova"].attributes or {})["error.type"] == "InputError"
