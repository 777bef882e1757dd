"""Tools a model may call during a turn, as plain typed functions.

A tool that declares a parameter of type `TurnContext` is handed what is known of the turn: what the user said, how it
was said (with scores), and the history. That parameter is not part of the schema the model sees.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

from emova_sdk.errors import ConfigError, InputError
from emova_sdk.types import PerceivedStyle, Style, ToolCall, ToolResult, ToolSpec, Turn


@dataclass(frozen=True)
class TurnContext:
    """What a tool may know of the turn it is called in.

    Attributes:
        session_id: Name of the session.
        user_text: What the user said or typed.
        user_style: How it was said, with scores; None when nothing was heard.
        style: Style the answer will have if nothing changes it.
        history: The turns before this one.
    """

    session_id: str
    user_text: str
    user_style: PerceivedStyle | None
    style: Style
    history: tuple[Turn, ...]


@dataclass(frozen=True)
class Tool:
    """A function a model may call.

    Attributes:
        spec: Name, description and JSON Schema, as the model sees them.
        function: Takes keyword arguments; its answer becomes text (a string as it is, anything else as JSON).
        context_parameter: Name of the parameter that takes the `TurnContext`, if there is one.
    """

    spec: ToolSpec
    function: Callable[..., Any]
    context_parameter: str | None = None

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Tool:
        """Make a tool of a typed function: its name, docstring and annotations say it all.

        Raises:
            ConfigError: If a parameter has no annotation or no JSON Schema.
        """
        context, model = _arguments_model(function)
        schema: dict[str, Any] = model.model_json_schema()
        schema.pop("title", None)
        description = (inspect.getdoc(function) or "").strip()
        return cls(ToolSpec(function.__name__, description, schema), function, context)

    def call(self, call: ToolCall, context: TurnContext) -> ToolResult:
        """Run the tool; a failure of it, or wrong arguments, become a result with ``failed`` set, never an exception."""
        from pydantic import ValidationError

        try:
            arguments = self._validated(call.arguments)
            if self.context_parameter:
                arguments[self.context_parameter] = context
            return ToolResult(call.id, self.spec.name, _as_text(self.function(**arguments)))
        except ValidationError as error:
            detail = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return ToolResult(call.id, self.spec.name, f"wrong arguments: {detail}", failed=True)
        except Exception as error:  # noqa: BLE001 - whatever a tool does, the conversation goes on
            return ToolResult(call.id, self.spec.name, f"{type(error).__name__}: {error}", failed=True)

    def _validated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        _, model = _arguments_model(self.function)
        checked = model.model_validate(dict(arguments))
        return {name: getattr(checked, name) for name in type(checked).model_fields}


def _arguments_model(function: Callable[..., Any]) -> tuple[str | None, Any]:
    from pydantic import ConfigDict, create_model
    from pydantic.errors import PydanticUserError

    try:
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {}
        context: str | None = None
        for name, parameter in inspect.signature(function).parameters.items():
            if name not in hints:
                raise ConfigError(f"parameter `{name}` of tool `{function.__name__}` has no annotation", "annotate it")
            if hints[name] is TurnContext:
                context = name
                continue
            fields[name] = (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        model = cast("Any", create_model)(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticUserError, NameError) as error:
        hint = "use types that JSON knows: str, int, float, bool, list, dict, Literal"
        raise ConfigError(f"tool `{function.__name__}` has no usable signature: {error}", hint) from error
    return context, model


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def as_tools(tools: Sequence[Tool | Callable[..., Any]]) -> dict[str, Tool]:
    """Take tools and plain functions; return tools by name.

    Raises:
        InputError: If two have the same name.
    """
    named: dict[str, Tool] = {}
    for item in tools:
        tool = item if isinstance(item, Tool) else Tool.of(item)
        if tool.spec.name in named:
            raise InputError(f"two tools are named `{tool.spec.name}`", "rename one of the functions")
        named[tool.spec.name] = tool
    return named


def builtin_tools() -> tuple[Tool, ...]:
    """A calculator, a clock and a timer: the tools `emova-nano` was taught to call, and any other model may be offered."""
    from emova_sdk.components.nano import tools

    specs = {spec.name: spec for spec in tools.TOOLS}

    def clock(question: str) -> str:
        return tools.clock(question)

    functions: dict[str, Callable[..., str]] = {"calculator": tools.calculator, "clock": clock, "timer": tools.timer}
    return tuple(Tool(specs[name], function) for name, function in functions.items())
