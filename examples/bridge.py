"""A spoken question, an ordinary text model, and a spoken answer in the emotion that the model chose.

Set BRAIN_URL and BRAIN_MODEL to an OpenAI-compatible endpoint of yours; without them a local stand-in answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from emova_sdk import Pipeline, Style

ANSWER = '{"emotion": "sad", "pitch": "low", "text": "Oh no. Where did you see him last?"}'


class StandIn(BaseHTTPRequestHandler):
    """Streams one answer, as every OpenAI-compatible endpoint does."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for at in range(0, len(ANSWER), 8):
            self.event({"content": ANSWER[at : at + 8]}, None)
        self.event({}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, delta: dict[str, str], finish: str | None) -> None:
        chunk = {"model": "stand-in", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def brain() -> Iterator[None]:
    """Run the stand-in, unless there is an endpoint."""
    if "BRAIN_URL" in os.environ:
        yield
        return
    with HTTPServer(("127.0.0.1", 0), StandIn) as server:
        os.environ["BRAIN_URL"] = f"http://127.0.0.1:{server.server_address[1]}/v1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def main(config: str = str(Path(__file__).with_name("bridge.toml"))) -> None:
    with brain(), Pipeline.from_config(config) as emova:
        question = emova.speak("i lost my dog", style=Style(emotion="sad"))
        reply = emova.session(system="You help people find their pets.").ask(question)
        if reply.user_style and reply.transcript and reply.style:
            print(f"you ({reply.user_style.style.emotion}): {reply.transcript.text}")
            print(f"emova ({reply.style.emotion}): {reply.text}")
        if reply.audio:
            reply.audio.save("answer.wav")


if __name__ == "__main__":
    main(*sys.argv[1:])
