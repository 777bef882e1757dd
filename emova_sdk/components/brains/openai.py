"""A language model behind any OpenAI-compatible endpoint, over the official ``openai`` client.

Two kinds of model are served that way: an ordinary text model (which the bridge gives ears and a voice), and an EMOVA
checkpoint, whose units travel as text (``<|speech_7|>``) in both directions.

Failures become one typed error each, or a success after a retry: a request is repeated as long as nothing of its answer has
been passed on. What is refused for good (401, 403, 404) is a `ConfigError`, everything else a `BackendError`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from emova_sdk.components.base import GenerationOptions, LLMCore, Space, Task
from emova_sdk.components.brains.openai_endpoint import OpenAIEndpoint
from emova_sdk.components.brains.openai_messages import emova_entries, entries
from emova_sdk.components.brains.openai_stream import OpenAIStream, Piece
from emova_sdk.errors import ConfigError, EmovaError, InputError
from emova_sdk.types import (
    LLMEvent,
    Message,
    SpeechUnits,
    Style,
    TextDelta,
    ToolSpec,
)

if TYPE_CHECKING:
    from emova_sdk.components.emova.language.reply import ReplyParser


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
        unopened_thoughts: Whether answers begin with thoughts that no tag opens, because the server's template has opened
            it: each answer is then held back until the closing tag. It is noticed by itself, but only once an answer was
            streamed.
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
        unopened_thoughts: bool = False,
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
        self._timeout_s, self._answer_s, self._retries = timeout_s, answer_s, retries
        self._extra_body = dict(extra_body or {})
        self._endpoint = OpenAIEndpoint(base_url, api_key, timeout_s=timeout_s, retries=retries)
        self._unopened_thoughts = unopened_thoughts

    def load(self) -> None:
        """Make the client; no request is sent.

        Raises:
            ConfigError: If OpenAI's own endpoint is wanted and there is no key, or a proxy cannot be used.
        """
        self._endpoint.open()

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

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
        wire = [entry for message in messages for entry in entries(message, sees_images=self.sees_images)]
        with closing(self._pieces(self._request(wire, options, tools), tools)) as pieces:
            for piece in pieces:
                yield TextDelta(piece) if isinstance(piece, str) else piece

    def _emova(
        self, messages: Sequence[Message], task: Task, style: Style | None, options: GenerationOptions
    ) -> Generator[LLMEvent, None, None]:
        """As a served EMOVA checkpoint is asked and answers: task strings, units as text, a JSON reply."""
        from emova_sdk.components.emova.language.generation import as_transcript
        from emova_sdk.components.emova.language.prompts import conversation
        from emova_sdk.components.emova.language.reply import ReplyParser

        asked = conversation(messages, task=task)
        wire = emova_entries(asked.turns, asked.images, asked.system, sees_images=self.sees_images)
        spoken = any(isinstance(part, SpeechUnits) for part in messages[-1].parts)
        expect = "units" if task == "speak" else "dialogue" if task == "chat" and spoken else "text"
        size = cast("Space", self.units).size
        parser = ReplyParser(expect=expect, speaker=style.speaker if style else "female", units=size)
        events = self._parsed(parser, self._pieces(self._request(wire, options), may_be_empty=task == "transcribe"))
        with closing(events):
            yield from as_transcript(events) if task == "transcribe" else events

    @staticmethod
    def _parsed(parser: ReplyParser, pieces: Generator[Piece, None, None]) -> Generator[LLMEvent, None, None]:
        with closing(pieces):
            for piece in pieces:
                yield from parser.push(piece) if isinstance(piece, str) else [piece]
        yield from parser.finish()

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

    def _pieces(
        self, request: dict[str, Any], tools: Sequence[ToolSpec] = (), *, may_be_empty: bool = False
    ) -> Generator[Piece, None, None]:
        """Send the request and read its answer; again, as long as nothing was answered."""
        names, failed = [tool.name for tool in tools], 0
        while True:
            answered = False
            pieces = OpenAIStream(
                self._endpoint.send(request),
                silence_s=self._timeout_s,
                answer_s=self._answer_s,
                tools=names,
                holds=self._unopened_thoughts,
                may_be_empty=may_be_empty,
            )
            try:
                with pieces:
                    for piece in pieces:
                        answered = True
                        yield piece
            except EmovaError as error:
                self._endpoint.hide_key(error)
                if answered:
                    raise
                if self._endpoint.learn(*pieces.reported, request):
                    continue
                if not getattr(error, "retryable", False) or failed == self._retries:
                    raise
                time.sleep(0.2 * 2**failed)
                failed += 1
            else:
                self._unopened_thoughts = self._unopened_thoughts or pieces.unopened_thoughts
                return


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
