"""How well masks agree with the truth, pixel by pixel: plain arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.numerics.resampling import mean_over_concepts
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


def mean_iou(scenes: Iterable[tuple[Masks, Masks]]) -> float:
    """Mean over the words of :func:`iou`, leaving out words that are nowhere.

    With the two words "foreground" and "background" this is the mIoU of Helbling et al. 2025, as their public code
    computes it.

    Parameters
    ----------
    scenes
        Pairs of predicted and true masks.

    Returns
    -------
    A figure in 0 .. 1; NaN without any word.
    """
    return float(mean_over_concepts(np.array(list(iou(scenes).values()))))


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


def average_precision(truth: ArrayLike, values: ArrayLike, void: ArrayLike | None = None) -> float:
    """Area under the precision-recall curve of a map, as scikit-learn defines it.

    Parameters
    ----------
    truth
        Bool, any shape.
    values
        Floats of the same shape: higher means more likely true.
    void
        Bool, of the same shape: what is left out.

    Returns
    -------
    A figure in 0 .. 1; NaN when nothing is true.

    Raises
    ------
    InputError
        If ``truth`` or ``void`` is not boolean, the shapes differ, or a value is NaN.
    """
    from sklearn.metrics import average_precision_score  # type: ignore[import-untyped]

    target, level = _with_values(truth, values, void)
    return float(average_precision_score(target.ravel(), level.ravel())) if target.any() else float("nan")


def _alike(predicted: ArrayLike, truth: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    left, right = np.asarray(predicted), np.asarray(truth)
    if left.dtype != bool or right.dtype != bool or left.shape != right.shape:
        raise InputError(
            f"got masks {left.dtype} {left.shape} and {right.dtype} {right.shape}; expected two boolean arrays of one "
            "shape, with the pixels in the last two axes."
        )
    return left, right


def _with_values(
    truth: ArrayLike, values: ArrayLike, void: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Truth and values in one shape, without what is void."""
    target, level = np.asarray(truth), np.asarray(values, dtype=np.float64)
    if target.dtype != bool or target.shape != level.shape or not np.isfinite(level).all():
        raise InputError(
            f"truth is {target.dtype} {target.shape}, values are {level.shape}; expected bool and finite numbers "
            "of one shape."
        )
    if void is None:
        return target, level
    known = ~_alike(void, target)[0]
    return target[known], level[known]
