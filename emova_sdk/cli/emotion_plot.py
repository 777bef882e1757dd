"""A chart of the emotions of a conversation: one lane for each emotion, a dot for each turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emova_sdk.canvas import EMOTION_COLOURS, GREY, INK, MARGIN, RULE, WIDTH, Canvas, blended
from emova_sdk.types import Image

if TYPE_CHECKING:
    from emova_sdk.types import Turn

LEFT, HEADER, LANE, FOOTER = 128, 64, 34, 40
LARGEST, SMALLEST = 9.0, 2.5
"""Radius of a dot, in points: as large as fits."""
MOST_NUMBERS = 16


@dataclass(frozen=True)
class TurnEmotion:
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


def emotions_of(turns: Sequence[Turn]) -> list[TurnEmotion]:
    """Collect the emotions of turns; those without one (typed, not clear, or not kept) are left out."""
    found: list[TurnEmotion] = []
    for number, turn in enumerate(turns, start=1):
        if turn.role == "user" and turn.perceived is not None and turn.perceived.emotion is not None:
            score = turn.perceived.scores.get("emotion", 1.0)
            found.append(TurnEmotion(number, "you", turn.perceived.emotion, score))
        elif turn.role == "assistant" and turn.style is not None:
            found.append(TurnEmotion(number, "emova", turn.style.emotion))
    return found


def draw_emotions(emotions: Sequence[TurnEmotion], *, turns: int, title: str = "") -> Image:
    """Draw emotions over the turns of a conversation: rings for the user, the stronger the surer; full dots for the answers.

    Args:
        emotions: What `emotions_of` found.
        turns: How many turns there are.
        title: Headline.
    """
    lanes = {name: HEADER + LANE * (lane + 0.5) for lane, name in enumerate(EMOTION_COLOURS)}
    canvas = Canvas(HEADER + LANE * len(lanes) + FOOTER, title=title)
    step = (WIDTH - MARGIN - LEFT) / max(turns, 1)
    radius = max(SMALLEST, min(LARGEST, step / 2.4))
    _draw_frame(canvas, lanes, radius)
    places = [(LEFT + step * (one.turn - 0.5), lanes[one.emotion]) for one in emotions]
    for who in ("you", "emova"):
        path = [place for place, one in zip(places, emotions, strict=True) if one.who == who]
        if len(path) > 1:
            canvas.line(path, blended(GREY, 0.5))
    for (x, y), one in zip(places, emotions, strict=True):
        filled = one.who == "emova"
        colour = blended(EMOTION_COLOURS[one.emotion], 1.0 if filled else 0.35 + 0.65 * one.score)
        canvas.circle(x, y, radius, colour, filled=filled)
    for turn in range(1, max(turns, 1) + 1, -(-max(turns, 1) // MOST_NUMBERS)):
        x = LEFT + step * (turn - 0.5) - 3 * len(str(turn))
        canvas.text(x, HEADER + LANE * len(lanes) + 8, str(turn), size=10, colour=GREY)
    return canvas.image()


def _draw_frame(canvas: Canvas, lanes: dict[str, float], radius: float) -> None:
    """Draw the legend, the lanes and the name of the axis."""
    for x, who, filled in ((WIDTH - MARGIN - 150, "you", False), (WIDTH - MARGIN - 86, "emova", True)):
        canvas.circle(x, 26, radius, INK, filled=filled)
        canvas.text(x + 14, 18, who, size=13)
    for emotion, middle in lanes.items():
        canvas.text(MARGIN, middle - 8, emotion, size=13, colour=EMOTION_COLOURS[emotion])
        canvas.line([(LEFT, middle), (WIDTH - MARGIN, middle)], RULE)
    canvas.text(MARGIN, HEADER + LANE * len(lanes) + 8, "turn", size=10, colour=GREY)
