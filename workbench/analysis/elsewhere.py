"""Heads by how well their scores tell labels apart that come from elsewhere: another noise sample, the image, anywhere.

A criterion that takes its labels from the map it judges finds structure in noise. Here they come from what the head has
no share in, or next to none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from workbench import schema
from workbench.analysis.evaluation import Observation, pictures
from workbench.numerics import resampling
from workbench.numerics.separability import (
    clusters,
    label_separability,
    patch_colours,
    shuffled_separability,
    unit_scores,
)
from workbench.schema import InputError, SelectionError
from workbench.schema.given_options import check_count

Elsewhere: TypeAlias = Literal["samples", "colours"] | ArrayLike


def labelled_heads(
    ds: xr.Dataset, observations: Sequence[Observation], elsewhere: Any, shuffles: int, seed: int
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]], NDArray[np.float64], dict[str, Any]]:
    """The separability of labels from elsewhere in the scores of every (layer, head).

    Parameters
    ----------
    ds
        The dataset, normalised.
    observations
        Its noise samples, with ``layer`` and ``head`` swept.
    elsewhere, shuffles, seed
        As in :func:`workbench.analysis.heads.rank_heads`.

    Returns
    -------
    (layer, head), the mean over samples, NaN where nothing was captured; the same of each sample; (bound, layer, head),
    2.5 and 97.5 % points of the mean under shuffled patches; and what to record.

    Raises
    ------
    InputError
        If there are no such labels, or they do not fit.
    """
    shuffles, seed = check_count("shuffles", shuffles, 1), check_count("seed", seed, 0)
    labels, said = _labels(ds, observations, elsewhere)
    single, drawn = [], []
    for index, (one, own) in enumerate(zip(observations, labels, strict=True)):
        points, there = _points(one)
        flat = points.reshape(-1, *points.shape[-3:])
        value = np.where(there, label_separability(flat, own).reshape(there.shape), np.nan)
        shuffled = shuffled_separability(flat, own, shuffles, seed + index).reshape(-1, *there.shape)
        single.append(value)
        drawn.append(np.where(there, shuffled, np.nan))
    overall = _mean(single)
    null = resampling.interval(_mean(drawn), 0.95)
    record = {"elsewhere": said, "shuffles": shuffles, "seed": seed}
    return overall, single, null, record | {"presumes": f"that patches differ in content where {said} differ"}


def _labels(ds: xr.Dataset, observations: Sequence[Observation], elsewhere: Any) -> tuple[list[NDArray[Any]], str]:
    """Labels (y, x) for each sample, and what they are."""
    grid = observations[0].scores.shape
    plane = observations[0].scores.grid.shape
    colours = isinstance(elsewhere, str) and elsewhere == "colours"
    if pictures(ds) > 1 and not colours:
        raise InputError(
            f"these labels are of one image, but this run holds {pictures(ds)} different ones: choose one, "
            "ds.isel(sample=[0]), or take elsewhere='colours'."
        )
    if isinstance(elsewhere, str) and elsewhere == "samples":
        if len(observations) < 2:
            raise InputError(
                "elsewhere='samples' takes labels from other noise samples, but there is one only: capture with "
                "samples=2 or more, or take elsewhere='colours' or labels of your own."
            )
        fulls = np.stack([one.scores.maps(one.samples)[1][list(one.concepts)] for one in observations])
        others = (fulls.sum(0) - fulls) / (len(fulls) - 1)
        return list(others.argmax(1)), "the segmentations by other noise samples"
    if colours:
        if len(plane) > 2:
            raise InputError("elsewhere='colours' is of one image, and this run has several frames: choose one.")
        if schema.IMAGE not in ds:
            raise InputError("elsewhere='colours' needs the variable 'image', which this dataset has not.")
        image = ds[schema.IMAGE]
        names = observations[0].scores.labels[schema.SAMPLE]
        own = [
            image.sel({schema.SAMPLE: names[one.samples[0]]}) if schema.SAMPLE in image.dims else image
            for one in observations
        ]
        dims = (schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL)
        if any(one.sizes[dim] % size for one in own for dim, size in zip(dims, grid, strict=False)):
            raise InputError("elsewhere='colours' needs patches that cover the whole image: choose no part of it.")
        count = len(observations[0].concepts)
        found = [clusters(patch_colours(one.transpose(*dims).to_numpy(), grid), count) for one in own]
        return found, "clusters of the image's colours"
    given = elsewhere.to_numpy() if isinstance(elsewhere, xr.DataArray) else np.asarray(elsewhere)
    if given.shape != plane or given.dtype.kind not in "iub":
        what = repr(elsewhere) if isinstance(elsewhere, str) else f"{given.dtype} of shape {given.shape}"
        raise InputError(
            f"elsewhere is {what}; expected 'samples', 'colours', or whole numbers of shape {plane}, one label "
            "for each patch."
        )
    return [given.reshape(grid)] * len(observations), "the labels given"


def _points(one: Observation) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores in units of their own spread, (layer, head, concept, y, x), averaged over timesteps; which are there."""
    scores = one.scores
    sums = np.zeros(())
    counts = np.zeros(len(scores.labels[schema.LAYER]))
    for at, piece in scores.pieces(one.samples):
        unit = unit_scores(piece[:, list(one.concepts)])
        if not sums.ndim:
            sums = np.zeros((len(counts), *unit.shape))
        sums[at[schema.LAYER]] += unit
        counts[at[schema.LAYER]] += 1
    if not sums.ndim:
        raise SelectionError(
            "every chosen piece of a sample is missing from this run; attrs['missing'] lists what is missing."
        )
    points = sums / np.maximum(counts, 1)[:, None, None, None, None]
    return points, np.broadcast_to((counts > 0)[:, None], points.shape[:2])


def _mean(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over samples of what is there."""
    return resampling.mean_over_concepts(np.stack(values, -1))
