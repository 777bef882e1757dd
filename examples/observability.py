"""Where the time of a spoken turn goes, and what its OpenTelemetry spans record.

The spans are collected and printed here; in production, configure an exporter as for any other service.
Needs `pip install "emova-sdk[otel]"`.
"""

from __future__ import annotations

import sys

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from emova_sdk import Pipeline, Style
from emova_sdk.telemetry import Telemetry


def main(config: str = "emova-nano") -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with Pipeline.from_config(config) as emova:
        question = emova.speak("i lost my dog", style=Style(emotion="sad"))
        session = emova.session(observer=Telemetry(tracer_provider=provider))  # content=True, user_style=True record more
        timings = session.ask(question).timings
    print("steps of the turn:")
    for stage in timings.stages:
        print(f"  {stage.name:10} {stage.detail:22} {stage.ended_s - stage.began_s:.3f} s")
    print(f"  first audio after {timings.first_audio_s:.3f} s")
    print("spans:")
    for span in kept.get_finished_spans():
        facts = dict(span.attributes or {})
        print(f"  {span.name}: {len(facts)} attributes")
        private = [name for name in facts if "user_style" in name or "messages" in name]
        print(f"    of what was said and how: {', '.join(private) or 'nothing'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
