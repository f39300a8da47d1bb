"""Settling: from which timestep on a concept is where it ends up."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis.heatmaps import HeatmapOptions, segment
from workbench.numerics import resampling
from workbench.numerics.masks import overlap
from workbench.schema import InputError
from workbench.schema.given_options import check_names, is_number


def settling(ds: xr.Dataset, threshold: float = 0.8, **options: Unpack[HeatmapOptions]) -> xr.Dataset:
    """IoU of the segments with those of the last timestep, and since when it is high.

    Parameters
    ----------
    ds
        A captured dataset of several timesteps.
    threshold
        A concept has settled at the first timestep from which on its IoU stays at or above this, before the last one,
        where it is 1.
    **options
        Those of :func:`workbench.analysis.heatmaps.heatmap`, except ``keep``, ``upsample`` and the space ``prompt``.

    Returns
    -------
    A dataset of ``last_timestep_iou`` (sample, timestep, concept): IoU of the concept's segment with its segment at the
    last, least noisy, timestep chosen; NaN where it is in neither; and ``settled`` (sample, concept): the timestep, NaN
    for a concept that is nowhere in the last segmentation, or that never settled: its attribute ``comment`` then names
    it. Attributes record the choice.

    Raises
    ------
    InputError
        If there is one timestep only, the threshold is not within 0 and 1, or an option has no meaning here.
    SelectionError
        If something chosen is not in the dataset; lists what is.
    """
    check_names("settling", options, ("threshold", *HeatmapOptions.__annotations__))
    if options.get("keep") or options.get("upsample") or options.get("space") == schema.PROMPT:
        raise InputError("settling keeps samples and timesteps apart: leave out keep, upsample and space='prompt'.")
    if not is_number(threshold) or not 0 < threshold <= 1:
        raise InputError(f"threshold is {threshold!r}; expected a number above 0, at most 1.")
    threshold = float(threshold)
    kept: HeatmapOptions = {**options, "keep": [schema.SAMPLE, schema.TIMESTEP]}
    labels = segment(ds, **kept)
    if labels.sizes[schema.TIMESTEP] < 2:
        raise InputError("settling needs two timesteps or more; capture with timesteps=[...], or choose more.")
    names = labels.attrs["flag_meanings"]
    places = xr.DataArray(np.arange(len(names)), dims=schema.CONCEPT, coords={schema.CONCEPT: names})
    inside = labels == places
    final = inside.isel({schema.TIMESTEP: -1}, drop=True)
    plane = list(schema.spatial(inside.dims))
    both, either = xr.apply_ufunc(
        overlap,
        *xr.broadcast(inside, final),
        input_core_dims=[plane, plane],
        output_core_dims=[[], []],
        kwargs={"plane": len(plane)},
    )
    known = (labels >= 0).all(plane)
    known = known & known.isel({schema.TIMESTEP: -1}, drop=True)
    iou = xr.apply_ufunc(resampling.ratio, both, either).where(known)

    # From the last timestep backwards: settled as long as nothing falls below; timesteps that were not captured say
    # nothing.
    backwards = (iou.fillna(1.0) >= threshold).isel({schema.TIMESTEP: slice(None, None, -1)})
    steady = backwards.cumprod(schema.TIMESTEP).astype(bool).isel({schema.TIMESTEP: slice(None, None, -1)})
    earlier = iou[schema.TIMESTEP] > iou[schema.TIMESTEP].min()
    settled = iou[schema.TIMESTEP].where(steady & iou.notnull() & earlier).max(schema.TIMESTEP)
    ends = final.any(plane) & known.isel({schema.TIMESTEP: -1}, drop=True)
    settled = settled.where(ends)
    never = (ends & settled.isnull()).any(schema.SAMPLE)
    if never.any():
        settled.attrs["comment"] = (
            f"never settled, in one sample or more: {', '.join(map(str, never[schema.CONCEPT].to_numpy()[never]))}. No "
            f"timestep before the last has an IoU with it of {threshold:g} or more up to the end."
        )
    record = {name: value for name, value in labels.attrs.items() if not name.startswith("flag_")}
    return xr.Dataset(
        {
            "last_timestep_iou": iou.transpose(schema.SAMPLE, schema.TIMESTEP, schema.CONCEPT),
            "settled": settled.transpose(schema.SAMPLE, schema.CONCEPT),
        },
        attrs=record | {"threshold": threshold},
    )
