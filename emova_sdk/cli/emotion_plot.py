"""A picture of the emotions of a conversation: one lane for each emotion, a dot for each turn, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from emova_sdk.picture import EMOTION_COLOURS, GREY, INK, MARGIN, PAPER, RULE, SCALE, WIDTH, Colour
from emova_sdk.types import Image

if TYPE_CHECKING:
    from emova_sdk.types import Turn

LEFT, HEADER, LANE, FOOTER = 128, 64, 34, 40
LARGEST, SMALLEST = 9.0, 2.5
"""Radius of a dot, in points: as large as fits."""
MOST_NUMBERS = 16


@dataclass(frozen=True)
class Mood:
    """The emotion of one turn.

    Attributes:
        turn: Its number, from 1.
        who: ``you`` or ``emova``.
        emotion: What was heard, or spoken with.
        score: How sure that is, 0 to 1; 1 for what was spoken.
    """

    turn: int
    who: str
    emotion: str
    score: float = 1.0


def moods_of(turns: Sequence[Turn]) -> list[Mood]:
    """Collect the emotions of turns; those without one (typed, not clear, or not kept) are left out."""
    found: list[Mood] = []
    for number, turn in enumerate(turns, start=1):
        if turn.role == "user" and turn.perceived is not None and turn.perceived.emotion is not None:
            score = turn.perceived.scores.get("emotion", 1.0)
            found.append(Mood(number, "you", turn.perceived.emotion, score))
        elif turn.role == "assistant" and turn.style is not None:
            found.append(Mood(number, "emova", turn.style.emotion))
    return found


def draw_emotions(moods: Sequence[Mood], *, turns: int, title: str = "") -> Image:
    """Draw moods over the turns of a conversation: rings for the user, the stronger the surer; full dots for the answers.

    Args:
        moods: What `moods_of` found.
        turns: How many turns there are.
        title: Headline.
    """
    height = HEADER + LANE * len(EMOTION_COLOURS) + FOOTER
    canvas = Pillow.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
    chart = _Chart(ImageDraw.Draw(canvas), turns=max(turns, 1))
    chart.text(MARGIN, 16, title, size=17)
    chart.legend()
    chart.lanes()
    for who in ("you", "emova"):
        chart.path([mood for mood in moods if mood.who == who])
    for mood in moods:
        chart.dot(mood)
    chart.numbers(height - FOOTER + 8)
    return Image(np.asarray(canvas, dtype=np.uint8))


class _Chart:
    """The paper, with a column for each turn."""

    def __init__(self, draw: ImageDraw.ImageDraw, *, turns: int) -> None:
        self.draw = draw
        self.turns = turns
        self.step = (WIDTH - MARGIN - LEFT) / turns
        self.radius = max(SMALLEST, min(LARGEST, self.step / 2.4))

    def place(self, mood: Mood) -> tuple[float, float]:
        lane = list(EMOTION_COLOURS).index(mood.emotion)
        return self.x(mood.turn), HEADER + LANE * (lane + 0.5)

    def x(self, turn: int) -> float:
        return LEFT + self.step * (turn - 0.5)

    def lanes(self) -> None:
        for lane, (emotion, colour) in enumerate(EMOTION_COLOURS.items()):
            middle = HEADER + LANE * (lane + 0.5)
            self.text(MARGIN, middle - 8, emotion, size=13, colour=colour)
            self.line([(LEFT, middle), (WIDTH - MARGIN, middle)], RULE)

    def path(self, moods: Sequence[Mood]) -> None:
        if len(moods) > 1:
            self.line([self.place(mood) for mood in moods], _faded(GREY, 0.5), width=1)

    def dot(self, mood: Mood) -> None:
        full = mood.who == "emova"
        colour = _faded(EMOTION_COLOURS[mood.emotion], 1.0 if full else 0.35 + 0.65 * mood.score)
        self.circle(*self.place(mood), colour, full=full)

    def circle(self, x: float, y: float, colour: Colour, *, full: bool) -> None:
        box = [value * SCALE for value in (x - self.radius, y - self.radius, x + self.radius, y + self.radius)]
        width = max(2, round(self.radius * SCALE / 3.5))
        self.draw.ellipse(box, fill=colour if full else PAPER, outline=colour, width=width)

    def legend(self) -> None:
        right = WIDTH - MARGIN - 150
        for offset, (who, full) in ((0, ("you", False)), (64, ("emova", True))):
            self.circle(right + offset, 26, INK, full=full)
            self.text(right + offset + 14, 18, who, size=13)

    def numbers(self, top: float) -> None:
        for turn in _ticks(self.turns):
            self.text(self.x(turn) - 3 * len(str(turn)), top, str(turn), size=10, colour=GREY)
        self.text(MARGIN, top, "turn", size=10, colour=GREY)

    def text(self, x: float, y: float, text: str, *, size: int, colour: Colour = INK) -> None:
        self.draw.text((x * SCALE, y * SCALE), text, fill=colour, font=ImageFont.load_default(size * SCALE))

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, *, width: int = 1) -> None:
        self.draw.line([(x * SCALE, y * SCALE) for x, y in points], fill=colour, width=width * SCALE)


def _ticks(turns: int) -> Iterator[int]:
    yield from range(1, turns + 1, -(-turns // MOST_NUMBERS))


def _faded(colour: Colour, share: float) -> Colour:
    red, green, blue = (round(paper + (part - paper) * share) for part, paper in zip(colour, PAPER, strict=True))
    return red, green, blue
