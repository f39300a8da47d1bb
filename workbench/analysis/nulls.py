"""What a score is worth: the same score of maps that cannot know the answer.

Shuffled patches keep how much each concept takes and lose where; permuted concepts keep the regions, each under the
name of another; maps of another image, or of a network with random weights, are handed over as datasets (Adebayo et al.
2018).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.heatmaps import HeatmapOptions, heatmap, segment, to_pixels
from workbench.analysis.normalising import normalised
from workbench.numerics import resampling
from workbench.numerics.measures import MEASURES, Reference, iou_of_labels
from workbench.schema import InputError
from workbench.schema.given_options import check_count

Null: TypeAlias = Literal["patches", "concepts"] | xr.Dataset | Sequence[xr.Dataset]

REPEAT: Final = "repeat"
_ENUMERATED: Final = 7
"""Concepts of which all orders are looked through."""


def null_scores(
    ds: xr.Dataset,
    null: Null,
    reference: Reference,
    like: xr.DataArray,
    repeats: int,
    seed: int,
    options: HeatmapOptions,
) -> xr.Dataset:
    """IoU and accuracy of the segmentations of a null.

    Parameters
    ----------
    ds
        The dataset that is scored, normalised.
    null, repeats, seed
        As in :func:`workbench.analysis.metrics.score`.
    reference
        The truth, pixel by pixel; the frames of a video one below the other.
    like
        The segmentation that is scored, along its spatial dimensions, with the concepts' names.
    options
        Those of the heat map, with ``upsample``.

    Returns
    -------
    ``iou_null`` (repeat, concept), ``mean_iou_null`` (repeat) and ``accuracy_null`` (repeat); attributes say what it
    is.

    Raises
    ------
    InputError
        If there is no such null, or a dataset does not fit.
    """
    repeats, seed = check_count("repeats", repeats, 1), check_count("seed", seed, 0)
    names = [str(name) for name in like.attrs["flag_meanings"]]
    rng = np.random.default_rng(seed)
    record: dict[str, Any] = {"null_seed": seed}
    if isinstance(null, str) and null == "patches":
        found, said = _shuffled(ds, options, rng, repeats), "patches of the same maps, shuffled"
    elif isinstance(null, str) and null == "concepts":
        orders = _orders(len(names), rng, repeats)
        found, said = (
            (np.take(order, like.to_numpy()) for order in orders),
            "the same regions, each under another concept",
        )
    elif isinstance(null, str) or not (others := [null] if isinstance(null, xr.Dataset) else list(null)):
        raise InputError(
            f"null is {null!r}; expected 'patches', 'concepts', or datasets with the same concepts, such as other "
            "images' or a run with random weights."
        )
    else:
        found, said, record = _of_datasets(others, names, like, options), "maps of other datasets", {}

    each = [_scored(labels.reshape(reference.area.shape), reference) for labels in found]
    iou, accuracy = np.stack([one for one, _ in each]), np.array([one for _, one in each])
    return xr.Dataset(
        {
            "iou_null": ((REPEAT, schema.CONCEPT), iou),
            "mean_iou_null": (REPEAT, resampling.mean_over_concepts(iou)),
            "accuracy_null": (REPEAT, accuracy),
        },
        attrs={"null": said, **record},
    )


def _scored(labels: NDArray[Any], reference: Reference) -> tuple[NDArray[np.float64], float]:
    both, either = iou_of_labels(labels[None], reference)
    right = MEASURES["accuracy"].compute
    inside = (labels == np.arange(len(reference.inside))[:, None, None]).astype(np.float32)[None]
    above, below = right(inside, reference)
    return resampling.ratio(both, either)[0], float(resampling.ratio(above, below)[0])


def _shuffled(
    ds: xr.Dataset, options: HeatmapOptions, rng: np.random.Generator, repeats: int
) -> Iterator[NDArray[Any]]:
    """Segmentations at pixels of maps whose patches are exchanged, all concepts alike."""
    how = options["upsample"]
    assert how is not None
    bare: HeatmapOptions = {**options, "upsample": None}
    maps = heatmap(ds, **bare)
    maps = maps.transpose(schema.CONCEPT, *schema.spatial(maps.dims))
    values = maps.to_numpy().reshape(len(maps), -1)
    for _ in range(repeats):
        moved = values[:, rng.permutation(values.shape[1])].reshape(maps.shape)
        if how == "nearest":
            labels = to_pixels(maps[0].copy(data=moved.argmax(0)), ds, how)
        else:
            labels = to_pixels(maps.copy(data=moved), ds, how).argmax(schema.CONCEPT)
        yield labels.transpose(*schema.spatial(labels.dims)).to_numpy()


def _orders(count: int, rng: np.random.Generator, repeats: int) -> list[NDArray[Any]]:
    """Orders of so many concepts in which none keeps its place: all of them, or as many as asked for."""
    if count < 2:
        raise InputError("null='concepts' permutes concepts, but there is one only: choose two or more.")
    own = np.arange(count)
    if count <= _ENUMERATED:
        every = (np.array(order) for order in itertools.permutations(range(count)))
        orders = [order for order in every if not (order == own).any()]
        if len(orders) <= repeats:
            return orders
    drawn: list[NDArray[Any]] = []
    while len(drawn) < repeats:
        order = rng.permutation(count)
        if not (order == own).any():
            drawn.append(order)
    return drawn


def _of_datasets(
    others: Sequence[Any], names: Sequence[str], like: xr.DataArray, options: HeatmapOptions
) -> Iterator[NDArray[Any]]:
    """The segmentations of other datasets into the same concepts."""
    for other in others:
        taken = normalised(other)
        held = [str(name) for name in taken[schema.CONCEPT].to_numpy()] if schema.CONCEPT in taken.coords else []
        if missing := [name for name in names if name not in held]:
            raise InputError(
                f"a dataset handed over as null has no concept {', '.join(map(repr, missing))}; it has "
                f"{', '.join(held) or 'none'}. Capture it with the concepts that are scored."
            )
        chosen: HeatmapOptions = {**options, "concepts": list(names)}
        found = segment(taken, **chosen).transpose(*like.dims)
        if found.shape != like.shape:
            raise InputError(
                f"a dataset handed over as null has {found.shape} pixels down and across, the scored one {like.shape}; "
                "expected the same size."
            )
        yield found.to_numpy()
