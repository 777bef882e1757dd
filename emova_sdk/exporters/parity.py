"""Parity: run an exported graph and its original on the same inputs, at several sizes, and compare every output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.runtimes.graph_source import open_source
from emova_sdk.components.runtimes.onnx_session import open_session, run_session
from emova_sdk.errors import ParityError


@dataclass(frozen=True)
class Tolerance:
    """What counts as equal.

    Attributes:
        cosine: Least cosine of the angle between two outputs, for reduced precisions; None compares by ``atol``.
        mismatch: Largest share of an integer output's values that may differ.
        atol: Largest absolute difference of a floating-point output.
    """

    cosine: float | None = None
    mismatch: float = 0.0
    atol: float = 1e-4

    def stricter(self, share: float) -> Tolerance:
        """Allow `share` of the angle's deviation only."""
        return self if self.cosine is None else replace(self, cosine=1 - share * (1 - self.cosine))

    def of(self, graph: Graph) -> Tolerance:
        """The tolerance for a graph that has one of its own."""
        return self.at_least(atol=graph.atol, mismatch=graph.mismatch)

    def at_least(self, *, atol: float, mismatch: float) -> Tolerance:
        """The tolerance with another absolute difference, and a larger share of integers if that is larger."""
        return replace(self, atol=atol, mismatch=max(mismatch, self.mismatch))


@dataclass(frozen=True)
class OutputParity:
    """How one output compares at one set of sizes.

    Attributes:
        output: Its name.
        sizes: Sizes of the dynamic axes.
        max_abs_diff: Largest absolute difference; for integers, of the values.
        mean_abs_diff: Mean absolute difference.
        cosine: Cosine of the angle between the flattened outputs; 1 when equal.
        mismatch: Share of values that differ (integers; those next to a rounding boundary do not count where that is known),
            or that differ by more than the tolerance (floats).
        allowed: What was allowed, e.g. ``max_abs_diff <= 0.0001``.
        passed: Whether it was kept to.
    """

    output: str
    sizes: dict[str, int]
    max_abs_diff: float
    mean_abs_diff: float
    cosine: float
    mismatch: float
    allowed: str
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def check_sizes(graph: Graph) -> list[dict[str, int]]:
    """Sizes to compare at: the shortest, an odd one, the usual one and one longer than any example."""
    kinds: list[Callable[[Axis], int]] = [
        lambda axis: axis.min,
        lambda axis: (axis.min + axis.opt) // 2 | 1,
        lambda axis: axis.opt,
        lambda axis: max(axis.opt + 1, axis.opt * 3 // 2),
    ]
    found = [{name: _allowed(axis, kind(axis)) for name, axis in graph.axes.items()} for kind in kinds]
    return [sizes for number, sizes in enumerate(found) if sizes not in found[:number]]


def within(graph: Graph, axes: Mapping[str, Axis]) -> Graph:
    """The graph with other axes of the same names, compared only at sizes that lie within them."""
    dynamic = {
        name: {dimension: axes.get(axis.name, axis) for dimension, axis in found.items()}
        for name, found in graph.dynamic.items()
    }
    checks = [
        sizes
        for sizes in graph.checks
        if all(axes[name].min <= size <= axes[name].max for name, size in sizes.items() if name in axes)
    ]
    return replace(graph, dynamic=dynamic, checks=checks)


def other_sizes(graph: Graph) -> list[dict[str, int]]:
    """Sizes that an export is not compared at when it is made: for a look at it later."""
    found = {name: _allowed(axis, axis.opt * 2 // 3 - 1) for name, axis in graph.axes.items()}
    return [found] if found else []


def _allowed(axis: Axis, size: int) -> int:
    """The nearest size below that the axis may have."""
    return max(axis.min, min(axis.max, size // axis.multiple_of * axis.multiple_of))


@dataclass(frozen=True)
class ParityCase:
    """Inputs, and what the original makes of them.

    Attributes:
        sizes: Sizes of the dynamic axes.
        inputs: By name.
        expected: Outputs by name.
        certain: Integer output to a mask of the values that are away from a rounding boundary; all where it is missing.
    """

    sizes: dict[str, int]
    inputs: dict[str, NDArray[Any]]
    expected: dict[str, NDArray[Any]]
    certain: dict[str, NDArray[np.bool_]]


def compare(
    graph: Graph, path: Any, *, tolerance: Tolerance = Tolerance(), sizes: Iterable[Mapping[str, int]] = ()
) -> list[OutputParity]:
    """Run original and export on the same inputs.

    Args:
        graph: The original.
        path: The exported file, or a session that runs it.
        tolerance: What counts as equal in its precision.
        sizes: Sizes of the axes to compare at; by default those of `check_sizes` and the graph's own.

    Returns:
        One record for each output and set of sizes.
    """
    return judge(cases_of(graph, sizes), path, tolerance.of(graph))


def cases_of(graph: Graph, sizes: Iterable[Mapping[str, int]] = ()) -> Iterator[ParityCase]:
    """Run the original.

    Args:
        graph: Whose.
        sizes: Sizes of the axes; by default those of `check_sizes` and the graph's own.
    """
    run = open_source(graph.original, graph)
    for chosen in list(sizes) or [*check_sizes(graph), *graph.checks]:
        inputs = graph.sized(chosen)
        outputs = run(inputs)
        certain = {name: np.asarray(mask(outputs)) for name, mask in graph.certain.items()}
        yield ParityCase(dict(chosen), inputs, outputs, certain)


def judge(cases: Iterable[ParityCase], path: Any, tolerance: Tolerance) -> list[OutputParity]:
    """Run an export on inputs whose outputs are known.

    Args:
        cases: Inputs and outputs.
        path: The exported file, or a session that runs it.
        tolerance: What counts as equal.
    """
    session = open_session(path) if isinstance(path, str | Path) else path
    records: list[OutputParity] = []
    for case in cases:
        found = run_session(session, _fed(session, case.inputs))
        records += [_judged(case, name, found[name], tolerance) for name in case.expected]
    return records


def _fed(session: Any, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays as an export takes them, whose state may be in half precision."""
    half = {one.name for one in session.get_inputs() if one.type == "tensor(float16)"}
    return {name: value.astype(np.float16) if name in half else value for name, value in inputs.items()}


def _judged(case: ParityCase, name: str, found: NDArray[Any], tolerance: Tolerance) -> OutputParity:
    expected = case.expected[name]
    if expected.shape != found.shape:
        allowed = f"shape {expected.shape}, found {found.shape}"
        return OutputParity(name, case.sizes, float("inf"), float("inf"), 0.0, 1.0, allowed, passed=False)
    left, right = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    difference = np.abs(left - right)
    largest, mean = (float(difference.max()), float(difference.mean())) if len(difference) else (0.0, 0.0)
    cosine = _cosine(left, right)
    whole = np.issubdtype(expected.dtype, np.integer) or expected.dtype == np.bool_
    counted = difference[case.certain[name].ravel()] if name in case.certain else difference
    share = float(np.mean(counted > (0 if whole else tolerance.atol))) if len(counted) else 0.0
    if whole:
        agrees, allowed = share <= tolerance.mismatch, f"mismatch <= {tolerance.mismatch:g}"
    elif tolerance.cosine is not None:
        agrees, allowed = cosine >= tolerance.cosine, f"cosine >= {tolerance.cosine:g}"
    else:
        agrees, allowed = largest <= tolerance.atol, f"max_abs_diff <= {tolerance.atol:g}"
    finite = bool(np.isfinite(right).all())
    return OutputParity(name, case.sizes, largest, mean, cosine, share, allowed, passed=finite and agrees)


def _cosine(left: Any, right: Any) -> float:
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / norms if norms else float(not left.any() and not right.any())


def require(records: Iterable[OutputParity], graph: str) -> None:
    """Raise for the worst output that does not agree.

    Raises:
        ParityError: Naming the output, the sizes and the difference.
    """
    failed = [record for record in records if not record.passed]
    if failed:
        worst = max(failed, key=lambda record: (record.max_abs_diff, record.mismatch))
        raise ParityError(
            f"graph `{graph}`: output `{worst.output}` differs by {worst.max_abs_diff:.3g} at {worst.sizes} "
            f"(cosine {worst.cosine:.4f}, mismatch {worst.mismatch:.2%}); allowed is {worst.allowed}",
            "export in a higher precision, or report the graph",
            output=worst.output,
            max_abs_diff=worst.max_abs_diff,
            atol=float(worst.allowed.rsplit(" ", 1)[-1]) if "<=" in worst.allowed or ">=" in worst.allowed else 0.0,
        )
