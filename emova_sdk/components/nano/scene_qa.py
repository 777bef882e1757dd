"""Checks answers about scenes: shapes decoded from the image features, and rules for the closed set of questions.

Each feature was taught to tell what its cell holds, so a drawn scene can be read back from it, and what is true of the scene
follows by rule. The language model answers; where the rules say otherwise, theirs is spoken and the turn's metadata says so.
A picture that is no such scene is not read, and questions about it are declined.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import LoadError
from emova_sdk.files import write_atomically

COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star")
SIZES = ("small", "big")
CELLS = 4
"""Rows and columns of cells."""
COUNTS = ("no", "one", "two", "three", "four", "five")
NO_PICTURE = "please show me a picture"
MANY, NONE = "there is more than one", "i do not see it in the picture"
_SURE = 0.7
_SLOT = re.compile(r"\{([a-z]+\d?)\}")


class Item(Protocol):
    """A shape with its cell."""

    @property
    def color(self) -> str: ...
    @property
    def shape(self) -> str: ...
    @property
    def size(self) -> str: ...
    @property
    def row(self) -> int: ...
    @property
    def column(self) -> int: ...


@dataclass(frozen=True)
class Seen:
    """A shape that was read off the features."""

    color: str
    shape: str
    size: str
    row: int
    column: int


def answer_question(scene: Sequence[Item], intent: str, slots: Mapping[str, str]) -> str:
    """Answer a question about shapes, given in reading order.

    Args:
        scene: What is drawn.
        intent: E.g. ``color_of``.
        slots: Values of the question's slots, e.g. ``{"shape": "star"}``.
    """
    if intent == "describe":
        return _describe(scene)
    fitting = [item for item in scene if _fits(item, slots)]
    if intent.startswith("count"):
        return _count(intent, slots, len(fitting))
    name = " ".join(slots[part] for part in ("size", "color", "shape") if part in slots)
    if intent == "exists":
        return f"yes there is {article(name)}" if fitting else f"no there is no {name}"
    if intent in ("is_relation", "what_relation"):
        return _relate(scene, intent, slots, fitting)
    return _tell(intent, name, fitting[0]) if len(fitting) == 1 else MANY if fitting else NONE


def _tell(intent: str, name: str, one: Item) -> str:
    if intent == "shape_of":
        return f"it is {article(f'{one.size} {one.shape}')}"
    return f"the {name} is {one.color if intent == 'color_of' else one.size}"


def article(name: str) -> str:
    """The name with ``a`` or ``an``."""
    return f"an {name}" if name[:1] in "aeiou" else f"a {name}"


def _fits(item: Item, slots: Mapping[str, str], mark: str = "") -> bool:
    about = {"color": item.color, "shape": item.shape, "size": item.size}
    return all(slots.get(name + mark, value) == value for name, value in about.items())


def _count(intent: str, slots: Mapping[str, str], number: int) -> str:
    what = {"count_all": "shape", "count_shape": slots.get("shape", ""), "count_color": f"{slots.get('color')} shape"}[intent]
    many = what if number == 1 else f"{what}s"
    if intent == "count_all":
        return f"i see {COUNTS[min(number, 5)]} {many}"
    return f"there {'is' if number == 1 else 'are'} {COUNTS[min(number, 5)]} {many}"


def _describe(scene: Sequence[Item]) -> str:
    names = [article(f"{item.color} {item.shape}") for item in scene]
    if len(names) > 3:
        return f"i see {names[0]} {names[1]} and more"
    return "i see " + (" and ".join([" ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names))


def holds(first: Item, relation: str, second: Item) -> bool:
    """Whether ``first`` is left of, right of, above or below ``second``."""
    return {
        "left of": first.column < second.column,
        "right of": first.column > second.column,
        "above": first.row < second.row,
        "below": first.row > second.row,
    }[relation]


def _true_relation(first: Item, asked: str, second: Item) -> str:
    across, along = ("left of", "right of"), ("above", "below")
    order = (*across, *along) if asked in across else (*along, *across)
    return next(relation for relation in order if holds(first, relation, second))


def _relate(scene: Sequence[Item], intent: str, slots: Mapping[str, str], fitting: Sequence[Item]) -> str:
    groups = [(fitting, f"i see no {slots['color']} {slots['shape']}")]
    if intent == "is_relation":
        others = [item for item in scene if _fits(item, slots, "2")]
        groups.append((others, f"i see no {slots['color2']} {slots['shape2']}"))
    for group, none in groups:
        if len(group) != 1:
            return MANY if group else none
    relation = slots["relation"]
    if intent == "is_relation":
        second = groups[1][0][0]
        true = holds(fitting[0], relation, second)
        how = relation if true else _true_relation(fitting[0], relation, second)
        return f"{'yes' if true else 'no'} it is {how} the {second.shape}"
    found = [item for item in scene if holds(item, relation, fitting[0])]
    if not found:
        return f"there is nothing {relation} it"
    one = f"the {found[0].color} {found[0].shape}"
    return one if len(found) == 1 else f"there are {COUNTS[len(found)]} shapes {relation} it"


class Sight:
    """Reads scenes off features and answers the closed questions about them.

    Args:
        questions: Intent to templates, e.g. ``{"color_of": ["what color is the {shape}"]}``.
        slots: Values of each slot.
        weight: Of the cell heads, float (15, 128), as is ``bias`` (15,).
        scene: Weight (1, 256) and bias (1,) that tell scenes from other pictures by mean and maximum of the features.
    """

    def __init__(
        self,
        questions: Mapping[str, Sequence[str]],
        slots: Mapping[str, Sequence[str]],
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        scene: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    ) -> None:
        self._weight, self._bias, self._scene = weight, bias, scene
        self._patterns = [
            (intent, self._pattern(template, slots)) for intent, templates in questions.items() for template in templates
        ]

    @staticmethod
    def _pattern(template: str, slots: Mapping[str, Sequence[str]]) -> re.Pattern[str]:
        pieces = _SLOT.split(template.replace(" a ", " an? "))
        values = [f"(?P<{p}>{'|'.join(slots[p.rstrip('23')])})" if place % 2 else p for place, p in enumerate(pieces)]
        return re.compile("".join(values))

    @classmethod
    def load(cls, folder: Path) -> Sight:
        """Read ``questions.json`` and ``cells.safetensors``.

        Raises:
            LoadError: If a file is missing or broken.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            text = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
            cells = {name: value.astype(np.float32) for name, value in load_file(folder / "cells.safetensors").items()}
            scene = (cells["scene.weight"], cells["scene.bias"]) if "scene.weight" in cells else None
            return cls(text["questions"], text["slots"], cells["read.weight"], cells["read.bias"], scene)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise LoadError(f"the check of pictures in `{folder}` cannot be loaded: {error}", "train it again") from error

    def read(self, features: NDArray[np.float32]) -> list[Seen] | None:
        """Shapes in reading order from features (16, 128); None when the picture is no clear scene."""
        if features.shape[0] != CELLS * CELLS or not self._is_scene(features):
            return None
        logits = np.asarray(features) @ self._weight.T + self._bias
        occupied, *groups = np.split(logits, np.cumsum((1, 6, 4, 2)), axis=1)
        there = 1 / (1 + np.exp(-occupied[:, 0]))
        if ((there > 0.15) & (there < 0.85)).any() or not 1 <= int((there > 0.5).sum()) <= 5:
            return None
        found: list[Seen] = []
        for place in np.flatnonzero(there > 0.5).tolist():
            names: list[str] = []
            for group, values in zip(groups, (COLORS, SHAPES, SIZES), strict=False):  # the last group are offsets
                odds = np.exp(group[place] - group[place].max())
                if float(odds.max() / odds.sum()) < _SURE:
                    return None
                names.append(values[int(odds.argmax())])
            color, shape, size = names
            found.append(Seen(color, shape, size, place // CELLS, place % CELLS))
        return found

    def _is_scene(self, features: NDArray[np.float32]) -> bool:
        if self._scene is None:
            return True
        weight, bias = self._scene
        values = np.asarray(features)
        return bool((weight @ np.concatenate([values.mean(0), values.max(0)]) + bias)[0] > 0)

    def asks(self, question: str) -> tuple[str, dict[str, str]] | None:
        """Intent and slots of a question about a picture, None for anything else."""
        for intent, pattern in self._patterns:
            match = pattern.fullmatch(question)
            if match:
                return intent, match.groupdict()
        return None


def save_sight(folder: Path, *, questions: Mapping[str, Sequence[str]], slots: Mapping[str, Sequence[str]], cells: Any) -> None:
    """Write what `Sight.load` reads; ``cells`` is the state of the cell heads."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    text = {"questions": {k: list(v) for k, v in questions.items()}, "slots": {k: list(v) for k, v in slots.items()}}
    write_atomically(folder / "questions.json", json.dumps(text) + "\n")
    weights = {name: value.half().contiguous() for name, value in cells.items()}
    write_atomically(folder / "cells.safetensors", save(weights))
