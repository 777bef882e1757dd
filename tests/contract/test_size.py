"""The package stays in pieces that one can read: short files, short functions, one name for one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "emova_sdk"
MOST_LINES = 420
MOST_LINES_OF_A_FUNCTION = 90
NINE_TENTHS = 20
"""Most lines of nine functions in ten."""

LONG_FILES: set[str] = set()
"""Files over the limit; none is to be added."""

FAMILIES = {
    "llm.py",
    "speech_tokenizer.py",
    "style.py",
    "vocoder.py",
    "weights.py",
    "trials.py",
}
"""Modules that every family of components has; `components/trials.py` holds what their trials share."""
COMMANDS = {"config.py", "data.py", "export.py"}
"""Commands are files of their own names, see `emova_sdk.cli.commands`."""
ADDRESSES = {"bridge.py", "openai.py"}
"""Short public addresses of what is in `emova_sdk.components.brains`."""
OTHER_TWINS = {"exported_vision.py", "options.py", "tools.py"}
"""Further names that two modules have; none is to be added."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its path in it."""
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob("*.py"))}


def twins(places: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: found for name, found in places.items() if len(found) > 1}


def test_files_are_short() -> None:
    lengths = {path: len((PACKAGE / path).read_text("utf-8").splitlines()) for path in modules()}
    assert {path for path, length in lengths.items() if length > MOST_LINES} <= LONG_FILES


def test_functions_are_short() -> None:
    lengths: dict[str, int] = {}
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths[f"{path}:{node.name}:{node.lineno}"] = (node.end_lineno or node.lineno) - node.lineno + 1
    assert sorted(lengths.values())[len(lengths) * 9 // 10] <= NINE_TENTHS
    assert {name for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == set()


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path}:{node.lineno}")
    assert twins(places) == {}


def test_no_two_modules_have_one_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        places[Path(path).name].append(path)
    assert set(twins(places)) - {"__init__.py"} <= FAMILIES | COMMANDS | ADDRESSES | OTHER_TWINS
    for name in COMMANDS:
        assert f"cli/commands/{name}" in places[name]
