"""The arrays a view draws: pure functions of a state and a dataset.

The maps are those of :func:`workbench.analysis.heatmaps.heatmap`, number for number.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.heatmaps import heatmap, segment
from workbench.analysis.overview import overview as measured
from workbench.analysis.plane import pixels_of
from workbench.schema import SelectionError, noted
from workbench.widgets.explore.state import State
from workbench.widgets.shared.spaces import dim_of

_PLANE: Final = (schema.Y, schema.X)


class Runs(NamedTuple):
    """How the concepts run at one patch: ``layers`` (layer, concept) and ``timesteps`` (timestep, concept)."""

    layers: NDArray[np.float32]
    timesteps: NDArray[np.float32]


class TruthCounts(NamedTuple):
    """Pixels per patch: ``true`` (concept, y, x), those that are truly the concept; ``area`` (y, x), all of them."""

    true: NDArray[np.int64]
    area: NDArray[np.int64]


def maps(state: State, ds: xr.Dataset) -> NDArray[np.float32]:
    """(concept, y, x): the heat map of every concept, shown or not.

    Raises
    ------
    SelectionError
        If nothing of what is chosen was captured.
    SchemaError
        If scores are NaN that are not listed as missing.
    """
    found = heatmap(_frame(ds, state), **state.options(ds))
    return _plain(found, dim_of(state.space), *_PLANE)


def segmentation(state: State, ds: xr.Dataset) -> NDArray[np.int16]:
    """(y, x): position of the strongest concept at each patch.

    Raises
    ------
    SelectionError, SchemaError
        As :func:`maps`.
    """
    return _plain(segment(_frame(ds, state), **state.options(ds)), *_PLANE)


def runs(state: State, ds: xr.Dataset) -> Runs:
    """How every concept runs at the pinned patch: over the layers, and over the timesteps.

    Over all captured layers (at the chosen timesteps) and all captured timesteps (of the chosen layers). With chosen
    heads only what is selected is read, and the rest is NaN: per-head scores are large.

    Raises
    ------
    SelectionError
        If no patch is pinned, or nothing of what is chosen was captured.
    """
    if state.pin is None:
        raise SelectionError("no patch is pinned; click one first.")
    row, column = state.pin
    dim = dim_of(state.space)
    patch = _frame(ds, state).isel({schema.Y: [row], schema.X: [column]})
    found = {}
    for kept, chosen in state.along(ds).items():
        found[kept] = _plain(heatmap(patch, **chosen).reindex({kept: ds[kept]}), kept, dim, *_PLANE)[..., 0, 0]
    return Runs(found[schema.LAYER], found[schema.TIMESTEP])


def head_maps(state: State, ds: xr.Dataset) -> NDArray[np.float32]:
    """(head, y, x): the map of the picked concept for each head of one layer alone, at the chosen timesteps.

    Without a picked concept, that of the first one.

    Raises
    ------
    SelectionError
        If the dataset holds only sums over heads.
    """
    if state.space not in ds.data_vars:
        raise SelectionError(
            f"this dataset holds only the sums over heads of {state.space!r}: there is no head to show."
        )
    options = state.options(ds)
    options["layers"] = layer = state.strip_layer
    framed = _frame(ds, state)
    names = [schema.total(state.space), state.space]
    high, low = state.timesteps
    timesteps = framed[schema.TIMESTEP].to_numpy()
    chosen = {schema.LAYER: [layer], schema.TIMESTEP: timesteps[(timesteps <= high) & (timesteps >= low)]}
    if state.sample is not None:
        chosen[schema.SAMPLE] = [state.sample]
    block = framed[names].sel(chosen).compute()
    dim = dim_of(state.space)
    found = []
    with noted():  # the maps themselves have given their warnings already
        for head in block[schema.HEAD].to_numpy().tolist():
            options["heads"] = head
            found.append(_plain(heatmap(block, **options), dim, *_PLANE)[state.focus or 0])
    return np.stack(found)


def overview(state: State, ds: xr.Dataset) -> NDArray[np.float32]:
    """(timestep, layer): the chosen statistic, as :func:`workbench.analysis.overview.overview` measures it.

    Raises
    ------
    SelectionError
        If the statistic needs a truth, or more concepts, than there are.
    """
    with noted():  # the maps themselves have given their warnings already
        found = measured(_frame(ds, state), state.statistic, space=state.space, samples=state.sample)
    return _plain(found, schema.TIMESTEP, schema.LAYER).astype(np.float32)


def truth_counts(ds: xr.Dataset, state: State) -> TruthCounts:
    """How many pixels of each patch are truly which concept.

    Raises
    ------
    SelectionError
        If the dataset has no truth.
    """
    if schema.TRUTH not in ds:
        raise SelectionError("there is no truth to compare with; add masks: ds.wb.with_truth({'dog': mask, ...}).")
    truth = _frame(ds, state)[schema.TRUTH]
    masks = _plain(truth, schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X)
    inside, shares = [], []
    for dim in _PLANE:
        covered, position = pixels_of(ds, dim)
        inside.append(covered)
        shares.append(np.rint(position).astype(int)[:, None] == np.arange(ds.sizes[dim]))
    rows, columns = (share.astype(np.int64) for share in shares)
    void = _frame(ds, state).get(schema.VOID)
    known = ~_plain(void, schema.PIXEL_Y, schema.PIXEL_X) if void is not None else np.ones(masks.shape[1:], dtype=bool)
    cut = (masks & known)[:, inside[0]][:, :, inside[1]].astype(np.int64)
    return TruthCounts(rows.T @ cut @ columns, rows.T @ known[inside[0]][:, inside[1]].astype(np.int64) @ columns)


def _frame(ds: xr.Dataset, state: State) -> xr.Dataset:
    return ds if state.frame is None else ds.sel({schema.FRAME: [state.frame]})


def _plain(values: xr.DataArray, *dims: str) -> NDArray[Any]:
    """The numbers with their dimensions in this order; a single frame is dropped."""
    if schema.FRAME in values.dims:
        values = values.isel({schema.FRAME: 0})
    return values.transpose(*dims).to_numpy()
