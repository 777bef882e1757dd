"""OpenTelemetry for sessions: a span for each turn, each step of it and each tool, and how long they took.

Names follow OpenTelemetry's semantic conventions for generative AI (of development status, as of version 1.41): a turn is
``invoke_agent``, an answer of the language model ``chat``, a tool ``execute_tool``. What the conventions have no name for is
under ``emova.``. What was said, and how the user sounded, is left out unless it is asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from emova_sdk.errors import MissingDependencyError
from emova_sdk.turn_builder import TurnBuilder
from emova_sdk.types import Style, Timings, ToolCall

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as error:
    raise MissingDependencyError(
        "telemetry needs `opentelemetry-api`", "pip install 'emova-sdk[otel]'", package="opentelemetry-api"
    ) from error

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from emova_sdk.session import Session


PROVIDER = "emova"
BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Seconds, as the conventions advise."""

Attributes = dict[str, Any]


class Telemetry:
    """Tells OpenTelemetry of the answers of sessions: ``pipeline.session(observer=Telemetry())``.

    Args:
        tracer_provider: Where spans go; the global provider when left out.
        meter_provider: Where durations go; the global provider when left out.
        agent: Name of the agent on its spans.
        content: Whether spans hold what was said, and what tools were told and answered.
        user_style: Whether spans hold how the user sounded, which is sensitive.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        agent: str = "emova",
        content: bool = False,
        user_style: bool = False,
    ) -> None:
        self.tracer = trace.get_tracer("emova_sdk", tracer_provider=tracer_provider)
        self.agent = agent
        self.content = content
        self.user_style = user_style
        meter = (meter_provider or metrics.get_meter_provider()).get_meter("emova_sdk")
        names = (
            "gen_ai.client.operation.duration",
            "gen_ai.client.operation.time_to_first_chunk",
            "emova.turn.endpointing",
            "emova.turn.first_audio",
        )
        self._histograms = {
            name: meter.create_histogram(name, "s", explicit_bucket_boundaries_advisory=BUCKETS) for name in names
        }

    def begin(self, session: Session, answer: TurnBuilder) -> _TurnSpan:
        """See `TurnObserver`."""
        return _TurnSpan(self, session, answer)

    def record(self, name: str, value_s: float | None, attributes: Mapping[str, Any]) -> None:
        """Add to a histogram, if there is anything to add."""
        if value_s is not None:
            self._histograms[name].record(value_s, dict(attributes))


class _TurnSpan:
    """The span of one answer; begins where the user stopped speaking."""

    def __init__(self, telemetry: Telemetry, session: Session, answer: TurnBuilder) -> None:
        self._to = telemetry
        self._tracer: Tracer = telemetry.tracer
        self._session = session
        self._answer = answer
        self._model = _model_of(session.pipeline.llm_core)
        self._span = self._tracer.start_span(
            f"invoke_agent {telemetry.agent}",
            kind=SpanKind.INTERNAL,
            start_time=time.time_ns() - int((time.perf_counter() - answer.began) * 1e9),
            attributes={
                **_operation("invoke_agent", self._model),
                "gen_ai.agent.name": telemetry.agent,
                "gen_ai.conversation.id": session.id,
            },
        )
        self._context = trace.set_span_in_context(self._span)

    @contextmanager
    def stage(self, name: str, detail: str) -> Generator[None, None, None]:
        """See `TurnWatch`."""
        if name == "write":
            with self._writing():
                yield
        elif name == "tool":
            with self._child(f"execute_tool {detail}", self._tool(detail), current=True) as span:
                yield
                self._tool_answered(span)
        else:
            with self._child(f"emova.{name}", {"emova.component": detail}, current=True):
                yield

    def end(self) -> None:
        """See `TurnWatch`."""
        answer, turn = self._answer, self._answer.turn
        timings = turn.timings if turn is not None and turn.timings is not None else Timings(endpointing_s=answer.endpointing_s)
        self._span.set_attributes(
            {
                "gen_ai.output.type": "speech" if answer.audio else "text",
                "emova.turn.interrupted": turn.interrupted if turn is not None else answer.error is None,
                **({"emova.turn.id": turn.id} if turn is not None else {}),
                **_seconds(timings),
                **_style("emova.style", turn.style if turn else None),
                **_style("emova.style.requested", turn.requested_style if turn else None),
                **(self._said() if self._to.content else {}),
                **(self._felt() if self._to.user_style else {}),
            }
        )
        if answer.error is not None:
            _fail(self._span, answer.error)
        self._span.end()
        facts = {"gen_ai.agent.name": self._to.agent}
        self._to.record("emova.turn.endpointing", timings.endpointing_s, facts)
        self._to.record("emova.turn.first_audio", timings.first_audio_s, facts)

    # --- steps ---

    @contextmanager
    def _child(self, name: str, attributes: Attributes, *, current: bool, kind: SpanKind = SpanKind.INTERNAL) -> Any:
        """A span below the turn's; ``current`` only where nothing is yielded to a caller with a context of its own."""
        span = self._tracer.start_span(name, self._context, kind=kind, attributes=attributes)
        try:
            if current:
                with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                    yield span
            else:
                yield span
        except Exception as error:
            _fail(span, error)
            raise
        finally:
            span.end()

    @contextmanager
    def _writing(self) -> Generator[None, None, None]:
        options, began, error_type = self._session.options, time.perf_counter(), ""
        asked = {
            "max_tokens": options.max_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
        }
        facts = _operation("chat", self._model)
        more = {f"gen_ai.request.{name}": value for name, value in asked.items() if value is not None}
        attributes = {**facts, **more, "gen_ai.conversation.id": self._session.id, "gen_ai.request.stream": True}
        with self._child(f"chat {self._model}", attributes, current=False, kind=SpanKind.CLIENT) as span:
            try:
                yield
            except Exception as error:
                error_type = type(error).__name__
                raise
            finally:
                first = self._answer.first_token
                to_first = first - began if first is not None and first >= began else None
                span.set_attributes(self._written(to_first))
                failed = {"error.type": error_type} if error_type else {}
                self._to.record("gen_ai.client.operation.duration", time.perf_counter() - began, {**facts, **failed})
                self._to.record("gen_ai.client.operation.time_to_first_chunk", to_first, facts)

    def _written(self, to_first_s: float | None) -> Attributes:
        told, usage = self._answer.metadata, self._answer.metadata.get("usage", {})
        facts: Attributes = {
            "gen_ai.response.model": told.get("model"),
            "gen_ai.response.finish_reasons": [told["finish_reason"]] if told.get("finish_reason") else None,
            "gen_ai.response.time_to_first_chunk": to_first_s,
            "gen_ai.usage.input_tokens": usage.get("input_tokens"),
            "gen_ai.usage.output_tokens": usage.get("output_tokens"),
            "gen_ai.output.type": "speech" if self._answer.audio else "text",
            "emova.usage.output_units": self._answer.written_units,
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _tool(self, name: str) -> Attributes:
        call = self._call()
        tool = self._session.tools.get(name)
        facts = {
            **_operation("execute_tool"),
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call.id,
        }
        if tool is not None:
            facts["gen_ai.tool.description"] = tool.spec.description
        if self._to.content:
            facts["gen_ai.tool.call.arguments"] = json.dumps(dict(call.arguments), ensure_ascii=False)
        return facts

    def _call(self) -> ToolCall:
        return self._answer.tool_calls[len(self._answer.tool_results)]  # calls are run in the order they were asked for

    def _tool_answered(self, span: Span) -> None:
        result = self._answer.tool_results[-1]
        if result.failed:
            span.set_attribute("error.type", "tool_failed")
            span.set_status(Status(StatusCode.ERROR))
        if self._to.content:
            span.set_attribute("gen_ai.tool.call.result", result.content)

    # --- what is sensitive ---

    def _said(self) -> Attributes:
        answer = self._answer
        reason = "stop" if answer.turn is not None and not answer.turn.interrupted else "cancelled"
        said = [{"role": "user", "parts": [{"type": "text", "content": answer.user_text}]}]
        answered = [{"role": "assistant", "parts": [{"type": "text", "content": answer.text}], "finish_reason": reason}]
        return {
            "gen_ai.input.messages": json.dumps(said, ensure_ascii=False),
            "gen_ai.output.messages": json.dumps(answered, ensure_ascii=False),
        }

    def _felt(self) -> Attributes:
        perceived = self._answer.perceived
        if perceived is None:
            return {}
        scores = {f"emova.user_style.{axis}.score": score for axis, score in perceived.scores.items()}
        known = {axis: value for axis, value in perceived.style.to_dict().items() if axis not in perceived.unknown}
        return {**{f"emova.user_style.{axis}": value for axis, value in known.items()}, **scores}


def _operation(name: str, model: str = "") -> Attributes:
    return {
        "gen_ai.operation.name": name,
        "gen_ai.provider.name": PROVIDER,
        **({"gen_ai.request.model": model} if model else {}),
    }


def _model_of(core: object) -> str:
    """Name the model that answers: the brain's behind a bridge, else the core's own, else its class."""
    core = getattr(core, "brain", core)
    named = getattr(core, "model", None)
    return named if isinstance(named, str) else type(core).__name__


def _style(prefix: str, style: Style | None) -> Attributes:
    return {} if style is None else {f"{prefix}.{axis}": value for axis, value in style.to_dict().items()}


def _seconds(timings: Timings) -> Attributes:
    names = ("endpointing_s", "understood_s", "first_token_s", "first_audio_s", "total_s", "audio_s")
    return {f"emova.turn.{name}": value for name in names if (value := getattr(timings, name)) is not None}


def _fail(span: Span, error: Exception) -> None:
    """Name the error; its message may quote what was said."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))
