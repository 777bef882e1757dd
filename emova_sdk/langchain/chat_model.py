"""EMOVA as a LangChain chat model: text, pictures and speech in; text and speech out; style on every turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, closing
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field

from emova_sdk.components.base import GenerationOptions
from emova_sdk.errors import ConfigError
from emova_sdk.langchain.messages import audio_block, messages_for
from emova_sdk.langchain.turn import TurnRecord
from emova_sdk.pipeline import Pipeline
from emova_sdk.policy import StylePolicy
from emova_sdk.session import astream
from emova_sdk.types import (
    Audio,
    AudioDelta,
    Image,
    LLMEvent,
    Message,
    Part,
    PerceivedStyle,
    Style,
    TextDelta,
    ToolCall,
    ToolSpec,
)

__all__ = ["ChatEmova"]

Event = LLMEvent | AudioDelta


class ChatEmova(BaseChatModel):
    """EMOVA as a LangChain chat model.

    An answer is text and, if the pipeline has a voice, audio blocks (WAV in base64) with the style in their ``extras``.
    ``response_metadata["emova"]`` tells the turn once: ``transcript``, ``user_style``, ``style``, ``requested_style``,
    ``timings``. While streaming, each piece of sound is a block of its own with an ``index`` of its own.

    Example:
        .. code-block:: python

            chat = ChatEmova(model="emova-nano")
            answer = chat.invoke([HumanMessage(content_blocks=[audio_block(Audio.open("question.wav"))])])
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str = "emova-nano"
    """A preset's name or the path of a config; what the pipeline is made of."""
    pipeline: Any = Field(default=None, exclude=True, repr=False)
    """A `Pipeline` of your own, in place of ``model``."""
    style: Style | None = None
    """Style of every answer, whatever the model chooses; None leaves emotion and pitch to it."""
    policy: StylePolicy | None = None
    """Rules on how answers are spoken; the pipeline's by default."""
    speak: bool = True
    """Whether answers are spoken (where the pipeline has a voice)."""
    media_folder: Path | None = None
    """Where sounds and pictures are that messages name by ``file_id``."""
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    stop: list[str] | None = None
    """Texts before which an answer ends."""
    streaming: bool = False
    """Whether ``invoke`` streams as well, for callbacks that follow each token."""

    @property
    def _llm_type(self) -> str:
        return "emova"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "style": self.style.to_dict() if self.style else None, "speak": self.speak}

    @cached_property
    def wired(self) -> Pipeline:
        """The pipeline, made on first use."""
        return self.pipeline if self.pipeline is not None else Pipeline.from_config(self.model)

    # --- tools and structured output ---

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        Args:
            tools: Functions, tools, pydantic classes or schemas.
            tool_choice: ``auto``, ``none``, ``any`` (or ``required``, True), or a tool's name.
            kwargs: Passed on with each call.
        """
        formatted = [convert_to_openai_tool(tool) for tool in tools]
        return cast("Any", self.bind(tools=formatted, tool_choice=_choice(tool_choice), **kwargs))

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["function_calling", "json_schema", "json_mode"] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Let the model answer in the form of a schema, silently.

        Args:
            schema: A pydantic class, a ``TypedDict`` or a JSON Schema.
            include_raw: Whether the message and any parsing error are returned as well.
            method: ``function_calling`` where the model calls tools (the default there), ``json_schema`` or ``json_mode``.
            kwargs: ``strict`` is accepted; what an endpoint can enforce it does.
        """
        kwargs.pop("strict", None)
        if method is None:
            llm = self.wired.llm_core
            method = "function_calling" if llm is not None and llm.tools else "json_schema"
        if method == "function_calling":
            quiet = self.model_copy(update={"speak": False})
            return super(ChatEmova, quiet).with_structured_output(schema, include_raw=include_raw, **kwargs)
        from emova_sdk.langchain.structured import parsed

        form = convert_to_json_schema(schema) if method == "json_schema" else {"type": "object"}
        traced = {"kwargs": {"method": method}, "schema": schema}
        asked = self.bind(json_schema=form, ls_structured_output_format=traced, **kwargs)
        return parsed(asked, schema, include_raw=include_raw)

    # --- answering ---

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the framework tells the callbacks
        **kwargs: Any,
    ) -> ChatResult:
        record = TurnRecord(self.model)
        with closing(self._events(messages, record, stop, kwargs)) as events:
            for _ in events:
                pass
        return ChatResult(generations=[ChatGeneration(message=record.message())])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        record = TurnRecord(self.model)
        async with aclosing(astream(self._events(messages, record, stop, kwargs))) as events:
            async for _ in events:
                pass
        return ChatResult(generations=[ChatGeneration(message=record.message())])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with closing(self._chunks(messages, stop, kwargs)) as chunks:
            yield from chunks

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(astream(self._chunks(messages, stop, kwargs))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _chunks(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> Generator[ChatGenerationChunk, None, None]:
        """The answer piece by piece: text under index 0, each piece of sound and each tool call under a new one."""
        record, index = TurnRecord(self.model), 0
        blocks = self._aloud(kwargs)
        empty: Any = [] if blocks else ""
        with closing(self._events(messages, record, stop, kwargs)) as events:
            for event in events:
                if isinstance(event, TextDelta) and event.text:
                    text = [{"type": "text", "text": event.text, "index": 0}]
                    yield _chunk(cast("Any", text) if blocks else event.text)
                elif isinstance(event, AudioDelta) and len(event.audio.samples):
                    index += 1
                    yield _chunk([cast("Any", audio_block(event.audio, record.style, index=index, units=event.units))])
                elif isinstance(event, ToolCall):
                    index += 1
                    call = record.call_chunk(event, index)
                    yield ChatGenerationChunk(message=AIMessageChunk(content=empty, tool_call_chunks=[call]))
        last = AIMessageChunk(
            content=empty,
            response_metadata=record.metadata(),
            usage_metadata=record.usage(),
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)

    def _aloud(self, kwargs: dict[str, Any]) -> bool:
        return bool(kwargs.get("speak", self.speak)) and self.wired.vocoder is not None and "json_schema" not in kwargs

    def _events(
        self, messages: list[BaseMessage], record: TurnRecord, stop: list[str] | None, kwargs: dict[str, Any]
    ) -> Generator[Event, None, None]:
        """Understand the messages and let the pipeline answer; the record takes note of everything."""
        tools = _tool_specs(kwargs.get("tools") or [], kwargs.get("tool_choice"))
        self._require_tools(tools)
        read = messages_for(messages, self._hearing(record), media_folder=self.media_folder)
        record.understood(read)
        style = kwargs.get("style", self.style)
        answer = self.wired.answer(
            read,
            style=Style.from_dict(style) if isinstance(style, dict) else style,
            policy=self.policy,
            perceived=record.perceived,
            tools=tools,
            options=self._options(kwargs),
            aloud=self._aloud(kwargs),
        )
        with closing(_until(answer, stop or self.stop or [])) as events:
            for event in events:
                record.note(event)
                yield event
        record.finish()

    def _require_tools(self, tools: Sequence[ToolSpec]) -> None:
        llm = self.wired.llm_core
        if tools and llm is not None and not llm.tools:
            hint = "use one that does, e.g. behind the `bridge` llm_core"
            raise ConfigError(f"the language model of `{self.model}` does not call tools", hint)

    def _hearing(self, record: TurnRecord) -> Any:
        """Make what encodes a user's parts, and keeps for the record how the last of them sounded."""

        def hear(parts: Sequence[str | Audio | Image], known: PerceivedStyle | None) -> Message:
            encoded: list[Part] = []
            perceived = known
            for part in parts:
                if isinstance(part, Audio):
                    perceived = self.wired.perceive(part) or perceived
                    encoded.append(self.wired.hear(part))
                else:
                    encoded.append(self.wired.see(part) if isinstance(part, Image) else part)
            record.perceived = perceived
            return Message("user", tuple(encoded), style=perceived)

        return hear

    def _options(self, kwargs: dict[str, Any]) -> GenerationOptions:
        names = ("max_tokens", "temperature", "top_p", "seed")
        given = {name: value for name in names if (value := kwargs.get(name, getattr(self, name))) is not None}
        choice = str(kwargs.get("tool_choice") or "auto")
        return GenerationOptions(
            **given, tool_choice="auto" if choice == "none" else choice, json_schema=kwargs.get("json_schema")
        )


def _chunk(content: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content))


def _choice(tool_choice: str | bool | dict[str, Any] | None) -> str | None:
    """Say it in the words of `GenerationOptions`."""
    if isinstance(tool_choice, dict):
        return str(tool_choice.get("function", tool_choice).get("name", "any"))
    if isinstance(tool_choice, bool):
        return "any" if tool_choice else None
    return "any" if tool_choice == "required" else tool_choice


def _tool_specs(tools: Sequence[Any], choice: str | None) -> list[ToolSpec]:
    if choice == "none":
        return []
    functions = [convert_to_openai_tool(tool)["function"] for tool in tools]
    empty = {"type": "object", "properties": {}}
    return [ToolSpec(one["name"], one.get("description", ""), one.get("parameters") or empty) for one in functions]


def _until(events: Generator[Event, None, None], stop: Sequence[str]) -> Generator[Event, None, None]:
    """End before a stop text; what may be the beginning of one is held back until that is known."""
    longest = max((len(text) for text in stop), default=1)
    held = ""
    with closing(events):
        for event in events:
            if not stop or not isinstance(event, TextDelta):
                yield event
                continue
            held += event.text
            found = [at for text in stop if (at := held.find(text)) >= 0]
            if found:
                yield TextDelta(held[: min(found)])
                return
            ready, held = held[: len(held) - longest + 1], held[len(held) - longest + 1 :]
            if ready:
                yield TextDelta(ready)
        if held:
            yield TextDelta(held)
