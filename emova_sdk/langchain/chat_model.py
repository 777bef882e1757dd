"""EMOVA as a LangChain chat model: text, pictures and speech in; text and speech out; style on every turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, closing
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from emova_sdk.errors import ConfigError, InputError
from emova_sdk.langchain.answer_message import AnswerMessage
from emova_sdk.langchain.identity import identity_of
from emova_sdk.langchain.messages import Encoding, as_endpoints_read_it, audio_block, messages_for, with_digests
from emova_sdk.langchain.options import CallOptions, openai_tools, refuse_strict, tool_specs
from emova_sdk.langchain.options import tool_choice as choice_of
from emova_sdk.langchain.tokens import TokenCounter, word_ids, words_in
from emova_sdk.pipeline import Pipeline
from emova_sdk.policy import StylePolicy
from emova_sdk.response import astream
from emova_sdk.turn_builder import TurnBuilder
from emova_sdk.types import (
    Audio,
    AudioDelta,
    Image,
    Message,
    Part,
    PerceivedStyle,
    SpokenEvent,
    Style,
    TextDelta,
    ToolCall,
)

__all__ = ["ChatEmova"]


_wiring = RLock()
"""`batch` calls a model from several threads, which must not make two pipelines of it."""


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
    _wired: Pipeline | None = PrivateAttr(default=None)

    @property
    def _llm_type(self) -> str:
        return "emova"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Everything that changes an answer, and no key of an endpoint: a cache compares nothing else but the messages."""
        own = {**self._defaults(), "policy": self.policy, "own_stop": self.stop}  # LangChain writes a call's under `stop`
        return {
            "model": self.model,
            **{name: value if isinstance(value, int | float) else repr(value) for name, value in own.items()},
            "wired": identity_of(self.wired),
        }

    def _defaults(self) -> dict[str, Any]:
        names = ("style", "speak", "media_folder", "max_tokens", "temperature", "top_p", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def wired(self) -> Pipeline:
        """The pipeline, made on first use."""
        if self.pipeline is not None:
            return self.pipeline
        with _wiring:
            if self._wired is None:
                self._wired = Pipeline.from_config(self.model)
            return self._wired

    @cached_property
    def _counter(self) -> TokenCounter:
        return TokenCounter(self.wired)

    # --- counting ---

    def get_num_tokens(self, text: str) -> int:
        """Count the words of a text, the measure of ``usage_metadata``; nothing is downloaded."""
        return words_in(text)

    def get_token_ids(self, text: str) -> list[int]:
        """Return a number for each word of a text: equal words have equal numbers, which mean nothing else."""
        return word_ids(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count what the model would read, as ``usage_metadata`` does; sound counts by its length and is not encoded."""

        def taken_as_it_is(parts: Sequence[str | Audio | Image], known: PerceivedStyle | None, *, by_user: bool) -> Message:
            return Message("user", tuple(parts), style=known if by_user else None)

        read = messages_for(messages, taken_as_it_is, media_folder=self.media_folder)
        return self._counter.count(read, tool_specs(tools or ()))

    # --- tools and structured output ---

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        Args:
            tools: Functions, tools, pydantic classes or schemas.
            tool_choice: ``auto``, ``none``, ``any`` (or ``required``, True), or a tool's name.
            parallel_tool_calls: False keeps the first call of an answer alone.
            strict: Refused if True: no core here is held to a schema while it writes a call.
            kwargs: Passed on with each call; see `CallOptions`.

        Raises:
            InputError: If ``tool_choice`` names none of the tools.
            ConfigError: If ``strict`` is asked for.
        """
        refuse_strict(strict)
        formatted, choice = openai_tools(tools), choice_of(tool_choice)
        names = [tool["function"]["name"] for tool in formatted]
        if choice not in {None, "auto", "none", "any", *names}:
            raise InputError(f"`tool_choice` is `{choice}`, which is none of the tools", f"pass one of: {', '.join(names)}")
        if parallel_tool_calls is not None:
            kwargs["parallel_tool_calls"] = parallel_tool_calls
        return cast("Any", self.bind(tools=formatted, tool_choice=choice, **kwargs))

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
        if kwargs:
            raise InputError(f"`{next(iter(kwargs))}` is not an argument here", "pass `include_raw`, `method` or `strict`")
        if method is None:
            llm = self.wired.llm_core
            method = "function_calling" if llm is not None and llm.tools else "json_schema"
        if method == "function_calling":
            quiet = self.model_copy(update={"speak": False})
            return super(ChatEmova, quiet).with_structured_output(schema, include_raw=include_raw)
        from emova_sdk.langchain.structured import parsed

        form = convert_to_json_schema(schema) if method == "json_schema" else {"type": "object"}
        traced = {"kwargs": {"method": method}, "schema": schema}
        asked = self.bind(json_schema=form, ls_structured_output_format=traced)
        return parsed(asked, schema, include_raw=include_raw)

    # --- answering ---

    def _generate_with_cache(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return super()._generate_with_cache(self._comparable(messages, kwargs), *args, **kwargs)

    async def _agenerate_with_cache(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return await super()._agenerate_with_cache(self._comparable(messages, kwargs), *args, **kwargs)

    def _comparable(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> list[BaseMessage]:
        """A cache compares what a file holds, not its name."""
        return with_digests(messages, kwargs.get("media_folder") or self.media_folder)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the framework tells the callbacks
        **kwargs: Any,
    ) -> ChatResult:
        record = AnswerMessage(self.model)
        with closing(self._events(messages, record, stop, self._options(kwargs))) as events:
            for _ in events:
                pass
        return ChatResult(generations=[ChatGeneration(message=record.message())])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the signature of LangChain
        **kwargs: Any,
    ) -> ChatResult:
        record = AnswerMessage(self.model)
        async with aclosing(astream(self._events(messages, record, stop, self._options(kwargs)))) as events:
            async for _ in events:
                pass
        return ChatResult(generations=[ChatGeneration(message=record.message())])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the signature of LangChain
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with closing(self._chunks(messages, stop, kwargs)) as chunks:
            yield from chunks

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the signature of LangChain
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(astream(self._chunks(messages, stop, kwargs))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _chunks(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> Generator[ChatGenerationChunk, None, None]:
        """The answer piece by piece: text under index 0, each piece of sound and each tool call under a new one."""
        record, index, options = AnswerMessage(self.model), 0, self._options(kwargs)
        blocks = options.aloud and self.wired.vocoder is not None
        empty: Any = [] if blocks else ""
        with closing(self._events(messages, record, stop, options)) as events:
            for event in events:
                if isinstance(event, TextDelta) and event.text:
                    text = [{"type": "text", "text": event.text, "index": 0}]
                    yield _chunk(cast("Any", text) if blocks else event.text)
                elif isinstance(event, AudioDelta) and len(event.audio.samples):
                    index += 1
                    yield _chunk(
                        [cast("Any", audio_block(event.audio, record.gathered.chosen, index=index, units=event.units))]
                    )
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

    def _options(self, kwargs: dict[str, Any]) -> CallOptions:
        options = CallOptions.read(kwargs, self._defaults())
        self._require_tools(options)
        return options

    def _events(
        self, messages: list[BaseMessage], record: AnswerMessage, stop: list[str] | None, options: CallOptions
    ) -> Generator[SpokenEvent, None, None]:
        """Understand the messages and let the pipeline answer; the record takes note of everything."""
        read = messages_for(as_endpoints_read_it(messages), self._encoding(record.gathered), media_folder=options.media_folder)
        record.understood(read, self._counter.count(read, options.tools))
        answer = self.wired.answer(
            read,
            style=options.style,
            policy=self.policy,
            perceived=record.perceived,
            tools=options.tools,
            options=options.generation,
            aloud=options.aloud,
        )
        if options.single_call:
            answer = _first_call_only(answer)
        with closing(_until(answer, stop or self.stop or [])) as events:
            for event in events:
                record.gathered.note(event)
                yield event

    def _require_tools(self, options: CallOptions) -> None:
        llm = self.wired.llm_core
        if options.tools and llm is not None and not llm.tools:
            hint = "use one that does, e.g. behind the `bridge` llm_core"
            raise ConfigError(f"the language model of `{self.model}` does not call tools", hint)

    def _encoding(self, gathered: TurnBuilder) -> Encoding:
        """Return what encodes sounds and pictures, and keeps how the user's last words sounded."""

        def encode(parts: Sequence[str | Audio | Image], *, by_user: bool) -> Iterator[Part]:
            for part in parts:
                if isinstance(part, Audio):
                    if by_user:
                        gathered.perceived = self.wired.perceive(part) or gathered.perceived
                    yield self.wired.hear(part)
                else:
                    yield self.wired.see(part) if isinstance(part, Image) else part

        def said(parts: Sequence[str | Audio | Image], known: PerceivedStyle | None, *, by_user: bool) -> Message:
            gathered.perceived = known if by_user else gathered.perceived
            encoded = tuple(encode(parts, by_user=by_user))
            return Message("user", encoded, style=gathered.perceived)

        return said


def _chunk(content: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content))


def _first_call_only(events: Generator[SpokenEvent, None, None]) -> Generator[SpokenEvent, None, None]:
    called = False
    with closing(events):
        for event in events:
            if not (called and isinstance(event, ToolCall)):
                yield event
            called = called or isinstance(event, ToolCall)


def _until(events: Generator[SpokenEvent, None, None], stop: Sequence[str]) -> Generator[SpokenEvent, None, None]:
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
