"""A picture of a comparison: bars as long as contenders are fast, and a line where the machine ends; drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from emova_sdk.picture import GREY, INK, MARGIN, PAPER, RULE, SCALE, WIDTH, Colour
from emova_sdk.types import Image

if TYPE_CHECKING:
    from emova_sdk.bench.race import Row

LEFT, HEADER, TITLE, BAR, GAP, FOOTER = 168, 58, 30, 22, 12, 44
ROOM = 210
"""For the numbers to the right of the bars."""
COLOURS: dict[str, Colour] = {"torch": (128, 130, 138), "onnx": (62, 96, 190), "tensorrt": (84, 138, 60)}
LIMIT: Colour = (200, 52, 48)


def draw_rows(rows: Sequence[Row], *, title: str, note: str = "") -> Image:
    """Draw the contenders of every subject on one scale: how many times as fast as the first.

    Args:
        rows: What `race` found.
        title: Headline.
        note: Small print, e.g. which machine it was.
    """
    subjects = list(dict.fromkeys(row.subject for row in rows))
    height = HEADER + len(subjects) * (TITLE + GAP) + BAR * len(rows) + FOOTER
    canvas = Pillow.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
    sheet = _Sheet(ImageDraw.Draw(canvas), longest=max([row.ratio for row in rows if row.ratio], default=1.0))
    sheet.text(MARGIN, 16, title, size=17)
    top = HEADER
    for subject in subjects:
        top = sheet.group(subject, [row for row in rows if row.subject == subject], top)
    sheet.text(MARGIN, height - FOOTER + 16, note, size=10, colour=GREY)
    return Image(np.asarray(canvas, dtype=np.uint8))


class _Sheet:
    """The paper and its scale."""

    def __init__(self, draw: ImageDraw.ImageDraw, *, longest: float) -> None:
        self.draw, self.longest = draw, longest

    def x(self, ratio: float) -> float:
        return LEFT + ratio / self.longest * (WIDTH - MARGIN - LEFT - ROOM)

    def group(self, subject: str, rows: Sequence[Row], top: int) -> int:
        """Draw one subject; return where the next begins."""
        self.line(MARGIN, top, WIDTH - MARGIN, top, RULE)
        self.text(MARGIN, top + 7, subject, size=13)
        top += TITLE
        for row in rows:
            self.bar(row, top)
            top += BAR
        self.limit(rows, top - BAR * len(rows), top)
        return top + GAP

    def bar(self, row: Row, top: int) -> None:
        colour = next((shade for name, shade in COLOURS.items() if row.contender.startswith(name)), INK)
        self.text(MARGIN + 10, top + 2, row.contender, size=12, colour=colour)
        if row.ratio is None or row.median_s is None:
            self.text(LEFT, top + 3, row.error[:110], size=10, colour=GREY)
            return
        box = (LEFT, top + 3, max(self.x(row.ratio), LEFT + 1), top + BAR - 3)
        self.draw.rectangle([value * SCALE for value in box], fill=colour)
        first = f", first {row.first_s * 1000:.0f} ms" if row.first_s is not None else ""
        self.text(WIDTH - MARGIN - ROOM + 16, top + 3, f"{row.ratio:.2f}x  {row.median_s * 1000:.1f} ms{first}", size=11)

    def limit(self, rows: Sequence[Row], top: int, bottom: int) -> None:
        """The speed at which the first contender would be at the machine's limit, if it is on the paper."""
        base = rows[0]
        if not base.ratio or not base.limit_share:
            return
        x = self.x(base.ratio / base.limit_share)
        if x <= WIDTH - MARGIN - ROOM:
            self.line(x, top, x, bottom, LIMIT, width=2)
        words = f"limit in float32 at {base.ratio / base.limit_share:.1f}x"
        self.text(WIDTH - MARGIN - ROOM + 16, top - 19, words, size=10, colour=LIMIT)

    def text(self, x: float, y: float, text: str, *, size: int, colour: Colour = INK) -> None:
        self.draw.text((x * SCALE, y * SCALE), text, fill=colour, font=ImageFont.load_default(size * SCALE))

    def line(self, left: float, top: float, right: float, bottom: float, colour: Colour, *, width: int = 1) -> None:
        self.draw.line([(left * SCALE, top * SCALE), (right * SCALE, bottom * SCALE)], fill=colour, width=width * SCALE)
