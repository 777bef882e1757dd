"""Does an exported graph compute what the original computes? Measured at several sizes, for every output, every time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emova_sdk.components.graph import Axis, Graph
from emova_sdk.components.onnx_session import open_session, run_session
from emova_sdk.errors import ParityError


@dataclass(frozen=True)
class OutputParity:
    """How one output compares at one set of sizes.

    Attributes:
        output: Its name.
        sizes: Sizes of the dynamic axes.
        max_abs_diff: Largest absolute difference; for integers, of the values.
        mean_abs_diff: Mean absolute difference.
        cosine: Cosine of the angle between the flattened outputs; 1 when equal.
        mismatch: Share of values that differ (integers), or that differ by more than the tolerance (floats).
        atol: What was allowed: a difference for floats, a share for integers.
        passed: Whether it was kept to.
    """

    output: str
    sizes: dict[str, int]
    max_abs_diff: float
    mean_abs_diff: float
    cosine: float
    mismatch: float
    atol: float
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def check_sizes(graph: Graph) -> list[dict[str, int]]:
    """Sizes to compare at: the shortest, an odd one, the usual one and one longer than any example."""
    axes = graph.axes
    if not axes:
        return [{}]
    kinds = (_shortest, _odd, _usual, _long)
    found: list[dict[str, int]] = []
    for kind in kinds:
        sizes = {name: kind(axis) for name, axis in axes.items()}
        if sizes not in found:
            found.append(sizes)
    return found


def _shortest(axis: Axis) -> int:
    return axis.min


def _usual(axis: Axis) -> int:
    return axis.opt


def _odd(axis: Axis) -> int:
    middle = (axis.min + axis.opt) // 2
    return _multiple(axis, middle | 1 if axis.multiple_of == 1 else middle)


def _long(axis: Axis) -> int:
    return _multiple(axis, min(axis.max, max(axis.opt + 1, axis.opt * 3 // 2)))


def _multiple(axis: Axis, size: int) -> int:
    return max(axis.min, min(axis.max, size // axis.multiple_of * axis.multiple_of))


def compare(
    graph: Graph, path: str | Path, *, atol: float | None = None, sizes: Iterable[Mapping[str, int]] = ()
) -> list[OutputParity]:
    """Run original and export on the same inputs.

    Args:
        graph: The original.
        path: The exported file.
        atol: Tolerance instead of the graph's own, for reduced precisions.
        sizes: Sizes of the axes to compare at; by default those of `check_sizes`.

    Returns:
        One record for each output and set of sizes.
    """
    import torch

    session = open_session(path)
    allowed = graph.atol if atol is None else atol
    records: list[OutputParity] = []
    for chosen in list(sizes) or check_sizes(graph):
        inputs = graph.sized(chosen)
        with torch.inference_mode():
            expected = graph.module.eval()(*(tensor.clone() for tensor in inputs.values()))
        tensors = expected if isinstance(expected, tuple | list) else (expected,)
        found = run_session(session, {name: tensor.numpy() for name, tensor in inputs.items()})
        records += [
            _compared(name, dict(chosen), (tensor.numpy(), found[name]), atol=allowed, mismatch=graph.mismatch)
            for name, tensor in zip(graph.outputs, tensors, strict=True)
        ]
    return records


def _compared(name: str, sizes: dict[str, int], pair: tuple[Any, Any], *, atol: float, mismatch: float) -> OutputParity:
    expected, found = pair
    if expected.shape != found.shape:
        return OutputParity(name, sizes, float("inf"), float("inf"), 0.0, 1.0, atol, passed=False)
    left, right = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    difference = np.abs(left - right)
    largest = float(difference.max(initial=0.0))
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    cosine = float(left @ right / norms) if norms else float(largest == 0.0)
    whole = np.issubdtype(expected.dtype, np.integer) or expected.dtype == np.bool_
    share = float(np.mean(difference > (0 if whole else atol))) if len(difference) else 0.0
    passed = bool(np.isfinite(right).all()) and (share <= mismatch if whole else largest <= atol)
    mean = float(difference.mean()) if len(difference) else 0.0
    return OutputParity(name, sizes, largest, mean, cosine, share, mismatch if whole else atol, passed)


def require(records: Iterable[OutputParity], graph: str) -> None:
    """Raise for the worst output that does not agree.

    Raises:
        ParityError: Naming the output, the sizes and the difference.
    """
    failed = [record for record in records if not record.passed]
    if failed:
        worst = max(failed, key=lambda record: (record.max_abs_diff, record.mismatch))
        raise ParityError(
            f"graph `{graph}`: output `{worst.output}` differs by {worst.max_abs_diff:.3g} at {worst.sizes}, "
            f"and {worst.atol:g} is allowed",
            "export in a higher precision, or report the graph",
            output=worst.output,
            max_abs_diff=worst.max_abs_diff,
            atol=worst.atol,
        )
