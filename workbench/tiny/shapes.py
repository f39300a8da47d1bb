"""How each noun of the drawn scenes looks: pictograms and textured grounds, drawn with NumPy.

A pictogram is a function of local coordinates ``u`` (right) and ``v`` (down), both in [-1, 1], that returns layers
``(inside, colour)`` painted one over the other; ``colour`` is ``None`` for the object's own colour, an RGB triple for
a fixed one (a trunk is brown), or a float factor that shades the object's own colour.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Paint = tuple[float, float, float] | float | None
Layer = tuple[NDArray[np.bool_], Paint]

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.16),
    "orange": (0.97, 0.52, 0.08),
    "yellow": (0.98, 0.84, 0.12),
    "green": (0.10, 0.56, 0.20),
    "blue": (0.12, 0.32, 0.86),
    "purple": (0.52, 0.20, 0.70),
    "pink": (0.98, 0.50, 0.70),
    "white": (0.96, 0.96, 0.94),
}
"""Colour words and their sRGB values in [0, 1]."""

_BROWN = (0.40, 0.24, 0.12)
_LEAF = (0.20, 0.62, 0.22)
_CREAM = (0.95, 0.90, 0.78)
_DARK = (0.12, 0.10, 0.14)
_GOLD = (0.98, 0.80, 0.20)


def _disc(u: Array, v: Array, x: float, y: float, radius: float) -> NDArray[np.bool_]:
    return np.asarray(np.hypot(u - x, v - y) < radius)


def _triangle(u: Array, v: Array, top: float, bottom: float, half: float, x: float = 0.0) -> NDArray[np.bool_]:
    """Isosceles triangle with its tip at ``top`` and a base of half-width ``half`` at ``bottom``."""
    share = (v - top) / (bottom - top)
    return np.asarray((share > 0) & (share < 1) & (np.abs(u - x) < half * share))


def _polar(u: Array, v: Array) -> tuple[Array, Array]:
    return np.hypot(u, v), np.arctan2(u, -v)


def sun(u: Array, v: Array) -> list[Layer]:
    r, angle = _polar(u, v)
    saw = np.abs((angle * 10 / (2 * np.pi)) % 1 - 0.5) * 2
    return [(r < 0.66 + 0.32 * saw, None), (r < 0.58, 1.25)]


def moon(u: Array, v: Array) -> list[Layer]:
    crescent = _disc(u, v, 0, 0, 0.95) & ~_disc(u, v, 0.62, -0.12, 0.68)
    return [(crescent, None), (crescent & _disc(u, v, -0.45, 0.35, 0.16), 0.85)]


def star(u: Array, v: Array) -> list[Layer]:
    r, angle = _polar(u, v)
    saw = np.abs((angle * 5 / (2 * np.pi) + 0.5) % 1 - 0.5) * 2  # 0 at the tips, 1 between them
    return [(r * (0.55 + (1 - 0.55) * saw / 0.98) < 0.55 + 0 * r, None)]


def tree(u: Array, v: Array) -> list[Layer]:
    trunk = (np.abs(u) < 0.17) & (v > 0.1) & (v < 0.97)
    crown = _disc(u, v, 0, -0.42, 0.52) | _disc(u, v, -0.42, 0.0, 0.46) | _disc(u, v, 0.42, 0.0, 0.46)
    return [(trunk, _BROWN), (crown, None)]


def house(u: Array, v: Array) -> list[Layer]:
    body = (np.abs(u) < 0.72) & (v > -0.15) & (v < 0.92)
    door = (np.abs(u + 0.28) < 0.18) & (v > 0.32) & (v < 0.92)
    window = (np.abs(u - 0.32) < 0.2) & (np.abs(v - 0.28) < 0.2)
    return [(body, None), (_triangle(u, v, -0.95, -0.1, 0.97), 0.55), (door, _DARK), (window, _CREAM)]


def boat(u: Array, v: Array) -> list[Layer]:
    hull = (v > 0.32) & (v < 0.85) & (np.abs(u) < 0.95 - 0.7 * (v - 0.32))
    sail = (v > -0.95) & (v < 0.2) & (u > -0.1) & (u < 0.75 * (v + 0.95) / 1.15)
    jib = (v > -0.7) & (v < 0.2) & (u < -0.2) & (u > -0.2 - 0.6 * (v + 0.7) / 0.9)
    mast = (np.abs(u + 0.15) < 0.06) & (v > -0.95) & (v < 0.4)
    return [(sail | jib, _CREAM), (mast, _BROWN), (hull, None)]


def fish(u: Array, v: Array) -> list[Layer]:
    body = ((u + 0.18) / 0.76) ** 2 + (v / 0.56) ** 2 < 1
    tail = (u > 0.4) & (u < 0.97) & (np.abs(v) < 0.9 * (u - 0.3))
    fin = (np.abs(u + 0.1) < 0.16) & (np.abs(v) < 0.5)
    return [(tail, 0.75), (body, None), (body & fin, 0.8), (_disc(u, v, -0.55, -0.12, 0.12), _DARK)]


def balloon(u: Array, v: Array) -> list[Layer]:
    skin = (u / 0.68) ** 2 + ((v + 0.22) / 0.76) ** 2 < 1
    knot = _triangle(u, v, 0.45, 0.7, 0.18)
    string = (np.abs(u - 0.06 * np.sin(9 * v)) < 0.05) & (v > 0.6) & (v < 0.98)
    return [(string, _DARK), (knot, 0.75), (skin, None), (_disc(u, v, -0.24, -0.5, 0.15), 1.5)]


def flower(u: Array, v: Array) -> list[Layer]:
    r, angle = _polar(u, v)
    return [(r < 0.74 + 0.22 * np.cos(6 * angle), None), (r < 0.3, _GOLD)]


def apple(u: Array, v: Array) -> list[Layer]:
    flesh = _disc(u, v, -0.26, 0.18, 0.66) | _disc(u, v, 0.26, 0.18, 0.66)
    stem = (np.abs(u - 0.04) < 0.07) & (v > -0.85) & (v < -0.3)
    leaf = ((u - 0.36) / 0.34) ** 2 + ((v + 0.66) / 0.17) ** 2 < 1
    return [(flesh, None), (stem, _BROWN), (leaf, _LEAF), (_disc(u, v, -0.42, 0.0, 0.14), 1.5)]


def heart(u: Array, v: Array) -> list[Layer]:
    x, y = u * 1.22, -v * 1.2 + 0.12
    return [((x**2 + y**2 - 0.9) ** 3 - 1.25 * x**2 * y**3 < 0, None)]


def mushroom(u: Array, v: Array) -> list[Layer]:
    stem = (np.abs(u) < 0.27) & (v > 0) & (v < 0.92)
    cap = (u / 0.95) ** 2 + ((v - 0.15) / 0.95) ** 2 < 1
    cap &= v < 0.18
    spots = _disc(u, v, -0.42, -0.2, 0.17) | _disc(u, v, 0.08, -0.5, 0.17) | _disc(u, v, 0.5, -0.12, 0.15)
    return [(stem, _CREAM), (cap, None), (cap & spots, _CREAM)]


PICTOGRAMS: dict[str, tuple[Callable[[Array, Array], list[Layer]], str]] = {
    "sun": (sun, "yellow"),
    "moon": (moon, "white"),
    "star": (star, "orange"),
    "tree": (tree, "green"),
    "house": (house, "red"),
    "boat": (boat, "blue"),
    "fish": (fish, "orange"),
    "balloon": (balloon, "purple"),
    "flower": (flower, "pink"),
    "apple": (apple, "green"),
    "heart": (heart, "pink"),
    "mushroom": (mushroom, "red"),
}
"""Object nouns: how each is drawn and its typical colour."""


def _noise(rng: np.random.Generator, height: int, width: int, cell: tuple[float, float]) -> Array:
    """Smooth noise in [0, 1]: random values on a grid of ``cell`` (height, width) pixels, linearly interpolated."""
    rows, columns = int(height / cell[0]) + 2, int(width / cell[1]) + 2
    grid = rng.random((rows, columns), dtype=np.float32)
    y, x = np.arange(height) / cell[0], np.arange(width) / cell[1]
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0)[:, None].astype(np.float32), (x - x0)[None, :].astype(np.float32)
    top = grid[y0][:, x0] * (1 - fx) + grid[y0][:, x0 + 1] * fx
    bottom = grid[y0 + 1][:, x0] * (1 - fx) + grid[y0 + 1][:, x0 + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy, dtype=np.float32)


def _mix(share: Array, low: tuple[float, float, float], high: tuple[float, float, float]) -> Array:
    blend = np.clip(share, 0, 1)[..., None]
    return np.asarray(np.array(low) * (1 - blend) + np.array(high) * blend, dtype=np.float32)


def _dots(rng: np.random.Generator, height: int, width: int, count: int) -> NDArray[np.bool_]:
    dots = np.zeros((height, width), dtype=bool)
    dots[rng.integers(0, height, count), rng.integers(0, width, count)] = True
    return dots | np.roll(dots, 1, 0) | np.roll(dots, 1, 1)


def sky(rng: np.random.Generator, height: int, width: int) -> Array:
    clouds = _noise(rng, height, width, (12, 24)) * 1.6 - 0.75
    return _mix(clouds, (0.52, 0.78, 0.97), (0.90, 0.96, 1.0))


def grass(rng: np.random.Generator, height: int, width: int) -> Array:
    return _mix(_noise(rng, height, width, (7, 2)), (0.28, 0.52, 0.10), (0.60, 0.80, 0.28))


def sand(rng: np.random.Generator, height: int, width: int) -> Array:
    y = np.arange(height, dtype=np.float32)[:, None]
    dunes = 0.5 + 0.3 * np.sin(y / 3.5 + 5 * _noise(rng, height, width, (30, 20)) + rng.random() * 6)
    return _mix(dunes + 0.3 * (_noise(rng, height, width, (2, 2)) - 0.5), (0.84, 0.70, 0.42), (0.97, 0.88, 0.64))


def water(rng: np.random.Generator, height: int, width: int) -> Array:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = np.sin(y / 2.2 + 1.2 * np.sin(x / 6 + rng.random() * 6) + rng.random() * 6)
    return _mix(0.5 + 0.5 * waves, (0.06, 0.44, 0.62), (0.30, 0.72, 0.82))


def night(rng: np.random.Generator, height: int, width: int) -> Array:
    ground = _mix(_noise(rng, height, width, (20, 20)), (0.04, 0.05, 0.16), (0.12, 0.12, 0.32))
    ground[_dots(rng, height, width, height * width // 220)] = (0.85, 0.87, 1.0)
    return ground


def snow(rng: np.random.Generator, height: int, width: int) -> Array:
    ground = _mix(_noise(rng, height, width, (10, 16)), (0.82, 0.87, 0.94), (0.98, 0.99, 1.0))
    ground[_dots(rng, height, width, height * width // 160)] = (0.66, 0.75, 0.88)
    return ground


def brick(rng: np.random.Generator, height: int, width: int) -> Array:
    y, x = np.mgrid[0:height, 0:width] + rng.integers(0, 16)
    row = y // 8
    column = (x + 8 * (row % 2)) // 16
    tone = rng.random((row.max() + 1, column.max() + 1), dtype=np.float32)[row, column]
    wall = _mix(tone, (0.56, 0.25, 0.18), (0.72, 0.38, 0.28))
    wall[(y % 8 < 2) | ((x + 8 * (row % 2)) % 16 < 2)] = (0.80, 0.76, 0.70)
    return wall


def wood(rng: np.random.Generator, height: int, width: int) -> Array:
    x = np.arange(width)[None, :] + rng.integers(0, 24)
    grain = np.sin(_noise(rng, height, width, (40, 5)) * 12) * 0.35 + 0.5
    planks = _mix(grain.astype(np.float32), (0.46, 0.29, 0.14), (0.66, 0.45, 0.24))
    planks[np.broadcast_to(x % 24 < 2, (height, width))] = (0.26, 0.16, 0.08)
    return planks


GROUNDS: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "sky": sky,
    "grass": grass,
    "sand": sand,
    "water": water,
    "night": night,
    "snow": snow,
    "brick": brick,
    "wood": wood,
}
"""Background nouns and their textures, each drawn over the whole canvas and cut to its region."""
