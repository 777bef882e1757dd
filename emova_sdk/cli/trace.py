"""How long each step of an answer took, drawn on a time line that begins where the user stopped speaking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emova_sdk.cli.output import print_table

if TYPE_CHECKING:
    from emova_sdk.types import Timings

WIDTH = 20
"""Columns of the time line."""


def print_trace(timings: Timings) -> None:
    """Print a row for each step, and one for each moment that a listener notices.

    Nothing of what was said, and nothing of how the user sounded, is part of it.
    """
    print_table(("step", "by", "from", "took", ""), rows(timings))


def rows(timings: Timings) -> list[tuple[str, str, str, str, str]]:
    """Return name, component, beginning, length and line of every step, and of the first word and sound, by beginning."""
    whole = max([timings.total_s or 0.0, *(stage.ended_s for stage in timings.stages)]) or 1.0
    steps = [(stage.began_s, stage.name, stage.detail, stage.ended_s) for stage in timings.stages]
    moments = [("first token", timings.first_token_s), ("first audio", timings.first_audio_s)]
    steps += [(at, name, "", at) for name, at in moments if at is not None]
    return [
        (name, by, f"{began:.3f} s", f"{ended - began:.3f} s" if ended > began else "", _line(began / whole, ended / whole))
        for began, name, by, ended in sorted(steps)
    ]


def _line(began: float, ended: float) -> str:
    """``      ████``, or ``      ◆`` for a moment."""
    start = min(int(began * WIDTH), WIDTH - 1)
    if ended <= began:
        return " " * start + "◆"
    return " " * start + "█" * max(1, round(ended * WIDTH) - start)
