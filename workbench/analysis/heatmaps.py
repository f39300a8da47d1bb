"""Scores, heat maps, segmentations and masks of a captured dataset (Helbling et al. 2025, equation 11).

Whole-head readings use the ``<space>_total`` variables; per-head scores are read only when heads are chosen.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Final, Literal, TypedDict, Unpack

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.gaps import absent_pieces, listed_but_there, unlisted
from workbench.analysis.lazily import arranged
from workbench.analysis.normalising import normalised, once
from workbench.analysis.plane import pixels_of
from workbench.analysis.selection import Labels, Numbers
from workbench.numerics.scores import CENTRES, REDUCTIONS, centred, reduce_maps
from workbench.schema import InputError, SelectionError, warn
from workbench.schema.given_options import check_names, is_number

Reduction = Literal["softmax_mean", "mean_softmax", "mean"]
Centre = Literal["patch"]
Upsampling = Literal["nearest", "bilinear"]
Kept = Literal["sample", "timestep", "layer"]

AVERAGED: Final = (schema.SAMPLE, schema.TIMESTEP, schema.LAYER)
"""The dimensions a heat map averages over, unless they are kept."""


class HeatmapOptions(TypedDict, total=False):
    """Options of :func:`heatmap`, which :func:`segment`, :func:`mask` and the metrics pass on."""

    space: str
    layers: Numbers
    timesteps: Numbers
    heads: Numbers
    samples: Numbers
    concepts: Labels
    reduce: Reduction
    center: Centre | None
    upsample: Upsampling | None
    keep: Collection[Kept]


def scores(
    ds: xr.Dataset,
    space: str = "output",
    *,
    layers: Numbers = None,
    timesteps: Numbers = None,
    heads: Numbers = None,
    samples: Numbers = None,
    concepts: Labels = None,
) -> xr.DataArray:
    """Scores of a space, summed over heads.

    Parameters
    ----------
    ds
        A captured dataset.
    space
        What was compared with what; one of :data:`workbench.schema.SPACES` that the run captured.
    layers, timesteps, heads, samples, concepts
        What to take (see :mod:`workbench.analysis.selection`); None takes all. ``concepts`` means prompt tokens in
        the ``prompt`` space.

    Returns
    -------
    (sample, timestep, layer, concept, y, x) float32, with ``token`` in place of ``concept`` in the ``prompt`` space,
    and ``branch`` behind ``layer`` where both branches of guidance were recorded.
    Without ``heads`` it is the stored total and as lazy as the dataset; with ``heads`` only these are read and summed
    in float32. Pieces that were not captured are NaN.

    Raises
    ------
    SelectionError
        If something chosen is not in the dataset; lists what is.
    """
    ds = normalised(ds, branches=True)
    selection.space_of(ds, space)
    if heads is None:
        taken = selection.take(ds[schema.total(space)], layers=layers, timesteps=timesteps, samples=samples)
    else:
        if space not in ds.data_vars:
            raise SelectionError(
                f"heads were chosen, but this dataset holds only the sums over heads of {space!r}; leave heads out."
            )
        per_head = selection.take(ds[space], layers=layers, timesteps=timesteps, heads=heads, samples=samples)
        dims = [str(dim) for dim in per_head.dims if dim != schema.HEAD]
        summed = arranged(per_head.variable, dims, summed=schema.HEAD).load()
        taken = per_head.isel({schema.HEAD: 0}, drop=True).copy(data=summed)
        taken.attrs = {**per_head.attrs, "heads": per_head[schema.HEAD].to_numpy().tolist()}
    taken = selection.take_concepts(taken, concepts)
    return taken.assign_attrs(space=space).rename(schema.total(space))


def heatmap(
    ds: xr.Dataset,
    *,
    space: str = "output",
    layers: Numbers = None,
    timesteps: Numbers = None,
    heads: Numbers = None,
    samples: Numbers = None,
    concepts: Labels = None,
    reduce: Reduction = "softmax_mean",
    center: Centre | None = None,
    upsample: Upsampling | None = None,
    keep: Collection[Kept] = (),
) -> xr.DataArray:
    """One map per concept.

    The chosen heads are summed; a softmax over **all captured concepts** is taken at each patch for every (sample,
    timestep, layer); the mean over what was chosen follows (Helbling et al. 2025, equation 11). Choosing
    ``concepts`` therefore shows fewer maps without changing them.

    Parameters
    ----------
    ds
        A captured dataset.
    space
        What was compared with what.
    layers, timesteps, heads, samples, concepts
        What to take (see :mod:`workbench.analysis.selection`). ``layers=None`` takes ``attrs["default_layers"]``,
        None elsewhere takes all.
    reduce
        ``"softmax_mean"`` is the paper's; ``"mean_softmax"`` averages the scores first, as one helper of the
        public code does; ``"mean"`` takes no softmax.
    center
        ``"patch"`` takes each concept's mean over the patches from its scores first, for every (sample, timestep,
        layer). Maps of the spaces ``output`` and ``value`` depend on the origin of the values, which no image depends
        on (:func:`workbench.numerics.scores.centred`); centred ones do not, nor do segmentations made with
        ``reduce="mean"``. They lose the height of a whole map: a concept that is nowhere then takes its share.
    upsample
        Bring the maps to the pixels of ``ds.image``: ``"nearest"`` repeats each patch, ``"bilinear"`` interpolates
        between patch centres and is constant beyond the outermost ones.
    keep
        Dimensions among sample, timestep and layer that are not averaged.

    Returns
    -------
    (\\*keep, concept, y, x) float32, or with pixel_y and pixel_x; ``token`` in place of ``concept`` in the ``prompt``
    space, and ``branch`` before it where both branches of guidance were recorded. Attributes record the choice. Pieces
    listed in ``attrs["missing"]`` are left out of the mean; where nothing is left of what is kept, the map is NaN.

    Raises
    ------
    SelectionError
        If something chosen is not in the dataset, or nothing of it was captured; lists what is.
    InputError
        If ``reduce``, ``center``, ``upsample`` or ``keep`` is not one of the above.
    SchemaError
        If scores are NaN that are not listed as missing.
    """
    if reduce not in REDUCTIONS:
        raise InputError(f"reduce is {reduce!r}; expected one of {', '.join(REDUCTIONS)}.")
    check_center(center)
    if upsample not in (None, "nearest", "bilinear"):
        raise InputError(f"upsample is {upsample!r}; expected None, 'nearest' or 'bilinear'.")
    kept = _kept(keep)
    ds = normalised(ds, branches=True)
    selection.space_of(ds, space)
    if layers is None:
        layers = default_layers(ds)
    with once(ds):
        taken = scores(ds, space, layers=layers, timesteps=timesteps, heads=heads, samples=samples)
    dim = selection.concept_dim(taken)
    wanted = selection.concept_positions(taken, concepts)
    _warn_of_meaningless(ds, taken, reduce, kept)

    maps = _reduce(taken, reduce, center, kept, absent_pieces(ds, taken)).isel({dim: wanted})
    maps.attrs = _record(taken, reduce, center)
    if upsample is not None:
        maps = to_pixels(maps, ds, upsample).assign_attrs(upsample=upsample)
    return maps.rename("heatmap")


def segment(ds: xr.Dataset, **options: Unpack[HeatmapOptions]) -> xr.DataArray:
    """The concept with the strongest map at each patch.

    Parameters
    ----------
    ds
        A captured dataset.
    **options
        Those of :func:`heatmap`; with ``concepts`` the strongest among these, with ``upsample`` at pixels.

    Returns
    -------
    (\\*keep, y, x) int16: indices into ``attrs["flag_meanings"]``, the list of concepts; the first one wins a draw.
    -1 where nothing was captured of what is kept.

    Raises
    ------
    SelectionError, InputError, SchemaError
        As :func:`heatmap`.
    """
    check_names("segment", options, HeatmapOptions.__annotations__)
    maps = heatmap(ds, **options)
    dim = selection.concept_dim(maps)
    names = [str(name) for name in maps[dim].to_numpy()]
    known = maps.notnull().all(dim)
    strongest = maps.fillna(0.0).argmax(dim).where(known, -1).astype(np.int16)
    return strongest.assign_attrs(
        maps.attrs, flag_values=list(range(len(names))), flag_meanings=names, flag_dimension=dim
    ).rename("segmentation")


def mask(ds: xr.Dataset, concept: str, rule: str | float = "mean", **options: Unpack[HeatmapOptions]) -> xr.DataArray:
    """Where a concept is.

    Parameters
    ----------
    ds
        A captured dataset.
    concept
        One of its concepts.
    rule
        ``"mean"``: above the mean of the concept's own map (the paper's rule for single objects);
        ``"argmax"``: where it is the strongest of all concepts; a number: above this threshold.
    **options
        Those of :func:`heatmap`, except ``concepts``.

    Returns
    -------
    (\\*keep, y, x) bool; False where nothing was captured of what is kept.

    Raises
    ------
    SelectionError
        If the concept was not captured; lists those that were.
    InputError
        If ``rule`` is none of the above, or a threshold that no map of shares can have.
    """
    if "concepts" in options:
        raise InputError("mask takes one concept as its first argument, and no concepts=: call it once for each.")
    check_names("mask", options, HeatmapOptions.__annotations__)
    maps = heatmap(ds, **options)
    dim = selection.concept_dim(maps)
    if not isinstance(concept, str):
        raise SelectionError(f"concept is {concept!r}; expected one of: {', '.join(map(str, maps[dim].to_numpy()))}.")
    positions = selection.concept_positions(maps, concept)
    chosen = maps.isel({dim: positions}).max(dim, skipna=False)
    if rule == "argmax":
        inside = maps.fillna(0.0).argmax(dim).isin(positions) & chosen.notnull()
    elif rule == "mean":
        # In float64, the mean of equal float32 values is exactly that value: a constant map has no inside.
        inside = chosen > chosen.astype(np.float64).mean(schema.spatial(chosen.dims))
    elif not is_number(rule):
        raise InputError(f"rule is {rule!r}; expected 'mean', 'argmax' or a number to be above.")
    elif options.get("reduce") != "mean" and not 0 <= float(rule) <= 1:
        raise InputError(
            f"rule is {rule}, and this map is of shares, 0 to 1: give a threshold between them, or pass reduce='mean' "
            "for scores."
        )
    else:
        rule = float(rule)
        inside = chosen > rule
    return inside.assign_attrs(maps.attrs, concept=concept, rule=rule).rename("mask")


def check_center(center: Any) -> None:
    """Refuse what scores cannot be measured from."""
    if center not in CENTRES:
        raise InputError(
            f"center is {center!r}; expected None, or 'patch' to measure each concept from its mean over the patches."
        )


def _kept(keep: Collection[str]) -> list[str]:
    if isinstance(keep, str) or not set(keep) <= set(AVERAGED):
        raise InputError(f"keep is {keep!r}; expected a list of dimensions from {', '.join(AVERAGED)}.")
    return [dim for dim in AVERAGED if dim in set(keep)]


def default_layers(ds: xr.Dataset) -> list[int] | None:
    """The default layers that were captured; None, with a warning, where none of them was."""
    defaults = [int(layer) for layer in ds.attrs.get("default_layers", ())]
    captured = [int(layer) for layer in ds[schema.LAYER].to_numpy()]
    if "default_layers" not in ds.attrs and len(captured) > 1:
        warn(
            "this dataset has lost the attribute 'default_layers', which says what heat maps are made of, so all its "
            "layers are used. Pass layers= to choose, or keep attributes: xarray.set_options(keep_attrs=True).",
            stacklevel=3,
        )
    chosen = [layer for layer in captured if layer in defaults]
    if defaults and not chosen:
        warn(
            f"none of the model's default layers ({', '.join(map(str, defaults))}) was captured; all captured layers "
            f"({', '.join(map(str, captured))}) are used. Pass layers= to choose.",
            stacklevel=3,
        )
    return chosen or None


def _warn_of_meaningless(ds: xr.Dataset, taken: xr.DataArray, reduce: str, kept: list[str]) -> None:
    dim = selection.concept_dim(taken)
    if reduce != "mean" and taken.sizes[dim] == 1:
        warn(
            f"a softmax over one {dim} is 1 everywhere: capture a second one to compare with, or pass reduce='mean'.",
            stacklevel=3,
        )
    pictures = taken.sizes[schema.SAMPLE]
    if schema.IMAGE in ds and schema.SAMPLE in ds[schema.IMAGE].dims and pictures > 1 and schema.SAMPLE not in kept:
        warn(
            f"this averages the maps of {pictures} different pictures: choose one with samples=, or keep them apart "
            "with keep=['sample'].",
            stacklevel=3,
        )


def _reduce(
    taken: xr.DataArray, reduce: str, center: str | None, kept: list[str], absent: NDArray[np.bool_]
) -> xr.DataArray:
    """Softmax and mean over the pieces that exist, separately for every combination of what is kept."""
    over = [dim for dim in AVERAGED if dim not in kept]
    inner = [dim for dim in taken.dims if dim not in AVERAGED]
    # Read first: xarray reads a transposed array from a file element by element.
    values = taken.compute().transpose(*kept, *over, *inner)
    there = ~absent.transpose([AVERAGED.index(dim) for dim in (*kept, *over)])
    outer = tuple(values.sizes[dim] for dim in kept)
    cells = (math.prod(outer), math.prod(values.sizes[dim] for dim in over))
    pieces = values.to_numpy().reshape(*cells, *(values.sizes[dim] for dim in inner))
    there = there.reshape(cells)
    if np.isfinite(pieces[~there]).any():
        raise listed_but_there(taken, absent)
    axis = 1 + inner.index(selection.concept_dim(taken))
    plane = [1 + inner.index(dim) for dim in schema.spatial(inner)]

    maps = np.full((cells[0], *pieces.shape[2:]), np.nan, dtype=np.float32)
    for cell in range(cells[0]):
        present = pieces[cell] if there[cell].all() else pieces[cell][there[cell]]
        if len(present):
            if center is not None:
                present = centred(present, plane)
            maps[cell] = reduce_maps(present, concept_axis=axis, mean_axes=(0,), reduce=reduce)
            if not np.isfinite(maps[cell]).all():
                raise unlisted(taken, absent)
    coords = {name: coord for name, coord in taken.coords.items() if not set(coord.dims) & set(over)}
    return xr.DataArray(maps.reshape(*outer, *maps.shape[1:]), dims=[*kept, *inner], coords=coords)


def _record(taken: xr.DataArray, reduce: str, center: str | None) -> dict[str, Any]:
    """What was chosen, as plain attributes."""
    record = {
        "space": taken.attrs["space"],
        "reduce": reduce,
        "softmax_over": [] if reduce == "mean" else [str(n) for n in taken[selection.concept_dim(taken)].to_numpy()],
        "samples": taken[schema.SAMPLE].to_numpy().tolist(),
        "timesteps": taken[schema.TIMESTEP].to_numpy().tolist(),
        "layers": taken[schema.LAYER].to_numpy().tolist(),
    }
    record |= {"center": center} if center is not None else {}
    return record | {name: taken.attrs[name] for name in ("heads", "timesteps_asked") if name in taken.attrs}


def to_pixels(maps: xr.DataArray, ds: xr.Dataset, how: Upsampling) -> xr.DataArray:
    """Bring maps from patch centres to the pixels of the image."""
    for dim, pixel_dim in ((schema.Y, schema.PIXEL_Y), (schema.X, schema.PIXEL_X)):
        if pixel_dim not in ds.coords:
            raise InputError(
                f"upsample={how!r} needs the pixels of the image, but the dataset has no coordinate {pixel_dim!r}; "
                "leave upsample out, or keep the variable 'image' in the dataset."
            )
        covered, position = pixels_of(ds, dim)
        pixels, last = ds[pixel_dim][covered], maps.sizes[dim] - 1
        position = np.clip(position, 0, last)
        plain = maps.drop_vars(dim)
        if how == "nearest":
            maps = plain.isel({dim: xr.DataArray(np.rint(position).astype(int), dims=pixel_dim)})
        else:
            lower = xr.DataArray(np.floor(position).astype(int), dims=pixel_dim)
            upper = (lower + 1).clip(max=last)
            weight = xr.DataArray((position - lower.to_numpy()).astype(np.float32), dims=pixel_dim)
            maps = plain.isel({dim: lower}) * (1 - weight) + plain.isel({dim: upper}) * weight
        maps = maps.assign_coords({pixel_dim: pixels})
    return maps
