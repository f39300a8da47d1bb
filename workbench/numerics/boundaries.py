"""How well the edges of a mask follow those of the truth: plain arrays.

The boundary F measure (Csurka et al. 2013; Perazzi et al. 2016): an edge pixel counts as found when the other mask has
one within a tolerance.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

TOLERANCE: Final = 0.0075
"""Of the diagonal: how far apart edges may lie, as for video segmentation (DAVIS, 0.008) and semantic segmentation."""


class Edges(NamedTuple):
    """Edge pixels of two masks, which add up over images.

    Attributes
    ----------
    precise, predicted
        Edge pixels of the prediction, those near an edge of the truth and all.
    recalled, true
        Edge pixels of the truth, those near an edge of the prediction and all.
    """

    precise: int
    predicted: int
    recalled: int
    true: int


def edges(predicted: NDArray[Any], truth: NDArray[Any], void: NDArray[Any] | None = None) -> Edges:
    """Compare the edges of two masks.

    Parameters
    ----------
    predicted, truth
        (pixel_y, pixel_x) bool.
    void
        (pixel_y, pixel_x) bool: pixels whose edges are left out; a change from or to them is no edge.
    """
    from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped]

    known = None if void is None else ~np.asarray(void)
    found, real = (_edge(np.asarray(mask), known) for mask in (predicted, truth))
    reach = max(1.0, TOLERANCE * math.hypot(*truth.shape))

    def near(edge: NDArray[np.bool_], other: NDArray[np.bool_]) -> int:
        return int((distance_transform_edt(~other)[edge] <= reach).sum()) if other.any() and edge.any() else 0

    return Edges(near(found, real), int(found.sum()), near(real, found), int(real.sum()))


def boundary_f(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Harmonic mean of precision and recall of edges (..., 4); 1 where neither mask has one, 0 where only one has."""
    precise, predicted, recalled, true = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    precision = np.divide(precise, predicted, out=np.zeros_like(precise), where=predicted > 0)
    recall = np.divide(recalled, true, out=np.zeros_like(recalled), where=true > 0)
    total = precision + recall
    value = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return np.where((predicted == 0) & (true == 0), 1.0, value)


def _edge(mask: NDArray[Any], known: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour is on the other side."""
    edge = np.zeros(mask.shape, dtype=bool)
    for axis in (0, 1):
        one, other = (np.take(mask, range(*part), axis) for part in ((0, mask.shape[axis] - 1), (1, mask.shape[axis])))
        changes = one != other
        if known is not None:
            sides = [np.take(known, range(*part), axis) for part in ((0, mask.shape[axis] - 1), (1, mask.shape[axis]))]
            changes &= sides[0] & sides[1]
        (edge[:-1] if axis == 0 else edge[:, :-1])[...] |= changes
    return edge
