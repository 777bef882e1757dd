"""Golden outputs of the original for a few inputs, stored in an export so that it can be verified without the original."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import LoadError
from emova_sdk.exporters.parity import ParityCase

_MOST_BYTES = 400_000
"""Of one graph's golden outputs; larger cases are left out, but for the first."""


def save_cases(cases: Iterable[ParityCase], path: Path) -> None:
    """Write cases, as many as are small."""
    arrays: dict[str, NDArray[Any]] = {}
    sizes: list[dict[str, int]] = []
    for case in cases:
        groups = {"input": case.inputs, "output": case.expected, "certain": case.certain}
        new = {f"{len(sizes)}/{kind}/{name}": value for kind, group in groups.items() for name, value in group.items()}
        if sizes and sum(value.nbytes for value in (*arrays.values(), *new.values())) > _MOST_BYTES:
            continue
        arrays |= new
        sizes.append(case.sizes)
    _write(arrays, sizes, path)


def _write(arrays: dict[str, NDArray[Any]], sizes: list[dict[str, int]], path: Path) -> None:
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    save_file(whole, path, metadata={"sizes": json.dumps(sizes)})


def load_cases(path: Path) -> list[ParityCase]:
    """Read cases.

    Raises:
        LoadError: If the file is missing or broken.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            sizes: list[dict[str, int]] = json.loads(file.metadata()["sizes"])
            cases = [ParityCase(one, {}, {}, {}) for one in sizes]
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                number, kind, what = name.split("/", 2)
                case = cases[int(number)]
                {"input": case.inputs, "output": case.expected, "certain": case.certain}[kind][what] = file.get_tensor(name)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
        raise LoadError(f"the golden outputs `{path}` cannot be read: {error}", "export again", path=str(path)) from error
    return cases
