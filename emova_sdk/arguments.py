"""Checks the arguments of public functions against their annotations, for callers without a type checker."""

from __future__ import annotations

import functools
import inspect
import numbers
import operator
from collections import abc
from collections.abc import Callable, Iterable
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from emova_sdk.errors import InputError

P = ParamSpec("P")
Result = TypeVar("Result")
Item = TypeVar("Item")


def checked_except(*names: str) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """As `checked`, but for some parameters, of which the function itself has more to say."""
    return lambda function: _checked(function, frozenset(names))


def checked(function: Callable[P, Result]) -> Callable[P, Result]:
    """Let a function refuse arguments that are not what its annotations say, at the call, also if it is a generator.

    Items are checked in lists and tuples; other iterables would be used up by it.

    Raises:
        InputError: If an argument is of another type.
    """
    return _checked(function, frozenset())


def checked_fields(cls: type[Item]) -> type[Item]:
    """Let a dataclass refuse values that are not what its annotations say, before they are used; see `checked`."""
    type.__setattr__(cls, "__init__", checked(cls.__init__))
    return cls


def items_of(values: object, kind: type[Item], what: str) -> list[Item]:
    """Return the items of an iterable.

    Args:
        values: The iterable.
        kind: What its items must be.
        what: What they are, for the error: ``"`history` holds"``.

    Raises:
        InputError: If it is no iterable, or one of them is something else.
    """
    items = list(cast("Iterable[object]", values)) if isinstance(values, Iterable) else [values]
    for item in items:
        if not isinstance(item, kind):
            raise InputError(f"{what} a `{type(item).__name__}`, not a `{kind.__name__}`", f"use a list of `{kind.__name__}`s")
    return cast("list[Item]", items)


def _checked(function: Callable[P, Result], free: frozenset[str]) -> Callable[P, Result]:
    signature = inspect.signature(function)

    @functools.cache
    def hints() -> dict[str, Any]:
        found = get_type_hints(function)  # at the first call: by then all modules are there
        return {name: hint for name, hint in found.items() if name not in {"return", *free}}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # a wrong number of arguments: Python says that best itself
            return function(*args, **kwargs)
        for name, hint in hints().items():
            if name in given:
                _require(function.__qualname__, name, given[name], hint, signature.parameters[name].kind)
        return function(*args, **kwargs)

    return call


def _require(function: str, name: str, value: Any, hint: Any, kind: Any) -> None:
    for one in value if kind is inspect.Parameter.VAR_POSITIONAL else (value,):
        if not _fits(one, hint):
            raise InputError(f"`{function}` was given {_shown(one)} as `{name}`", f"pass {_described(hint)}")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is abc.Callable:
        return callable(value)
    if isinstance(origin, type):
        if origin is tuple and isinstance(value, list):
            origin = list
        items_fit = _samples_fit if origin.__name__ == "ndarray" else _items_fit
        return isinstance(value, origin) and items_fit(value, origin, inner)
    return _is_a(value, hint)


def _is_a(value: Any, kind: Any) -> bool:
    if kind is int:
        return _is_whole(value)
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    return not isinstance(kind, type) or kind is Any or isinstance(value, kind)


def _is_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def _items_fit(value: Any, origin: type, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, str | bytes | bytearray):  # a sequence of characters is hardly ever meant
        return False
    if isinstance(value, list | tuple) and not issubclass(origin, abc.Mapping) and inner:
        return all(_fits(item, inner[0]) for item in value)
    return True


def _samples_fit(value: Any, _: type, inner: tuple[Any, ...]) -> bool:
    """Whether an array is of the type that `numpy.typing.NDArray` names."""
    (scalar,) = get_args(inner[-1])
    return scalar is Any or issubclass(value.dtype.type, scalar)


def _shown(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"an array of `{value.dtype}`"
    return f"`{value!r:.60}`" if isinstance(value, str | int | float | NoneType) else f"a `{type(value).__name__}`"


def _described(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return " or ".join(dict.fromkeys(_described(one) for one in inner))
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin is abc.Callable:
        return "a function"
    if isinstance(origin, type):
        inner = get_args(inner[-1]) if origin.__name__ == "ndarray" else inner
        return f"`{origin.__name__}`" + (f" of {_described(inner[0])}" if len(inner) == 1 else "")
    return "`None`" if hint is NoneType else f"`{getattr(hint, '__name__', hint)}`"
