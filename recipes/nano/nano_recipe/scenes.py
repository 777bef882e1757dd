"""Drawn scenes: one to five shapes on a plain background, and everything that is true of them.

The picture is divided in 4 x 4 cells; a shape's centre lies in the inner half of its cell and no cell holds two. So "left
of" is both what one sees and an exact rule: the centre lies more than an eighth of the picture further left, which is the
same as "in a column further left".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emova_sdk.types import Image
from nano_recipe.dialogue import COLORS, SHAPES, SIZES

CELLS = 4
"""Rows and columns of cells."""

RGB: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40), "green": (40, 160, 60), "blue": (40, 80, 215), "yellow": (245, 215, 40), "purple": (140, 50, 170),
    "orange": (250, 140, 20),
}  # fmt: skip
_RADIUS = {"small": (0.052, 0.07), "big": (0.1, 0.122)}


@dataclass(frozen=True)
class Shape:
    """One drawn shape.

    Attributes:
        color: One of `COLORS`.
        shape: One of `SHAPES`.
        size: ``small`` or ``big``.
        x: Centre from the left, as a share of the width.
        y: Centre from the top, as a share of the height.
        radius: As a share of the width.
        angle: Turned by, in radians.
    """

    color: str
    shape: str
    size: str
    x: float
    y: float
    radius: float
    angle: float = 0.0

    @property
    def column(self) -> int:
        """Column of its cell, from the left."""
        return min(CELLS - 1, int(self.x * CELLS))

    @property
    def row(self) -> int:
        """Row of its cell, from the top."""
        return min(CELLS - 1, int(self.y * CELLS))

    @property
    def name(self) -> str:
        """E.g. ``red circle``."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Shapes in reading order (by row, then column) on a background of one grey or tint."""

    shapes: tuple[Shape, ...]
    background: tuple[int, int, int] = (255, 255, 255)


def random_scene(rng: np.random.Generator, *, count: int | None = None) -> Scene:
    """Draw a scene of ``count`` (1 to 5) shapes that do not touch."""
    wanted = int(rng.integers(1, 6)) if count is None else count
    shapes: list[Shape] = []
    for cell in rng.permutation(CELLS * CELLS):
        shape = _random_shape(rng, int(cell))
        if all(math.hypot(shape.x - o.x, shape.y - o.y) > shape.radius + o.radius + 0.02 for o in shapes):
            shapes.append(shape)
        if len(shapes) == wanted:
            break
    shade = int(rng.integers(205, 256)) if rng.random() < 0.6 else 255
    red, green, blue = (int(value) for value in np.clip(shade + rng.integers(-8, 9, 3), 0, 255))
    ordered = sorted(shapes, key=lambda shape: (shape.row, shape.column))
    return Scene(tuple(ordered), (red, green, blue))


def _random_shape(rng: np.random.Generator, cell: int) -> Shape:
    row, column = divmod(cell, CELLS)
    color, shape, size = (str(values[int(rng.integers(len(values)))]) for values in (COLORS, SHAPES, SIZES))
    x, y = ((place + 0.5 + float(rng.uniform(-0.24, 0.24))) / CELLS for place in (column, row))
    radius = float(rng.uniform(*_RADIUS[size]))
    x, y = (min(max(place, radius + 0.005), 0.995 - radius) for place in (x, y))
    return Shape(color, shape, size, x, y, radius, float(rng.uniform(-0.3, 0.3)))


def draw(scene: Scene, side: int = 64, *, rng: np.random.Generator | None = None) -> Image:
    """Paint a scene as a square picture, edges smoothed.

    Args:
        scene: What to draw.
        side: Width and height in pixels.
        rng: Varies the paints and adds a little noise when given.
    """
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = scene.background
    for shape in scene.shapes:
        paint = np.array(RGB[shape.color], np.float32)
        if rng is not None:
            paint = np.clip(paint * rng.uniform(0.9, 1.08) + rng.uniform(-12, 12, 3), 0, 255).astype(np.float32)
        _paint(canvas, shape, paint)
    if rng is not None:
        canvas += rng.normal(0, rng.uniform(0, 5), canvas.shape).astype(np.float32)
    return Image(np.clip(canvas, 0, 255).astype(np.uint8))


def _paint(canvas: NDArray[np.float32], shape: Shape, paint: NDArray[np.float32]) -> None:
    side = canvas.shape[0]
    radius, x, y = shape.radius * side, shape.x * side, shape.y * side
    top, left = max(0, int(y - radius - 2)), max(0, int(x - radius - 2))
    bottom, right = min(side, int(y + radius + 3)), min(side, int(x + radius + 3))
    rows, columns = np.mgrid[top:bottom, left:right].astype(np.float32) + np.float32(0.5)
    down, across = rows - np.float32(y), columns - np.float32(x)
    sine, cosine = math.sin(shape.angle), math.cos(shape.angle)
    u, v = across * cosine + down * sine, down * cosine - across * sine
    cover = np.clip(0.5 - _outside(shape.shape, u, v, radius), 0, 1)[..., None]
    canvas[top:bottom, left:right] = canvas[top:bottom, left:right] * (1 - cover) + paint * cover


def _outside(shape: str, u: NDArray[np.float32], v: NDArray[np.float32], radius: float) -> NDArray[np.floating]:
    """Distance to the shape's edge in pixels, negative inside; ``v`` points down."""
    if shape == "circle":
        return np.hypot(u, v) - radius
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - radius * 0.84
    if shape == "triangle":
        slanted = np.abs(u) * math.cos(math.pi / 6) - v * 0.5
        return np.maximum(slanted, v) - radius * 0.56
    # A five-pointed star: the edge's radius at an angle folded into one tenth of the turn.
    inner, tenth = radius * 0.42, math.pi / 5
    angle = np.abs((np.arctan2(u, -v) + tenth) % (2 * tenth) - tenth)
    rise, run = inner * math.sin(tenth), inner * math.cos(tenth) - radius
    edge = radius * rise / (np.cos(angle) * rise - np.sin(angle) * run)
    return np.hypot(u, v) - edge


def demo_scene() -> Scene:
    """The scene of the shipped demonstration: a red circle left of a blue square, a yellow star above."""
    return Scene(
        (
            Shape("yellow", "star", "small", 0.62, 0.14, 0.068),
            Shape("red", "circle", "big", 0.2, 0.62, 0.115),
            Shape("blue", "square", "big", 0.7, 0.62, 0.115),
        ),
        (250, 250, 246),
    )
