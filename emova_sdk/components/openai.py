"""A language model behind any OpenAI-compatible endpoint, over the official ``openai`` client.

Two kinds of model are served that way: an ordinary text model (which the bridge gives ears and a voice), and an EMOVA
checkpoint, whose units travel as text (``<|speech_7|>``) in both directions.

Failures become one typed error each, or a success after a retry: a request is repeated as long as nothing of its answer has
been passed on. What is refused for good (401, 403, 404) is a `ConfigError`, everything else a `BackendError`.
"""

from __future__ import annotations

import base64
import io
import os
import re
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from emova_sdk.components.base import GenerationOptions, LLMCore, Space, Task
from emova_sdk.components.openai_stream import OpenAIStream, Piece, typed
from emova_sdk.errors import BackendError, ConfigError, InputError
from emova_sdk.types import (
    Audio,
    Image,
    LLMEvent,
    Message,
    SpeechUnits,
    Style,
    TextDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
    VisionFeatures,
)

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["OpenAICore"]

CUT_OFF = " [the user interrupted here]"
"""Follows an earlier answer in what the model reads, where the user cut it off."""

_OPTIONAL = ("stream_options", "response_format", "tool_choice", "seed", "temperature", "top_p")
"""Fields that some endpoints refuse; one that is named in a refusal is left out from then on."""


class OpenAICore(LLMCore):
    """Answers with a model behind an OpenAI-compatible endpoint.

    Args:
        model: Name of the model at the endpoint.
        base_url: Address of the endpoint, e.g. ``http://localhost:8000/v1``; OpenAI's own when empty.
        api_key: Key; the environment variable ``OPENAI_API_KEY`` when empty. An endpoint of your own may need none.
        tools: Whether the model can call tools.
        sees_images: Whether the model reads pictures.
        units: For a served EMOVA checkpoint, the space of its units, e.g. ``emova-fsq-8888[4096]``; empty for a text model.
        timeout_s: Longest silence of the endpoint, in seconds.
        answer_s: Longest answer, in seconds from the request to its end.
        retries: How often a request is repeated that failed before anything was answered.
        extra_body: Further fields of each request, for what only some servers know.

    Raises:
        ConfigError: If an option is out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "",
        api_key: str = "",
        tools: bool = True,
        sees_images: bool = False,
        units: str = "",
        timeout_s: float = 30.0,
        answer_s: float = 300.0,
        retries: int = 2,
        extra_body: dict[str, Any] | None = None,
    ) -> None:
        if not model:
            raise ConfigError("`model` is empty", "name the model the endpoint serves")
        if timeout_s <= 0 or answer_s <= 0 or retries < 0:
            raise ConfigError("a time-out is not positive, or `retries` is negative", "use e.g. timeout_s = 30 and retries = 2")
        self.model = model
        self.units = _space(units) if units else None
        self.vision = None
        self.tools = tools and self.units is None
        self.sees_images = sees_images
        self._base_url, self._api_key = base_url, api_key
        self._timeout_s, self._answer_s, self._retries = timeout_s, answer_s, retries
        self._extra_body = dict(extra_body or {})
        self._refused: set[str] = set()
        self._client: OpenAI | None = None

    def load(self) -> None:
        """Make the client; no request is sent.

        Raises:
            ConfigError: If OpenAI's own endpoint is wanted and there is no key.
        """
        self._opened()

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def generate(
        self,
        messages: Sequence[Message],
        *,
        task: Task = "chat",
        style: Style | None = None,
        tools: Sequence[ToolSpec] = (),
        options: GenerationOptions = GenerationOptions(),
    ) -> Generator[LLMEvent, None, None]:
        """Answer the last message; closing the generator closes the connection, which stops the endpoint's work.

        Raises:
            InputError: If a message holds what the model cannot read.
            ConfigError: If the endpoint refuses the key, or does not know the model.
            BackendError: If it fails in any other way; ``retryable`` says whether a later attempt may succeed.
        """
        if not messages:
            raise InputError("there is no message to answer", "pass at least one")
        if self.units is not None:
            return self._emova(messages, task, style, options)
        if task != "chat":
            raise ConfigError(f"`{self.model}` is a text model: it cannot {task}", "put it behind the `bridge` llm_core")
        return self._text(messages, tools, options)

    def _text(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], options: GenerationOptions
    ) -> Generator[LLMEvent, None, None]:
        wire = [entry for message in messages for entry in _entries(message, sees_images=self.sees_images)]
        with closing(self._pieces(self._request(wire, options, tools))) as pieces:
            for piece in pieces:
                yield TextDelta(piece) if isinstance(piece, str) else piece

    def _emova(
        self, messages: Sequence[Message], task: Task, style: Style | None, options: GenerationOptions
    ) -> Generator[LLMEvent, None, None]:
        """As a served EMOVA checkpoint is asked and answers: task strings, units as text, a JSON reply."""
        from emova_sdk.components.emova.prompts import conversation
        from emova_sdk.components.emova.reply import ReplyParser

        asked = conversation(messages, task=task)
        wire = _emova_entries(asked.turns, asked.images, asked.system, sees_images=self.sees_images)
        spoken = any(isinstance(part, SpeechUnits) for part in messages[-1].parts)
        expect = "units" if task == "speak" else "dialogue" if task == "chat" and spoken else "text"
        size = cast("Space", self.units).size
        parser = ReplyParser(expect=expect, speaker=style.speaker if style else "female", units=size)
        written = ""
        with closing(self._pieces(self._request(wire, options))) as pieces:
            for piece in pieces:
                for event in parser.push(piece) if isinstance(piece, str) else [piece]:
                    if task == "transcribe" and isinstance(event, TextDelta):
                        written += event.text
                    else:
                        yield event
        for event in parser.finish():
            if task == "transcribe" and isinstance(event, TextDelta):
                written += event.text
            else:
                yield event
        if task == "transcribe":
            yield Transcript(written.strip())

    # --- the request ---

    def _request(
        self, wire: list[dict[str, Any]], options: GenerationOptions, tools: Sequence[ToolSpec] = ()
    ) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self.model,
            "messages": wire,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": options.max_tokens,
            "temperature": options.temperature,
        }
        if options.top_p < 1:
            request["top_p"] = options.top_p
        if options.seed is not None:
            request["seed"] = options.seed
        if tools:
            request["tools"] = [{"type": "function", "function": _function(tool)} for tool in tools]
            if options.tool_choice != "auto":
                named = {"type": "function", "function": {"name": options.tool_choice}}
                request["tool_choice"] = "required" if options.tool_choice == "any" else named
        if options.json_schema is not None:
            request["response_format"] = {"type": "json_schema", "json_schema": _named_schema(options.json_schema)}
        if self._extra_body:
            request["extra_body"] = self._extra_body
        return request

    def _pieces(self, request: dict[str, Any]) -> Generator[Piece, None, None]:
        """Send the request and read its answer; again, as long as nothing was answered."""
        for attempt in range(self._retries + 1):
            answered = False
            try:
                with OpenAIStream(self._send(request), silence_s=self._timeout_s, answer_s=self._answer_s) as pieces:
                    for piece in pieces:
                        answered = True
                        yield piece
            except BackendError as error:
                if answered or not error.retryable or attempt == self._retries:
                    raise
                time.sleep(0.2 * 2**attempt)
            else:
                return

    def _send(self, request: dict[str, Any]) -> Any:
        """Open the stream. The client itself retries what may pass (429 with its Retry-After, 5xx, lost connections)."""
        import openai

        while True:
            fields = self._adapted(request)
            try:
                return self._opened().chat.completions.create(**fields)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._learn(str(error), fields):
                    raise typed(error, self._timeout_s) from error
            except openai.OpenAIError as error:
                raise typed(error, self._timeout_s) from error

    def _adapted(self, request: dict[str, Any]) -> dict[str, Any]:
        fields = {key: value for key, value in request.items() if key not in self._refused}
        if "max_tokens" in self._refused:
            fields["max_completion_tokens"] = request["max_tokens"]
        return fields

    def _learn(self, refusal: str, fields: Mapping[str, Any]) -> bool:
        """Take note of an optional field that the endpoint does not accept; return whether there was one."""
        named = {field for field in _OPTIONAL if field in fields and field in refusal}
        if "max_tokens" in fields and "max_completion_tokens" in refusal:
            named.add("max_tokens")
        self._refused |= named
        return bool(named)

    def _opened(self) -> OpenAI:
        if self._client is None:
            import openai

            key = self._api_key or os.environ.get("OPENAI_API_KEY", "")
            if not key and not self._base_url:
                raise ConfigError(
                    "there is no key for OpenAI's endpoint", "set OPENAI_API_KEY, or `base_url` for another endpoint"
                )
            timeout = openai.Timeout(self._timeout_s, connect=min(10.0, self._timeout_s))
            self._client = openai.OpenAI(
                api_key=key or "none", base_url=self._base_url or None, timeout=timeout, max_retries=self._retries
            )
        return self._client


def _space(text: str) -> Space:
    match = re.fullmatch(r"([\w.-]+)\[(\d+)\]", text)
    if not match:
        raise ConfigError(f"`units` is `{text}`, which is not a space", "write it as `emova-fsq-8888[4096]`")
    return Space(match[1], int(match[2]))


def _function(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


def _named_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    # an endpoint may enforce a schema only if every property is required and none is added
    complete = set(schema.get("required", ())) == set(schema.get("properties", {}))
    strict = complete and schema.get("additionalProperties") is False
    name = re.sub(r"[^\w-]", "_", str(schema.get("title", "answer")))[:64] or "answer"
    return {"name": name, "schema": dict(schema), "strict": strict}


# --- messages as the endpoint reads them ---


def _entries(message: Message, *, sees_images: bool) -> list[dict[str, Any]]:
    """Write a message for a text model; the results of tools become one entry each."""
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    if message.role == "tool":
        return [{"role": "tool", "tool_call_id": one.id, "content": _result(one)} for one in results]
    if message.role == "assistant":
        return [_assistant(message)]
    content = [_content(part, sees_images=sees_images) for part in message.parts]
    only_text = all(part["type"] == "text" for part in content)
    return [{"role": message.role, "content": "\n".join(part["text"] for part in content) if only_text else content}]


def _result(result: ToolResult) -> str:
    return f"error: {result.content}" if result.failed else result.content


def _assistant(message: Message) -> dict[str, Any]:
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    entry: dict[str, Any] = {"role": "assistant", "content": message.text + (CUT_OFF if message.interrupted else "")}
    if calls:
        import json

        entry["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))}}
            for call in calls
        ]
    return entry


def _content(part: object, *, sees_images: bool) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, Image):
        if not sees_images:
            raise InputError("the model behind the endpoint is not known to see", "set `sees_images = true` if it does")
        return {"type": "image_url", "image_url": {"url": _data_url(part)}}
    if isinstance(part, SpeechUnits | Audio):
        raise InputError("the model behind the endpoint reads text alone", "put it behind the `bridge` llm_core")
    if isinstance(part, VisionFeatures):
        raise InputError(
            "vision features cannot travel to an endpoint", "leave the vision encoder out and set `sees_images = true`"
        )
    raise InputError(f"a user's message cannot hold a {type(part).__name__}", "use text and pictures")


def _emova_entries(
    turns: Sequence[tuple[str, str | None]], images: Sequence[object], system: str | None, *, sees_images: bool
) -> list[dict[str, Any]]:
    """Write EMOVA's turns, each picture in the place of its mark; the server adds the template."""
    from emova_sdk.components.emova.prompts import IMAGE_MARK

    pictures = iter(images)
    wire: list[dict[str, Any]] = [{"role": "system", "content": system}] if system is not None else []
    for role, text in turns:
        if text is None:  # what is to be written
            continue
        content: list[dict[str, Any]] = []
        for index, piece in enumerate(text.split(IMAGE_MARK)):
            if index:
                content.append(_content(next(pictures), sees_images=sees_images))
            if piece.strip():
                content.append({"type": "text", "text": piece.lstrip("\n") if index else piece})
        only_text = all(part["type"] == "text" for part in content)
        wire.append({"role": role, "content": "".join(part["text"] for part in content) if only_text else content})
    return wire


def _data_url(image: Image) -> str:
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray(image.pixels).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
