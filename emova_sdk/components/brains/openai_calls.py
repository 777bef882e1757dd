"""Putting together the tool calls of an answer from the pieces an OpenAI-compatible endpoint streams them in."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

from emova_sdk.components.brains.openai_events import json_values
from emova_sdk.components.partial_json import read_json
from emova_sdk.errors import BackendError
from emova_sdk.types import ToolCall

_LAYERS = 4
"""How often a value may be wrapped in a string or in a list of one."""


@dataclass
class _Call:
    index: object
    id: str
    name: str = ""
    arguments: str = ""


class CallAssembler:
    """The calls of one answer.

    Pieces belong together by their index and their id, as far as they have any; a new id or a new name begins a new call.

    Args:
        tools: Names of the tools that may be called, which tell a second name from the second half of one.
    """

    def __init__(self, tools: Collection[str] = ()) -> None:
        self._tools = frozenset(tools)
        self._calls: list[_Call] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take(self, pieces: object) -> None:
        """Take the calls, or pieces of calls, of one chunk."""
        touched: list[_Call] = []
        for piece in cast("list[object]", pieces) if isinstance(pieces, list) else [pieces]:
            if isinstance(piece, Mapping):
                self._take(cast("Mapping[str, Any]", piece), touched)

    def _take(self, piece: Mapping[str, Any], touched: list[_Call]) -> None:
        inner = piece.get("function")
        fields = cast("Mapping[str, Any]", inner if isinstance(inner, Mapping) else piece)
        given = fields.get("arguments")
        written = given if isinstance(given, str) else "" if given is None else json.dumps(given)
        name, id_ = (str(value or "").strip() for value in (fields.get("name"), piece.get("id")))
        if not (name or id_ or written):
            return
        call = self._found(piece.get("index"), id_, name)
        if call is None or (name and call in touched) or self._begins(call, name):
            call = _Call(piece.get("index"), id_)
            self._calls.append(call)
        touched.append(call)
        call.id = call.id or id_
        call.name += "" if name == call.name else name
        call.arguments += written

    def _found(self, index: object, id_: str, name: str) -> _Call | None:
        """Return the call that a piece goes on."""
        for call in reversed(self._calls):
            if id_ and call.id and id_ != call.id:
                continue
            if index is not None and call.index is not None and index != call.index:
                continue
            if call is self._calls[-1] or id_ == call.id != "" or index == call.index is not None:
                return call
        if name or not self._calls:
            return None
        known = [call for call in self._calls if call.id == id_]
        return known[-1] if id_ and known else None if id_ else self._calls[-1]

    def _begins(self, call: _Call, name: str) -> bool:
        """Whether a name begins another call: it is neither repeated nor the second half of one."""
        if not name or not call.name or name == call.name or call.name + name in self._tools:
            return False
        return bool(call.arguments) or call.name in self._tools

    def finish(self) -> list[ToolCall]:
        """Return the calls, each with an id of its own.

        Raises:
            BackendError: If a call has no name, or arguments that are no JSON object.
        """
        finished: list[ToolCall] = []
        for call in self._calls:
            for arguments in _arguments_of_call(call):
                taken = {one.id for one in finished}
                id_ = call.id if call.id and call.id not in taken else new_call_id()
                finished.append(ToolCall(id_, call.name, arguments))
        return finished


def new_call_id() -> str:
    """Return an id for a call that has none."""
    return f"call_{uuid4().hex[:12]}"


def _arguments_of_call(call: _Call) -> Sequence[dict[str, Any]]:
    hint = "try again, or use a model that is better at calling tools"
    if not call.name:
        raise BackendError("the model called a tool without naming it", hint, retryable=True)
    try:
        return arguments_of(call.arguments)
    except ValueError as error:
        broken = f"the model called `{call.name}` with arguments that are no JSON object: `{call.arguments[:80]}`"
        raise BackendError(broken, hint, retryable=True) from error


def arguments_of(written: object) -> list[dict[str, Any]]:
    """Read the arguments of a call: an object, as JSON or as it is, or nothing; several where calls ran into each other.

    Raises:
        ValueError: If they are anything else.
    """
    objects = [_object(value) for value in (_values(written) if isinstance(written, str) else [written])]
    telling = [one for one in objects if one]  # `{}` often stands before the arguments themselves
    return [one for at, one in enumerate(telling) if at == 0 or one != telling[at - 1]] or [{}]


def _values(text: str) -> list[Any]:
    try:
        return json_values(text)
    except ValueError:
        return [read_json(text)]


def _object(value: Any) -> dict[str, Any]:
    for _ in range(_LAYERS):
        if value is None or value in ("", [], "null", "None"):
            return {}
        if isinstance(value, Mapping):
            return {str(key): one for key, one in cast("Mapping[object, Any]", value).items()}
        if isinstance(value, list) and len(cast("list[Any]", value)) == 1:
            value = value[0]
        elif isinstance(value, str):
            value = read_json(value)
        else:
            break
    raise ValueError("the arguments are no JSON object")
