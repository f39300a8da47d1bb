"""Ranks, and how alike two rankings are: plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def correlation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's rank correlation between the rows of an array.

    Parameters
    ----------
    values
        (row, unit); units of which either row is NaN are left out.

    Returns
    -------
    (row, row); NaN where a row is the same everywhere, or fewer than two units are left.
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    rows = len(values)
    found = np.ones((rows, rows))
    for one, other in zip(*np.triu_indices(rows, 1), strict=True):
        known = ~np.isnan(values[[one, other]]).any(0)
        shared = np.stack([rankdata(values[row, known]) for row in (one, other)])
        varied = known.sum() > 1 and (np.ptp(shared, axis=1) > 0).all()
        found[one, other] = found[other, one] = np.asarray(np.corrcoef(shared))[0, 1] if varied else np.nan
    return found


def ranks(merits: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the highest; equals share the better rank; NaN has none."""
    from scipy.stats import rankdata

    found, known = np.full(merits.shape, np.nan), ~np.isnan(merits)
    found[known] = rankdata(-merits[known], "min")
    return found
