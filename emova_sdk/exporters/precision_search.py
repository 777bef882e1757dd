"""Find the lowest precision in which a graph still agrees with its original, by measuring each attempt.

Each precision has a ladder of attempts, from everything reduced to nothing. The first one whose outputs agree is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emova_sdk.components.graph import Graph
from emova_sdk.errors import ExportError, ParityError
from emova_sdk.exporters.onnx import files_of
from emova_sdk.exporters.parity import OutputParity, ParityCase, judge, require
from emova_sdk.exporters.quantize import TOLERANCES, USUAL, KeptPart, Method, Precision, quantize, reducible, smaller_in_4_bits


@dataclass(frozen=True)
class HigherPrecision:
    """A part of a graph that stays in a higher precision, and why.

    Attributes:
        part: ``sums``, ``convolutions``, ``activations``, ``weights`` (in 8 bits rather than 4), or ``the whole graph``.
        because: What went wrong otherwise.
    """

    part: str
    because: str


@dataclass(frozen=True)
class PrecisionFound:
    """A graph in the lowest precision at which it agrees.

    Attributes:
        path: The file.
        precision: What the file holds.
        kept: What is not in the precision that was asked for.
        parity: How it compares.
    """

    path: Path
    precision: Precision
    kept: tuple[HigherPrecision, ...]
    parity: list[OutputParity]


_LADDERS: dict[Precision, tuple[KeptPart, ...]] = {
    "fp32": (),
    "fp16": ("nothing",),
    "int8": ("nothing", "sums", "convolutions", "activations"),
    "int4": ("nothing", "weights"),
}
"""What stays in a higher precision, attempt by attempt; after the last one it is the whole graph."""

_IN_8_BITS = HigherPrecision(
    "weights", "4 bits would hold its matrix products alone, and the file would be larger than in 8 bits"
)

MARGIN = 0.5
"""Share of the allowed deviation that an attempt may use up: on inputs it was not chosen by, it deviates more."""


def attempts(precision: Precision) -> int:
    """How many attempts there are before the whole graph stays in float32."""
    return len(_LADDERS[precision])


def kept_at(precision: Precision, attempt: int) -> str:
    """What an attempt keeps in a higher precision."""
    ladder = _LADDERS[precision]
    return ladder[attempt] if attempt < len(ladder) else "the whole graph"


def search_precision(
    graph: Graph,
    whole: Path,
    folder: Path,
    *,
    precision: Precision,
    cases: Sequence[ParityCase],
    method: Method = USUAL,
    strict: bool = False,
    begin: int = 0,
    progress: Callable[[str], object] = lambda _: None,
) -> PrecisionFound:
    """Write a graph in a reduced precision, or in the lowest one above it that is accurate enough.

    Args:
        graph: The original.
        whole: Its float32 export; it stays.
        folder: Where to write.
        precision: What is asked for.
        cases: Inputs and what the original makes of them.
        method: How the precision is reached.
        strict: Raise instead of keeping anything in a higher precision.
        begin: At which attempt, see `attempts`; those before it are known to fail.
        progress: Told what is tried.

    Raises:
        ParityError: If the graph disagrees, in float32 or with ``strict``.
        ExportError: If it cannot be converted, with ``strict``.
    """
    options: dict[str, Any] = {"cases": cases, "method": method, "progress": progress}
    if precision != "int4" or strict or graph.weights == "blocks":
        return _first_accurate(graph, whole, folder, precision, _LADDERS[precision][begin:], strict=strict, **options)
    kept = _IN_8_BITS
    if not begin and smaller_in_4_bits(whole, method.block_size):
        found = _first_accurate(graph, whole, folder, "int4", ("nothing",), strict=False, **options)
        if found.precision == "int4":
            return found
        kept = HigherPrecision("weights", found.kept[0].because)
    # 8 bits hold convolutions as well, and may do so in more ways
    later = begin + len(_LADDERS["int8"]) - len(_LADDERS["int4"]) if begin else 0
    found = _first_accurate(graph, whole, folder, "int8", _LADDERS["int8"][later:], strict=False, **options)
    return replace(found, kept=(kept, *found.kept)) if found.precision == "int8" else found


def _first_accurate(
    graph: Graph,
    whole: Path,
    folder: Path,
    precision: Precision,
    ladder: tuple[KeptPart, ...],
    *,
    strict: bool,
    cases: Sequence[ParityCase],
    method: Method,
    progress: Callable[[str], object],
) -> PrecisionFound:
    """The first attempt of a ladder that agrees with the original, or the float32 export."""
    failed: list[HigherPrecision] = []
    if precision in {"int8", "int4"} and not reducible(whole, precision):
        what = "products" if precision == "int4" else "products or convolutions"
        ladder, failed = (), [HigherPrecision("the whole graph", f"it has no {what} with weights")]
    for part in ladder:
        if part == "sums" and graph.calibration is None:
            continue  # they are in 8 bits only where ranges were measured
        progress(f"converting {graph.name} to {precision}" + (f", {part} kept" if failed else ""))
        holds: Precision = "int8" if part == "weights" else precision
        target = folder / f"{graph.name}.{holds}.onnx"
        try:
            path = quantize(graph, whole, target, precision=precision, kept=part, method=method)
            progress(f"comparing {graph.name}")
            parity = judge(cases, path, TOLERANCES[holds].stricter(MARGIN).of(graph))
            require(parity, graph.name)
        except (ParityError, ExportError) as error:
            for file in files_of(target):
                file.unlink()
            if strict:
                raise
            failed.append(HigherPrecision("the whole graph", error.message))
            continue
        # the first failure is why this attempt keeps a part in a higher precision
        return PrecisionFound(path, holds, tuple(HigherPrecision(part, one.because) for one in failed[:1]), parity)
    progress(f"comparing {graph.name}")
    parity = judge(cases, whole, TOLERANCES["fp32"].of(graph))
    require(parity, graph.name)
    return PrecisionFound(whole, "fp32", tuple(failed[:1]), parity)
