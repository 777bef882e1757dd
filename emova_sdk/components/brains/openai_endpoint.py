"""An OpenAI-compatible endpoint: its address and key, the client for it, and what it has refused so far."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from emova_sdk.components.brains.openai_errors import body_of, failures, named_fields, typed
from emova_sdk.errors import ConfigError, EmovaError, InputError, MissingDependencyError

if TYPE_CHECKING:
    from openai import OpenAI


_OPTIONAL = frozenset({"stream_options", "response_format", "tool_choice", "seed", "temperature", "top_p", "max_tokens"})
"""Fields that some endpoints refuse, with what the caller adds; one that a refusal names is left out from then on."""

_MAY_NAME = frozenset({400, 422, 500, 501, None})
"""Statuses of refusals that name a field; None is an error inside an answer."""

_SHORTEST_KEY = 8
"""Characters below which a key is a placeholder, such as ``none``, and no secret."""


class OpenAIEndpoint:
    """Sends requests; what one refusal has taught holds for all that follow.

    Args:
        base_url: Its address; OpenAI's own when empty.
        api_key: Its key; the environment variable ``OPENAI_API_KEY`` when empty.
        timeout_s: Longest silence, in seconds.
        retries: How often the client repeats a request that may succeed later.

    Raises:
        ConfigError: If the address or the key cannot be one.
    """

    def __init__(self, base_url: str, api_key: str, *, timeout_s: float, retries: int) -> None:
        self._base_url = _address(base_url)
        self._api_key = _key(api_key)
        self._timeout_s, self._retries = timeout_s, retries
        self._refused: set[str] = set()
        self._client: OpenAI | None = None

    def open(self) -> OpenAI:
        """Return the client, made when it is first needed; no request is sent.

        Raises:
            ConfigError: If OpenAI's own endpoint is wanted and there is no key, or the environment names a proxy or a
                certificate that cannot be used.
            MissingDependencyError: If it names a SOCKS proxy and the package for it is not installed.
        """
        if self._client is None:
            self._client = self._connected()
        return self._client

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def send(self, request: Mapping[str, Any]) -> Any:
        """Send a request; return the open response, not read yet.

        The client itself tries again what may pass (429 with its Retry-After, 5xx, lost connections).

        Raises:
            ConfigError: If the endpoint refuses the key or does not know the model.
            BackendError: If it fails in any other way.
            InputError: If the request cannot be written as JSON.
        """
        while True:
            fields = self._adapted(request)
            answer, error = self._attempt(fields)
            if error is None:
                return answer
            if not self.learn(getattr(error, "status_code", 0), body_of(error), request):
                failure = typed(error, self._timeout_s)
                raise failure from (None if self.hide_key(failure) or self.hide_key(error) else error)

    def _attempt(self, fields: dict[str, Any]) -> tuple[Any, Exception | None]:
        """Send once; an error is returned, so that what may repeat the key is no context of the one that is raised."""
        create = self.open().chat.completions.with_streaming_response.create
        try:
            return create(**fields).__enter__(), None
        except (UnicodeError, TypeError) as error:
            raise InputError(f"the request cannot be written: {error}", "use text without halves of characters") from error
        except failures() as error:
            return None, error

    def hide_key(self, error: Exception) -> bool:
        """Blot out the key in an error's message, which endpoints repeat; return whether it was there."""
        keys = [key for key in (self._api_key, os.environ.get("OPENAI_API_KEY", "").strip()) if len(key) >= _SHORTEST_KEY]
        message = shown = str(error.message) if isinstance(error, EmovaError) else str(error)
        for key in keys:
            message = message.replace(key, "***")
        if isinstance(error, EmovaError):
            error.message = message
            error.args = (message, *error.args[1:])
        return message != shown

    # --- what it refuses ---

    def _adapted(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out what the endpoint is known to refuse."""
        fields = {key: value for key, value in request.items() if key not in self._refused}
        if "max_tokens" in self._refused and "max_completion_tokens" not in self._refused:
            fields["max_completion_tokens"] = request["max_tokens"]
        if "extra_body" in fields:
            fields["extra_body"] = {key: one for key, one in fields["extra_body"].items() if key not in self._refused}
        if "tools and response_format" in self._refused and "tools" in fields:
            fields.pop("response_format", None)
        return fields

    def learn(self, status: int | None, body: object, request: Mapping[str, Any]) -> bool:
        """Take note of what an endpoint did not accept; return whether the request can do without it.

        Args:
            status: The HTTP status; None for an error inside an answer.
            body: What came with it.
            request: What was asked.
        """
        if status not in _MAY_NAME:
            return False
        fields = self._adapted(request)
        both = "tools" in fields and "response_format" in fields
        sent = (_OPTIONAL | {"max_completion_tokens"}) & fields.keys()
        named = named_fields(body, set(sent | {"tools"} if both else sent) | set(fields.get("extra_body", {})))
        if both and ("tools" in named or (not named and status in {400, 422})):
            named = {"tools and response_format"}  # each may be accepted alone
        elif "max_tokens" in fields and named_fields(body, {"max_completion_tokens"}):
            named.add("max_tokens")
        self._refused |= named
        return bool(named)

    # --- the client ---

    def _connected(self) -> OpenAI:
        import openai

        base_url = self._base_url or _address(os.environ.get("OPENAI_BASE_URL", ""))
        key = self._api_key or _key(os.environ.get("OPENAI_API_KEY", ""))
        if not key and not base_url:
            raise ConfigError("there is no key for OpenAI's endpoint", "set OPENAI_API_KEY, or `base_url` for another endpoint")
        timeout = openai.Timeout(self._timeout_s, connect=min(10.0, self._timeout_s))
        try:
            return openai.OpenAI(api_key=key or "none", base_url=base_url or None, timeout=timeout, max_retries=self._retries)
        except ImportError as error:
            raise MissingDependencyError(
                "the environment names a SOCKS proxy, and the package `socksio` is not installed",
                "run `pip install socksio`, or unset ALL_PROXY, HTTP_PROXY and HTTPS_PROXY",
                package="socksio",
            ) from error
        except (*failures(), ValueError) as error:
            raise ConfigError(
                f"the connection cannot be set up: {error}",
                "check the environment's proxies (HTTP_PROXY, NO_PROXY, ...) and SSL_CERT_FILE",
            ) from error


def _key(written: str) -> str:
    """Return a key without the white space around it; the key is in no message."""
    key = written.strip()
    if odd := next((char for char in key if not "!" <= char <= "~"), None):
        raise ConfigError(f"`api_key` holds a character that no key has (U+{ord(odd):04X})", "copy the key again, and it alone")
    if key[:1] in {'"', "'"} or key[-1:] in {'"', "'"}:
        raise ConfigError("`api_key` is in quotes", "give the key without them")
    return key


def _address(written: str) -> str:
    """Return an address as the client takes it."""
    address = written.strip().rstrip("/")
    hint = "write it as http://localhost:8000/v1"
    if not address:
        return ""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ConfigError(f"`base_url` is no address: {error}", hint) from error
    if re.search(r"[\s\x00-\x1f\\]", address) or not usable:
        raise ConfigError(f"`base_url` is `{address}`, which is no address of http or https", hint)
    if re.search(r"/(chat/)?completions$", parts.path):
        raise ConfigError(f"`base_url` is `{address}`, the address of one service", "leave out `/chat/completions`")
    return address
