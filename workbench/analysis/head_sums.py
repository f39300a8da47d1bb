"""Whether ``<space>_total`` is the sum over the heads that a dataset holds, and such sums where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis.lazily import arranged
from workbench.schema import InputError, SelectionError

_ROUNDING: Final = 2.0**-10
"""Twice the largest relative error of a float16."""
_SMALLEST: Final = 2.0**-24
_CHUNKS: Final = "preferred_chunks"
_PATCH: Final = "patch"
_COMPARED: Final = 2**21
"""Per-head scores in memory up to which every patch is compared with the totals; 4 MiB in float16."""


def computed_spaces(ds: xr.Dataset) -> set[str]:
    """The spaces whose per-head scores were computed since they were captured, and their sums over heads were not.

    What comes from a run says how it is cut into chunks; what xarray computes from it does not, nor does what other
    files hold, and what is assigned to single elements still does. Scores in memory are therefore summed and compared:
    every patch of up to 2 million scores; of more of them the patches on diagonals, the same ones at every sample,
    timestep, layer, head and concept. No row, column or larger block then escapes, but a smaller spot that was changed
    can. Scores that are not in memory are not compared.

    Raises
    ------
    InputError
        If scores in memory no longer add up to their sums, so that nobody can tell which of them are meant.
    """
    found = set()
    for space in schema.SPACES:
        if not {space, schema.total(space)} <= set(ds.data_vars):
            continue
        heads, total = ds.variables[space], ds.variables[schema.total(space)]
        if schema.HEAD not in heads.dims:
            continue
        if _CHUNKS in total.encoding and _CHUNKS not in heads.encoding:
            found.add(space)
        elif _CHUNKS in heads.encoding and _CHUNKS not in total.encoding:
            continue  # the sums were computed, and are meant
        elif _in_memory(heads) and not _still_adds_up(ds, space):
            raise InputError(
                f"{schema.total(space)!r} is not the sum over the heads of {space!r} any more: one of them was changed "
                "alone, or both in a way that does not keep sums: abs, clip, a small difference of large ones. Drop "
                f"the one that is out of date: ds.drop_vars({schema.total(space)!r}) sums the heads anew, "
                f"ds.drop_vars({space!r}) keeps the sums."
            )
    return found


def _in_memory(variable: xr.Variable) -> bool:
    """Whether values are there without reading, also behind what xarray wraps around those it read from a file."""
    data: Any = getattr(variable, "_data", None)
    while hasattr(data, "array"):
        data = data.array
    return isinstance(data, np.ndarray)


def _still_adds_up(ds: xr.Dataset, space: str) -> bool:
    """Whether totals are sums over the heads that are there, at the patches compared; true of fewer heads."""
    heads, total = ds.variables[space], ds.variables[schema.total(space)]
    count = ds.attrs.get(schema.HEAD_COUNT)
    if heads.dtype.kind != "f" or total.dtype.kind != "f":
        return True  # they are refused
    if set(heads.dims) - {schema.HEAD} != set(total.dims) or heads.sizes[schema.HEAD] != count:
        return True  # they are summed anew, or refused
    return _sums(*_compared(heads, total))


def _compared(heads: xr.Variable, total: xr.Variable) -> tuple[xr.Variable, xr.Variable]:
    """Both at all patches; of many scores on diagonals that meet every row and column.

    A block of patches is met where its sides together are longer than the step between diagonals, at most the shorter
    side of the picture. What is smaller can lie between them.
    """
    if heads.size <= _COMPARED or not {schema.Y, schema.X} <= set(total.dims):
        return heads, total
    rows, columns = total.sizes[schema.Y], total.sizes[schema.X]
    step = min(rows, columns, -(-heads.size // _COMPARED))
    y, x = np.nonzero((np.arange(rows)[:, None] - np.arange(columns)) % step == 0)
    at = {schema.Y: xr.Variable(_PATCH, y), schema.X: xr.Variable(_PATCH, x)}
    return heads.isel(at), total.isel(at)


def with_totals(ds: xr.Dataset, computed: set[str]) -> xr.Dataset:
    """Sums over the heads that are there, in place of those over other heads and those over other scores.

    Parameters
    ----------
    ds
        Along the dimensions of the contract.
    computed
        What :func:`computed_spaces` found.

    Raises
    ------
    SelectionError
        If sums are over other heads than those it holds, and per-head scores are not there.
    """
    count = ds.attrs.get(schema.HEAD_COUNT)
    held = np.atleast_1d(ds.variables[schema.HEAD].to_numpy()).tolist() if schema.HEAD in ds.coords else None
    whole: dict[str, bool] = {}
    for space in schema.SPACES:
        if space in ds.data_vars:
            there = schema.total(space) in ds.data_vars
            assert held is not None
            whole[space] = (
                there
                and space not in computed
                and (len(held) == count if isinstance(count, int) else _adds_up(ds, space))
            )
        elif schema.total(space) in ds.data_vars and held is not None and len(held) != count:
            _refuse(space, held, count)
    if all(whole.values()):
        return ds
    summed: dict[str, xr.Variable] = {}
    for space, right in whole.items():
        if not right:
            dims = tuple(str(dim) for dim in ds.variables[space].dims if dim != schema.HEAD)
            total = arranged(ds.variables[space], dims, summed=schema.HEAD)
            total.attrs["heads"] = held
            summed[schema.total(space)] = total
    assert held is not None
    return ds.assign(summed).assign_attrs({schema.HEAD_COUNT: len(held)})


def _refuse(space: str, held: Sequence[Any], count: Any) -> None:
    """Say why sums cannot answer for the heads that are there."""
    if isinstance(count, int):
        raise SelectionError(
            f"this dataset is of {len(held)} of {count} heads, but {schema.total(space)!r} is the sum over all of them "
            f"and the per-head scores {space!r} are not there: choose the heads before dropping {space!r}."
        )
    raise SelectionError(
        f"attrs[{schema.HEAD_COUNT!r}] does not say how many heads {schema.total(space)!r} is the sum of, and the "
        f"per-head scores {space!r} are not there to compare with: open the run with wb.open, or drop the coordinate "
        "'head' if no head was left out."
    )


def _adds_up(ds: xr.Dataset, space: str) -> bool:
    """Whether the total is the sum over the heads that are there: in memory everywhere, else in one captured piece.

    Runs of early versions do not say how many heads they had. Rounded heads add up to their total within a known
    error; some of them do not.
    """
    heads, whole = ds.variables[space], ds.variables[schema.total(space)]
    if _in_memory(heads):
        return bool(np.isfinite(whole.to_numpy()).any()) and _sums(*_compared(heads, whole))
    absent = {tuple(piece.get(dim) for dim in schema.PIECE_DIMS) for piece in ds.attrs.get("missing", ())}
    labels = [ds.variables[dim].to_numpy().tolist() for dim in schema.PIECE_DIMS]
    sizes = [len(values) for values in labels]
    for at in np.ndindex(*sizes):
        if tuple(values[place] for values, place in zip(labels, at, strict=True)) in absent:
            continue
        piece = dict(zip(schema.PIECE_DIMS, at, strict=True))
        total = whole.isel(piece)
        if not np.isfinite(total.to_numpy()).all():
            continue
        return _sums(heads.isel(piece), total)
    return False


def _sums(scores: xr.Variable, total: xr.Variable) -> bool:
    """Whether totals are sums over heads but for rounding, wherever they are finite.

    Averages are smaller than what was rounded before they were taken: patches of the usual size set the scale too.
    """
    heads = scores.transpose(schema.HEAD, *total.dims).to_numpy().astype(np.float64)
    whole = total.to_numpy().astype(np.float64)
    size = np.abs(heads).sum(0)
    plane = tuple(at for at, dim in enumerate(total.dims) if dim in (schema.Y, schema.X, _PATCH))
    usual = np.where(np.isfinite(size), size, 0.0).mean(plane, keepdims=True)
    slack = _ROUNDING * (size + usual + np.abs(whole)) + len(heads) * _SMALLEST
    with np.errstate(invalid="ignore"):  # infinity less infinity
        right = np.abs(heads.sum(0) - whole) <= slack
    return bool((right | ~np.isfinite(whole)).all())
