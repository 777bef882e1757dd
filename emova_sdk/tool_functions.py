"""Functions as tools: schemas from signatures, awaiting coroutines, results as text."""

from __future__ import annotations

import asyncio
import base64
import functools
import inspect
import json
import math
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time
from enum import Enum
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

from emova_sdk.docstrings import describe
from emova_sdk.errors import ConfigError
from emova_sdk.types import Audio, Image, well_formed

_HINT = "annotate its parameters with types that JSON knows: str, int, float, bool, list, dict, Literal, a pydantic model"


@dataclass(frozen=True)
class ToolFunction:
    """A function as a tool.

    Attributes:
        function: What is called.
        name: Its name.
        description: What its docstring says, without the arguments.
        schema: JSON Schema of its arguments.
        model: The pydantic model that checks them; its fields have aliases, so that any name is allowed.
        signature: Its parameters.
        context: Name of the parameter that takes the turn's context, if there is one.
    """

    function: Callable[..., Any]
    name: str
    description: str
    schema: dict[str, Any]
    model: Any
    signature: inspect.Signature
    context: str | None

    @classmethod
    def of(cls, function: Callable[..., Any], *, context_type: type, described: bool = False) -> ToolFunction:
        """Read a function's signature.

        Args:
            function: A function, coroutine function, generator, method, partial or callable object.
            context_type: A parameter of this type is not the model's to fill.
            described: Whether name and schema are given elsewhere: parameters then need no annotation.

        Raises:
            ConfigError: If a model could not call it.
        """
        name = _name_of(function)
        try:
            signature = inspect.signature(function)
            hints = _hints(function)
        except (NameError, TypeError, ValueError, AttributeError, SyntaxError) as error:
            raise ConfigError(f"the signature of tool `{name}` cannot be read: {error}", _HINT) from error
        docs = describe(_docstring(function))
        context: str | None = None
        known: dict[str, Any] = {}
        fixed: set[str] = set(function.keywords) if isinstance(function, functools.partial) else set()
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in fixed:
                continue  # it can be called without
            if parameter.name not in hints and not described:
                raise ConfigError(f"parameter `{parameter.name}` of tool `{name}` has no annotation", _HINT)
            hint = hints.get(parameter.name, Any)
            if _is_context(hint, context_type):
                context = parameter.name
            else:
                known[parameter.name] = (hint, parameter.default, docs.arguments.get(parameter.name, ""))
        open_ended = described and any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
        model, schema = _model(name, known, extra="allow" if open_ended else "forbid")
        return cls(function, name, docs.text, schema, model, signature, context)

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the annotations have them; those left out stay out.

        Raises:
            pydantic.ValidationError: If they do not fit.
        """
        checked = self.model.model_validate(dict(arguments))
        given = {field: getattr(checked, field) for field in checked.model_fields_set if field in self.model.model_fields}
        return {self.model.model_fields[field].alias: value for field, value in given.items()} | (checked.model_extra or {})

    def run(self, arguments: Mapping[str, Any], context: object) -> Any:
        """Call the function; a coroutine is awaited, what a generator gives is collected in a list."""
        bound = self.signature.bind_partial()
        names = self.signature.parameters
        bound.arguments.update({name: value for name, value in arguments.items() if name in names})
        if self.context:
            bound.arguments[self.context] = context
        bound.apply_defaults()
        extra = {name: value for name, value in arguments.items() if name not in names}
        return _finished(self.function(*bound.args, **bound.kwargs, **extra))


# --- the signature ---


def _name_of(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _inner(function: Any) -> Any:
    """The plain function that has the annotations."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    function = inspect.unwrap(function)
    return getattr(function, "__func__", function)


def _hints(function: Any) -> dict[str, Any]:
    inner = _inner(function)
    annotations = {name: value for name, value in getattr(inner, "__annotations__", {}).items() if name != "return"}
    shim = cast("Any", SimpleNamespace(__annotations__=annotations))  # what it returns need not be known
    return get_type_hints(shim, globalns=getattr(inner, "__globals__", {}), include_extras=True)


def _docstring(function: Any) -> str | None:
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        return inspect.getdoc(type(function).__call__) or inspect.getdoc(function)
    return inspect.getdoc(function)


def _is_context(hint: Any, context_type: type) -> bool:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return context_type in (get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,))


def _model(name: str, known: Mapping[str, tuple[Any, Any, str]], *, extra: str) -> tuple[Any, dict[str, Any]]:
    from pydantic import ConfigDict, create_model
    from pydantic.errors import PydanticUserError

    made = {f"argument_{place}": _field(option, *facts) for place, (option, facts) in enumerate(known.items())}
    try:
        config = ConfigDict(extra=cast("Any", extra), protected_namespaces=())
        model = cast("Any", create_model)(name, __config__=config, **made)
        schema: dict[str, Any] = model.model_json_schema()
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"tool `{name}` has no usable signature: {reason}", _HINT) from error
    schema.pop("title", None)
    return model, schema


def _field(name: str, hint: Any, default: Any, description: str) -> tuple[Any, Any]:
    from pydantic import Field

    told = any(getattr(one, "description", None) for one in get_args(hint)[1:]) if get_origin(hint) is Annotated else False
    facts: dict[str, Any] = {"description": description} if description and not told else {}
    if default is inspect.Parameter.empty:
        return hint, Field(alias=name, **facts)
    try:
        json.dumps(default, allow_nan=False)
    except (TypeError, ValueError):  # a default that JSON cannot show
        return hint, Field(default_factory=lambda: default, alias=name, **facts)
    return hint, Field(default, alias=name, **facts)


# --- the call ---


def _finished(value: Any) -> Any:
    if isinstance(value, AsyncIterable):
        value = _collected(cast("AsyncIterable[Any]", value))
    if inspect.isawaitable(value):
        value = _awaited(value)
    return list(cast("Iterator[Any]", value)) if isinstance(value, Iterator) else value


async def _collected(items: AsyncIterable[Any]) -> list[Any]:
    return [item async for item in items]


def _awaited(awaitable: Awaitable[Any]) -> Any:
    """Wait in an event loop of its own; where this thread runs one already, in a thread beside it."""

    async def wait() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    with ThreadPoolExecutor(1, thread_name_prefix="emova-tool") as worker:
        return worker.submit(copy_context().run, asyncio.run, wait()).result()


# --- the answer ---


def answer_text(value: Any) -> str:
    """Write a tool's answer for the model: text as it is, anything else as JSON.

    Raises:
        TypeError: If it holds something that JSON and words cannot say.
        ValueError: If it holds itself.
    """
    if isinstance(value, str) and not isinstance(value, Enum):
        return well_formed(value)
    if isinstance(value, bytes | bytearray):
        return well_formed(_bytes(value))
    return well_formed(json.dumps(_plain(value, frozenset()), ensure_ascii=False))


def _plain(value: Any, above: frozenset[int]) -> Any:
    """Return ``value`` made of what JSON knows."""
    if isinstance(value, Enum):
        return _plain(value.value, above)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray):
        return _bytes(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Audio | Image):
        raise TypeError("a sound or picture cannot be told to a model as text")
    if id(value) in above:
        raise ValueError("the answer holds itself")
    return _plain_object(value, above | {id(value)})


def _plain_object(value: Any, above: frozenset[int]) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name), above) for one in fields(value)}
    for method in ("model_dump", "_asdict", "tolist"):  # pydantic models, named tuples, arrays and their scalars
        if not isinstance(value, type) and callable(convert := getattr(value, method, None)):
            return _plain(convert(), above)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, above) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, set | frozenset):
        return sorted(
            (_plain(item, above) for item in cast("set[Any]", value)), key=lambda item: json.dumps(item, sort_keys=True)
        )
    if isinstance(value, Iterable) and not isinstance(value, type):
        return [_plain(item, above) for item in cast("Iterable[Any]", value)]
    kind: type = type(value)
    says_itself = kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__
    if not says_itself or isinstance(value, type) or inspect.isroutine(value):
        raise TypeError(f"a `{kind.__name__}` cannot be told to a model; return text, numbers, lists or dicts")
    return str(value)


def _key(key: Any) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return key
    plain = _plain(key, frozenset())
    return plain if isinstance(plain, str) else json.dumps(plain)


def _bytes(value: bytes | bytearray) -> str:
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
