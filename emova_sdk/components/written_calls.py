"""Tool calls that a model writes as text, in any of the forms that models were trained on.

``<tool_call>{...}</tool_call>``, ``[TOOL_CALLS][...]``, ``<function=name>{...}</function>``, a bare or fenced object with
a name and arguments, ``name(key=value)``, and more: the table in docs/brains.md has them all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

from emova_sdk.components.emova.lenient_json import read_json
from emova_sdk.components.openai_calls import arguments_of, new_call_id
from emova_sdk.errors import BackendError
from emova_sdk.types import ToolCall

__all__ = ["CALL_MARK", "looks_like_call", "written_calls"]

CALL_MARK = (
    r"<\|?tool_calls?\|?>|<\|?function_calls?\|?>|<function[=\s][^<>]*>|<\w*:?invoke\s[^<>]*>|<\w+:(?:tool|function)_calls?>"
    r"|<\|tool_calls?(?:_section)?_(?:begin|start)\|>|<｜tool▁calls?▁begin｜>|<\|python_tag\|>|\[TOOL_CALLS?\]|functools(?=\[)"
    r"|<\|START_ACTION\|>|\[[A-Za-z_][\w.]{0,40}\(\s?\w{1,30}=|<start_function_call>|```tool_(?:code|call)\w*"
)
"""What announces a call, whatever the tools are."""

_NAME_KEYS = ("name", "tool", "tool_name", "function", "function_name", "action", "recipient_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "params", "kwargs", "action_input", "tool_input")
_INNER_KEYS = ("function", "function_call", "tool_call", "tool_calls", "function_calls", "calls", "call", "tool_uses")
_OTHER_KEYS = frozenset({"type", "id", "call_id", "index"})
_MARKUP = re.compile(r"</?\|?[\w:]+\|?>|<\|[^<>|]*\|>|<｜[^<>｜]*｜>|\[/?[A-Z_]+\]|```\w*|~~~\w*")

Call = tuple[str, dict[str, Any]]


def looks_like_call(tools: Collection[str]) -> str:
    """Return the pattern of text that may be a call of these tools, though nothing announces it."""
    if not tools:
        return r"(?!)"
    names = "|".join(map(re.escape, tools))
    keys = "|".join((*_NAME_KEYS, *_ARGUMENT_KEYS, *_INNER_KEYS, *_OTHER_KEYS))
    return (
        rf"(?:(?:```|~~~)\w*\s*)?(?:\[\s*)?\{{\s*[\"'“]?(?:{keys}|{names})[\"'”]?\s*:"
        rf"|(?<![\w.])\[?\b(?:{names})(?:\.call)?\(|\bcall:(?:{names})\{{|\bAction:\s*(?:{names})\s"
    )


def written_calls(text: str, tools: Collection[str]) -> list[ToolCall]:
    """Return the calls in a text; none if it holds nothing of the kind.

    Raises:
        BackendError: If a tool is called that does not exist, or the arguments cannot be read.
    """
    for form in (_elements, _named_objects, _json, _python):
        try:
            calls = list(form(text, tools))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if calls:
            return [ToolCall(new_call_id(), _known(name, tools, text), arguments) for name, arguments in calls]
    return []


def _known(name: str, tools: Collection[str], text: str) -> str:
    plain = re.sub(r"^(?:functions?|tools?)[.:]|:\d+$", "", name.strip())
    for tool in tools:
        if plain.casefold() == tool.casefold():
            return tool
    raise unreadable_call(text)


def unreadable_call(text: str) -> BackendError:
    """Return the error for a written call that cannot be made."""
    return BackendError(
        f"the model wrote a call that no tool answers to: `{' '.join(text.split())[:120]}`",
        "try again, or use a model that is better at calling tools",
        retryable=True,
    )


# --- the forms ---

_ELEMENT = re.compile(
    r"<(?:\w*:)?(?:function|invoke)(?:=|\s+name=)[\"']?([^<>\"']+)[\"']?\s*>(.*?)(?=</?(?:\w*:)?(?:function|invoke)|\Z)",
    re.DOTALL,
)
_PARAMETER = re.compile(r"<(?:\w*:)?parameter(?:=|\s+name=)[\"']?([^<>\"']+)[\"']?[^<>]*>(.*?)</(?:\w*:)?parameter>", re.DOTALL)
_KEY_VALUE = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


def _elements(text: str, _: Collection[str]) -> Iterator[Call]:
    """``<function=name>``, with an object or with parameters; a name followed by keys and values."""
    for name, body in _ELEMENT.findall(text):
        parameters = _PARAMETER.findall(body)
        if parameters or not body.strip():
            yield name, {key.strip(): _scalar(value) for key, value in parameters}
        else:
            yield from ((name, arguments) for arguments in arguments_of(_MARKUP.sub("", body).strip()))
    if "<arg_key>" in text:
        for part in re.split(r"<tool_call>", text)[1:]:
            name = re.match(r"\s*([\w.-]+)", part)
            yield (name[1] if name else ""), {key.strip(): _scalar(value) for key, value in _KEY_VALUE.findall(part)}


def _named_objects(text: str, tools: Collection[str]) -> Iterator[Call]:
    """A tool's name, at most marks and white space, and the object of its arguments."""
    if not tools:
        return
    text = text.replace("<escape>", '"')
    names = "|".join(map(re.escape, tools))
    between = r"(?:\s|:\d+|json|Action Input:|```\w*|<[^<>{}]*>|\[[A-Z_]+\])*"
    for match in re.finditer(rf"(?<![\w\"'])({names})(?![\w\"']){between}(?=\{{)", text):
        yield from ((match[1], arguments) for arguments in arguments_of(_first_value(text, match.end())))


def _json(text: str, tools: Collection[str]) -> Iterator[Call]:
    """Objects, or lists of them, that name a tool and its arguments."""
    at = 0
    while (match := re.compile(r"[{\[](?!/?[A-Z_]+\])").search(text, at)) is not None:
        written = _first_value(text, match.start())
        at = match.start() + len(written)
        yield from _calls_in(read_json(written), tools)


def _calls_in(value: object, tools: Collection[str]) -> Iterator[Call]:
    if isinstance(value, list):
        for one in cast("list[object]", value):
            yield from _calls_in(one, tools)
    if not isinstance(value, Mapping):
        return
    fields = cast("Mapping[str, Any]", value)
    for key in _INNER_KEYS:
        if isinstance(fields.get(key), list | Mapping):
            yield from _calls_in(fields[key], tools)
            return
    named = next((key for key in _NAME_KEYS if isinstance(fields.get(key), str)), None)
    given = next((key for key in _ARGUMENT_KEYS if key in fields), None)
    if named and given:
        yield from ((fields[named], arguments) for arguments in arguments_of(fields[given]))
    elif named and fields[named] in tools:
        yield fields[named], {key: one for key, one in fields.items() if key != named and key not in _OTHER_KEYS}
    elif len(fields) == 1 and (name := next(iter(fields))) in tools:
        yield from ((name, arguments) for arguments in arguments_of(fields[name]))


def _python(text: str, tools: Collection[str]) -> Iterator[Call]:
    """``name(key=value)``, one or a list of them; it is parsed, never run."""
    body = _MARKUP.sub("\n", text).strip()
    body = body[body.find("[") :] if body.startswith("functools") else body
    found = False
    for node in ast.walk(ast.parse(body)):
        function = node.func if isinstance(node, ast.Call) else None
        name = _dotted(function).removeprefix("default_api.").removesuffix(".call")
        if isinstance(node, ast.Call) and name in tools:
            found = True
            if node.args:
                raise ValueError("arguments without names")
            yield name, {str(one.arg): ast.literal_eval(one.value) for one in node.keywords}
        elif isinstance(node, ast.Call) and not found and name not in {"print", ""}:
            yield name, {}


def _dotted(node: ast.expr | None) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{_dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def _scalar(text: str) -> Any:
    try:
        return read_json(text.strip())
    except ValueError:
        return text.strip()


def _first_value(text: str, start: int) -> str:
    """Return the object or list that begins at ``start``, up to the bracket that closes it."""
    depth, quote, at = 0, "", start
    while at < len(text):
        char = text[at]
        if quote:
            at += char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return text[start : at + 1]
        at += 1
    raise ValueError("a bracket is not closed")
