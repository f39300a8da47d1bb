"""Analyses of runs of many images: each item by itself, with the numbers that its image alone would have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.heatmaps import scores
from workbench.analysis.normalising import normalised
from workbench.schema import InputError, SelectionError, noted, warn

if TYPE_CHECKING:
    from workbench.analysis.selection import Labels, Numbers

_Found = TypeVar("_Found", xr.DataArray, xr.Dataset)

_WORDS: Final = (schema.CONCEPT, "other")
"""Dimensions whose labels may differ from item to item: what an item lacks of them is NaN."""


_REMEDY: Final = (
    " Items were asked different concepts: choose those that were asked one, "
    "ds.isel(item=ds.asked.sel(concept='dog', drop=True))."
)


def is_many(ds: xr.Dataset) -> bool:
    """Whether a dataset goes over items."""
    return isinstance(ds, xr.Dataset) and schema.ITEM in ds.dims


def items_of(ds: xr.Dataset) -> list[xr.Dataset]:
    """Each item as the dataset of its image alone, without reading anything; a dataset of one image as it is.

    Raises
    ------
    InputError
        If there is no item, or one was asked none of the concepts that are there.
    """
    if not is_many(ds):
        return [ds]
    if not ds.sizes[schema.ITEM]:
        raise InputError("this dataset holds no items any more: choose some.")
    return [schema.item_at(ds, place) for place in range(ds.sizes[schema.ITEM])]


def item(ds: xr.Dataset, which: str | int) -> xr.Dataset:
    """One item of a run of many images, as the dataset of its image alone.

    Parameters
    ----------
    ds
        A dataset with the dimension ``item``.
    which
        Its ``name``, or its label along ``item``.

    Raises
    ------
    InputError
        If the dataset has no items.
    SelectionError
        If there is no such item, or several have the name.
    """
    if not is_many(ds):
        raise InputError("this dataset has no dimension 'item': it is of one image already.")
    by_name = isinstance(which, str)
    if by_name and schema.NAME not in ds.coords:
        raise InputError("this dataset has lost the coordinate 'name': choose by place, ds.isel(item=0).")
    labels = ds[schema.NAME if by_name else schema.ITEM].to_numpy().tolist()
    places = [place for place, label in enumerate(labels) if label == which]
    if len(places) != 1:
        held = f"names: {', '.join(labels[:20])}{', …' * (len(labels) > 20)}" if by_name else f"0 to {max(labels)}"
        raise SelectionError(
            f"{len(places) or 'no'} items are called {which!r} ({held}). Choose one by place, ds.isel(item=0)."
        )
    return schema.item_at(ds, places[0])


def over_items(ds: xr.Dataset, measure: Callable[[xr.Dataset], _Found]) -> _Found:
    """What a measure gives for each item, along ``item``; for a dataset of one image what it gives.

    One item is read at a time. Attributes are those that are the same for all. One that differs is a coordinate along
    ``item`` with its name, behind that of a dataset's variable if it is that variable's: text, numbers or booleans as
    they are, and anything else, such as the concepts that a softmax went over, as JSON.

    Raises
    ------
    WorkbenchError
        What the measure raises, with the name of the item.
    """
    if not is_many(ds):
        return measure(ds)
    found: list[_Found] = []
    with noted() as notes:
        for place, one in enumerate(items_of(ds)):
            try:
                found.append(measure(one))
            except InputError as error:
                named = schema.item_name(ds.isel({schema.ITEM: place}))
                remedy = _REMEDY if schema.ASKED in ds.coords and isinstance(error, SelectionError) else ""
                raise type(error)(f"{named}: {error}{remedy}") from error
    for note in notes:
        warn(note, stacklevel=4)
    return _joined(found, ds)


def scores_of_items(
    ds: xr.Dataset,
    space: str = "output",
    *,
    layers: Numbers = None,
    timesteps: Numbers = None,
    heads: Numbers = None,
    samples: Numbers = None,
    concepts: Labels = None,
) -> xr.DataArray:
    """Scores summed over heads with ``item`` first, as lazy as the dataset unless heads are chosen.

    Those of concepts that an item was not asked are NaN. Parameters and errors are those of
    :func:`workbench.analysis.heatmaps.scores`.
    """
    chosen: dict[str, Any] = {"layers": layers, "timesteps": timesteps, "samples": samples}
    first = normalised(items_of(ds)[0], branches=True)  # refuses what is no captured dataset any more
    selection.space_of(first, space)
    name = schema.total(space)
    plain = name in ds and ds[name].dims == (schema.ITEM, *schema.total_dims(space))
    whole = schema.HEAD not in ds.dims or ds.sizes[schema.HEAD] == ds.attrs.get(schema.HEAD_COUNT)
    if heads is None and plain and whole:
        taken = selection.take_concepts(selection.take(ds[name], **chosen), concepts)
        return taken.assign_attrs(space=space)
    return over_items(ds, lambda one: scores(one, space, heads=heads, concepts=concepts, **chosen))


def _joined(found: Sequence[_Found], ds: xr.Dataset) -> _Found:
    order = ds[schema.CONCEPT].to_numpy().tolist() if schema.CONCEPT in ds.dims else []
    found = [_numbered(one, order) for one in found]
    for dim in [dim for dim in _WORDS if dim in found[0].dims]:
        words = list(dict.fromkeys(word for one in found for word in one[dim].to_numpy().tolist()))
        words = [word for word in order if word in words] if set(words) <= set(order) else words
        if any(one[dim].to_numpy().tolist() != words for one in found):
            found = [one.reindex({dim: words}) for one in found]
    try:
        joined = xr.concat(
            found, dim=schema.ITEM, join="exact", coords="minimal", compat="override", combine_attrs="override"
        )
    except ValueError as error:
        raise InputError(
            f"the items give results of different shapes, which one dataset does not hold ({error}): measure them one "
            "by one, ds.isel(item=0)."
        ) from error
    coords = {name: coord for name, coord in ds.coords.items() if coord.dims == (schema.ITEM,)}
    return _with_attributes(joined.assign_coords(coords), found)


def _with_attributes(joined: _Found, found: Sequence[_Found]) -> _Found:
    """What all results say alike as attributes, and the rest as coordinates."""
    different: dict[str, list[Any]] = {}
    taken = {*map(str, joined.coords), *map(str, joined.dims)}
    if isinstance(joined, xr.Dataset):
        taken |= {str(name) for name in joined.data_vars}
        for name in joined.data_vars:
            own = [one[name].attrs for one in found if isinstance(one, xr.Dataset)]
            joined[name].attrs = _same(own)
            different |= {f"{name}_{attr}": values for attr, values in _different(own).items()}
    whole = [one.attrs for one in found]
    joined.attrs = _same(whole)
    return joined.assign_coords(_along_items(different | _different(whole), taken))


def _along_items(different: Mapping[str, list[Any]], taken: set[str]) -> dict[str, Any]:
    """Attributes that differ as coordinates, but those that are coordinates already."""
    known = {schema.RUN: "key", schema.IMAGE_HASH: schema.IMAGE_HASH, schema.PROMPT: schema.PROMPT}
    told = {attr for coord, attr in known.items() if coord in taken}
    return {
        f"{schema.ITEM}_{name}" if name in taken else name: (schema.ITEM, _labels(values))
        for name, values in different.items()
        if name not in told
    }


def _same(attrs: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    """What all of them say alike."""
    return {
        name: value
        for name, value in attrs[0].items()
        if all(name in each and _equal(each[name], value) for each in attrs[1:])
    }


def _different(attrs: Sequence[Mapping[Any, Any]]) -> dict[str, list[Any]]:
    """What they do not say alike, None where one does not say it."""
    same = _same(attrs)
    names = dict.fromkeys(name for each in attrs for name in each if name not in same)
    return {str(name): [each.get(name) for each in attrs] for name in names}


def _labels(values: list[Any]) -> list[Any]:
    """Values as a coordinate holds them: of one plain kind, or as text."""
    for kind in (bool, str, (int, float)):
        if all(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for value in values):
            return values
    return [json.dumps(value, default=lambda one: np.asarray(one).tolist()) for value in values]


def _equal(one: Any, other: Any) -> bool:
    arrays = isinstance(one, np.ndarray) or isinstance(other, np.ndarray)
    return bool(np.array_equal(one, other)) if arrays else bool(one == other)


def _numbered(found: _Found, words: list[str]) -> _Found:
    """A segmentation whose numbers mean the concepts of the whole dataset."""
    own: list[str] = [str(name) for name in found.attrs.get("flag_meanings", ())]
    if not own or own == words or not set(own) <= set(words) or isinstance(found, xr.Dataset):
        return found
    places = np.array([*(words.index(name) for name in own), -1])  # -1, where nothing was captured, stays
    return found.copy(data=places[found.to_numpy()].astype(found.dtype)).assign_attrs(
        flag_values=list(range(len(words))), flag_meanings=words
    )
