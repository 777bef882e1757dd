"""What one call of a chat model may ask for: tools, sampling, style. What it cannot do is refused, never ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool

from emova_sdk.components.base import GenerationOptions
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.registry import suggest
from emova_sdk.types import Style, ToolSpec

__all__ = ["CallOptions"]

_SAMPLING = ("max_tokens", "temperature", "top_p", "seed")
_KNOWN = (
    *_SAMPLING, "json_schema", "media_folder", "parallel_tool_calls", "response_format", "speak", "strict", "style",
    "tool_choice", "tools",
)  # fmt: skip
_FRAMEWORK = ("ls_structured_output_format", "stream")
"""What LangChain passes to a model for its own use."""


@dataclass(frozen=True)
class CallOptions:
    """What a call asks for, checked.

    Attributes:
        tools: What the model may call.
        single_call: Whether it may call one tool only.
        generation: Length, sampling, tool choice and form of the answer.
        style: Style of the answer; None leaves it to the model.
        aloud: Whether the answer is spoken, where the pipeline has a voice; one in the form of a schema never is.
        media_folder: Where files named by ``file_id`` are.
    """

    tools: tuple[ToolSpec, ...]
    single_call: bool
    generation: GenerationOptions
    style: Style | None
    aloud: bool
    media_folder: Path | None

    @classmethod
    def read(cls, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> CallOptions:
        """Read the keyword arguments of a call.

        Args:
            given: Of the call, or bound to the model.
            defaults: What holds where the call says nothing.

        Raises:
            InputError: If an argument is unknown.
            ConfigError: If it asks for what no language core here can do.
        """
        for name in given:
            if name not in _KNOWN and name not in _FRAMEWORK:
                raise InputError(f"`{name}` is not an argument of this chat model", suggest(name, _KNOWN))
        refuse_strict(given.get("strict"))
        choice = tool_choice(given.get("tool_choice")) or "auto"
        form = given.get("json_schema") or schema_of(given.get("response_format"))
        told = {**defaults, **{name: value for name, value in given.items() if value is not None}}
        folder = told.get("media_folder")
        return cls(
            tools=() if choice == "none" else tool_specs(given.get("tools") or ()),
            single_call=given.get("parallel_tool_calls") is False,
            generation=_generation(told, "auto" if choice == "none" else choice, form),
            style=style_given(told.get("style")),
            aloud=bool(told.get("speak")) and form is None,
            media_folder=None if folder is None else Path(folder),
        )


def _generation(told: Mapping[str, Any], choice: str, form: Mapping[str, Any] | None) -> GenerationOptions:
    sampling = {name: told[name] for name in _SAMPLING if told.get(name) is not None}
    try:
        return GenerationOptions(**sampling, tool_choice=choice, json_schema=form)
    except TypeError as error:
        raise InputError(f"`{sampling}` are no numbers", "pass numbers") from error


def style_given(style: Any) -> Style | None:
    """Read a style, or the dict of one."""
    if isinstance(style, dict):
        return Style.from_dict(cast("dict[str, Any]", style))
    if style is None or isinstance(style, Style):
        return style
    raise InputError(f"`{style!r}` is no style", 'pass a `Style`, or a dict such as {"emotion": "sad"}')


def openai_tools(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Describe functions, tools, classes or schemas as OpenAI does.

    Raises:
        InputError: If something is none of these.
    """
    try:
        return [convert_to_openai_tool(tool) for tool in tools]
    except (ValueError, TypeError, KeyError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"a tool cannot be described: {reason}", "pass functions, tools, pydantic classes or schemas"
        ) from error


def tool_choice(choice: str | bool | dict[str, Any] | None) -> str | None:
    """Say it in the words of `GenerationOptions`."""
    if isinstance(choice, dict):
        return str(choice.get("function", choice).get("name", "any"))
    if isinstance(choice, bool):
        return "any" if choice else None
    return "any" if choice == "required" else choice


def tool_specs(tools: Sequence[Any]) -> tuple[ToolSpec, ...]:
    """Describe functions, tools, classes or schemas as a language core reads them."""
    functions = [tool["function"] for tool in openai_tools(tools)]
    empty = {"type": "object", "properties": {}}
    return tuple(ToolSpec(one["name"], one.get("description", ""), one.get("parameters") or empty) for one in functions)


def refuse_strict(strict: bool | None) -> None:
    """Raise `ConfigError` if tool calls shall be held to their schemas while they are written."""
    if strict:
        hint = "leave `strict` out; `call_tools` checks the arguments and tells the model what is wrong with them"
        raise ConfigError("tool calls cannot be held to their schemas with `strict=True`", hint)


def schema_of(response_format: Any) -> Mapping[str, Any] | None:
    """Return the JSON Schema an answer shall have, from what OpenAI calls ``response_format``; None for free text."""
    if response_format is None:
        return None
    if isinstance(response_format, type):
        return convert_to_json_schema(response_format)
    told: Mapping[str, Any] = cast("Any", response_format) if isinstance(response_format, Mapping) else {}
    kind, named = told.get("type"), told.get("json_schema")
    if kind == "json_schema" and isinstance(named, Mapping) and isinstance(named.get("schema"), Mapping):
        return dict(named["schema"])
    if kind == "json_object":
        return {"type": "object"}
    if kind == "text":
        return None
    raise InputError(
        "`response_format` is none of the known forms", 'pass {"type": "json_schema", "json_schema": ...} or a class'
    )
