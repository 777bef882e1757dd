"""What a component offers to exporters: a module, example inputs, dynamic axes and a tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Axis:
    """A dynamic axis of an exported graph: its sizes live here and nowhere else."""

    name: str
    min: int
    opt: int
    max: int
    multiple_of: int = 1


@dataclass(frozen=True)
class Graph:
    """What a component offers to exporters.

    Attributes:
        name: E.g. ``vocoder_generator``; unique within the component.
        module: A ``torch.nn.Module`` with flat, named tensor arguments and outputs.
        inputs: Argument name to an example tensor, in the order of the module's ``forward``; at least 2 along dynamic axes.
        outputs: Names of the outputs, in order.
        dynamic: Argument name to ``{dimension: Axis}``.
        atol: Largest absolute difference that still counts as equal, in float32.
        metadata: Facts a runtime needs beside the graph (rates, spaces, ids); strings.
    """

    name: str
    module: Any
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, Axis]]
    atol: float = 1e-4
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
