"""Scores of segmentations of drawn scenes, with bootstrap intervals, and what a segmentation can be compared with.

IoU is computed per word, with intersection and union summed over all scenes, and then averaged over words. A word that
is asked for but not in the scene (a distractor) adds what it takes to its union.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.numerics import resampling
from workbench.numerics.measures import Reference, iou_of_labels
from workbench.tiny.scenes import BACKGROUNDS, NOUNS, OBJECTS, Scene

Labels = NDArray[np.int64]
Tally = NDArray[np.int64]
"""(2, noun): pixels in the intersection and in the union of truth and segmentation, for one scene."""


@dataclass(frozen=True)
class Figure:
    """Scores of one way to segment the scenes.

    Attributes
    ----------
    words
        Mean IoU over all words.
    objects, backgrounds
        Mean IoU over these words alone.
    per_word
        IoU of each word.
    interval
        2.5 % and 97.5 % points of ``words`` over bootstrap draws of the scenes, as sweeps have them: a word that a draw
        lacks keeps its IoU over all scenes.
    """

    words: float
    objects: float
    backgrounds: float
    per_word: dict[str, float]
    interval: tuple[float, float]

    def short(self) -> dict[str, float | list[float]]:
        """The figure without its words, as plain values."""
        return {
            "words": self.words,
            "objects": self.objects,
            "backgrounds": self.backgrounds,
            "interval": list(self.interval),
        }


def tally(scene: Scene, words: Sequence[str], labels: Labels) -> Tally:
    """Intersections and unions of one segmentation, (pixel_y, pixel_x) with indices into ``words``.

    The scene's own words come first in ``words``; what follows is not in the scene.
    """
    counts = np.zeros((2, len(NOUNS)), dtype=np.int64)
    both, either = iou_of_labels(labels[None], Reference.of_labels(scene.labels, len(words)))
    counts[:, [NOUNS.index(word) for word in words]] = both[0], either[0]
    return counts


def figure(tallies: Iterable[Tally], draws: int = 1000, seed: int = 0) -> Figure:
    """Scores over scenes; ``draws`` bootstrap samples of the scenes give the interval."""
    counts = np.stack(list(tallies))
    sums = counts.sum(0)
    known = sums[1] > 0

    def mean(ratio: NDArray[np.float64], words: Iterable[str]) -> NDArray[np.float64]:
        chosen = np.isin(NOUNS, list(words)) & known
        return resampling.mean_over_concepts(ratio[..., chosen])

    ratio = resampling.ratio(*sums)
    weights = resampling.draws(len(counts), draws, seed)
    drawn = resampling.ratio(*resampling.resampled(weights, counts.astype(np.float64)).swapaxes(0, 1))
    low, high = resampling.interval(resampling.mean_of_draws(drawn, ratio), 0.95)
    per_word = {word: float(value) for word, value, there in zip(NOUNS, ratio, known, strict=True) if there}
    words, objects, backgrounds = (float(mean(ratio, some)) for some in (NOUNS, OBJECTS, BACKGROUNDS))
    return Figure(words, objects, backgrounds, per_word, (float(low), float(high)))


def to_pixels(labels: Labels, shape: tuple[int, ...]) -> Labels:
    """Patch labels (y, x) to pixels by nearest neighbour."""
    return labels.repeat(shape[0] // labels.shape[0], 0).repeat(shape[1] // labels.shape[1], 1)


def oracle(scene: Scene, patch: int = 8) -> Labels:
    """The best a segmentation by patches can do: each patch takes its most frequent word."""
    height, width = (side // patch for side in scene.labels.shape)
    blocks = scene.labels.reshape(height, patch, width, patch).transpose(0, 2, 1, 3).reshape(height, width, -1)
    counts = np.stack([(blocks == index).sum(-1) for index in range(len(scene.words))])
    return to_pixels(counts.argmax(0), scene.labels.shape)


def majority(scene: Scene) -> Labels:
    """Every pixel takes the scene's most frequent word."""
    return np.full(scene.labels.shape, np.bincount(scene.labels.ravel()).argmax())


def chance(scene: Scene, rng: np.random.Generator, words: int, patch: int = 8) -> Labels:
    """Every patch takes one of ``words`` words at random."""
    height, width = (side // patch for side in scene.labels.shape)
    return to_pixels(rng.integers(0, words, (height, width)), scene.labels.shape)
