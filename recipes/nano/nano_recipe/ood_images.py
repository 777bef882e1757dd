"""Pictures that are no drawn scenes: plain surfaces, gradients, noise, textures, stripes, things too big or on the dark.

What nano's eyes are taught to decline. Nothing is downloaded: clouds of noise at several scales stand for photographs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nano_recipe.scenes import draw, random_scene

SIDE = 64
Pixels = NDArray[np.uint8]


def no_scene(rng: np.random.Generator) -> Pixels:
    """Draw one at random: uint8 (64, 64, 3)."""
    return _KINDS[int(rng.integers(len(_KINDS)))](rng)


def _color(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(0, 255, 3) if rng.random() < 0.6 else np.full(3, rng.uniform(0, 255))


def _pixels(values: NDArray[np.floating], rng: np.random.Generator) -> Pixels:
    noisy = values + rng.normal(0, rng.uniform(0, 6), (SIDE, SIDE, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _mixed(share: NDArray[np.floating], rng: np.random.Generator) -> Pixels:
    """Two colours by a share, 0 to 1, float (64, 64)."""
    return _pixels(share[..., None] * _color(rng) + (1 - share[..., None]) * _color(rng), rng)


def _plain(rng: np.random.Generator) -> Pixels:
    return _pixels(np.broadcast_to(_color(rng), (SIDE, SIDE, 3)), rng)


def _gradient(rng: np.random.Generator) -> Pixels:
    down, across = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = rng.uniform(0, 2 * np.pi)
    ramp = down * np.sin(angle) + across * np.cos(angle)
    return _mixed((ramp - ramp.min()) / np.ptp(ramp), rng)


def _noise(rng: np.random.Generator) -> Pixels:
    return rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def _cloud(rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise whose power falls with frequency, as that of photographs does; float (64, 64) in 0 to 1."""
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij")
    fall = (np.hypot(fy, fx) + 1 / SIDE) ** -rng.uniform(0.8, 2.0)
    cloud = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * fall, (SIDE, SIDE))
    return (cloud - cloud.min()) / np.ptp(cloud)


def _texture(rng: np.random.Generator) -> Pixels:
    bands = np.stack([_cloud(rng) for _ in range(3)], -1)
    gray = _cloud(rng)[..., None]
    share = rng.uniform(0, 1)
    low, high = sorted(rng.uniform(0, 255, 2))
    return _pixels(low + (high - low) * (share * bands + (1 - share) * gray), rng)


def _blobs(rng: np.random.Generator) -> Pixels:
    return _mixed((_cloud(rng) > rng.uniform(0.35, 0.65)).astype(float), rng)


def _stripes(rng: np.random.Generator) -> Pixels:
    down, across = np.mgrid[:SIDE, :SIDE]
    period = rng.uniform(3, 24)
    wave = np.sin(2 * np.pi * down / period) * (np.sin(2 * np.pi * across / period) if rng.random() < 0.5 else 1.0)
    return _mixed((wave > 0).astype(float), rng)


def _boxes(rng: np.random.Generator) -> Pixels:
    canvas = np.tile(_color(rng), (SIDE, SIDE, 1))
    for _ in range(int(rng.integers(2, 12))):
        top, left = rng.integers(0, SIDE - 4, 2)
        height, width = rng.integers(4, SIDE, 2)
        canvas[top : top + height, left : left + width] = _color(rng)
    return _pixels(canvas, rng)


def _too_big(rng: np.random.Generator) -> Pixels:
    scene = random_scene(rng, count=int(rng.integers(1, 3)))
    bigger = tuple(replace(shape, radius=float(rng.uniform(0.22, 0.6))) for shape in scene.shapes)
    return draw(replace(scene, shapes=bigger), SIDE, rng=rng).pixels


def _on_the_dark(rng: np.random.Generator) -> Pixels:
    background = tuple(int(value) for value in rng.integers(0, 150, 3))
    return draw(replace(random_scene(rng), background=background), SIDE, rng=rng).pixels


def _cluttered(rng: np.random.Generator) -> Pixels:
    scene = draw(random_scene(rng), SIDE, rng=rng).pixels.astype(float)
    share = rng.uniform(0.35, 0.8)
    return _pixels((1 - share) * scene + share * _texture(rng), rng)


_KINDS: tuple[Callable[[np.random.Generator], Pixels], ...] = (
    _plain, _gradient, _noise, _texture, _texture, _blobs, _stripes, _boxes, _too_big, _on_the_dark, _cluttered,
)  # fmt: skip
