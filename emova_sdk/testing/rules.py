"""The rules every component keeps, whatever its slot. A rule's docstring is what a failed check prints."""

from __future__ import annotations

import copy
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from emova_sdk.components.base import Component, Space
from emova_sdk.testing.export_rules import EXPORT_RULES
from emova_sdk.testing.graph_rules import GRAPH_RULES
from emova_sdk.testing.subject import Subject, in_threads, require, same
from emova_sdk.types import Audio, Image, SpeechUnits

Rule = Callable[[Subject], None]

MAX_CONSTRUCTION_CALLS = 100_000
"""Function calls in a constructor, imports apart: counted, not timed, so that every processor gives the same verdict."""
MAX_CONSTRUCTED_BYTES = 8_000_000
_MOMENT_S = 1.0

_FACTS: dict[str, dict[str, Any]] = {
    "vision_encoder": {"features": Space},
    "speech_tokenizer": {"units": Space, "sample_rate": int, "unit_rate": (int, float)},
    "llm_core": {"units": (Space, type(None)), "vision": (Space, type(None)), "tools": bool, "sees_images": bool},
    "style_module": {"style": Space, "choices": Mapping, "perceives": bool},
    "vocoder": {"units": Space, "style": Space, "sample_rate": int},
}


def facts_are_declared(subject: Subject) -> None:
    """The facts of the slot are there after construction, with the right type.

    Set them as class attributes or in the constructor: the pipeline checks the fit of all slots before it loads anything.
    """
    component = subject.fresh()
    for fact, kind in _FACTS[subject.slot].items():
        require(hasattr(component, fact), f"`{fact}` is missing")
        value = getattr(component, fact)
        wrong_bool = isinstance(value, bool) and kind is not bool
        require(isinstance(value, kind) and not wrong_bool, f"`{fact}` is {value!r}, not a {getattr(kind, '__name__', kind)}")
        if isinstance(value, Space):
            require(bool(value.name) and value.size > 0, f"`{fact}` is {value!r}: it needs a name and a positive size")
        if isinstance(value, int | float) and not isinstance(value, bool):
            require(value > 0, f"`{fact}` is {value}, not above 0")


def construction_is_cheap(subject: Subject) -> None:
    """The constructor neither loads weights nor works.

    Move what takes time or memory to `load`, and call that from the methods that need it.
    """
    component, calls = _counting_calls(subject.fresh)
    if calls >= MAX_CONSTRUCTION_CALLS and subject.factory is not None:
        component, calls = _counting_calls(subject.fresh)  # what it needs is imported now
    if subject.factory is not None:
        size = _held_bytes(component)
        require(size < MAX_CONSTRUCTED_BYTES, f"the constructed component holds {size / 1e6:.0f} MB of arrays or tensors")
    require(calls < MAX_CONSTRUCTION_CALLS, f"the constructor called {calls:,} functions")


def _counting_calls(make: Callable[[], Component]) -> tuple[Component, int]:
    """Make a component; say how many functions were called for it in this thread."""
    calls, before = 0, sys.getprofile()

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        made = make()
    finally:
        sys.setprofile(before)
    return made, calls


def _held_bytes(component: Component) -> int:
    """Count the bytes of arrays, tensors and modules among the attributes and in plain containers of them."""
    total, waiting, seen = 0, [cast("Any", vars(component))], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += cast("dict[Any, Any]", value).values()
        elif isinstance(value, list | tuple):
            waiting += cast("list[Any]", value)
        elif isinstance(value, Component):
            waiting.append(vars(value))
        elif type(value).__module__.partition(".")[0] in {"torch", "numpy"} and hasattr(value, "nbytes"):
            total += 0 if getattr(value, "is_meta", False) else int(value.nbytes)
        elif callable(getattr(value, "parameters", None)) and callable(getattr(value, "buffers", None)):
            waiting += [*value.parameters(), *value.buffers()]
    return total


def load_can_be_repeated(subject: Subject) -> None:
    """`load` may be called again, and from several threads at once.

    Guard it with a lock and return at once when the weights are there.
    """
    component = subject.fresh()
    in_threads([component.load] * 4)
    component.load()
    for operation in subject.operations():
        operation.call(component, operation.inputs[:1])


def close_can_be_undone(subject: Subject) -> None:
    """After `close`, twice if need be, the component can be loaded and used again and answers as before.

    Let `close` drop what `load` took, and let every method that needs the weights call `load`.
    """
    component = subject.fresh()
    operations = subject.operations()
    with component as entered:
        require(entered is component, "`with component as c` does not give the component itself")
        before = [operation.call(component, operation.inputs[:1]) for operation in operations]
    component.close()
    component.close()
    for operation, first in zip(operations, before, strict=True):
        again = operation.call(component, operation.inputs[:1])
        require(same(first[0], again[0], subject.samples.atol), f"`{operation.name}` answers differently after close and load")


def items_do_not_influence_each_other(subject: Subject) -> None:
    """A batch gives for each item what the item gives alone, in order.

    Do not pad items to one length without masking; if the batch cannot be made exact, work item by item.
    """
    for operation in subject.operations():
        together = operation.call(subject.component, operation.inputs)
        require(
            len(together) == len(operation.inputs), f"`{operation.name}` gave {len(together)} for {len(operation.inputs)} items"
        )
        for index, item in enumerate(operation.inputs):
            alone = operation.call(subject.component, [item])[0]
            require(
                same(alone, together[index], subject.samples.atol),
                f"`{operation.name}`: item {index} of a batch of {len(operation.inputs)} differs from the item alone",
            )


def an_empty_batch_is_an_empty_list(subject: Subject) -> None:
    """A batch of nothing gives nothing.

    Return early when the list is empty.
    """
    for operation in subject.operations():
        if subject.slot != "llm_core":  # its batch is one conversation
            found = operation.call(subject.component, [])
            require(len(found) == 0, f"`{operation.name}` of an empty list gave {found!r}")


def equal_input_gives_equal_output(subject: Subject) -> None:
    """The same input gives the same output, time after time.

    Draw random numbers from a generator seeded anew for each call, with a seed that is an argument.
    """
    for operation in subject.operations():
        first, second = (operation.call(subject.component, operation.inputs) for _ in range(2))
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            require(same(one, other, subject.samples.atol), f"`{operation.name}`: item {index} differs when repeated")


def inputs_are_left_alone(subject: Subject) -> None:
    """Arrays that are passed in are not written to.

    Copy before working in place.
    """
    for operation in subject.operations():
        given = copy.deepcopy(operation.inputs)
        operation.call(subject.component, given)
        for before, after in zip(_arrays(operation.inputs), _arrays(given), strict=True):
            require(np.array_equal(before, after), f"`{operation.name}` changed its input")


def _arrays(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, list | tuple):
        return [array for item in cast("list[Any]", value) for array in _arrays(item)]
    if isinstance(value, Audio | Image | SpeechUnits):
        return [next(iter(vars(value).values()))]
    return _arrays(value.parts) if hasattr(value, "parts") else []


def threads_do_not_disturb_each_other(subject: Subject) -> None:
    """Calls from several threads at once give what they give one after the other.

    Keep no state of a call in the component: use local variables, or a lock.
    """
    for operation in subject.operations():
        expected = [operation.call(subject.component, [item])[0] for item in operation.inputs]
        calls = [lambda item=item, op=operation: op.call(subject.component, [item])[0] for item in operation.inputs * 2]
        for index, found in enumerate(in_threads(calls)):
            agrees = same(expected[index % len(expected)], found, subject.samples.atol)
            require(agrees, f"`{operation.name}` called from {len(calls)} threads gives another answer than alone")


def no_threads_are_left_behind(subject: Subject) -> None:
    """After `close` no thread of the component is alive.

    Stop and join what was started, in `close` at the latest. Threads of libraries that are about to end get a moment.
    """
    before = set(threading.enumerate())
    component = subject.fresh()
    for operation in subject.operations():
        operation.call(component, operation.inputs[:1])
    component.close()
    started = [thread for thread in threading.enumerate() if thread not in before]
    deadline = time.monotonic() + _MOMENT_S
    for thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread.name for thread in started if thread.is_alive()]
    require(not left or subject.factory is None, f"threads are left: {', '.join(left)}")


COMMON_RULES: list[Rule] = [
    facts_are_declared,
    construction_is_cheap,
    load_can_be_repeated,
    items_do_not_influence_each_other,
    an_empty_batch_is_an_empty_list,
    equal_input_gives_equal_output,
    inputs_are_left_alone,
    threads_do_not_disturb_each_other,
    *GRAPH_RULES,
    *EXPORT_RULES,
    close_can_be_undone,
    no_threads_are_left_behind,
]
