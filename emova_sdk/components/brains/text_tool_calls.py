"""Tool calls that a model writes as text, in any of the forms that models were trained on.

``<tool_call>{...}</tool_call>``, ``[TOOL_CALLS][...]``, ``<function=name>{...}</function>``, a bare or fenced object with
a name and arguments, ``name(key=value)``, ``<name key="value"/>``, and more: the table in docs/brains.md has them all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

from emova_sdk.components.brains.openai_calls import arguments_of, new_call_id
from emova_sdk.components.partial_json import read_json
from emova_sdk.errors import BackendError
from emova_sdk.types import ToolCall

ANNOUNCED = (
    r"<\|?(?:tool|function)_calls?\|?>|<function[=\s][^<>]*>|<\w*:?invoke\s[^<>]*>|<\w+:(?:tool|function)_calls?>|<tools>\s*[\[{]"
    r"|<\|tool_calls?(?:_section)?_(?:begin|start)\|>|<｜tool▁calls?▁begin｜>|<｜DSML｜|<\|python_tag\|>|\[TOOL_CALLS?\]"
    r"|functools\[|<\|START_ACTION\|>|\[[A-Za-z_][\w.]{0,40}\(\s?\w{1,30}=|<start_function_call>|```tool_(?:code|call)"
)
"""What announces a call, whatever the tools are."""

_UNDECLARED_LINE = (
    r"[ \t]*(?-i:[A-Z]\w{0,40}|[a-z_]\w{0,40}(?:\.[A-Za-z_]\w{0,40}){0,3})"
    r"\((?:\s*[A-Za-z_]\w{0,40}\s*=[^\n]{0,400})?\)[; \t]*"
)
UNDECLARED = rf"^{_UNDECLARED_LINE}\n|^[ \t]*`{_UNDECLARED_LINE}`[ \t]*\n|^```\w*\n{_UNDECLARED_LINE}\n```[ \t]*\n"
"""A line that is nothing but a call with named arguments, perhaps in a fence of its own."""

_NAME_KEYS = ("name", "tool", "tool_name", "function", "function_name", "action", "recipient_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "params", "kwargs", "action_input", "tool_input")
_INNER_KEYS = ("function", "function_call", "tool_call", "tool_calls", "function_calls", "calls", "call", "tool_uses")
_OTHER_KEYS = frozenset({"type", "id", "call_id", "index"})
_MARKUP = re.compile(r"</?\|?[\w:]+\|?>|<\|[^<>|]*\|>|<｜[^<>｜]*｜>|\[/?[A-Z_]+\]|```\w*|~~~\w*")
_CLOSING = re.compile(
    r"(?:\s|[\])};,]|```|~~~|</[^<>]*>|<end_\w+>|<\|(?!channel|start|think|begin)[^<>|]*\|>|<｜[^<>｜]*｜>|\[/[A-Z_]+\])*"
)
"""The marks that close calls, and those between two calls."""
_RESULT = re.compile(r"\W*(?:observation|(?:tool |function )?(?:result|response|output))s?\W*:", re.IGNORECASE)
"""How the result begins that a model imagines behind its own call."""

Call = tuple[str, dict[str, Any], int]
"""Name, arguments, and where the call ends in the text."""


def declared_call(tools: Collection[str]) -> str:
    """Return the pattern of text that may be a call of these tools, though nothing announces it."""
    if not tools:
        return r"(?!)"
    names = _any_of(tools)
    keys = "|".join((*_NAME_KEYS, *_ARGUMENT_KEYS, *_INNER_KEYS, *_OTHER_KEYS))
    before = r"(?:^|(?<=[.!?]\s))[ \t]*(?:(?:```|~~~)\w*\s+|`)?(?:print\(\s*)?(?:(?:default_api|functions?|tools?)\.)?"
    return (
        rf"(?:(?:```|~~~)\w*\s*)?(?:\[\s*)?\{{\s*[\"'“]?(?:{keys}|{names})[\"'”]?\s*:|{before}(?:{names})(?:\.call)?\("
        rf"|\[\s*(?:{names})\(|\bcall:(?:{names})\{{|^\W*Action\W*:\W*(?:{names})[^\w.]"
    )


def declared_element(tools: Collection[str]) -> str:
    """Return the pattern of an element that is named like one of these tools."""
    return rf"<(?:{_any_of(tools)})(?:\s[^<>]*)?/?>" if tools else r"(?!)"


def text_tool_calls(text: str, tools: Collection[str]) -> tuple[list[ToolCall], str]:
    """Return the calls in a text, and what follows the last one; no calls and the whole text if there are none.

    Raises:
        BackendError: If a tool is called that does not exist, or the arguments cannot be read.
    """
    plain = text.replace("｜DSML｜", "").replace("<escape>", '"')
    for form in (_elements, _named_objects, _json, _python):
        try:
            calls = list(form(plain, tools))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if calls:
            rest = _CLOSING.sub("", plain[calls[-1][2] :], count=1)
            found = [ToolCall(new_call_id(), _known(name, tools, text), arguments) for name, arguments, _ in calls]
            return found, "" if _RESULT.match(rest) else rest
    return [], text


def _known(name: str, tools: Collection[str], text: str) -> str:
    plain = re.sub(r"^(?:default_api|functions?|tools?)[.:]|:\d+$|\.call$", "", name.strip())
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

_ATTRIBUTE = re.compile(r"([\w-]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_CHILD = re.compile(r"<([\w-]+)>(.*?)</\1\s*>", re.DOTALL)
_ELEMENT = re.compile(
    r"<(?:\w*:)?(?:function|invoke)(?:=|\s+name=)[\"']?([^<>\"']+)[\"']?\s*>(.*?)(?=</?(?:\w*:)?(?:function|invoke)|\Z)",
    re.DOTALL,
)
_PARAMETER = re.compile(r"<(?:\w*:)?parameter(?:=|\s+name=)[\"']?([^<>\"']+)[\"']?[^<>]*>(.*?)</(?:\w*:)?parameter>", re.DOTALL)
_GLM = re.compile(r"<tool_call>\s*([\w.-]+)((?:\s*<arg_key>.*?</arg_key>\s*<arg_value>.*?</arg_value>)+)", re.DOTALL)
_KEY_VALUE = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


def _elements(text: str, tools: Collection[str]) -> Iterator[Call]:
    """``<function=name>``, with an object or with parameters; keys and values behind a name; ``<name>`` itself."""
    for match in _ELEMENT.finditer(text):
        name, body = match.groups()
        parameters = _PARAMETER.findall(body)
        if parameters or not body.strip():
            yield name, {key.strip(): _scalar(value) for key, value in parameters}, match.end()
        else:
            written = _MARKUP.sub("", body).strip() if "{" not in body else _balanced(body, body.index("{"))
            for arguments in arguments_of(written):
                yield name, arguments, match.start(2) + body.index(written) + len(written)
    for match in _GLM.finditer(text):
        yield match[1], {key.strip(): _scalar(value) for key, value in _KEY_VALUE.findall(match[2])}, match.end()
    for match in re.finditer(rf"<({_any_of(tools)})(\s[^<>]*?)?(?:/>|>(.*?)</\1\s*>)", text, re.DOTALL) if tools else ():
        name, attributes, body = match[1], _ATTRIBUTE.findall(match[2] or ""), (match[3] or "").strip()
        if body[:1] == "{":
            yield from ((name, arguments, match.end()) for arguments in arguments_of(body))
        else:
            fields = [*((key, value[1:-1]) for key, value in attributes), *_CHILD.findall(body)]
            yield name, {key: _scalar(value) for key, value in fields}, match.end()


def _named_objects(text: str, tools: Collection[str]) -> Iterator[Call]:
    """A tool's name, at most marks and white space, and the object of its arguments."""
    if not tools:
        return
    between = r"(?:\s|:\d+|json|\W*Action[ _]Input\W*?:|```\w*|<[^<>{}]*>|\[CALL_ID\]\w*|\[[A-Z_]+\])*"
    for match in re.finditer(rf"(?<![\w\"'])({_any_of(tools)})(?![\w\"']){between}(?=\{{)", text):
        written = _balanced(text, match.end())
        yield from ((match[1], arguments, match.end() + len(written)) for arguments in arguments_of(written))


def _json(text: str, tools: Collection[str]) -> Iterator[Call]:
    """Objects, or lists of them, that name a tool and its arguments."""
    at, found = 0, False
    while (match := re.compile(r"[{\[](?!/?[A-Z_]+\])").search(text, at)) is not None:
        try:
            written = _balanced(text, match.start())
            at = match.start() + len(written)
            calls = list(_calls_in(read_json(written), tools))
        except ValueError:
            if found:  # what follows the calls is no JSON
                return
            raise
        found = found or bool(calls)
        yield from ((name, arguments, at) for name, arguments in calls)


def _calls_in(value: object, tools: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
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
    listed = re.search(r"\[\s*(?=[A-Za-z_][\w.]*\()", text)
    if listed:
        written = _balanced(text, listed.start())
        for element in cast("ast.List", ast.parse(written, mode="eval").body).elts:
            yield (*_python_call(element), listed.start() + len(written))
        return
    for match in re.finditer(rf"(?:^|(?<=[\s.(>`|]))({_any_of(tools)})(?:\.call)?(?=\()", text) if tools else ():
        written = _balanced(text, match.end())
        end = match.end() + len(written)
        closing = re.compile(r"[)`; \t]*(?:$|\n|<)(?:```[ \t]*\n)?").match(text, end)
        if closing is None:  # a sentence about the function
            raise ValueError("the line goes on")
        yield (
            *_python_call(ast.parse(f"{match[1]}{written}", mode="eval").body),
            closing.end() - text[: closing.end()].endswith("<"),
        )


def _python_call(node: ast.expr) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("arguments without names")
    return ast.unparse(node.func), {str(one.arg): _literal(one.value) for one in node.keywords}


def _literal(node: ast.expr) -> Any:
    words = {"true": True, "false": False, "null": None}
    return words[node.id] if isinstance(node, ast.Name) and node.id in words else ast.literal_eval(node)


def _scalar(text: str) -> Any:
    try:
        return read_json(text.strip())
    except ValueError:
        return text.strip()


def _any_of(names: Collection[str]) -> str:
    return "|".join(map(re.escape, sorted(names)))


def _balanced(text: str, start: int) -> str:
    """Return what stands between the bracket at ``start`` and the one that closes it, with both."""
    depth, quote, at = 0, "", start
    while at < len(text):
        char = text[at]
        if quote:
            at += char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "{[(":
            depth += 1
        elif char in "}])":
            depth -= 1
            if depth == 0:
                return text[start : at + 1]
        at += 1
    raise ValueError("a bracket is not closed")
