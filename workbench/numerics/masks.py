"""How well masks agree with the truth, pixel by pixel: plain arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.schema import InputError

Masks: TypeAlias = Mapping[str, NDArray[np.bool_]]
"""Masks of one scene by word, each (pixel_y, pixel_x) bool."""


def overlap(predicted: ArrayLike, truth: ArrayLike, plane: int = 2) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Intersection and union of masks, in pixels.

    Parameters
    ----------
    predicted, truth
        (..., pixel_y, pixel_x) bool, of one shape.
    plane
        How many dimensions at the end are of the picture: one more for a video.

    Returns
    -------
    Two arrays of the leading dimensions.

    Raises
    ------
    InputError
        If the arrays are not boolean or differ in shape.
    """
    left, right = _alike(predicted, truth)
    axes = tuple(range(-plane, 0))
    return (left & right).sum(axes, dtype=np.int64), (left | right).sum(axes, dtype=np.int64)


def iou(scenes: Iterable[tuple[Masks, Masks]]) -> dict[str, float]:
    """Intersection over union of each word, with both summed over all scenes first.

    Parameters
    ----------
    scenes
        Pairs of predicted and true masks. A word that one side of a scene lacks is nowhere on that side.

    Returns
    -------
    Word -> figure in 0 .. 1, in the order of first appearance; NaN for a word that is nowhere at all.

    Raises
    ------
    InputError
        If a pair of masks is not boolean or differs in shape.
    """
    sums: dict[str, tuple[int, int]] = {}
    for predicted, truth in scenes:
        for word in dict.fromkeys((*truth, *predicted)):
            one = predicted[word] if word in predicted else np.zeros_like(truth[word])
            other = truth[word] if word in truth else np.zeros_like(predicted[word])
            both, either = overlap(one, other)
            before = sums.get(word, (0, 0))
            sums[word] = (before[0] + int(both), before[1] + int(either))
    return {word: both / either if either else float("nan") for word, (both, either) in sums.items()}


def pixel_accuracy(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Share of the labelled pixels that are given a right word.

    Parameters
    ----------
    predicted, truth
        (word, pixel_y, pixel_x) bool, of one shape. A pixel is labelled if any word is true there, and right if
        some word is both predicted and true.

    Returns
    -------
    A figure in 0 .. 1; NaN when no pixel is labelled.

    Raises
    ------
    InputError
        If the arrays are not boolean or differ in shape.
    """
    left, right = _alike(predicted, truth)
    labelled = int(right.any(-3).sum())
    return int((left & right).any(-3).sum()) / labelled if labelled else float("nan")


def _alike(predicted: ArrayLike, truth: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    left, right = np.asarray(predicted), np.asarray(truth)
    if left.dtype != bool or right.dtype != bool or left.shape != right.shape:
        raise InputError(
            f"got masks {left.dtype} {left.shape} and {right.dtype} {right.shape}; expected two boolean arrays of one "
            "shape, with the pixels in the last two axes."
        )
    return left, right
