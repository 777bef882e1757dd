"""Bar chart of benchmark results, with the hardware limit as a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from emova_sdk.canvas import GREY, INK, MARGIN, RULE, WIDTH, Canvas, Colour
from emova_sdk.types import Image

if TYPE_CHECKING:
    from emova_sdk.bench.runner import Measurement

LEFT, HEADER, TITLE, BAR, GAP, FOOTER = 168, 58, 30, 22, 12, 44
NUMBERS = WIDTH - MARGIN - 210
"""Right of the bars, where the numbers stand."""
COLOURS: dict[str, Colour] = {"torch": GREY, "original": GREY, "onnx": (62, 96, 190), "tensorrt": (84, 138, 60)}
LIMIT: Colour = (200, 52, 48)


def draw_measurements(found: Sequence[Measurement], *, title: str, note: str = "") -> Image:
    """Draw the candidates of every workload on one scale: how many times as fast as the first.

    Args:
        found: What `measure` found.
        title: Headline.
        note: Small print, e.g. which machine it was.
    """
    workloads = list(dict.fromkeys(one.workload for one in found))
    height = HEADER + len(workloads) * (TITLE + GAP) + BAR * len(found) + FOOTER
    canvas, top = Canvas(height, title=title), HEADER
    scale = (NUMBERS - LEFT) / max([one.ratio for one in found if one.ratio], default=1.0)
    for workload in workloads:
        group = [one for one in found if one.workload == workload]
        canvas.line([(MARGIN, top), (WIDTH - MARGIN, top)], RULE)
        canvas.text(MARGIN, top + 7, workload, size=13)
        for number, one in enumerate(group):
            _draw_bar(canvas, one, top + TITLE + BAR * number, scale)
        _draw_limit(canvas, group, top + TITLE, scale)
        top += TITLE + BAR * len(group) + GAP
    canvas.text(MARGIN, height - FOOTER + 16, note, size=10, colour=GREY)
    return canvas.image()


def _draw_bar(canvas: Canvas, one: Measurement, top: int, scale: float) -> None:
    colour = next((shade for name, shade in COLOURS.items() if one.candidate.startswith(name)), INK)
    canvas.text(MARGIN + 10, top + 2, one.candidate, size=12, colour=colour)
    if one.ratio is None or one.median_s is None:
        canvas.text(LEFT, top + 3, one.error[:110], size=10, colour=GREY)
        return
    canvas.box(LEFT, top + 3, LEFT + max(one.ratio * scale, 1), top + BAR - 3, colour)
    first = f", first {one.first_s * 1000:.0f} ms" if one.first_s is not None else ""
    canvas.text(NUMBERS + 16, top + 3, f"{one.ratio:.2f}x  {one.median_s * 1000:.1f} ms{first}", size=11)


def _draw_limit(canvas: Canvas, group: Sequence[Measurement], top: int, scale: float) -> None:
    """The speed at which the first candidate would be at the machine's limit, if it is on the paper."""
    base = group[0]
    if not base.ratio or not base.limit_share:
        return
    ratio = base.ratio / base.limit_share
    x = LEFT + ratio * scale
    if x <= NUMBERS:
        canvas.line([(x, top), (x, top + BAR * len(group))], LIMIT, width=2)
    canvas.text(NUMBERS + 16, top - 19, f"limit in float32 at {ratio:.1f}x", size=10, colour=LIMIT)
