"""A sheet of paper to draw charts on: sizes are in points, the picture has more pixels; drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from emova_sdk.types import Image

Colour = tuple[int, int, int]

PAPER: Colour = (250, 249, 246)
INK: Colour = (38, 40, 48)
GREY: Colour = (128, 130, 138)
RULE: Colour = (226, 225, 220)
EMOTION_COLOURS: dict[str, Colour] = {
    "neutral": (92, 124, 138),
    "happy": (222, 150, 20),
    "sad": (62, 96, 190),
    "angry": (200, 52, 48),
    "surprised": (156, 72, 178),
    "disgusted": (84, 138, 60),
    "fearful": (106, 90, 120),
}

SCALE = 2
"""Pixels of a point."""
WIDTH, MARGIN = 960, 24


class Canvas:
    """A sheet with a headline.

    Args:
        height: In points; the width is always the same.
        title: Headline.
        top: Where the headline stands.
    """

    def __init__(self, height: int, *, title: str, top: int = 16) -> None:
        self._canvas = Pillow.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self._canvas)
        self.text(MARGIN, top, title, size=17)

    def image(self) -> Image:
        """Return what was drawn."""
        return Image(np.asarray(self._canvas, dtype=np.uint8))

    def text(self, x: float, y: float, text: str, *, size: int, colour: Colour = INK) -> None:
        """Write one line; ``x`` and ``y`` are its upper left corner."""
        self._draw.text((x * SCALE, y * SCALE), text, fill=colour, font=_font(size))

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, *, width: float = 1) -> None:
        """Draw a line through points."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * SCALE), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, *, radius: float = 0) -> None:
        """Draw a filled box."""
        corners = [value * SCALE for value in (left, top, right, bottom)]
        self._draw.rounded_rectangle(corners, radius=radius * SCALE, fill=colour)

    def circle(self, x: float, y: float, radius: float, colour: Colour, *, filled: bool) -> None:
        """Draw a dot, or a ring."""
        box = [value * SCALE for value in (x - radius, y - radius, x + radius, y + radius)]
        width = max(2, round(radius * SCALE / 3.5))
        self._draw.ellipse(box, fill=colour if filled else PAPER, outline=colour, width=width)

    def wrapped(self, text: str, *, size: int, width: int) -> list[str]:
        """Cut a text into lines no wider than ``width``."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self._draw.textlength(longer, font=_font(size)) > width * SCALE:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines


def blended(colour: Colour, share: float, background: Colour = PAPER) -> Colour:
    """Return a colour that covers ``share`` of what is behind it."""
    red, green, blue = (round(back + (part - back) * share) for part, back in zip(colour, background, strict=True))
    return red, green, blue


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)
