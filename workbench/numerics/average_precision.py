"""Average precision of maps whose cells hold many pixels, plain and as it was published: plain arrays.

A map that is brought to pixels by nearest neighbour has as many values as cells, so the precision-recall curve over
pixels is one over cells, each with its numbers of right and of all pixels.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workbench.numerics.measures import Reference
from workbench.numerics.measures import average_precision as of_maps

Scaling = Literal["minmax", "none"]


def average_precision(values: NDArray[Any], inside: NDArray[Any], area: NDArray[Any]) -> float:
    """Average precision over pixels, as scikit-learn defines it.

    Parameters
    ----------
    values
        (cell): higher means more likely true.
    inside, area
        (cell): pixels that are true, and all pixels but for void ones.

    Returns
    -------
    A figure in 0 .. 1; NaN when nothing is true or a value is not finite.
    """
    level = np.asarray(values, dtype=np.float64).reshape(1, 1, 1, -1)
    here = np.asarray(inside, dtype=np.float64).reshape(1, 1, -1)
    pixels = np.asarray(area, dtype=np.float64).reshape(1, -1)
    if not np.isfinite(level).all() or not here.any():
        return float("nan")
    above, below = of_maps(level, Reference(here, pixels, float(here.sum())))  # type: ignore[arg-type]
    return float(above[0, 0] / below[0, 0])


def stacked_average_precision(
    values: NDArray[Any], inside: NDArray[Any], area: NDArray[Any], scaling: Scaling = "minmax"
) -> float:
    """Average precision of the pair (1 - map, map) against the pair (background, foreground), as it was published.

    Parameters
    ----------
    values, inside, area
        As in :func:`average_precision`.
    scaling
        ``"minmax"``: the map is brought to 0 .. 1 first, over all cells, as for ImageNet-Segmentation. ``"none"``: it
        is taken as it is, as for PascalVOC, where the map's scale then decides.

    Returns
    -------
    A figure in 0 .. 1. NaN where it is not defined: a map that is the same everywhere, scaled, is 0 / 0. The public
    code counts that as 0.
    """
    level = np.asarray(values, dtype=np.float64).ravel()
    here, pixels = (np.asarray(part, dtype=np.float64).ravel() for part in (inside, area))
    if scaling == "minmax":
        span = np.ptp(level)
        if not span > 0:
            return float("nan")
        level = (level - level.min()) / span
    pair = np.concatenate([1 - level, level])
    return average_precision(pair, np.concatenate([pixels - here, here]), np.concatenate([pixels, pixels]))
