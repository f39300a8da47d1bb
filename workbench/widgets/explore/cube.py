"""The head-reduced scores of a space, packed for the browser, which then selects and reduces by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.widgets.shared.spaces import dim_of

LARGEST: Final = 64_000_000
"""In bytes: a larger cube stays with the kernel, which then computes every map."""
LEVELS: Final = 65535
"""Scores are sent as whole numbers from 0 to this."""
COARSEST: Final = 2.0**-7
"""The largest step of these: two scores that are off by half of it each move a softmax by no more than 0.002."""


class Part(NamedTuple):
    """One timestep of a cube.

    A score is ``low + step * levels``. ``step`` is NaN for pieces whose scores are not finite: missing ones, and
    damaged ones.
    """

    levels: NDArray[np.uint16] | NDArray[np.float32]
    """(sample, layer, concept, frame, y, x); the scores themselves where steps would be coarser than COARSEST."""
    low: NDArray[np.float32]
    """(sample, layer, concept)"""
    step: NDArray[np.float32]
    """(sample, layer, concept)"""


def size(ds: xr.Dataset, space: str) -> int:
    """Bytes of a space's packed cube; twice as many where its scores span so much that they are sent as they are."""
    return int(ds[schema.total(space)].size) * 2


def pack(ds: xr.Dataset, space: str) -> Iterator[Part]:
    """The cube of a space, one timestep after the other.

    Sixteen bits between the least and the greatest score of each (sample, timestep, layer, concept) are closer to the
    stored scores than float16 is, and take as little. Where these lie more than 512 apart, a timestep is float32.

    Parameters
    ----------
    ds
        A captured dataset.
    space
        One of its spaces.
    """
    scores = ds[schema.total(space)]
    if schema.FRAME not in scores.dims:
        scores = scores.expand_dims(schema.FRAME)
    scores = scores.transpose(
        schema.TIMESTEP, schema.SAMPLE, schema.LAYER, dim_of(space), schema.FRAME, schema.Y, schema.X
    )
    for timestep in range(scores.sizes[schema.TIMESTEP]):
        # The browser reads 32 bits, whatever a dataset that was computed with holds.
        yield _packed(scores.isel({schema.TIMESTEP: timestep}).to_numpy().astype(np.float32))


def unpack(part: Part) -> NDArray[np.float32]:
    """The scores of a part, as the browser computes them."""
    spread = (..., None, None, None)
    return part.low[spread] + part.step[spread] * part.levels.astype(np.float32)


def _packed(values: NDArray[np.float32]) -> Part:
    within = (3, 4, 5)
    finite = np.asarray(np.isfinite(values).all(within))
    known = np.where(finite[..., None, None, None], values, np.float32(0))
    low = known.min(within)
    step = (known.max(within) - low) / np.float32(LEVELS)
    if step.max(initial=0) > COARSEST:
        marked = np.where(finite, np.float32(1), np.float32(np.nan))
        return Part(np.ascontiguousarray(known, np.float32), np.zeros_like(low), marked)
    spread = (..., None, None, None)
    levels = np.rint((known - low[spread]) / np.where(step > 0, step, np.float32(1))[spread])
    return Part(
        np.minimum(levels, LEVELS).astype(np.uint16), low, np.where(finite, step, np.float32(np.nan)).astype(np.float32)
    )
