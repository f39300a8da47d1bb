"""Intervals of fractions and means, by percentile bootstrap or Student's t: plain arrays, no labels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEAST: Final = 5
"""Of fewer observations no interval is given: it would be far too narrow."""
FEW: Final = 10
"""Intervals of fewer observations are exploratory."""


def draws(observations: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each observation is drawn: (draw, observation), each row one sample with replacement.

    The same numbers always give the same rows, so that two sweeps of the same pictures are resampled alike and the
    difference of their draws is a paired one.
    """
    rng = np.random.default_rng(seed)
    chances = np.full(observations, 1 / observations)
    return rng.multinomial(observations, chances, size=resamples).astype(np.float64)


def ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """Quotient; NaN where there is nothing to divide by."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0))


def resampled(weights: NDArray[Any], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over observations, the first axis, for every row of weights."""
    sums = weights @ values.reshape(len(values), -1)
    return np.asarray(sums.reshape(len(weights), *values.shape[1:]))


def mean_over_concepts(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis of what is not NaN; NaN of nothing."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(-1), known.sum(-1).astype(np.float64))


def mean_of_draws(drawn: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over concepts, the last axis, of draws (draw, ..., concept): always over the same concepts.

    A concept that a draw lacks, NaN there, keeps its value (..., concept) over all observations; one that has none
    either is left out.
    """
    return mean_over_concepts(np.where(np.isnan(drawn), value, drawn))


def interval(drawn: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    """Lower and upper end (bound, ...) of the central part of draws (draw, ...); draws without a value are left out."""
    tail = (1 - confidence) / 2
    known = ~np.isnan(drawn)
    nothing = ~known.any(0)
    # A quantile of nothing would warn, and warnings are silenced for all threads or for none.
    filled = np.where(nothing, 0.0, drawn)
    ends = (np.quantile if known.all() else np.nanquantile)(filled, [tail, 1 - tail], axis=0)
    return np.where(nothing, np.nan, ends)


def t_interval(values: NDArray[np.float64], confidence: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of values (observation, ...) and the ends (bound, ...) of its t interval; NaN values are left out."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    known = ~np.isnan(values)
    count = known.sum(0).astype(np.float64)
    mean = ratio(np.where(known, values, 0).sum(0), count)
    squares = np.where(known, (values - mean) ** 2, 0).sum(0)
    error = np.sqrt(ratio(ratio(squares, count - 1), count))
    reach = stdtrit(np.maximum(count - 1, 1), (1 + confidence) / 2) * error
    return mean, np.stack([mean - reach, mean + reach])


def described(observations: int, confidence: float) -> str:
    """The intervals over so many observations in words, for a caption."""
    if observations < LEAST:
        return f"too few for intervals (under {LEAST})"
    return f"{100 * confidence:g} % intervals" + (f", exploratory (under {FEW})" if observations < FEW else "")
