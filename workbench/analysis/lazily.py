"""Variables along other dimensions, or summed over one, that are read when they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from workbench import schema


def arranged(variable: xr.Variable, dims: Sequence[str], *, summed: str | None = None) -> xr.Variable:
    """A variable along some dimensions, without reading it.

    Parameters
    ----------
    variable
        In memory, in chunks of dask, or on disk.
    dims
        All its dimensions but ``summed``, in any order, and new ones, which get length one.
    summed
        A dimension to sum over, in float32, one timestep in memory at a time. NaN stays NaN.

    Returns
    -------
    A variable that reads what is asked of it, when it is asked; dask's stay dask's.
    """
    if variable.chunks is not None:
        if summed is not None:
            variable = variable.sum(summed, dtype=np.float32, skipna=False).drop_encoding()
        chunked: xr.Variable = variable.set_dims(list(dims)).transpose(*dims)
        return chunked
    view = indexing.LazilyIndexedArray(_View(variable, tuple(dims), summed))
    return xr.Variable(dims, view, variable.attrs, variable.encoding if summed is None else None)


class _View(BackendArray):
    """Another arrangement of a variable, as an array that xarray reads in parts."""

    def __init__(self, variable: xr.Variable, dims: tuple[str, ...], summed: str | None) -> None:
        self._variable, self._dims, self._summed = variable, dims, summed
        self.shape = tuple(variable.sizes.get(dim, 1) for dim in dims)
        self.dtype = np.dtype(variable.dtype if summed is None else np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        chosen = dict(zip(self._dims, key, strict=True))
        taken = self._variable.isel({dim: at for dim, at in chosen.items() if dim in self._variable.dims})
        if self._summed is not None:
            taken = _sum(taken, self._summed)
        kept = [dim for dim, at in chosen.items() if not isinstance(at, int | np.integer)]
        wide: xr.Variable = xr.Variable(taken.dims, taken.to_numpy()).set_dims(kept)
        return np.asarray(wide.isel({dim: chosen[dim] for dim in kept if dim not in taken.dims}))


def _sum(variable: xr.Variable, dim: str) -> xr.Variable:
    dims = tuple(other for other in variable.dims if other != dim)
    if schema.TIMESTEP not in dims:
        return variable.sum(dim, dtype=np.float32, skipna=False)
    sums = np.empty([variable.sizes[other] for other in dims], np.float32)
    whole = xr.Variable(dims, sums)
    for step in range(variable.sizes[schema.TIMESTEP]):
        at = {schema.TIMESTEP: step}
        whole[at] = variable.isel(at).sum(dim, dtype=np.float32, skipna=False)
    return whole
