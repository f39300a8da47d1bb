"""Leakage: how much of one concept's region another concept's map takes."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis.adding_truth import masks_of
from workbench.analysis.heatmaps import HeatmapOptions, heatmap
from workbench.analysis.normalising import normalised
from workbench.schema import InputError
from workbench.schema.given_options import check_flag, check_names

OTHER = "other"


def leakage(ds: xr.Dataset, *, truth: bool | None = None, **options: Unpack[HeatmapOptions]) -> xr.Dataset:
    """Concept by concept confusion of the maps.

    Parameters
    ----------
    ds
        A captured dataset.
    truth
        Compare with the stored masks; by default where there are any. Without them a concept's region is its own map,
        as weights: near-synonyms then leak into each other, and a concept without a place of its own leaks everywhere.
    **options
        Those of :func:`workbench.analysis.heatmaps.heatmap`, except ``keep``, ``upsample``, ``reduce="mean"`` and the
        space ``prompt``.

    Returns
    -------
    A dataset of ``share`` (concept, other): the mean share that the map of ``other`` takes in the region of
    ``concept``; and ``segment_share``: the part of that region whose strongest concept is ``other``. With all concepts
    chosen each row adds up to 1; the diagonal is what a concept keeps. NaN for concepts that are nowhere. Attributes
    record the choice.

    Raises
    ------
    InputError
        If there is no truth where it is asked for, or an option has no meaning here.
    SelectionError
        If something chosen is not in the dataset; lists what is.
    """
    check_names("leakage", options, ("truth", *HeatmapOptions.__annotations__))
    if truth is not None:
        check_flag("truth", truth)
    if options.get("keep") or options.get("upsample") or options.get("space") == schema.PROMPT:
        raise InputError("leakage compares one map per concept: leave out keep, upsample and space='prompt'.")
    if options.get("reduce") == "mean":
        raise InputError("leakage needs shares that sum to one; reduce='mean' takes no softmax. Leave it out.")
    ds = normalised(ds)
    by_truth = schema.TRUTH in ds if truth is None else truth
    masks = masks_of(ds) if by_truth else None
    maps = heatmap(ds, **options)
    record = dict(maps.attrs)
    if masks is not None:
        pixels: HeatmapOptions = {**options, "upsample": "nearest"}
        maps = heatmap(ds, **pixels)
        at = {dim: maps[dim] for dim in masks.dims}
        # The masks of a video are those of each of its frames.
        region = masks.sel(at).astype(np.float64).broadcast_like(maps)
    else:
        region = maps.astype(np.float64)
    plane = list(schema.spatial(maps.dims))
    others = maps.rename({schema.CONCEPT: OTHER}).astype(np.float64)
    strongest = others.argmax(OTHER) == xr.DataArray(np.arange(others.sizes[OTHER]), dims=OTHER)
    weight = region.sum(plane)
    weight = weight.where(weight > 0)
    return xr.Dataset(
        {
            "share": xr.dot(region, others, dim=plane) / weight,
            "segment_share": xr.dot(region, strongest.astype(np.float64), dim=plane) / weight,
        },
        coords={OTHER: others[OTHER]},
        attrs=record | {"region": "truth" if by_truth else "map"},
    ).transpose(schema.CONCEPT, OTHER)
