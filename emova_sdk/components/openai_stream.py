"""Reading one streamed answer of an OpenAI-compatible endpoint, whatever the endpoint does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, Self
from uuid import uuid4

from emova_sdk.errors import BackendError, ConfigError, EmovaError
from emova_sdk.types import Metadata, ToolCall

__all__ = ["OpenAIStream", "Piece", "typed"]

Piece = str | ToolCall | Metadata
"""What an answer is made of: text as it is written, the tools that are called, facts at the end."""

_THINKING = "<think>"
_THOUGHT = "</think>"


class OpenAIStream:
    """The pieces of one answer; iterate it inside ``with``, which closes the connection however it ends.

    Args:
        stream: What ``chat.completions.create(stream=True)`` returned.
        silence_s: Longest silence the client waits for, told in the error.
        answer_s: Seconds after which the connection is hung up, even if the endpoint keeps it alive.
    """

    def __init__(self, stream: Any, *, silence_s: float, answer_s: float) -> None:
        self._stream = stream
        self._silence_s, self._answer_s = silence_s, answer_s
        self._calls: dict[int, dict[str, str]] = {}
        self._facts: dict[str, Any] = {}
        self._thoughts = _Thoughts()
        self._late = False
        self._timer = threading.Timer(answer_s, self._hang_up)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._stream.close()
        self._timer.join()

    def __iter__(self) -> Iterator[Piece]:
        """Yield the pieces.

        Raises:
            BackendError: If the answer stalls, breaks off or cannot be understood.
        """
        import openai

        self._require_event_stream()
        try:
            for chunk in self._stream:
                text = self._text_of(chunk)
                if text:
                    yield text
        except (openai.OpenAIError, ValueError, AttributeError, TypeError, KeyError, OSError) as error:
            if self._late:
                break_off = f"the endpoint did not finish its answer within {self._answer_s:g} s"
                raise BackendError(break_off, "raise `answer_s`, or ask for less", retryable=True) from error
            raise typed(error, self._silence_s) from error
        if "finish_reason" not in self._facts:
            late = f" within {self._answer_s:g} s" if self._late else ""
            raise BackendError(f"the endpoint broke off before its answer was complete{late}", "try again", retryable=True)
        rest = self._thoughts.finish()
        if rest:
            yield rest
        yield from self._tool_calls()
        yield Metadata(self._facts)

    def _require_event_stream(self) -> None:
        kind = self._stream.response.headers.get("content-type", "")
        if kind and "event-stream" not in kind:
            raise BackendError(
                f"the endpoint answered `{kind.partition(';')[0]}` where a stream of events was expected",
                "check that `base_url` ends where `/chat/completions` begins, e.g. in /v1",
            )

    def _text_of(self, chunk: Any) -> str:
        """Take a chunk into account; return the text in it."""
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self._facts["usage"] = {
                "input_tokens": int(usage.prompt_tokens or 0),
                "output_tokens": int(usage.completion_tokens or 0),
            }
        if chunk.model:
            self._facts["model"] = str(chunk.model)
        text = ""
        for choice in chunk.choices[:1]:
            if choice.finish_reason:
                self._facts["finish_reason"] = str(choice.finish_reason)
            for call in choice.delta.tool_calls or [] if choice.delta else []:
                self._take_call(call)
            content = choice.delta.content if choice.delta else None
            if content is not None and not isinstance(content, str):
                raise TypeError(f"content is {type(content).__name__}, not text")
            text += self._thoughts.push(content or "")
        return text

    def _take_call(self, piece: Any) -> None:
        # some endpoints number the calls, some only begin a new one with its id or name
        begins = bool(piece.id or (piece.function and piece.function.name))
        index = piece.index if piece.index is not None else len(self._calls) - (0 if begins or not self._calls else 1)
        call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        call["id"] = call["id"] or piece.id or ""
        if piece.function:
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""

    def _tool_calls(self) -> Iterator[ToolCall]:
        for _, call in sorted(self._calls.items()):
            try:
                arguments = json.loads(call["arguments"] or "{}")
            except ValueError as error:
                raise _broken_call(call) from error
            if not isinstance(arguments, dict):
                raise _broken_call(call)
            yield ToolCall(call["id"] or f"call_{uuid4().hex[:12]}", call["name"], arguments)

    def _hang_up(self) -> None:
        """Wake the reading thread: the endpoint has used up its time."""
        self._late = True
        stream = self._stream.response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if isinstance(connection, socket.socket):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is closed already
                return


class _Thoughts:
    """Leaves out what a model thinks aloud between ``<think>`` and ``</think>`` at the beginning of its answer."""

    def __init__(self) -> None:
        self._waiting = ""
        self._state = "beginning"

    def push(self, text: str) -> str:
        self._waiting += text
        if self._state == "beginning":
            begun = self._waiting.lstrip()
            if not begun or (len(begun) < len(_THINKING) and _THINKING.startswith(begun)):
                return ""
            self._state = "thinking" if begun.startswith(_THINKING) else "answer"
        if self._state == "thinking" and _THOUGHT in self._waiting:
            self._state, self._waiting = "thought", self._waiting.partition(_THOUGHT)[2]
        if self._state == "thought":
            self._waiting = self._waiting.lstrip()
            self._state = "answer" if self._waiting else "thought"
        if self._state != "answer":
            return ""
        text, self._waiting = self._waiting, ""
        return text

    def finish(self) -> str:
        return "" if self._state == "thinking" else self._waiting


def _broken_call(call: dict[str, str]) -> BackendError:
    return BackendError(
        f"the model called `{call['name']}` with arguments that are no JSON object: `{call['arguments'][:80]}`",
        "try again, or use a model that is better at calling tools",
        retryable=True,
    )


def typed(error: Exception, silence_s: float) -> EmovaError:
    """Return the SDK's error for whatever the client raised."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return BackendError(f"the endpoint said nothing for {silence_s:g} s", "try again, or raise `timeout_s`", retryable=True)
    if isinstance(error, openai.APIConnectionError):
        reason = str(error.__cause__ or error)
        return BackendError(
            f"the connection to the endpoint failed: {reason}", "check that it runs at `base_url`", retryable=True
        )
    if isinstance(error, openai.APIStatusError):
        return _refusal(error)
    if isinstance(error, openai.APIError):
        return BackendError(f"the endpoint failed while it answered: {error.message}", "try again", retryable=True)
    return BackendError(
        f"the endpoint's answer cannot be understood: {type(error).__name__}: {str(error)[:120]}",
        "check that `base_url` is an OpenAI-compatible endpoint, or try again",
        retryable=True,
    )


def _refusal(error: Any) -> EmovaError:
    """Return the error for an HTTP status."""
    status, detail = int(error.status_code), _detail(error)
    if status in {401, 403}:
        return ConfigError(f"the endpoint refuses the key ({status}): {detail}", "set a valid `api_key`")
    if status == 404:
        return ConfigError(f"the endpoint has no such model or address (404): {detail}", "check `model` and `base_url`")
    if status == 429:
        spent = getattr(error, "code", None) == "insufficient_quota"
        wait = error.response.headers.get("retry-after")
        when = f" for {wait} s" if wait else ""
        hint = "top up the account" if spent else f"wait{when} and try again"
        return BackendError(f"the endpoint is asked too often (429): {detail}", hint, retryable=not spent)
    if status >= 500 or status in {408, 409}:
        return BackendError(f"the endpoint failed ({status}): {detail}", "try again", retryable=True)
    return BackendError(f"the endpoint does not accept the request ({status}): {detail}", "change what is asked of it")


def _detail(error: Any) -> str:
    body = error.body
    message = body.get("message") or body.get("detail") if isinstance(body, dict) else None
    return str(message or error.message)[:200]
