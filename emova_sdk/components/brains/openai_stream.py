"""Reads one answer of an OpenAI-compatible endpoint, streamed or not, tolerating deviations from the protocol."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Self, cast

from emova_sdk.components.brains.openai_calls import CallAssembler
from emova_sdk.components.brains.openai_errors import failures, refusal, typed, words
from emova_sdk.components.brains.openai_events import DONE, EventDecoder, JsonEvent
from emova_sdk.components.brains.spoken_text import SpokenText
from emova_sdk.errors import BackendError, EmovaError, EmptyAnswerError
from emova_sdk.types import Metadata, ToolCall

Piece = str | ToolCall | Metadata
"""What an answer is made of: text as it is written, the tools that are called, facts at the end."""

_STATUS = {
    "insufficient_quota": 429, "rate_limit": 429, "overloaded": 503, "authentication": 401, "api_key": 401,
    "permission": 403, "not_found": 404, "invalid_request": 400, "context_length": 400, "bad_request": 400,
}  # fmt: skip
"""The HTTP status that an error inside an answer would have had, by what its type or code contains."""

_WITHHELD = ("filter", "safety", "refus", "prohibited", "blocked", "recitation")
_USED_UP = ("length", "max_tokens")


class OpenAIStream:
    """The pieces of one answer; iterate it inside ``with``, which closes the connection however it ends.

    Args:
        response: The open response of the endpoint.
        silence_s: Longest silence the client waits for, told in the error.
        answer_s: Seconds after which the connection is hung up, even if the endpoint keeps it alive.
        tools: Names of the tools that may be called.
        holds: Whether the answer is held back until it is clear that it does not begin with thoughts.
        may_be_empty: Whether an answer without a word is an answer.

    Attributes:
        reported: The status and the body of an error that the endpoint reported inside its answer.
    """

    def __init__(
        self,
        response: Any,
        *,
        silence_s: float,
        answer_s: float,
        tools: Collection[str] = (),
        holds: bool = False,
        may_be_empty: bool = False,
    ) -> None:
        self._response = response
        self._silence_s, self._answer_s = silence_s, answer_s
        self._may_be_empty = may_be_empty
        self.reported: tuple[int | None, object] = (0, None)
        self._calls = CallAssembler(tools)
        self._said = SpokenText(tools, holds=holds)
        self._facts: dict[str, Any] = {}
        self._written = ""
        self._thought = False
        self._complete = False
        self._cut = ""
        self._late = False
        self._timer = threading.Timer(answer_s, self._hang_up)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._response.close()
        self._timer.join()

    @property
    def unopened_thoughts(self) -> bool:
        """Whether the answer began with thoughts that no tag opened."""
        return self._said.unopened

    def __iter__(self) -> Iterator[Piece]:
        """Yield the pieces; where text has been passed on that was thought, a fact ``thoughts`` says so.

        Raises:
            ConfigError: If the endpoint refuses the key or does not know the model.
            BackendError: If the answer stalls, breaks off or cannot be understood.
            EmptyAnswerError: If nothing is said and no tool is called.
        """
        self._refuse_pages()
        said = False
        for text in self._texts():
            reported = self.unopened_thoughts
            piece = self._said.push(text)
            if self.unopened_thoughts and not reported:
                yield Metadata({"thoughts": "unopened"})
            if piece:
                said = said or not piece.isspace()
                yield piece
        rest, written = self._said.finish()
        if rest:
            said = said or not rest.isspace()
            yield rest
        calls = [*self._called(), *written]
        if not (said or calls or self._may_be_empty):
            raise self._nothing()
        yield from calls
        yield Metadata(self._facts)

    # --- the wire ---

    def _refuse_pages(self) -> None:
        kind = self._response.headers.get("content-type", "").partition(";")[0]
        if kind == "text/html":
            raise BackendError(
                f"the endpoint answered `{kind}` where a stream of events was expected",
                "check that `base_url` ends where `/chat/completions` begins, e.g. in /v1",
            )

    def _texts(self) -> Iterator[str]:
        """Yield the text as it is written, with thoughts and all, until the answer is complete."""
        half = ""
        try:
            for event in self._events():
                if event.value == DONE:
                    self._complete = True
                    break
                half, text = _whole_characters(half + self._take(event))
                if text:
                    yield text
        except EmovaError:  # the endpoint has said what is wrong
            raise
        except (*failures(), ValueError, TypeError, AttributeError, KeyError) as error:
            if not self._complete:
                raise self._failure(error) from error
        if not self._complete:
            raise self._broken_off()

    def _events(self) -> Iterator[JsonEvent]:
        decoder = EventDecoder()
        for data in self._response.iter_bytes():
            yield from decoder.push(data)
        yield from decoder.finish()
        self._cut = decoder.stray or decoder.pending

    def _failure(self, error: Exception) -> EmovaError:
        if self._late:
            break_off = f"the endpoint did not finish its answer within {self._answer_s:g} s"
            return BackendError(break_off, "raise `answer_s`, or ask for less", retryable=True)
        return typed(error, self._silence_s)

    def _broken_off(self) -> BackendError:
        late = f" within {self._answer_s:g} s" if self._late else ""
        last = f"; it sent `{words(self._cut)[:80]}`" if self._cut else ""
        return BackendError(f"the endpoint broke off before its answer was complete{late}{last}", "try again", retryable=True)

    def _hang_up(self) -> None:
        """Wake the reading thread: the endpoint has used up its time."""
        self._late = True
        stream = self._response.http_response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if isinstance(connection, socket.socket):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is closed already
                return

    # --- what the chunks say ---

    def _take(self, event: JsonEvent) -> str:
        """Take a chunk into account; return the text in it."""
        if event.value is None:
            return ""
        chunks = event.value if isinstance(event.value, list) else [event.value]
        return "".join(self._take_chunk(chunk, event.name) for chunk in cast("list[Any]", chunks))

    def _take_chunk(self, chunk: Any, event: str) -> str:
        if not isinstance(chunk, dict):
            raise TypeError(f"a chunk is a {type(chunk).__name__}, not an object")
        self._refuse(_error_in(cast("dict[str, Any]", chunk), event))
        self._take_facts(cast("dict[str, Any]", chunk))
        choices = cast("dict[str, Any]", chunk).get("choices") or []
        if not isinstance(choices, list):
            raise TypeError(f"`choices` is a {type(choices).__name__}, not a list")
        return self._take_choice(choices[0]) if choices and choices[0] is not None else ""

    def _refuse(self, error: object) -> None:
        """Raise an error that the endpoint reports inside its answer, unless that was complete."""
        if error is not None and not self._complete:
            self.reported = (_status(error), error)
            raise refusal(*self.reported)

    def _take_facts(self, chunk: Mapping[str, Any]) -> None:
        usage = chunk.get("usage")
        if isinstance(usage, Mapping):
            names = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
            self._facts["usage"] = {ours: _count(usage.get(theirs) or usage.get(ours)) for ours, theirs in names.items()}
        if chunk.get("model"):
            self._facts["model"] = str(chunk["model"])

    def _take_choice(self, choice: Mapping[str, Any]) -> str:
        delta, message = choice.get("delta"), choice.get("message")
        body = delta or message or {"content": choice.get("text")}
        body = {"content": body} if isinstance(body, str) else body
        whole = not delta and bool(message)
        reason = choice.get("finish_reason")
        self._refuse(choice.get("error") or ("the model failed" if reason == "error" else None))
        if reason:
            self._facts["finish_reason"] = str(reason)
        self._complete = self._complete or bool(reason) or whole
        self._thought = self._thought or any(body.get(key) for key in ("reasoning_content", "reasoning", "thinking"))
        if not (whole and self._calls):  # the deltas have told of them already
            for key in ("tool_calls", "function_call"):
                self._calls.take(body.get(key))
        text = _text_of(body.get("content")) + _text_of(body.get("refusal"))
        if whole and self._written:
            text = text.removeprefix(self._written) if text.startswith(self._written) else ""
        self._written += text
        return text

    def _called(self) -> list[ToolCall]:
        return self._calls.finish()

    def _nothing(self) -> EmptyAnswerError:
        reason = str(self._facts.get("finish_reason", ""))
        if any(word in reason.casefold() for word in _WITHHELD):
            what, hint, retryable = "the endpoint withheld the answer", "ask differently, or change its filter", False
        elif any(word in reason.casefold() for word in _USED_UP):
            what, hint, retryable = "the model used up its tokens before it said anything", "raise `max_tokens`", False
        else:
            thought = self._thought or bool(self._written.strip())
            what = "the model thought, and said nothing" if thought else "the model's answer is empty"
            hint, retryable = "try again", True
        told = f"{what} (`{reason}`)" if reason else what
        return EmptyAnswerError(told, hint, retryable=retryable, finish_reason=reason)


def _error_in(chunk: Mapping[str, Any], event: str) -> object:
    """Return the error that an endpoint reports inside its answer, in place of a chunk or beside it; None if there is none."""
    error = chunk.get("error")
    if not error and event == "error":
        return chunk
    if not error and "choices" not in chunk and any(chunk.get(key) for key in ("detail", "message", "errors")):
        return chunk
    return error or None


def _status(error: object) -> int | None:
    if not isinstance(error, Mapping):
        return None
    fields = cast("Mapping[str, Any]", error)
    codes = [str(fields.get(key) or "") for key in ("status", "status_code", "code", "type")]
    for code in codes:
        if code.isdecimal() and 400 <= int(code) < 600:
            return int(code)
    told = json.dumps(codes).casefold()
    return next((status for word, status in _STATUS.items() if word in told), None)


def _text_of(content: object) -> str:
    """Return the text of a message's content: a string, parts, or nothing; thoughts are no text of it."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text_of(part) for part in cast("list[object]", content))
    if isinstance(content, Mapping):
        part = cast("Mapping[str, Any]", content)
        kind = str(part.get("type", ""))
        if "think" in kind or "reason" in kind or (kind and "text" not in part):
            return ""
        if "text" in part or "value" in part:
            return _text_of(part.get("text", part.get("value")))
    raise TypeError(f"content is a {type(content).__name__}, not text")


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _whole_characters(text: str) -> tuple[str, str]:
    """Part off a last half of a character; replace halves that nothing completes."""
    half = text[-1:] if "\ud800" <= text[-1:] < "\udc00" else ""
    whole = text.removesuffix(half) if half else text
    return half, whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
