"""The SDK's error for whatever an OpenAI-compatible endpoint, or the client for it, reports."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import cast

from emova_sdk.errors import BackendError, ConfigError, ContextLengthError, EmovaError

_SAYS = ("message", "msg", "detail", "error", "errors", "error_description", "description", "title", "reason", "code", "type")
"""Keys under which endpoints put what happened, the most telling first."""

_ECHO = frozenset({"input", "ctx", "body", "request", "received"})
"""Keys under which they repeat what they were sent."""

_OTHER_NAMES = {
    "response_format": re.compile(
        r"json_schema|guided[_ ](?:json|decoding|grammar)|\bgrammar\b|structured[_ ]outputs?", re.IGNORECASE
    )
}
"""What servers call a field besides its name."""

_SPENT = ("insufficient_quota", "insufficient_balance", "billing", "credit_limit")
_KEY = ("refuses the key", "set a valid `api_key`")
_ADDRESS = (
    "has no such model or address",
    "check `model`, and that `base_url` ends where `/chat/completions` begins, e.g. in /v1",
)
_CONFIG: Mapping[int | None, tuple[str, str]] = {401: _KEY, 403: _KEY, 404: _ADDRESS, 405: _ADDRESS}
"""What is refused for good, and what to do about it."""


_TOO_LONG = re.compile(
    r"context[_ ](length|size|window)|prompt is too long|too many (input |prompt )?tokens|input token count", re.IGNORECASE
)
"""How endpoints say that a conversation is longer than the model reads."""


def failures() -> tuple[type[Exception], ...]:
    """Return what the client raises: its own errors, and those of the HTTP library below it, whichever that is."""
    import openai

    loaded = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    names = ("HTTPError", "StreamError", "InvalidURL")
    return (openai.OpenAIError, OSError, *(getattr(module, name) for module in loaded for name in names))


def typed(error: Exception, silence_s: float) -> EmovaError:
    """Return the SDK's error for whatever the client raised."""
    import openai

    reason = error.__cause__ or error
    if isinstance(error, openai.APITimeoutError) or "Timeout" in type(reason).__name__:
        return BackendError(f"the endpoint said nothing for {silence_s:g} s", "try again, or raise `timeout_s`", retryable=True)
    if isinstance(error, openai.APIStatusError):
        answer = error.response
        return refusal(int(error.status_code), body_of(error) or answer.reason_phrase, answer.headers.get("retry-after"))
    if "Redirects" in type(reason).__name__:
        return BackendError("the endpoint redirects without end", "check `base_url`")
    if isinstance(error, openai.APIConnectionError | OSError) or type(reason).__module__.startswith("httpx"):
        said = str(reason) or type(reason).__name__
        return BackendError(
            f"the connection to the endpoint failed: {said}", "check that it runs at `base_url`, or try again", retryable=True
        )
    return BackendError(
        f"the endpoint's answer cannot be understood: {type(error).__name__}: {str(error)[:120]}",
        "check that `base_url` is an OpenAI-compatible endpoint, or try again",
        retryable=True,
    )


def body_of(error: Exception) -> object:
    """Return what came with an HTTP status: its JSON, or its text; empty for any other error."""
    response = getattr(error, "response", None)
    text = str(response.text) if response is not None and response.is_closed else ""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def refusal(status: int | None, body: object, wait: str | None = None) -> EmovaError:
    """Return the error for an HTTP status and what came with it; without a status, for an error inside an answer."""
    detail = words(body) or "it does not say why"
    if status in _CONFIG:
        what, hint = _CONFIG[status]
        return ConfigError(f"the endpoint {what} ({status}): {detail}", hint)
    if status in {400, 413, 422} and any(_TOO_LONG.search(text) for _, text in _texts(body)):
        hint = "leave out the oldest messages, or shorten what is asked"
        return ContextLengthError(f"the conversation is longer than the endpoint's model reads ({status}): {detail}", hint)
    what, hint, retryable = "does not accept the request", "change what is asked of it", False
    if status is None:
        return BackendError(f"the endpoint failed while it answered: {detail}", "try again", retryable=True)
    if status in {402, 429}:
        retryable = status == 429 and not any(word in json.dumps(body, default=str) for word in _SPENT)
        what = "is asked too often" if retryable else "asks for payment"
        hint = f"wait{f' for {wait} s' if wait else ''} and try again" if retryable else "top up the account"
    elif status >= 500 or status in {408, 409, 425}:
        what, hint, retryable = "failed", "try again", True
    elif status < 400:
        what, hint = "redirects", "set `base_url` to where it redirects"
    elif "tool" in detail:
        hint = "set `tools = false` if the model calls none"
    return BackendError(f"the endpoint {what} ({status}): {detail}", hint, retryable=retryable)


def words(body: object) -> str:
    """Return what an error's body says, whatever its form, in at most 200 characters."""
    return _words(body)[:200]


def _words(body: object) -> str:
    if isinstance(body, Mapping):
        fields = cast("Mapping[str, object]", body)
        place = fields.get("loc")
        said = next((found for key in _SAYS if (found := _words(fields.get(key)))), "")
        return f"{'.'.join(map(str, place))}: {said}" if isinstance(place, list | tuple) else said
    if isinstance(body, list | tuple):
        return "; ".join(filter(None, map(_words, cast("list[object]", body)[:3])))
    if isinstance(body, bytes):
        return _words(body.decode("utf-8", "replace"))
    if body is None or isinstance(body, bool):
        return ""
    text = str(body)
    if "<" in text:  # a page of a proxy
        text = html.unescape(re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", text))
    return " ".join(text.split())


def named_fields(body: object, fields: set[str]) -> set[str]:
    """Return which of the fields a refusal is about: those its details point at, or else those its words name."""
    pointed = {name for name in fields for key, text in _texts(body) if key in {"loc", "param"} and _names(text, name)}
    return pointed or {name for name in fields for _, text in _texts(body) if _names(text, name)}


def _names(text: str, field: str) -> bool:
    also = _OTHER_NAMES.get(field)
    return (also is not None and also.search(text) is not None) or re.search(
        rf"(?<![A-Za-z_]){re.escape(field)}(?![A-Za-z_])", text
    ) is not None


def _texts(body: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Walk the strings of a body, each with the key it stands under; what only repeats the request is left out."""
    if isinstance(body, Mapping):
        for name, value in cast("Mapping[str, object]", body).items():
            if name not in _ECHO:
                yield from _texts(value, str(name))
    elif isinstance(body, list | tuple):
        for value in cast("list[object]", body):
            yield from _texts(value, key)
    elif isinstance(body, str):
        yield key, body
