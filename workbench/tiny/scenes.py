"""Drawn scenes with exact masks: one to three coloured pictograms on one or two textured grounds.

``draw(seed)`` is deterministic, so a split is a range of seeds (:data:`SPLITS`) and no data set has to be shipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.schema import InputError
from workbench.tiny.shapes import COLOURS, GROUNDS, PICTOGRAMS

OBJECTS: tuple[str, ...] = tuple(PICTOGRAMS)
BACKGROUNDS: tuple[str, ...] = tuple(GROUNDS)
NOUNS: tuple[str, ...] = OBJECTS + BACKGROUNDS
"""Every word that can be a concept of the bundled model."""
COLOUR_WORDS: tuple[str, ...] = tuple(COLOURS)
SIZE = 96
"""Side of a scene in pixels."""
SPLITS: dict[str, range] = {
    "validation": range(0, 500),
    "test": range(1_000, 1_500),
    "gallery": range(2_000, 2_012),
    "train": range(1_000_000, 100_000_000),
}
"""Disjoint seed ranges: training, choice of defaults, reported figures, and the scenes shipped as files."""

_SUPERSAMPLING = 3
_TYPICAL_COLOUR = 0.65


@dataclass(frozen=True)
class Scene:
    """A drawn picture and everything that is known about it.

    Attributes
    ----------
    image
        (pixel_y, pixel_x, channel) uint8 sRGB.
    caption
        One plain sentence that names everything in the picture.
    words
        The nouns in the picture, objects first; the concepts of a capture.
    colours
        Colour word of each object.
    labels
        (pixel_y, pixel_x) uint8: index into ``words``; every pixel belongs to exactly one word.
    """

    image: NDArray[np.uint8]
    caption: str
    words: tuple[str, ...]
    colours: dict[str, str]
    labels: NDArray[np.uint8]

    def mask(self, word: str) -> NDArray[np.bool_]:
        """Pixels that show ``word``.

        Parameters
        ----------
        word
            One of ``words``.

        Returns
        -------
        (pixel_y, pixel_x) bool.

        Raises
        ------
        InputError
            If the scene does not contain the word.
        """
        if word not in self.words:
            raise InputError(f"{word!r} is not in this scene; its words are {', '.join(self.words)}")
        return np.asarray(self.labels == self.words.index(word))

    @property
    def truth(self) -> dict[str, NDArray[np.bool_]]:
        """One mask per word, as ``capture(..., truth=)`` takes them."""
        return {word: self.mask(word) for word in self.words}


def article(word: str) -> str:
    """``word`` behind its indefinite article."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def sentence(objects: list[str], colours: dict[str, str], backgrounds: list[str]) -> str:
    """A caption: "a red heart and a yellow sun on grass under sky"; objects missing from ``colours`` go without one."""
    phrases = [article(f"{colours[name]} {name}" if name in colours else name) for name in objects]
    place = (" on " + " under ".join(backgrounds)) if backgrounds else ""
    return " and ".join(phrases) + place


def draw(seed: int, size: int = SIZE, most: int = 3) -> Scene:
    """Draw the scene of a seed.

    Parameters
    ----------
    seed
        Any non-negative integer; the same seed always gives the same scene. See :data:`SPLITS`.
    size
        Side in pixels; objects keep their size in pixels, so a smaller scene holds fewer of them.
    most
        Largest number of objects, 1 to 3.

    Returns
    -------
    Scene

    Raises
    ------
    InputError
        If ``seed`` is negative, or ``most`` objects do not fit the rules above.
    """
    if seed < 0 or not 1 <= most <= 3 or size < 64:
        raise InputError(
            f"got seed={seed}, size={size}, most={most}; expected seed >= 0, size >= 64 pixels and 1 to 3 objects"
        )
    rng = np.random.default_rng([seed, size, most])
    canvas, labels, backgrounds = _ground(rng, size)
    count = min(most, int(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25])))
    places = _places(rng, size, count)
    objects = [str(name) for name in rng.choice(OBJECTS, len(places), replace=False)]
    colours: dict[str, str] = {}
    for index, (name, (y, x, radius)) in enumerate(zip(objects, places, strict=True)):
        colour = PICTOGRAMS[name][1] if rng.random() < _TYPICAL_COLOUR else str(rng.choice(COLOUR_WORDS))
        colours[name] = colour
        _stamp(canvas, labels, name, colour, (y, x, radius), index)
    labels[labels >= 100] -= 100 - len(objects)
    image = np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)
    words = (*objects, *backgrounds)
    return Scene(image, sentence(objects, colours, backgrounds), words, colours, labels)


def _ground(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], list[str]]:
    """Canvas, labels (100 + background index until the objects are known) and background words, lower one first."""
    names = [str(name) for name in rng.choice(BACKGROUNDS, 2, replace=False)]
    canvas = GROUNDS[names[0]](rng, size, size)
    labels = np.full((size, size), 100, dtype=np.uint8)
    if rng.random() < 0.5:
        return canvas, labels, names[:1]
    x = np.arange(size)
    level = size * rng.uniform(0.38, 0.62) + rng.uniform(-0.12, 0.12) * (x - size / 2)
    level = level + rng.uniform(0, 3) * np.sin(x / rng.uniform(6, 14) + rng.random() * 6)
    above = np.arange(size)[:, None] < level[None, :]
    canvas[above] = GROUNDS[names[1]](rng, size, size)[above]
    labels[above] = 101
    return canvas, labels, names


def _places(rng: np.random.Generator, size: int, count: int) -> list[tuple[float, float, float]]:
    """Centres and half-sizes of ``count`` objects whose boxes hardly touch, in pixels; fewer if they do not fit."""
    largest = {1: 30.0, 2: 25.0, 3: 21.0}[count]
    places: list[tuple[float, float, float]] = []
    for _ in range(60):
        radius = rng.uniform(17.0, largest)
        y, x = rng.uniform(radius + 1, size - radius - 1, 2)
        if all(max(abs(y - b), abs(x - a)) > (radius + r) * 0.95 for b, a, r in places):
            places.append((y, x, radius))
        if len(places) == count:
            break
    return places


def _stamp(
    canvas: NDArray[np.float32],
    labels: NDArray[np.uint8],
    name: str,
    colour: str,
    place: tuple[float, float, float],
    index: int,
) -> None:
    """Paint one object with a dark outline, antialiased; a pixel is the object's when at least half covered."""
    y, x, radius = place
    pad = radius + 2
    top, left = int(max(0, np.floor(y - pad))), int(max(0, np.floor(x - pad)))
    bottom, right = int(min(canvas.shape[0], np.ceil(y + pad))), int(min(canvas.shape[1], np.ceil(x + pad)))
    step = 1 / _SUPERSAMPLING
    v = ((np.arange(top, bottom, step) + step / 2 - y) / radius).astype(np.float32)[:, None]
    u = ((np.arange(left, right, step) + step / 2 - x) / radius).astype(np.float32)[None, :]
    v, u = np.broadcast_arrays(v, u)
    base = np.array(COLOURS[colour], dtype=np.float32)
    paint = np.zeros((*u.shape, 3), dtype=np.float32)
    covered = np.zeros(u.shape, dtype=bool)
    for inside, tint in PICTOGRAMS[name][0](u, v):
        own = base if tint is None else np.clip(base * tint, 0, 1) if isinstance(tint, float) else np.array(tint)
        paint[inside] = own
        covered |= inside
    inner = covered.copy()
    for axis in (0, 1):
        for shift in (-_SUPERSAMPLING, _SUPERSAMPLING):
            inner &= np.roll(covered, shift, axis)
    paint[covered & ~inner] = base * 0.35
    height, width = bottom - top, right - left
    blocks = (height, _SUPERSAMPLING, width, _SUPERSAMPLING)
    alpha = covered.reshape(blocks).mean((1, 3), dtype=np.float32)
    colours = (paint * covered[..., None]).reshape(*blocks, 3).mean((1, 3))
    window = canvas[top:bottom, left:right]
    window *= 1 - alpha[..., None]
    window += colours
    labels[top:bottom, left:right][alpha >= 0.5] = index
