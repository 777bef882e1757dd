"""Runs candidates in turns, so that a busy machine slows all of them alike; medians count, and ratios come first."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from time import perf_counter

from emova_sdk.bench.candidates import Candidate, Run, RunOutput
from emova_sdk.bench.limits import Cost, MachineLimits

_CHILD_S = 600


@dataclass(frozen=True)
class Workload:
    """What all candidates do; the first of them is what the others are compared with.

    Attributes:
        name: E.g. ``turn``, ``vocoder`` or ``vocoder: generator``.
        candidates: Who does it.
        cost: What a run has to compute and read at least, where that is known.
    """

    name: str
    candidates: Sequence[Candidate]
    cost: Cost | None = None


@dataclass(frozen=True)
class Measurement:
    """How fast and how large one candidate is.

    Attributes:
        workload: What it did.
        candidate: Its name.
        ratio: How many times as fast as the first candidate it was, median by median.
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

    workload: str
    candidate: str
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
    run: Run
    close: Callable[[], None]
    prepare_s: float
    times: list[float] = field(default_factory=list[float])
    outputs: list[RunOutput] = field(default_factory=list[RunOutput])


def measure(
    workload: Workload,
    limits: MachineLimits,
    *,
    rounds: int,
    memory: bool = True,
    progress: Callable[[str], object] = lambda _: None,
) -> list[Measurement]:
    """Let the candidates of a workload take turns.

    Args:
        workload: What they do.
        limits: What the machine can do.
        rounds: Times that each runs, after two that do not count.
        memory: Whether each is also run in a process of its own, for its memory.
        progress: Told what is being done.

    Returns:
        One for each candidate; one that cannot run has the reason.
    """
    opened: dict[str, _Opened] = {}
    errors: dict[str, str] = {}
    for candidate in workload.candidates:
        progress(f"{workload.name}: preparing {candidate.name}")
        try:
            opened[candidate.name] = _open(candidate)
        except Exception as error:  # noqa: BLE001 - whatever stops one candidate is said in its row
            errors[candidate.name] = _reason(error)
    for number in range(rounds):
        progress(f"{workload.name}: round {number + 1} of {rounds}")
        for one in opened.values():
            started = perf_counter()
            one.outputs.append(one.run())
            one.times.append(perf_counter() - started)
    for one in opened.values():
        one.close()
    progress(f"{workload.name}: memory")
    found = [
        _measurement(workload, one, opened[one.name], limits, memory=memory)
        if one.name in opened
        else Measurement(workload.name, one.name, error=errors[one.name])
        for one in workload.candidates
    ]
    base = next((one.median_s for one in found if one.median_s is not None), None)
    return [replace(one, ratio=base / one.median_s) if base and one.median_s else one for one in found]


def _open(candidate: Candidate) -> _Opened:
    started = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of itself
        run, close = candidate.open()
        run()
    prepared = perf_counter() - started
    run()
    return _Opened(run, close, prepared)


def _reason(error: Exception) -> str:
    """The first line that says something: torch's compiler begins with ``backend='inductor' raised:``."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith("raised:")), type(error).__name__)


def _measurement(
    workload: Workload, candidate: Candidate, opened: _Opened, limits: MachineLimits, *, memory: bool
) -> Measurement:
    middle, output, cost = median(opened.times), opened.outputs[-1], workload.cost
    firsts = [one.first_s for one in opened.outputs if one.first_s is not None]
    used = _memory(candidate) if memory and not candidate.compiled else {}
    held = cost.weight_bytes if cost is not None else used.get("tensor_bytes")
    weights = candidate.disk_bytes if candidate.disk_bytes is not None else held
    return Measurement(
        workload=workload.name,
        candidate=candidate.name,
        median_s=middle,
        best_s=min(opened.times),
        first_s=median(firsts) if firsts else None,
        real_time_factor=middle / output.audio_s if output.audio_s else None,
        tokens_s=output.tokens / middle if output.tokens else None,
        prepare_s=opened.prepare_s,
        peak_rss_bytes=used.get("peak_rss_bytes"),
        weight_bytes=None if weights is None else int(weights),
        limit_share=cost.least_s(limits, weight_bytes=weights) / middle if cost is not None else None,
    )


def _memory(candidate: Candidate) -> dict[str, int | None]:
    """Memory of a process that does nothing else; nothing where it cannot be measured."""
    command, given = [sys.executable, "-m", "emova_sdk.bench.memory"], json.dumps(asdict(candidate))
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and this package
            command, input=given, capture_output=True, text=True, timeout=_CHILD_S, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return {}
