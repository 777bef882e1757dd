"""A picture of a conversation: waveform, pitch and emotion of each turn, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from emova_sdk.errors import InputError
from emova_sdk.pitch import FRAME_S, pitch_track
from emova_sdk.types import Audio, Image, MediaRef, Turn

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
"""Drawn so much larger than the sizes below, which are in points."""
WIDTH, MARGIN, LEFT = 960, 24, 168
ROW, WAVE, PITCH = 132, 56, 38
HEADER, FOOTER = 54, 34
LOWEST_HZ, HIGHEST_HZ = 70.0, 420.0


@dataclass(frozen=True)
class Panel:
    """One side of a turn as it is drawn.

    Attributes:
        who: ``you`` or ``emova``.
        text: What was said.
        emotion: Decides the colour.
        label: The style in words.
        audio: The sound, if there is one.
    """

    who: str
    text: str
    emotion: str
    label: str
    audio: Audio | None


def panels_of(turns: Iterable[Turn], load_media: Callable[[MediaRef], Audio | Image]) -> list[Panel]:
    """One panel for each turn; a sound that is gone is left out.

    Args:
        turns: Of a session's history.
        load_media: Reads a sound that was kept, e.g. `SessionStore.load_media`.
    """

    def sound(turn: Turn) -> Audio | None:
        try:
            media = load_media(turn.audio) if isinstance(turn.audio, MediaRef) else turn.audio
        except InputError:
            return None
        return media if isinstance(media, Audio) else None

    return [_panel(turn, sound(turn)) for turn in turns]


def _panel(turn: Turn, audio: Audio | None) -> Panel:
    if turn.role == "user":
        emotion = (turn.perceived.emotion or "") if turn.perceived else ""
        style = turn.perceived.style if turn.perceived else None
        missing = "emotion not clear" if style else "style not heard"
    else:
        style, missing = turn.style, "no voice"
        emotion = style.emotion if style else ""
    manner = [value for value in (style.pitch, style.speed) if value != "normal"] if style else []
    label = ", ".join([emotion or missing, *manner, *(["interrupted"] if turn.interrupted else [])])
    who = "you" if turn.role == "user" else "emova"
    return Panel(who, turn.heard_text or "", emotion, label, audio)


def draw_turns(panels: list[Panel], *, title: str = "") -> Image:
    """Draw one row for each panel, all on one time scale.

    Args:
        panels: What was said, in order.
        title: Headline.
    """
    height = HEADER + ROW * len(panels) + FOOTER
    canvas = Pillow.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
    sheet = _Sheet(ImageDraw.Draw(canvas), longest_s=max([p.audio.duration_s for p in panels if p.audio], default=1.0))
    sheet.text(MARGIN, 18, title, size=17)
    for number, panel in enumerate(panels):
        sheet.panel(panel, top=HEADER + ROW * number)
    sheet.time_axis(height - FOOTER)
    return Image(np.asarray(canvas, dtype=np.uint8))


class _Sheet:
    """The paper and its time scale."""

    def __init__(self, draw: ImageDraw.ImageDraw, *, longest_s: float) -> None:
        self.draw = draw
        self.longest_s = max(longest_s, 0.1)

    def panel(self, panel: Panel, *, top: int) -> None:
        colour = EMOTION_COLOURS.get(panel.emotion, GREY)
        self.line([(MARGIN, top), (WIDTH - MARGIN, top)], RULE)
        self.draw.rounded_rectangle(
            [value * SCALE for value in (MARGIN, top + 12, MARGIN + 4, top + ROW - 12)], radius=2 * SCALE, fill=colour
        )
        self.text(MARGIN + 14, top + 12, panel.who, size=14)
        for line, part in enumerate(self.wrapped(panel.label, size=12, width=LEFT - MARGIN - 24)[:3]):
            self.text(MARGIN + 14, top + 33 + 15 * line, part, size=12, colour=colour)
        said = self.wrapped(panel.text or "(nothing was said)", size=13, width=WIDTH - MARGIN - LEFT)
        self.text(LEFT, top + 12, said[0] + (" ..." if len(said) > 1 else ""), size=13)
        if panel.audio is None or not len(panel.audio.samples):
            self.text(LEFT, top + 56, "typed" if panel.who == "you" else "no voice", size=12, colour=GREY)
            return
        self.waveform(panel.audio, top=top + 34, colour=colour)
        self.pitch(panel.audio, top=top + 34 + WAVE, colour=colour)

    def x(self, seconds: float) -> float:
        return LEFT + seconds / self.longest_s * (WIDTH - MARGIN - LEFT - 44)

    def waveform(self, audio: Audio, *, top: int, colour: Colour) -> None:
        columns = max(1, round((self.x(audio.duration_s) - LEFT) * SCALE))
        low, high = _envelope(audio.samples, columns)
        middle, reach = (top + WAVE / 2) * SCALE, WAVE / 2 * SCALE
        light = _lighter(colour)
        for column in range(columns):
            x = LEFT * SCALE + column
            self.draw.line([(x, middle - high[column] * reach), (x, middle - low[column] * reach + 1)], fill=light)

    def pitch(self, audio: Audio, *, top: int, colour: Colour) -> None:
        for hertz in (100, 200, 400):
            y = _pitch_y(hertz, top)
            self.line([(LEFT, y), (WIDTH - MARGIN - 44, y)], RULE)
            self.text(WIDTH - MARGIN - 38, y - 6, f"{hertz} Hz", size=10, colour=GREY)
        points: list[tuple[float, float]] = []
        for frame, hertz in enumerate([*pitch_track(audio).tolist(), 0.0]):
            if hertz > 0:
                points.append((self.x(frame * FRAME_S + 0.02), _pitch_y(hertz, top)))
            else:
                if len(points) > 1:
                    self.line(points, colour, width=2)
                points = []

    def time_axis(self, top: int) -> None:
        self.line([(MARGIN, top), (WIDTH - MARGIN, top)], RULE)
        step = next((step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60) if self.longest_s / step <= 10), 300)
        for tick in range(int(self.longest_s / step) + 1):
            x = self.x(tick * step)
            self.line([(x, top), (x, top + 5)], GREY)
            self.text(x - 6, top + 8, f"{tick * step:g} s", size=10, colour=GREY)

    def text(self, x: float, y: float, text: str, *, size: int, colour: Colour = INK) -> None:
        self.draw.text((x * SCALE, y * SCALE), text, fill=colour, font=_font(size))

    def line(self, points: list[tuple[float, float]], colour: Colour, *, width: int = 1) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self.draw.line(scaled, fill=colour, width=width * SCALE, joint="curve")

    def wrapped(self, text: str, *, size: int, width: int) -> list[str]:
        """Cut a text into lines no wider than ``width`` points."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self.draw.textlength(longer, font=_font(size)) > width * SCALE:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)


def _envelope(samples: NDArray[np.float32], columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest sample of each column, the loudest of all at 1."""
    edges = np.linspace(0, len(samples), columns, endpoint=False).astype(np.intp)
    scaled = (samples / max(float(np.abs(samples).max()), 1e-4)).astype(np.float32)
    return np.minimum.reduceat(scaled, edges), np.maximum.reduceat(scaled, edges)


def _pitch_y(hertz: float, top: int) -> float:
    share = np.log(np.clip(hertz, LOWEST_HZ, HIGHEST_HZ) / LOWEST_HZ) / np.log(HIGHEST_HZ / LOWEST_HZ)
    return float(top + PITCH * (1 - share))


def _lighter(colour: Colour) -> Colour:
    red, green, blue = (round(part + (255 - part) * 0.55) for part in colour)
    return red, green, blue
