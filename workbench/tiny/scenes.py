"""Drawn scenes with exact masks: one to four coloured pictograms on one or two textured grounds.

``render(seed)`` is deterministic, so a split is a range of seeds (:data:`SPLITS`) and no data set has to be shipped.
Seeds that differ may give the same pixels: :func:`content_hash` tells. :func:`render_hard` renders scenes of the same
words that no other split resembles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, permutations
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from workbench.schema import InputError, warn
from workbench.tiny.shapes import COLOURS, GROUNDS, PICTOGRAMS

OBJECTS: tuple[str, ...] = tuple(PICTOGRAMS)
BACKGROUNDS: tuple[str, ...] = tuple(GROUNDS)
NOUNS: tuple[str, ...] = OBJECTS + BACKGROUNDS
"""Every word that can be a concept of the bundled model."""
COLOUR_WORDS: tuple[str, ...] = tuple(COLOURS)
SIZES: dict[str, int] = {"small": 48, "": 64, "large": 96}
"""Size words and widths of objects in pixels; what is neither small nor large has no word."""
SIZE_WORDS: tuple[str, ...] = tuple(SIZES)
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
_FORWARD = ("left of", "above")
SIZE = 128
"""Side of a scene in pixels."""
SPLITS: dict[str, range] = {
    "validation": range(0, 500),
    "test": range(1_000, 1_500),
    "gallery": range(2_980, 2_992),
    "train": range(1_000_000, 100_000_000),
}
"""Disjoint seed ranges: training, choice of defaults, reported figures, and the scenes shipped as files."""
HARD_SEEDS = range(4_000, 6_000)
"""Seeds of :func:`render_hard` that figures are reported of."""
CHANGES: tuple[str, ...] = ("grounds", "places", "textures")
"""What :func:`render_hard` does otherwise: grounds side by side or aslant; objects of any size anywhere; every ground
drawn anew, lighter or darker and tinted."""

_SUPERSAMPLING = 3
_GRID = 16


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
    sizes
        "small" or "large" for the objects that are either.
    relations
        For each ordered pair of objects, how the first lies to the second: one of :data:`RELATIONS`.
    labels
        (pixel_y, pixel_x) uint8: index into ``words``; every pixel belongs to exactly one word.
    """

    image: NDArray[np.uint8]
    caption: str
    words: tuple[str, ...]
    colours: dict[str, str]
    sizes: dict[str, str]
    relations: dict[tuple[str, str], str]
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


def sentence(
    objects: Sequence[str],
    described: Mapping[str, str],
    backgrounds: Sequence[str],
    joined: Mapping[tuple[str, str], str] | None = None,
) -> str:
    """A caption: "a large red heart left of a sun and a blue star on grass under sky".

    Parameters
    ----------
    objects
        Object nouns in the order of the sentence.
    described
        Adjectives of some of them: "large red".
    backgrounds
        The lower ground, then the upper one.
    joined
        What stands between neighbours, instead of "and".
    """
    phrases = [article(f"{described[name]} {name}" if described.get(name) else name) for name in objects]
    text = phrases[0] if phrases else ""
    for (before, after), phrase in zip(pairwise(objects), phrases[1:], strict=True):
        text += f" {(joined or {}).get((before, after), 'and')} {phrase}"
    return text + (" on " + " under ".join(backgrounds) if backgrounds else "")


def order_of_words(
    rng: np.random.Generator, objects: Sequence[str], relations: Mapping[tuple[str, str], str]
) -> tuple[list[str], dict[tuple[str, str], str]]:
    """In which order a caption names objects, and what it says between them instead of "and".

    Seven of ten captions go from left to right and from top to bottom; the others in any order. Between two objects in
    that order three of four captions say how they lie, between two against it all of them do: what a caption leaves
    open is little.
    """
    joined = {pair: word for pair, word in relations.items() if word not in _FORWARD or rng.random() < 0.75}
    behind = {name: sum(relations[other, name] in _FORWARD for other in objects if other != name) for name in objects}
    if rng.random() < 0.7:
        return sorted(objects, key=lambda name: behind[name]), joined
    return [objects[index] for index in rng.permutation(len(objects))], joined


def render(seed: int, size: int = SIZE, most: int = 4) -> Scene:
    """Render the scene of a seed.

    Objects are 48, 64 or 96 pixels wide. One stands in the middle, several stand in a row, a triangle or the four
    quarters; a large one stands in the middle, and small ones in front of it overlap it. Colours and sizes are free of
    shapes.

    Parameters
    ----------
    seed
        Any non-negative integer; the same seed always gives the same scene. See :data:`SPLITS`.
    size
        Side in pixels, a multiple of 16; objects keep their size in pixels, so a smaller scene holds fewer of them.
    most
        Largest number of objects, 1 to 4; fewer where they do not fit.

    Returns
    -------
    Scene

    Raises
    ------
    InputError
        If ``seed`` is negative, or ``size`` or ``most`` do not fit the rules above.
    """
    whole = all(isinstance(one, Integral) and not isinstance(one, bool) for one in (seed, size, most))
    if not whole or seed < 0 or not 1 <= most <= 4 or size < 64 or size % _GRID:
        raise InputError(
            f"got seed={seed!r}, size={size!r}, most={most!r}; expected whole numbers: seed >= 0, a size of 64 "
            f"pixels or more in steps of {_GRID}, and 1 to 4 objects"
        )
    rng = np.random.default_rng([seed, size, most])
    canvas, labels, backgrounds = _ground(rng, size)
    count = min(most, int(rng.choice([1, 2, 3, 4], p=[0.38, 0.36, 0.16, 0.1])))
    places = _places(rng, size, count)
    objects = [str(name) for name in rng.choice(OBJECTS, len(places), replace=False)]
    colours = {name: str(rng.choice(COLOUR_WORDS)) for name in objects}
    for index, (name, place) in enumerate(zip(objects, places, strict=True)):
        _stamp(canvas, labels, name, colours[name], place, index)
    labels[labels >= 100] -= 100 - len(objects)
    image = np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)
    words_of = {width: word for word, width in SIZES.items()}
    sizes = {name: words_of[2 * place[2]] for name, place in zip(objects, places, strict=True)}
    relations = {
        (a, b): relation(p[:2], q[:2]) for (a, p), (b, q) in permutations(zip(objects, places, strict=True), 2)
    }
    described = {name: f"{sizes[name]} {colours[name]}".strip() for name in objects}
    order, joined = order_of_words(rng, objects, relations)
    words = (*objects, *backgrounds)
    sizes = {name: word for name, word in sizes.items() if word}
    caption = sentence(order, described, backgrounds, joined)
    return Scene(image, caption, words, colours, sizes, relations, labels)


def render_hard(seed: int, changes: Collection[str] = CHANGES) -> Scene:
    """Render a scene that differs in kind from those of :func:`render`: two to four objects on two grounds.

    Parameters
    ----------
    seed
        Any non-negative integer, such as one of :data:`HARD_SEEDS`; the same seed always gives the same scene.
    changes
        What is other than in :func:`render`, of :data:`CHANGES`; words and colours of a seed are the same for all.

    Returns
    -------
    Scene

    Raises
    ------
    InputError
        If the seed is negative, or a change is unknown.
    """
    if seed < 0 or isinstance(changes, str) or not set(changes) <= set(CHANGES):
        raise InputError(
            f"got seed={seed}, changes={changes!r}; expected seed >= 0, and changes from {', '.join(CHANGES)}"
        )
    words, *parts = (np.random.default_rng([seed, part, 1]) for part in range(4))
    count = int(words.choice([2, 3, 4], p=[0.5, 0.3, 0.2]))
    objects = [str(name) for name in words.choice(OBJECTS, count, replace=False)]
    colours = {name: str(words.choice(COLOUR_WORDS)) for name in objects}
    backgrounds = [str(name) for name in words.choice(BACKGROUNDS, 2, replace=False)]
    border, where, paint = parts

    anew = "textures" in changes
    canvas, other = (_drawn_anew(name, paint) if anew else _texture(name, SIZE).copy() for name in backgrounds)
    second = _aslant(border) if "grounds" in changes else np.arange(SIZE)[:, None] < 16 * border.choice([3, 4, 5])
    second = np.broadcast_to(second, (SIZE, SIZE))
    canvas[second] = other[second]
    labels = (100 + second).astype(np.uint8)
    places = _anywhere(where, count) if "places" in changes else _places(where, SIZE, count)
    objects = objects[: len(places)]
    return _composed(canvas, labels, objects, {name: colours[name] for name in objects}, places, backgrounds)


def _composed(
    canvas: NDArray[np.float32],
    labels: NDArray[np.uint8],
    objects: list[str],
    colours: dict[str, str],
    places: Sequence[tuple[int, int, int]],
    backgrounds: Sequence[str],
) -> Scene:
    """The scene of some objects on a ground, with the grounds in no order."""
    for index, (name, place) in enumerate(zip(objects, places, strict=True)):
        _stamp(canvas, labels, name, colours[name], place, index)
    labels[labels >= 100] -= 100 - len(objects)
    image = np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)
    word_of = {width: word for word, width in SIZES.items()}
    sizes = {name: word_of[2 * place[2]] for name, place in zip(objects, places, strict=True)}
    at = dict(zip(objects, places, strict=True))
    relations = {(a, b): relation(at[a][:2], at[b][:2]) for a, b in permutations(objects, 2)}
    described = {name: f"{sizes[name]} {colours[name]}".strip() for name in objects}
    caption = sentence(objects, described, [" and ".join(backgrounds)])
    known = {name: word for name, word in sizes.items() if word}
    return Scene(image, caption, (*objects, *backgrounds), colours, known, relations, labels)


def _aslant(rng: np.random.Generator) -> NDArray[np.bool_]:
    """One side of a border that is upright, or up to 60 degrees off, through the middle third."""
    y, x = np.mgrid[:SIZE, :SIZE]
    angle = rng.uniform(-np.pi / 3, np.pi / 3)
    middle = SIZE * rng.uniform(1 / 3, 2 / 3, 2)
    side = np.cos(angle) * (x - middle[1]) + np.sin(angle) * (y - middle[0]) < 0
    return np.asarray(side if rng.random() < 0.5 else ~side)


def _anywhere(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    """Centres and half-widths, the largest first: anywhere inside, and no object far inside another one's reach."""
    while True:
        halves = [int(width) // 2 for width in rng.choice(list(SIZES.values()), count, p=[0.5, 0.35, 0.15])]
        places: list[tuple[int, int, int]] = []
        for half in sorted(halves, reverse=True):
            for _ in range(50):
                y, x = (int(place) for place in rng.integers(half, SIZE - half + 1, 2))
                if all(np.hypot(y - v, x - u) > 0.8 * (half + other) for v, u, other in places):
                    places.append((y, x, half))
                    break
        if len(places) == count:
            return places


def _drawn_anew(name: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """A ground as it was never drawn before: its own random parts, 15 % lighter or darker, tinted by up to 6 %."""
    fresh = GROUNDS[name](rng, SIZE, SIZE) * rng.uniform(0.85, 1.15) + rng.uniform(-0.06, 0.06, 3)
    return np.asarray(np.clip(fresh, 0, 1), dtype=np.float32)


def content_hash(scene: Scene) -> str:
    """SHA-256 of the pixels: equal for scenes that look the same."""
    return hashlib.sha256(scene.image.tobytes()).hexdigest()


def relation(first: tuple[float, float], second: tuple[float, float]) -> str:
    """How a place (y, x) lies to another, along the axis in which they differ more: one of :data:`RELATIONS`."""
    down, right = first[0] - second[0], first[1] - second[1]
    if abs(right) >= abs(down):
        return RELATIONS[0] if right < 0 else RELATIONS[1]
    return RELATIONS[2] if down < 0 else RELATIONS[3]


def _ground(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], list[str]]:
    """Canvas, labels (100 + background index until the objects are known) and background words, lower one first."""
    names = [str(name) for name in rng.choice(BACKGROUNDS, 2, replace=False)]
    canvas = _texture(names[0], size).copy()
    labels = np.full((size, size), 100, dtype=np.uint8)
    if rng.random() < 0.5:
        return canvas, labels, names[:1]
    level = int(rng.choice([3, 4, 5])) * size // 8
    canvas[:level] = _texture(names[1], size)[:level]
    labels[:level] = 101
    return canvas, labels, names


@cache
def _texture(name: str, size: int) -> NDArray[np.float32]:
    """A ground, the same one each time: what is to be learnt about it is its word."""
    return GROUNDS[name](np.random.default_rng(BACKGROUNDS.index(name)), size, size)


def _places(rng: np.random.Generator, size: int, count: int) -> list[tuple[int, int, int]]:
    """Centres (y, x) and half-widths of objects in pixels, the largest first; fewer than ``count`` if they do not fit.

    One object stands in the middle, two side by side or one above the other, three in a triangle, four in the quarters;
    beside a large one in the middle stand one or two small ones, in front of it.
    """
    middle = size // 2
    if size < SIZE:
        return [(middle, middle, SIZES[str(rng.choice(["small", ""]))] // 2)]
    near, far = size // 4, 3 * size // 4
    if count < 4 and rng.random() < (0.3, 0.3, 0.4)[count - 1]:
        half = SIZES["small"] // 2
        sides = _turned(rng, [(middle, half), (middle, size - half)])
        return [(middle, middle, SIZES["large"] // 2), *((y, x, half) for y, x in sides[: count - 1])]
    triangles = ([(near, near), (near, far), (far, middle)], [(near, middle), (far, near), (far, far)])
    layouts = {
        1: [(middle, middle)],
        2: _turned(rng, [(middle, near), (middle, far)]),
        3: triangles[int(rng.random() >= 0.5)],
        4: [(y, x) for y in (near, far) for x in (near, far)],
    }
    places = layouts[count]
    small = sorted(rng.random() < (0.5, 0.5, 0.6, 0.7)[count - 1] for _ in places)
    order = rng.permutation(len(places))
    return [(*places[at], SIZES["small" if less else ""] // 2) for at, less in zip(order, small, strict=True)]


def _turned(rng: np.random.Generator, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places (y, x) in any order, and the axes exchanged or not."""
    turned = places if rng.random() < 0.5 else [(x, y) for y, x in places]
    return [turned[index] for index in rng.permutation(len(turned))]


def _stamp(
    canvas: NDArray[np.float32],
    labels: NDArray[np.uint8],
    name: str,
    colour: str,
    place: tuple[int, int, int],
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
    for inside, tint in PICTOGRAMS[name](u, v):
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


def draw(seed: int, size: int = SIZE, most: int = 4) -> Scene:
    """Former name of :func:`render`, for one version."""
    warn("scenes.draw is called scenes.render now; the old name will go with the next version.")
    return render(seed, size, most)
