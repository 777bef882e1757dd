"""A real HTTP server on loopback that speaks the OpenAI wire, well or badly, as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Behaviour = Callable[["Connection", dict[str, Any]], None]


class Connection(BaseHTTPRequestHandler):
    """One request; behaviours write to it."""

    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.requests.append(body)
            self.server.keys.append(self.headers.get("authorization", ""))
            behaviour = self.server.script.pop(0) if self.server.script else self.server.otherwise
        self.close_connection = True
        try:
            behaviour(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up.set()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def begin(self, kind: str = "text/event-stream") -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("connection", "close")
        self.end_headers()

    def event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    def delta(self, finish: str | None = None, **delta: Any) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "loopback-1", "choices": [choice]})


class Endpoint(ThreadingHTTPServer):
    """The server: ``script`` holds one behaviour for each request to come, ``otherwise`` the one after them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.script: list[Behaviour] = []
        self.otherwise: Behaviour = says("Hello there.")
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.lock = threading.Lock()
        self.hung_up = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


def says(text: str, *, delay_s: float = 0.0, usage: tuple[int, int] | None = (5, 7), size: int = 3) -> Behaviour:
    """Answer with a text, a few characters at a time."""

    def behave(to: Connection, _: dict[str, Any]) -> None:
        to.begin()
        to.delta(role="assistant", content="")
        for start in range(0, len(text), size):
            time.sleep(delay_s)
            to.delta(content=text[start : start + size])
        to.delta("stop")
        if usage:
            counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
            to.event(
                {
                    "id": "c",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "loopback-1",
                    "choices": [],
                    "usage": counts,
                }
            )
        to.event("[DONE]")

    return behave


def calls(*tools: tuple[str, str], text: str = "") -> Behaviour:
    """Call tools, their arguments (JSON text) cut into pieces."""

    def behave(to: Connection, _: dict[str, Any]) -> None:
        to.begin()
        if text:
            to.delta(content=text)
        for index, (name, arguments) in enumerate(tools):
            to.delta(
                tool_calls=[
                    {"index": index, "id": f"call-{index}", "type": "function", "function": {"name": name, "arguments": ""}}
                ]
            )
            for start in range(0, len(arguments), 4):
                to.delta(tool_calls=[{"index": index, "function": {"arguments": arguments[start : start + 4]}}])
        to.delta("tool_calls")
        to.event("[DONE]")

    return behave


def refuses(status: int, message: str = "no", *, headers: dict[str, str] | None = None, code: str = "") -> Behaviour:
    """Answer with an HTTP error."""

    def behave(to: Connection, _: dict[str, Any]) -> None:
        body = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
        to.send_response(status)
        sent = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close", **(headers or {})}
        for name, value in sent.items():
            to.send_header(name, value)
        to.end_headers()
        to.wfile.write(body)

    return behave


def breaks_off(after: str = "") -> Behaviour:
    """Close the connection in the middle of an answer."""

    def behave(to: Connection, _: dict[str, Any]) -> None:
        to.begin()
        if after:
            to.delta(content=after)

    return behave


def dies(to: Connection, _: dict[str, Any]) -> None:
    """Close the connection without a word."""
    to.connection.close()


def stalls(seconds: float, after: str = "") -> Behaviour:
    """Say nothing for a while."""

    def behave(to: Connection, _: dict[str, Any]) -> None:
        to.begin()
        if after:
            to.delta(content=after)
        time.sleep(seconds)

    return behave


def keeps_alive(seconds: float) -> Behaviour:
    """Send comments that keep the connection open, and no answer."""

    def behave(to: Connection, _: dict[str, Any]) -> None:
        to.begin()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            to.wfile.write(b": still working\n\n")
            to.wfile.flush()
            time.sleep(0.02)

    return behave


def sends(*events: str, kind: str = "text/event-stream") -> Behaviour:
    """Send whatever is given as the data of events."""

    def behave(to: Connection, _: dict[str, Any]) -> None:
        to.begin(kind)
        for event in events:
            to.event(event)

    return behave


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """One event of a stream, as it should be."""
    return {"id": "c", "model": "loopback-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def sends_bytes(*pieces: bytes | dict[str, Any], kind: str = "text/event-stream", status: int = 200) -> Behaviour:
    """Send bytes as they are, and chunks as events."""

    def behave(to: Connection, _: dict[str, Any]) -> None:
        to.send_response(status)
        to.send_header("content-type", kind)
        to.send_header("connection", "close")
        to.end_headers()
        for piece in pieces:
            to.wfile.write(piece if isinstance(piece, bytes) else f"data: {json.dumps(piece)}\n\n".encode())
            to.wfile.flush()

    return behave
