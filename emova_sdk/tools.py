"""Tools a model may call during a turn, as plain typed functions.

A tool that declares a parameter of type `TurnContext` is handed what is known of the turn: what the user said, how it
was said (with scores), and the history. That parameter is not part of the schema the model sees.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emova_sdk.errors import ConfigError, InputError
from emova_sdk.tool_functions import ToolFunction, answer_text
from emova_sdk.types import PerceivedStyle, Style, ToolCall, ToolResult, ToolSpec, Turn, well_formed


@dataclass(frozen=True)
class TurnContext:
    """What a tool can learn about the turn in which it is called.

    Attributes:
        session_id: Name of the session.
        user_text: What the user said or typed.
        user_style: How it was said, with scores; None for typed text.
        style: Style of the answer, unless something changes it.
        history: The turns before this one.
    """

    session_id: str
    user_text: str
    user_style: PerceivedStyle | None
    style: Style
    history: tuple[Turn, ...]


@dataclass(frozen=True)
class Tool:
    """A function that a model may call.

    Attributes:
        spec: Name, description and JSON Schema, as the model sees them.
        function: Takes keyword arguments; its answer becomes text (a string as it is, anything else as JSON). A coroutine is
            awaited, what a generator gives is collected in a list.

    Raises:
        ConfigError: If the function cannot be used as a tool.
    """

    spec: ToolSpec
    function: Callable[..., Any]
    _read: ToolFunction = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require_function(self.function)
        read = ToolFunction.of(self.function, context_type=TurnContext, described=True)
        object.__setattr__(self, "_read", read)

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Tool:
        """Make a tool from the name, docstring and annotations of a function.

        Functions, coroutine functions, generators, methods, `functools.partial` and callable objects can be tools, and so can
        the tools of LangChain. ``*args`` and ``**kwargs`` are left out.

        Raises:
            ConfigError: If it is none of these, or a parameter has no annotation or no JSON Schema.
        """
        if _is_langchain(function):
            return _of_langchain(function)
        _require_function(function)
        read = ToolFunction.of(function, context_type=TurnContext)
        return cls(_spec(read.name, read.description, read.schema), function)

    def call(self, call: ToolCall, context: TurnContext) -> ToolResult:
        """Run the tool. An exception in it, or wrong arguments, give a result with ``failed`` set.

        A KeyboardInterrupt is raised again.
        """
        from pydantic import ValidationError

        try:
            arguments = self._read.check(call.arguments)
        except ValidationError as error:
            detail = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return ToolResult(call.id, self.spec.name, f"wrong arguments: {detail}", failed=True)
        try:
            return ToolResult(call.id, self.spec.name, answer_text(self._read.run(arguments, context)))
        except _ToolFailed as error:
            return ToolResult(call.id, self.spec.name, str(error), failed=True)
        except (Exception, SystemExit, CancelledError, GeneratorExit) as error:  # noqa: BLE001 - whatever a tool does, the conversation goes on
            return ToolResult(call.id, self.spec.name, _reason(error), failed=True)


class _ToolFailed(Exception):  # noqa: N818 - never seen by a caller
    """A tool of another library says that it failed."""


def _reason(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an error that cannot even say what it is
        return type(error).__name__


def _require_function(function: Any) -> None:
    hint = "pass a typed function, a `Tool`, or `*builtin_tools()` for the tools of emova-nano"
    if isinstance(function, ToolSpec):
        raise ConfigError(f"the `ToolSpec` `{function.name}` says what a tool is called, and not what it does", hint)
    if isinstance(function, type):
        raise ConfigError(
            f"the class `{function.__name__}` is no tool", "pass an object of it that can be called, or a function"
        )
    if not callable(function):
        raise ConfigError(f"a `{type(function).__name__}` is no tool", hint)


def _spec(name: str, description: str, schema: Mapping[str, Any]) -> ToolSpec:
    try:
        return ToolSpec(name, well_formed(description), schema)
    except InputError as error:
        raise ConfigError(error.message, "give the function another name, or pass a `Tool` with a `ToolSpec`") from error


# --- LangChain's tools, whose package is not imported here ---


def _is_langchain(tool: object) -> bool:
    classes = type(tool).__mro__
    return any(one.__name__ == "BaseTool" and one.__module__.startswith("langchain_core.tools") for one in classes)


def _of_langchain(tool: Any) -> Tool:
    schema = tool.tool_call_schema
    parameters = dict(schema if isinstance(schema, dict) else schema.model_json_schema())
    for key in ("title", "description"):
        parameters.pop(key, None)
    own_async = any(
        "_arun" in vars(one) for one in type(tool).__mro__ if not one.__module__.startswith("langchain_core.tools.base")
    )

    async def later(call: Mapping[str, Any]) -> str:
        return _langchain_answer(await tool.ainvoke(call))

    def run(**arguments: Any) -> Any:
        call = {"type": "tool_call", "id": tool.name, "name": tool.name, "args": arguments}
        try:
            return _langchain_answer(tool.invoke(call))
        except NotImplementedError:
            if not own_async or getattr(tool, "func", None) is not None:
                raise
            return later(call)  # it has only an asynchronous side

    return Tool(_spec(tool.name, tool.description or "", parameters), run)


def _langchain_answer(message: Any) -> str:
    content = answer_text(message.content)
    if message.status == "error":
        raise _ToolFailed(content)
    return content


def as_tools(tools: Sequence[Tool | Callable[..., Any]]) -> dict[str, Tool]:
    """Take tools and plain functions; return tools by name.

    Raises:
        ConfigError: If something is no tool, or two have the same name.
    """
    if isinstance(tools, Tool | ToolSpec | str) or callable(tools) or not isinstance(tools, Iterable):
        raise ConfigError(f"`tools` is a `{type(tools).__name__}`, not a list", "write tools=[...]")
    named: dict[str, Tool] = {}
    for item in tools:
        tool = item if isinstance(item, Tool) else Tool.of(item)
        if tool.spec.name in named:
            raise ConfigError(f"two tools are named `{tool.spec.name}`", "rename one of the functions")
        named[tool.spec.name] = tool
    return named


def builtin_tools() -> tuple[Tool, ...]:
    """Return a calculator, a clock and a timer: the tools that `emova-nano` can call, and any other model can use."""
    from emova_sdk.components.nano import tools

    specs = {spec.name: spec for spec in tools.TOOLS}

    def clock(question: str) -> str:
        return tools.clock(question)

    functions: dict[str, Callable[..., str]] = {"calculator": tools.calculator, "clock": clock, "timer": tools.timer}
    return tuple(Tool(specs[name], function) for name, function in functions.items())
