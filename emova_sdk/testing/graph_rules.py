"""The rules that graphs keep, so that every exporter can export them. A rule's docstring is what a failed check prints.

They are what can be told without exporting; an export itself is compared with its original every time.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emova_sdk.components.graph import Graph
from emova_sdk.components.runtimes.graph_source import open_source
from emova_sdk.errors import EmovaError
from emova_sdk.testing.subject import CheckFailed, Subject, require


def graphs_can_be_exported(subject: Subject) -> None:
    """Every graph has a unique name, a source that runs on its examples, and axes that fit them.

    Make `inputs` follow the module's ``forward``, give examples of at least 2 along dynamic axes, within the axis' bounds.
    """
    graphs: list[Graph] = subject.component.graphs()
    names = [graph.name for graph in graphs]
    require(len(set(names)) == len(names), f"graph names are not unique: {', '.join(names)}")
    for graph in graphs:
        require(re.fullmatch(r"\w[\w.-]*", graph.name) is not None, f"`{graph.name}` cannot be the name of a file")
        require(graph.atol > 0, f"graph `{graph.name}` has a tolerance of {graph.atol}")
        _check_axes(graph)
        _check_source(graph)


def _check_axes(graph: Graph) -> None:
    for name, axes in graph.dynamic.items():
        require(name in graph.inputs, f"graph `{graph.name}` declares axes of `{name}`, which is not an input")
        shape = tuple(graph.inputs[name].shape)
        for dimension, axis in axes.items():
            where = f"graph `{graph.name}`, axis `{axis.name}` of `{name}`"
            require(dimension < len(shape), f"{where} is dimension {dimension}, and the example has {len(shape)}")
            size = shape[dimension]
            require(axis.min <= size <= axis.max, f"{where}: the example's {size} is not in {axis.min} to {axis.max}")
            require(size >= 2, f"{where}: the example's {size} is below 2, which exporters take as fixed")
            require(size % axis.multiple_of == 0, f"{where}: the example's {size} is not a multiple of {axis.multiple_of}")


def _check_source(graph: Graph) -> None:
    if not isinstance(graph.source, Path):
        _check_module(graph)
    try:
        outputs = open_source(graph.original, graph)(graph.inputs)
    except EmovaError as error:
        raise CheckFailed(f"graph `{graph.name}` cannot be run on its examples: {error}") from error
    wanted, found = sorted(graph.outputs), sorted(outputs)
    require(found == wanted, f"graph `{graph.name}` names the outputs {wanted} and gives {found}")


def _check_module(graph: Graph) -> None:
    import torch

    require(isinstance(graph.source, torch.nn.Module), f"graph `{graph.name}` holds no torch.nn.Module and no path of a file")
    parameters = inspect.signature(graph.source.forward).parameters.values()
    arguments = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_POSITIONAL][: len(graph.inputs)]
    if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters):  # `*rest` takes what has no name of its own
        arguments += list(graph.inputs)[len(arguments) :]
    require(
        arguments == list(graph.inputs), f"graph `{graph.name}`: `forward` takes {arguments}, inputs are {list(graph.inputs)}"
    )


def graphs_follow_their_axes(subject: Subject) -> None:
    """Inputs of any size have the declared shapes; each is an array of its own; equal inputs give equal outputs.

    Make `sample` follow the sizes it is given, give every axis an example size of its own, and make noise an input.
    """
    for graph in subject.component.graphs():
        _check_examples(graph)
        shortest = {axis.name: axis.min for axis in graph.axes.values()}
        for sizes in (shortest, {axis.name: axis.opt for axis in graph.axes.values()}):
            _check_sized(graph, graph.sized(sizes), sizes)
        _check_repeatable(graph, graph.sized(shortest))
        _check_facts(graph)


def _check_examples(graph: Graph) -> None:
    """An exporter takes one array, or one size, that comes twice for one and the same thing."""
    places: dict[int, str] = {}
    for name, array in graph.inputs.items():
        other = places.setdefault(array.ctypes.data, name) if array.size else name
        require(other == name, f"graph `{graph.name}`: the examples `{other}` and `{name}` are one array")
    sizes: dict[int, str] = {}
    for name, axes in graph.dynamic.items():
        for dimension, axis in axes.items():
            size = graph.inputs[name].shape[dimension]
            other = sizes.setdefault(size, axis.name)
            require(
                other == axis.name, f"graph `{graph.name}`: the examples have {size} along both `{other}` and `{axis.name}`"
            )


def _check_sized(graph: Graph, inputs: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    where = f"graph `{graph.name}` at {dict(sizes)}"
    require(list(inputs) == list(graph.inputs), f"{where}: `sample` makes {list(inputs)}, inputs are {list(graph.inputs)}")
    for name, shape in graph.shapes.items():
        wanted, found = tuple(sizes.get(str(size), size) for size in shape), tuple(inputs[name].shape)
        require(found == wanted, f"{where}: `{name}` has the shape {found}, not {wanted}")
        example = graph.inputs[name].dtype
        require(inputs[name].dtype == example, f"{where}: `{name}` is {inputs[name].dtype}, its example {example}")


def _check_repeatable(graph: Graph, inputs: Mapping[str, Any]) -> None:
    run = open_source(graph.original, graph)
    first, second = run(inputs), run(inputs)
    for name in graph.outputs:
        left, right = first[name], second[name]
        require(left.shape == right.shape, f"graph `{graph.name}`: `{name}` has another shape the second time")
        require(bool((left == right).all()), f"graph `{graph.name}`: `{name}` is another the second time")


def _check_facts(graph: Graph) -> None:
    facts: Mapping[Any, Any] = graph.metadata
    wrong = [key for key, value in facts.items() if not isinstance(key, str) or not isinstance(value, str)]
    require(not wrong, f"graph `{graph.name}`: `{wrong[0] if wrong else ''}` of its metadata is no string")
    for inputs in graph.calibration_inputs():
        require(set(inputs) == set(graph.inputs), f"graph `{graph.name}`: `calibration` makes {list(inputs)}")


GRAPH_RULES: list[Callable[[Subject], None]] = [graphs_can_be_exported, graphs_follow_their_axes]
