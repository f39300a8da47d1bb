"""Per-head scores on disk: float16, and beside it what the rounding took away, in whole steps of one byte.

Where scores are large, float16 loses what a softmax over concepts is made of: at 128 it counts in eighths. A residual
counts in steps of 1/1024 below 512, and of 1/256 of the spacing of float16 from there on; half a step is lost, and of
ties one. Small scores leave residuals of a few bits, or none, which compress to that. Single heads, sums over heads,
and softmaxes over all concepts or some of them are all as good as that. Scores rounded beside their mean over concepts
are worse at each, and take more room (``python -m tests.benchmarks.rounding``). Plain xarray reads the float16 alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from workbench.schema import SPACES, residual

FINEST: Final = 2.0**-10
"""The step of scores whose float16 lies below 512."""
DTYPE: Final = "int8"
_MANTISSA: Final = 23
_BIAS: Final = 127
_BELOW: Final = 18
"""Binary places from the first digit of a float16 (11 of them) down to a step: 8 below its last."""
_FLOOR: Final = _BIAS - 10
"""The exponent of :data:`FINEST`, as float32 has it."""


def split(scores: Any, xp: Any) -> tuple[Any, Any]:
    """Round scores to float16 and keep the rest.

    Parameters
    ----------
    scores : array or Tensor, float32
        Where one does not fit into float16, what comes back of it means nothing.
    xp : module
        The library it is of, NumPy or torch.

    Returns
    -------
    rounded : float16
        To the nearest, ties to even.
    residual : int8
        What is to be added to it, in steps.
    """
    rounded = xp.asarray(scores, dtype=xp.float16)
    wide = xp.asarray(rounded, dtype=xp.float32)
    # Powers of two: neither the difference nor the product is rounded.
    per_step = ((2 * _BIAS - _exponents(wide, xp)) << _MANTISSA).view(xp.float32)
    counts = xp.round((scores - wide) * per_step)
    return rounded, xp.asarray(counts.clip(-128, 127), dtype=xp.int8)


def join(rounded: NDArray[Any], counts: NDArray[np.int8]) -> NDArray[np.float32]:
    """The scores that :func:`split` was given, to half a step, ties to one.

    Parameters
    ----------
    rounded : float16 or float32
        NaN stays NaN.
    counts : int8
        The residual, of the same shape.
    """
    wide = np.array(rounded, dtype=np.float32, order="C")  # ascontiguousarray would make a number an array
    steps: NDArray[np.float32] = (_exponents(wide, np) << _MANTISSA).view(np.float32)
    return np.asarray(wide + counts * steps, dtype=np.float32)


def _exponents(wide: Any, xp: Any) -> Any:
    """Exponents of the steps that belong to rounded scores, as float32 has them."""
    return (((wide.view(xp.int32) >> _MANTISSA) & 255) - _BELOW).clip(_FLOOR, None)


def joined(ds: xr.Dataset) -> xr.Dataset:
    """A stored dataset with its scores in place of what they are kept as; nothing is read, and dask's stay dask's.

    Parameters
    ----------
    ds
        A run as it is stored, or a selection from one. One without residuals, of an earlier capture version, is
        returned as it is.

    Raises
    ------
    ValueError
        If a residual does not belong to its scores, or either was computed with.
    """
    names = kept_with_residuals(ds.data_vars)
    scores = {name: _joined(ds.variables[name], ds.variables[residual(name)]) for name in names}
    return ds.assign(scores).drop_vars([residual(name) for name in names]) if names else ds


def kept_with_residuals(names: Iterable[Any]) -> list[str]:
    """The spaces among the names of variables that have a residual."""
    there = set(names)
    return [space for space in SPACES if {space, residual(space)} <= there]


def _joined(rounded: xr.Variable, counts: xr.Variable) -> xr.Variable:
    if rounded.sizes != counts.sizes or counts.dtype != np.int8 or rounded.dtype not in (np.float16, np.float32):
        raise ValueError(
            f"a residual is {counts.dtype} {dict(counts.sizes)}, of {rounded.dtype} scores {dict(rounded.sizes)}"
        )
    counts = counts.transpose(*rounded.dims)
    if rounded.chunks or counts.chunks:
        data = xr.apply_ufunc(
            join, rounded.chunk(), counts.chunk(), dask="parallelized", output_dtypes=[np.float32], keep_attrs=False
        )
        return xr.Variable(rounded.dims, data.data, rounded.attrs, rounded.encoding)
    lazy: Any = indexing.LazilyIndexedArray(_Scores(rounded, counts))
    as_opened = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(lazy))  # as xarray wraps what it reads from files
    return xr.Variable(rounded.dims, as_opened, rounded.attrs, rounded.encoding)


class _Scores(BackendArray):
    """Scores that are put together when they are read, as an array that xarray reads in parts."""

    def __init__(self, rounded: xr.Variable, counts: xr.Variable) -> None:
        self._rounded, self._counts = rounded, counts
        self.shape = rounded.shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        at = dict(zip(self._rounded.dims, key, strict=True))
        return join(self._rounded.isel(at).to_numpy(), self._counts.isel(at).to_numpy())
