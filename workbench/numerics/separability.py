"""How far apart labelled patches lie in the space of scores: plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unit_scores(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Scores (..., concept, y, x) as a softmax over concepts sees them, in units of their standard deviation.

    Each patch is measured from its mean over concepts and each concept from its mean over patches; what is the same
    everywhere stays 0. So neither a factor nor an offset of a patch or of a concept changes anything.
    """
    wide: NDArray[np.float64] = np.asarray(scores, dtype=np.float64)
    wide = wide - wide.mean(-3, keepdims=True)
    wide -= wide.mean((-2, -1), keepdims=True)
    spread = np.sqrt((wide**2).mean((-3, -2, -1), keepdims=True))
    largest = np.abs(np.asarray(scores, dtype=np.float64)).max((-3, -2, -1), keepdims=True)
    varied = spread > np.finfo(np.float32).eps * largest
    return np.asarray(np.where(varied, wide / np.where(varied, spread, 1), 0))


def label_separability(points: NDArray[np.float64], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Share of the variance of points that lies between labels (eta squared), 0 to 1.

    Parameters
    ----------
    points
        (unit, concept, y, x): a patch is a point with one coordinate per concept.
    labels
        (y, x) whole numbers that do not come from these points.

    Returns
    -------
    (unit); 0 where nothing varies.
    """
    return np.asarray(_explained(points, np.asarray(labels).reshape(1, -1))[0])


def shuffled_separability(
    points: NDArray[np.float64], labels: NDArray[Any], shuffles: int, seed: int
) -> NDArray[np.float64]:
    """:func:`label_separability` of labels put onto patches at random, (shuffle, unit)."""
    rng = np.random.default_rng(seed)
    flat = np.asarray(labels).reshape(-1)
    return _explained(points, np.stack([rng.permutation(flat) for _ in range(shuffles)]))


def _explained(points: NDArray[np.float64], labels: NDArray[Any]) -> NDArray[np.float64]:
    """(labelling, unit): the variance between labels by all of it, for several labellings (labelling, patch)."""
    wide = points.reshape(*points.shape[:2], -1)
    flat = wide - wide.mean(-1, keepdims=True)
    # What is left of one value after its mean is rounding, and varies with nothing.
    flat[np.ptp(wide, axis=-1) == 0] = 0
    names = np.unique(labels)
    members = (labels[:, None, :] == names[:, None]).astype(np.float64)
    sums = flat.reshape(-1, flat.shape[-1]) @ members.reshape(-1, flat.shape[-1]).T
    sums = sums.reshape(*flat.shape[:2], len(labels), len(names))
    between = (sums**2 / members.sum(-1)).sum((1, 3)).T
    overall = (flat**2).sum((1, 2))
    return np.where(overall > 0, between / np.where(overall > 0, overall, 1), 0)


def clusters(features: NDArray[Any], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Patches grouped by features, by k-means.

    Parameters
    ----------
    features
        (y, x, feature), such as mean colours or attention outputs of the patches.
    count
        How many groups, at most.
    seed
        Of k-means.

    Returns
    -------
    (y, x) whole numbers.
    """
    from sklearn.cluster import KMeans  # type: ignore[import-untyped]

    flat = np.asarray(features, dtype=np.float64).reshape(-1, features.shape[-1])
    count = min(count, len(np.unique(flat, axis=0)))
    found = KMeans(count, n_init=5, random_state=seed).fit_predict(flat)
    return np.asarray(found.reshape(features.shape[:-1]), dtype=np.int64)


def patch_colours(image: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Mean colour of each patch, (y, x, 3) from 0 to 1.

    Parameters
    ----------
    image
        (pixel_y, pixel_x, 3) sRGB.
    grid
        Patches down and across; they divide the image.
    """
    height, width = grid
    blocks = image.reshape(height, image.shape[0] // height, width, image.shape[1] // width, 3)
    return np.asarray(blocks.mean((1, 3), dtype=np.float64) / 255)
