"""Graphs, which components offer to exporters: a network, example inputs, dynamic axes and tolerances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import InputError

Arrays = Mapping[str, NDArray[Any]]
"""Inputs or outputs of a graph by name."""

LARGEST_AXIS = 2**24
"""Size of any axis: checks make inputs of that size, and a manifest that asks for more must not fill the memory."""


@dataclass(frozen=True)
class Axis:
    """A dynamic axis of an exported graph. Its sizes live here and nowhere else: checks and TensorRT profiles derive from it.

    Attributes:
        name: E.g. ``frames``; axes of one name in one graph have one size.
        min: Shortest size.
        opt: Usual size.
        max: Longest size.
        multiple_of: Every size is a multiple of this.
    """

    name: str
    min: int
    opt: int
    max: int
    multiple_of: int = 1

    def __post_init__(self) -> None:
        ordered = 0 <= self.min <= self.opt <= self.max and 0 < self.max <= LARGEST_AXIS
        if (
            not self.name.isidentifier()
            or not ordered
            or any(size % self.multiple_of for size in (self.min, self.opt, self.max))
        ):
            raise InputError(
                f"`{self}` is not a valid axis", f"0 <= min <= opt <= max <= {LARGEST_AXIS}, all multiples of `multiple_of`"
            )


@dataclass(frozen=True)
class Graph:
    """A part of a component that can be exported on its own.

    Attributes:
        name: E.g. ``generator``; unique within the component.
        source: A ``torch.nn.Module`` in evaluation mode, with positional tensor arguments and tensor outputs; or the path of
            an ONNX file, which may keep its weights in other files beside it and in half precision.
        inputs: Argument name to an example array (or CPU tensor), in the order of ``forward``; all sizes along dynamic axes
            are at least 2 and differ between axes, because an exporter takes equal or unit sizes for one and the same.
        outputs: Names of the outputs, in order.
        dynamic: Argument name to ``{dimension: Axis}``.
        atol: Largest absolute difference of a floating-point output that still counts as equal, in float32.
        mismatch: Largest share of an integer output's values that may differ (values next to a rounding boundary).
        sample: Makes the inputs for given sizes of the axes; without it the examples are tiled and cropped.
        checks: Sizes to compare at beside those that follow from the axes; ``sample`` may know names that are no axes.
        reference: Another source to compare the export with, if ``source`` cannot run in torch or is a rewrite of an existing
            module. Default: ``source``.
        calibration: Makes typical inputs, from which convolutions are quantised to int8; without it they stay float.
        weights: How int8 stores matrices: ``rows`` is for products that are computed in int8 altogether, ``blocks`` for
            ones that wait for memory, such as those of a decoder (with operators of ONNX Runtime).
        certain: Integer output to a function of all outputs (arrays by name) that returns a mask of the values away from a
            rounding boundary; the others do not count as differing. Without it all values count.
        state: Outputs that are inputs of a later run, output to input; in half precision they are in half precision too.
        metadata: Facts a runtime needs beside the graph (rates, spaces, ids); strings. ``family`` names the components
            that run it in the SDK.
    """

    name: str
    source: Any
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, Axis]]
    atol: float = 1e-4
    mismatch: float = 0.0
    sample: Callable[[Mapping[str, int]], Mapping[str, Any]] | None = None
    checks: Sequence[Mapping[str, int]] = ()
    reference: Any = None
    calibration: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    weights: Literal["rows", "blocks"] = "rows"
    certain: Mapping[str, Callable[[Arrays], Any]] = field(default_factory=dict[str, Callable[..., Any]])
    state: Mapping[str, str] = field(default_factory=dict[str, str])
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", {name: np.asarray(value) for name, value in self.inputs.items()})

    @property
    def axes(self) -> dict[str, Axis]:
        """All dynamic axes by name.

        Raises:
            InputError: If two axes share a name and differ in their sizes.
        """
        found: dict[str, Axis] = {}
        for axes in self.dynamic.values():
            for axis in axes.values():
                if found.setdefault(axis.name, axis) != axis:
                    raise InputError(f"graph `{self.name}` has two different axes `{axis.name}`", "rename one of them")
        return found

    @property
    def shapes(self) -> dict[str, tuple[int | str, ...]]:
        """Shape of every input: a number, or the name of the axis."""
        return {
            name: tuple(axes[at].name if at in axes else int(size) for at, size in enumerate(array.shape))
            for name, array in self.inputs.items()
            for axes in (self.dynamic.get(name, {}),)
        }

    @property
    def original(self) -> Any:
        """The source that an export is compared with."""
        return self.source if self.reference is None else self.reference

    def compared(self) -> Graph:
        """Return the graph without its export-only source, which frees the rearranged weights."""
        return replace(self, source=self.original)

    def sized(self, sizes: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        """Return inputs of the given sizes of the axes; axes that are left out get their usual size."""
        wanted = {name: axis.opt for name, axis in self.axes.items()} | dict(sizes)
        if self.sample is not None:
            return {name: np.asarray(value) for name, value in self.sample(wanted).items()}
        return {name: _fitted(array, self.dynamic.get(name, {}), wanted) for name, array in self.inputs.items()}

    def calibration_inputs(self) -> list[dict[str, NDArray[Any]]]:
        """Return typical inputs; empty without ``calibration``."""
        samples = self.calibration() if self.calibration is not None else ()
        return [{name: np.asarray(value) for name, value in one.items()} for one in samples]


Profile = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Of each dynamic input its shortest, usual and longest shape: what an engine is built for."""


def profile(shapes: Mapping[str, Sequence[int | str]], axes: Mapping[str, Axis]) -> Profile:
    """Derive the shapes an engine is built for.

    Two inputs that share an axis get the same sizes along it, which TensorRT itself does not check.

    Args:
        shapes: Shape of every input, as `Graph.shapes` gives it.
        axes: The axes by name.

    Raises:
        InputError: If a shape names an unknown axis.
    """
    unknown = {size for shape in shapes.values() for size in shape if isinstance(size, str) and size not in axes}
    if unknown:
        raise InputError(f"no axis is named `{min(unknown)}`", f"the axes are {', '.join(axes) or 'none'}")

    def sized(shape: Sequence[int | str], bound: Callable[[Axis], int]) -> tuple[int, ...]:
        return tuple(bound(axes[size]) if isinstance(size, str) else size for size in shape)

    return {
        name: (sized(shape, lambda axis: axis.min), sized(shape, lambda axis: axis.opt), sized(shape, lambda axis: axis.max))
        for name, shape in shapes.items()
        if any(isinstance(size, str) for size in shape)
    }


def _fitted(array: NDArray[Any], axes: Mapping[int, Axis], sizes: Mapping[str, int]) -> NDArray[Any]:
    for dimension, axis in axes.items():
        array = np.take(array, np.arange(sizes[axis.name]) % array.shape[dimension], axis=dimension)
    return array.copy()
