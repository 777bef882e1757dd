"""A picture of a conversation: waveform, pitch and emotion of each turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emova_sdk.acoustics import FRAME_S, voiced_pitch
from emova_sdk.canvas import EMOTION_COLOURS, GREY, MARGIN, RULE, SCALE, WIDTH, Canvas, Colour, blended
from emova_sdk.errors import InputError
from emova_sdk.types import Audio, Image, MediaRef, Turn

LEFT, RIGHT = 168, WIDTH - MARGIN - 44
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
    longest_s = max(0.1, max([panel.audio.duration_s for panel in panels if panel.audio], default=1.0))
    chart = _TurnsChart(Canvas(height, title=title, top=18), longest_s)
    for number, panel in enumerate(panels):
        chart.panel(panel, top=HEADER + ROW * number)
    chart.time_axis(height - FOOTER)
    return chart.canvas.image()


@dataclass(frozen=True)
class _TurnsChart:
    canvas: Canvas
    longest_s: float

    def x(self, seconds: float) -> float:
        return LEFT + seconds / self.longest_s * (RIGHT - LEFT)

    def panel(self, panel: Panel, *, top: int) -> None:
        canvas, colour = self.canvas, EMOTION_COLOURS.get(panel.emotion, GREY)
        canvas.line([(MARGIN, top), (WIDTH - MARGIN, top)], RULE)
        canvas.box(MARGIN, top + 12, MARGIN + 4, top + ROW - 12, colour, radius=2)
        canvas.text(MARGIN + 14, top + 12, panel.who, size=14)
        for line, part in enumerate(canvas.wrapped(panel.label, size=12, width=LEFT - MARGIN - 24)[:3]):
            canvas.text(MARGIN + 14, top + 33 + 15 * line, part, size=12, colour=colour)
        said = canvas.wrapped(panel.text or "(nothing was said)", size=13, width=WIDTH - MARGIN - LEFT)
        canvas.text(LEFT, top + 12, said[0] + (" ..." if len(said) > 1 else ""), size=13)
        if panel.audio is None or not len(panel.audio.samples):
            canvas.text(LEFT, top + 56, "typed" if panel.who == "you" else "no voice", size=12, colour=GREY)
            return
        self.waveform(panel.audio, top=top + 34, colour=colour)
        self.pitch(panel.audio, top=top + 34 + WAVE, colour=colour)

    def waveform(self, audio: Audio, *, top: int, colour: Colour) -> None:
        columns = max(1, round((self.x(audio.duration_s) - LEFT) * SCALE))
        low, high = _envelope(audio.samples, columns)
        middle, reach, light = top + WAVE / 2, WAVE / 2, blended(colour, 0.45, (255, 255, 255))
        for column in range(columns):
            x = LEFT + column / SCALE
            ends = [(x, middle - high[column] * reach), (x, middle - low[column] * reach + 1 / SCALE)]
            self.canvas.line(ends, light, width=1 / SCALE)

    def pitch(self, audio: Audio, *, top: int, colour: Colour) -> None:
        for hertz in (100, 200, 400):
            y = _pitch_y(hertz, top)
            self.canvas.line([(LEFT, y), (RIGHT, y)], RULE)
            self.canvas.text(RIGHT + 6, y - 6, f"{hertz} Hz", size=10, colour=GREY)
        points: list[tuple[float, float]] = []
        for frame, hertz in enumerate([*voiced_pitch(audio).tolist(), 0.0]):
            if hertz > 0:
                points.append((self.x(frame * FRAME_S), _pitch_y(hertz, top)))
            else:
                if len(points) > 1:
                    self.canvas.line(points, colour, width=2)
                points = []

    def time_axis(self, top: int) -> None:
        self.canvas.line([(MARGIN, top), (WIDTH - MARGIN, top)], RULE)
        step = next((step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60) if self.longest_s / step <= 10), 300)
        for tick in range(int(self.longest_s / step) + 1):
            x = self.x(tick * step)
            self.canvas.line([(x, top), (x, top + 5)], GREY)
            self.canvas.text(x - 6, top + 8, f"{tick * step:g} s", size=10, colour=GREY)


def _envelope(samples: NDArray[np.float32], columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest sample of each column, the loudest of all at 1."""
    edges = np.linspace(0, len(samples), columns, endpoint=False).astype(np.intp)
    scaled = (samples / max(float(np.abs(samples).max()), 1e-4)).astype(np.float32)
    return np.minimum.reduceat(scaled, edges), np.maximum.reduceat(scaled, edges)


def _pitch_y(hertz: float, top: int) -> float:
    share = np.log(np.clip(hertz, LOWEST_HZ, HIGHEST_HZ) / LOWEST_HZ) / np.log(HIGHEST_HZ / LOWEST_HZ)
    return float(top + PITCH * (1 - share))
