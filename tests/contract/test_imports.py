"""The import graph: no circles, those closed inside a function or for type checkers only included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import grimp
import pytest


def circles(imports: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Strongly connected components with more than one module (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> Iterator[list[str]]:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in order:
                yield from visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == order[module]:
            found = [stack.pop()]
            while found[-1] != module:
                found.append(stack.pop())
            if len(found) > 1:
                yield sorted(found)

    for module in sorted(imports):
        if module not in order:
            yield from visit(module)


def test_circles_are_found():
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == [["a", "b", "c"]]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("emova_sdk", "nano_recipe", cache_dir=None)


def test_only_its_commands_import_the_recipe_of_nano(graph):
    """The wheel leaves it out."""
    users = {
        module
        for module in graph.modules
        if any(other.startswith("nano_recipe") for other in graph.find_modules_directly_imported_by(module))
    }
    assert {module for module in users if not module.startswith("nano_recipe")} == {
        "emova_sdk.cli.commands.train",
        "emova_sdk.cli.commands.eval",
    }


def test_no_module_imports_one_that_imports_it(graph):
    assert list(circles({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})) == []
