"""Contenders take turns, so that a busy machine slows all of them alike; medians count, and ratios come first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from time import perf_counter
from typing import Any

from emova_sdk.bench.contenders import Contender, Run, Sample, contender_to_dict
from emova_sdk.bench.limits import Limits, Work

WARM_UP = 2
_CHILD_S = 600


@dataclass(frozen=True)
class Entry:
    """A contender, or why there is none.

    Attributes:
        name: What it is called.
        contender: What runs; None where it could not even be made.
        disk_bytes: Size of its files, where it is an export.
        error: Why there is no contender.
    """

    name: str
    contender: Contender | None = None
    disk_bytes: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Subject:
    """What all contenders do: the first of them is what the others are compared with.

    Attributes:
        name: E.g. ``turn``, ``vocoder`` or ``vocoder: generator``.
        entries: The contenders.
        work: What a run has to do at least, where that is known.
        sizes: Sizes of the axes at which graphs run.
    """

    name: str
    entries: Sequence[Entry]
    work: Work | None = None
    sizes: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Row:
    """What one contender did.

    Attributes:
        subject: What it did.
        contender: Its name.
        ratio: How many times as fast as the first contender it was, median by median.
        median_s: Median time of a run.
        best_s: Best time of a run.
        first_s: Median time until the first sound or word.
        real_time_factor: Time for each second of sound heard or made.
        tokens_s: Tokens written in a second.
        prepare_s: Time of loading and of the first run.
        peak_rss_bytes: Peak memory of a process of its own that loads it and runs it once.
        weight_bytes: Bytes of weights: of an export's files; in PyTorch those of the graph, or all tensors of such a process.
        limit_share: Share of the machine's limit, in float32, at which it ran; above 1 where fewer bits are computed with.
        error: Why it could not run; then all figures are None.
    """

    subject: str
    contender: str
    ratio: float | None = None
    median_s: float | None = None
    best_s: float | None = None
    first_s: float | None = None
    real_time_factor: float | None = None
    tokens_s: float | None = None
    prepare_s: float | None = None
    peak_rss_bytes: int | None = None
    weight_bytes: int | None = None
    limit_share: float | None = None
    error: str = ""


@dataclass
class _Opened:
    entry: Entry
    run: Run
    close: Callable[[], None]
    prepare_s: float
    times: list[float] = field(default_factory=list[float])
    samples: list[Sample] = field(default_factory=list[Sample])


def race(
    subject: Subject,
    limits: Limits,
    *,
    rounds: int,
    memory: bool = True,
    progress: Callable[[str], object] = lambda _: None,
) -> list[Row]:
    """Let the contenders of a subject take turns.

    Args:
        subject: What they do.
        limits: What the machine can do.
        rounds: Times that each runs, after two that do not count.
        memory: Whether each is also run in a process of its own, for its memory.
        progress: Told what is being done.

    Returns:
        One row for each contender; one that cannot run has a row that says why.
    """
    opened: dict[str, _Opened] = {}
    errors: dict[str, str] = {}
    for entry in subject.entries:
        progress(f"{subject.name}: preparing {entry.name}")
        try:
            opened[entry.name] = _open(entry)
        except Exception as error:  # noqa: BLE001 - whatever stops one contender is said in its row
            errors[entry.name] = entry.error or _said(error)
    for number in range(rounds):
        progress(f"{subject.name}: round {number + 1} of {rounds}")
        for contender in opened.values():
            started = perf_counter()
            contender.samples.append(contender.run())
            contender.times.append(perf_counter() - started)
    for contender in opened.values():
        contender.close()
    progress(f"{subject.name}: memory")
    rows = [
        _row(subject, opened[entry.name], limits, memory=memory)
        if entry.name in opened
        else Row(subject.name, entry.name, error=errors[entry.name])
        for entry in subject.entries
    ]
    return _compared(rows)


def _open(entry: Entry) -> _Opened:
    if entry.contender is None:
        raise ValueError(entry.error)
    started = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of itself
        run, close = entry.contender.open()
        run()
    prepared = perf_counter() - started
    for _ in range(WARM_UP - 1):
        run()
    return _Opened(entry, run, close, prepared)


def _said(error: Exception) -> str:
    """The first line that says something: torch's compiler begins with ``backend='inductor' raised:``."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith("raised:")), type(error).__name__)


def _row(subject: Subject, opened: _Opened, limits: Limits, *, memory: bool) -> Row:
    middle = median(opened.times)
    sample, firsts = opened.samples[-1], [one.first_s for one in opened.samples if one.first_s is not None]
    entry, compiled = opened.entry, bool(getattr(opened.entry.contender, "compiled", False))
    used = _memory(entry.contender) if memory and entry.contender is not None and not compiled else {}
    return Row(
        subject=subject.name,
        contender=entry.name,
        median_s=middle,
        best_s=min(opened.times),
        first_s=median(firsts) if firsts else None,
        real_time_factor=middle / sample.audio_s if sample.audio_s else None,
        tokens_s=sample.tokens / middle if sample.tokens else None,
        prepare_s=opened.prepare_s,
        peak_rss_bytes=used.get("peak_rss_bytes"),
        weight_bytes=_weights(subject, entry, used),
        limit_share=_share(subject, entry, limits, middle),
    )


def _weights(subject: Subject, entry: Entry, used: dict[str, int]) -> int | None:
    if entry.disk_bytes is not None:
        return entry.disk_bytes
    return int(subject.work.weight_bytes) if subject.work is not None else used.get("tensor_bytes")


def _share(subject: Subject, entry: Entry, limits: Limits, middle: float) -> float | None:
    if subject.work is None:
        return None
    stored = entry.disk_bytes if entry.disk_bytes is not None else subject.work.weight_bytes
    return replace(subject.work, weight_bytes=stored).least_s(limits) / middle


def _compared(rows: list[Row]) -> list[Row]:
    base = next((row.median_s for row in rows if row.median_s is not None), None)
    return [replace(row, ratio=base / row.median_s) if base and row.median_s else row for row in rows]


def _memory(contender: Contender) -> dict[str, int]:
    """Memory of a process that does nothing else; nothing where it cannot be measured."""
    command = [sys.executable, "-m", "emova_sdk.bench.memory"]
    given = json.dumps(contender_to_dict(contender))
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and this package
            command, input=given, capture_output=True, text=True, timeout=_CHILD_S, check=True, env={**os.environ}
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return {}
    return {name: value for name, value in found.items() if value is not None}
