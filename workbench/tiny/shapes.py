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
    "red": (0.87, 0.12, 0.14),
    "orange": (0.98, 0.50, 0.05),
    "yellow": (0.99, 0.88, 0.12),
    "green": (0.10, 0.58, 0.20),
    "cyan": (0.20, 0.84, 0.86),
    "blue": (0.13, 0.28, 0.86),
    "purple": (0.52, 0.18, 0.70),
    "pink": (0.99, 0.52, 0.74),
    "white": (0.97, 0.97, 0.95),
    "black": (0.13, 0.13, 0.15),
}
"""Colour words and their sRGB values in [0, 1]."""

_BROWN = (0.40, 0.24, 0.12)
_LEAF = (0.20, 0.62, 0.22)
_CREAM = (0.95, 0.90, 0.78)
_DARK = (0.12, 0.10, 0.14)
_GOLD = (0.98, 0.80, 0.20)
_BLUR = ((-1, 0.25), (0, 0.5), (1, 0.25))


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
    saw = np.abs((angle * 8 / (2 * np.pi)) % 1 - 0.5) * 2
    return [(r < 0.56 + 0.42 * saw, None), (r < 0.44, 1.35)]


def moon(u: Array, v: Array) -> list[Layer]:
    crescent = _disc(u, v, -0.02, 0, 0.95) & ~_disc(u, v, 0.58, -0.16, 0.62)
    return [(crescent, None), (crescent & _disc(u, v, -0.48, 0.38, 0.16), 0.8)]


def star(u: Array, v: Array) -> list[Layer]:
    r, angle = _polar(u, v + 0.04)
    saw = np.abs((angle * 5 / (2 * np.pi) + 0.5) % 1 - 0.5) * 2  # 0 at the tips, 1 between them
    return [(r * (0.52 + 0.48 * saw) < 0.52, None)]


def tree(u: Array, v: Array) -> list[Layer]:
    trunk = (np.abs(u) < 0.2) & (v > 0.3) & (v < 0.97)
    crown = _triangle(u, v, -0.98, -0.05, 0.68) | _triangle(u, v, -0.6, 0.55, 0.95)
    return [(trunk, _BROWN), (crown, None)]


def house(u: Array, v: Array) -> list[Layer]:
    body = (np.abs(u) < 0.74) & (v > -0.15) & (v < 0.94)
    door = (np.abs(u + 0.3) < 0.2) & (v > 0.3) & (v < 0.94)
    window = (np.abs(u - 0.32) < 0.21) & (np.abs(v - 0.3) < 0.21)
    return [(body, None), (_triangle(u, v, -0.96, -0.05, 0.98), 0.62), (door, _DARK), (window, _CREAM)]


def boat(u: Array, v: Array) -> list[Layer]:
    hull = (v > 0.3) & (v < 0.9) & (np.abs(u) < 0.97 - 0.75 * (v - 0.3))
    sail = (v > -0.95) & (v < 0.2) & (u > -0.02) & (u < 0.9 * (v + 0.98) / 1.15)
    jib = (v > -0.75) & (v < 0.2) & (u < -0.14) & (u > -0.14 - 0.72 * (v + 0.78) / 0.95)
    mast = (np.abs(u + 0.08) < 0.07) & (v > -0.97) & (v < 0.4)
    return [(sail | jib, _CREAM), (mast, _BROWN), (hull, None)]


def fish(u: Array, v: Array) -> list[Layer]:
    body = ((u + 0.2) / 0.77) ** 2 + (v / 0.64) ** 2 < 1
    tail = (u > 0.35) & (u < 0.97) & (np.abs(v) < 1.05 * (u - 0.25))
    stripe = (np.abs(u - 0.06) < 0.12) & (np.abs(v) < 0.6)
    return [(tail, 0.75), (body, None), (body & stripe, 0.7), (_disc(u, v, -0.56, -0.14, 0.14), _DARK)]


def flower(u: Array, v: Array) -> list[Layer]:
    petals = np.zeros(u.shape, dtype=bool)
    for turn in range(5):
        angle = 2 * np.pi * turn / 5
        petals |= _disc(u, v, 0.55 * np.sin(angle), -0.55 * np.cos(angle), 0.42)
    r, _ = _polar(u, v)
    return [(petals | (r < 0.4), None), (r < 0.34, _GOLD)]


def heart(u: Array, v: Array) -> list[Layer]:
    x, y = u * 1.2, -v * 1.2 + 0.14
    return [((x**2 + y**2 - 0.95) ** 3 - 1.2 * x**2 * y**3 < 0, None)]


def mushroom(u: Array, v: Array) -> list[Layer]:
    stem = (np.abs(u) < 0.32) & (v > 0) & (v < 0.95)
    cap = (u / 0.97) ** 2 + ((v - 0.2) / 1.12) ** 2 < 1
    cap &= v < 0.24
    spots = _disc(u, v, -0.44, -0.14, 0.19) | _disc(u, v, 0.08, -0.52, 0.19) | _disc(u, v, 0.5, -0.08, 0.17)
    return [(stem, _CREAM), (cap, None), (cap & spots, _CREAM)]


PICTOGRAMS: dict[str, Callable[[Array, Array], list[Layer]]] = {
    "sun": sun,
    "moon": moon,
    "star": star,
    "tree": tree,
    "house": house,
    "boat": boat,
    "fish": fish,
    "flower": flower,
    "heart": heart,
    "mushroom": mushroom,
}
"""Object nouns and how each is drawn, in any of :data:`COLOURS`."""


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


def _mix(share: Array, low: tuple[float, float, float] | Array, high: tuple[float, float, float]) -> Array:
    blend = np.clip(share, 0, 1)[..., None]
    return np.asarray(np.array(low) * (1 - blend) + np.array(high) * blend, dtype=np.float32)


def _dots(rng: np.random.Generator, height: int, width: int, count: int) -> Array:
    """Soft round dots of about four pixels at random places, in [0, 1]."""
    dots = np.zeros((height, width), dtype=np.float32)
    dots[rng.integers(0, height, count), rng.integers(0, width, count)] = 1
    for axis in (0, 1):
        dots = np.stack([share * np.roll(dots, shift, axis) for shift, share in _BLUR]).sum(0)
    return np.asarray(np.clip(dots * 6, 0, 1), dtype=np.float32)


def sky(rng: np.random.Generator, height: int, width: int) -> Array:
    clouds = _noise(rng, height, width, (18, 34)) * 1.6 - 0.6
    return _mix(clouds, (0.46, 0.74, 0.96), (0.90, 0.96, 1.0))


def grass(rng: np.random.Generator, height: int, width: int) -> Array:
    return _mix(_noise(rng, height, width, (12, 4)), (0.30, 0.54, 0.12), (0.58, 0.78, 0.28))


def sand(rng: np.random.Generator, height: int, width: int) -> Array:
    y = np.arange(height, dtype=np.float32)[:, None]
    dunes = 0.5 + 0.5 * np.sin(y / 5 + 5 * _noise(rng, height, width, (44, 30)) + rng.random() * 6)
    return _mix(dunes.astype(np.float32), (0.85, 0.72, 0.44), (0.97, 0.88, 0.64))


def water(rng: np.random.Generator, height: int, width: int) -> Array:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = np.sin(y / 2.6 + 1.2 * np.sin(x / 8 + rng.random() * 6) + rng.random() * 6)
    return _mix(0.5 + 0.5 * waves, (0.05, 0.42, 0.56), (0.18, 0.60, 0.68))


def night(rng: np.random.Generator, height: int, width: int) -> Array:
    ground = _mix(_noise(rng, height, width, (28, 28)), (0.08, 0.09, 0.30), (0.17, 0.17, 0.46))
    return _mix(_dots(rng, height, width, height * width // 400), ground, (0.90, 0.90, 0.78))


def snow(rng: np.random.Generator, height: int, width: int) -> Array:
    ground = _mix(_noise(rng, height, width, (16, 24)), (0.82, 0.88, 0.96), (0.96, 0.98, 1.0))
    return _mix(_dots(rng, height, width, height * width // 300), ground, (0.62, 0.72, 0.88))


def brick(rng: np.random.Generator, height: int, width: int) -> Array:
    y, x = np.mgrid[0:height, 0:width]
    y, x = y + 8 * rng.integers(0, 4), x + 8 * rng.integers(0, 4)
    row = y // 16
    column = (x + 16 * (row % 2)) // 32
    tone = rng.random((row.max() + 1, column.max() + 1), dtype=np.float32)[row, column]
    wall = _mix(tone, (0.56, 0.26, 0.18), (0.68, 0.36, 0.27))
    wall[(y % 16 < 3) | ((x + 16 * (row % 2)) % 32 < 3)] = (0.80, 0.76, 0.70)
    return wall


def wood(rng: np.random.Generator, height: int, width: int) -> Array:
    x = np.arange(width)[None, :] + 8 * rng.integers(0, 4)
    grain = np.sin(_noise(rng, height, width, (60, 9)) * 9) * 0.35 + 0.5
    planks = _mix(grain.astype(np.float32), (0.48, 0.31, 0.15), (0.64, 0.44, 0.24))
    planks[np.broadcast_to(x % 32 < 3, (height, width))] = (0.26, 0.16, 0.08)
    return planks


def stone(rng: np.random.Generator, height: int, width: int) -> Array:
    return _mix(_noise(rng, height, width, (9, 9)), (0.40, 0.41, 0.44), (0.68, 0.68, 0.70))


def lava(rng: np.random.Generator, height: int, width: int) -> Array:
    veins = 1 - np.abs(_noise(rng, height, width, (20, 24)) - 0.5) * 7
    return _mix(veins, (0.22, 0.05, 0.05), (1.0, 0.42, 0.08))


GROUNDS: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "sky": sky,
    "grass": grass,
    "sand": sand,
    "water": water,
    "night": night,
    "snow": snow,
    "brick": brick,
    "wood": wood,
    "stone": stone,
    "lava": lava,
}
"""Background nouns and their textures, each drawn over the whole canvas and cut to its region."""
