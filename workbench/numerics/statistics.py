"""One figure for a set of maps: how far they agree, how decided they are, how well they match the truth.

Every function takes maps as an array (..., concept, y, x) and returns one figure for each of the leading dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def agreement(maps: NDArray[np.float32], labels: NDArray[np.int16]) -> NDArray[np.float64]:
    """Share of patches whose strongest concept is the one in ``labels`` (y, x)."""
    return np.asarray((maps.argmax(-3) == labels).mean((-2, -1)))


def entropy(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean entropy over the concepts at a patch, of maps that sum to one: 0 is decided, 1 is a draw of all concepts."""
    shares = np.clip(maps.astype(np.float64), 1e-30, 1.0)
    return np.asarray(-(shares * np.log(shares)).sum(-3).mean((-2, -1)) / np.log(maps.shape[-3]))


def separability(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of the maps' variance that lies between the areas of their own segmentation, 0 to 1.

    Patches are points with one coordinate per concept, grouped by their strongest concept; the figure is the variance
    of the groups' centres over the variance of all points (eta squared). 0 for maps without any variance.
    """
    values = maps.astype(np.float64).reshape(*maps.shape[:-2], -1)
    groups = values.argmax(-2)[..., None, :] == np.arange(values.shape[-2])[:, None]
    sizes = groups.sum(-1)
    centred = values - values.mean(-1, keepdims=True)
    sums = centred @ groups.swapaxes(-1, -2)
    between = (sums**2 / np.maximum(sizes, 1)[..., None, :]).sum((-2, -1))
    total = (centred**2).sum((-2, -1))
    return np.asarray(np.where(total > 0, between / np.where(total > 0, total, 1), 0.0))


def iou(maps: NDArray[np.float32], truth: NDArray[np.int64], area: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over the concepts of intersection over union, in pixels.

    Parameters
    ----------
    maps
        (..., concept, y, x); the strongest concept of a patch is predicted for all its pixels.
    truth
        (concept, y, x): how many pixels of a patch are truly the concept.
    area
        (y, x): how many pixels a patch has.
    """
    predicted = maps.argmax(-3)[..., None, :, :] == np.arange(maps.shape[-3])[:, None, None]
    both = (predicted * truth).sum((-2, -1))
    either = (predicted * area).sum((-2, -1)) + truth.sum((-2, -1)) - both
    ratio = np.where(either > 0, both / np.maximum(either, 1), np.nan)
    known = ~np.isnan(ratio)
    return np.asarray(np.where(known, ratio, 0).sum(-1) / np.maximum(known.sum(-1), 1))


def average_precision(
    maps: NDArray[np.float32], truth: NDArray[np.int64], area: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean over the concepts of the area under the precision-recall curve of their maps, in pixels.

    Takes what :func:`iou` takes. Concepts that are nowhere in the truth are left out; NaN if all are.
    """
    flat = maps.reshape(-1, *maps.shape[-3:])
    held = [index for index in range(flat.shape[1]) if truth[index].any()]
    figures = np.full((len(flat), max(len(held), 1)), np.nan)
    for row, piece in zip(figures, flat, strict=True):
        row[: len(held)] = [_precision(piece[index].ravel(), truth[index].ravel(), area.ravel()) for index in held]
    return np.asarray(figures.mean(-1).reshape(maps.shape[:-3]))


def _precision(values: NDArray[np.float32], truth: NDArray[np.int64], area: NDArray[np.int64]) -> float:
    """Sum over the thresholds of the step in recall times the precision, as scikit-learn defines it."""
    order = np.argsort(-values, kind="stable")
    # Patches of one value fall together: only the last of each run is a threshold.
    last = np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)
    right = np.cumsum(truth[order])[last]
    taken = np.cumsum(area[order])[last]
    return float(np.sum(np.diff(right, prepend=0) / right[-1] * right / np.maximum(taken, 1)))
