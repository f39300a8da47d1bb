"""The writer of a run that is kept in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr

from workbench.schema import PIECE_DIMS, residual
from workbench.store.locations import plain
from workbench.store.pieces import Array, Part, Piece, Variable, Writer, string_type
from workbench.store.residuals import join, kept_with_residuals


class _MemoryWriter(Writer):
    def __init__(self, template: xr.Dataset, variables: Mapping[str, Variable]) -> None:
        super().__init__(template, variables)
        self._lock = threading.Lock()
        self._joined = kept_with_residuals(variables)
        residuals = set(map(residual, self._joined))
        types = {name: np.dtype(var.dtype) for name, var in variables.items() if name not in residuals}
        types |= dict.fromkeys(self._joined, np.dtype(np.float32))
        self._arrays = {
            name: np.full(self._shape(self._variables[name]), _nothing(dtype), dtype) for name, dtype in types.items()
        }

    def _write_piece(self, piece: Piece, arrays: Mapping[str, Array]) -> None:
        scores = {name: join(arrays[name], arrays[residual(name)]) for name in self._joined}
        arrays = {name: scores.get(name, array) for name, array in arrays.items() if name in self._arrays}
        with self._lock:  # a piece that another thread writes meanwhile must not be lost to a promotion
            for name, array in arrays.items():
                if array.dtype.itemsize > self._arrays[name].dtype.itemsize:
                    self._arrays[name] = self._arrays[name].astype(array.dtype)
                self._arrays[name][piece] = array

    def _write_part(self, part: Part, array: Array) -> None:
        self._arrays[part.name][... if part.sample is None else part.sample] = array

    def _read(self, name: str, at: list[list[int]]) -> Array:
        return self._arrays[name][np.ix_(*at)]

    def _commit(self, pieces: list[Piece], parts: list[Part]) -> None:
        pass

    def _erase(self, piece: Piece) -> None:
        for name, array in self._arrays.items():
            if self._variables[name].in_pieces:
                array[piece] = _nothing(array.dtype)

    def finish(self) -> None:
        """Make sure that everything is there, each variable in the type that its values need."""
        wide = self._settle()
        for name, variable in self._variables.items():
            if name in self._arrays and name not in (*wide, *self._joined):
                self._arrays[name] = self._arrays[name].astype(variable.dtype, copy=False)

    def _variable(self, name: str, array: Array) -> xr.Variable:
        """With its pieces as chunks, as one from disk has them."""
        dims, lead = self._variables[name].dims, len(PIECE_DIMS) if self._variables[name].in_pieces else 0
        chunks = {dim: 1 if at < lead else size for at, (dim, size) in enumerate(zip(dims, array.shape, strict=True))}
        return xr.Variable(dims, array, encoding={"preferred_chunks": chunks})

    def dataset(self) -> xr.Dataset:
        variables = {name: self._variable(name, array) for name, array in self._arrays.items()}
        return string_type(self._template, str).assign(variables).assign_attrs(plain(self.attrs))


def _nothing(dtype: np.dtype[Any]) -> float:
    """What stands where nothing was written."""
    return np.nan if dtype.kind == "f" else 0


@contextmanager
def in_memory(template: xr.Dataset, variables: Mapping[str, tuple[tuple[str, ...], str]]) -> Iterator[Writer]:
    """Write a run into memory; the counterpart of :func:`workbench.store.writer` for ``store=False``.

    Parameters
    ----------
    template
        Coordinates, attributes, and the variables whose values are known before the run.
    variables
        The variables still to be written: name -> (dimensions, dtype).

    Yields
    ------
    Writer
        Its ``dataset()`` is the run, after the block.

    Raises
    ------
    StoreError
        At the end of the block, when pieces are missing.
    """
    run = _MemoryWriter(template, {name: Variable(*declared) for name, declared in variables.items()})
    yield run
    run.finish()
