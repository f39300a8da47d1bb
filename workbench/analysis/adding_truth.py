"""Adding the truth to a dataset, so that maps can be scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis.normalising import normalised
from workbench.schema import InputError
from workbench.truth import bits_hash, read_regions

if TYPE_CHECKING:
    from workbench.truth import Ignored, Truth, Values


def with_truth(
    ds: xr.Dataset,
    truth: Truth,
    *,
    labels: Values | None = None,
    ignore: Ignored = None,
    resize: bool = False,
) -> xr.Dataset:
    """Add masks of the concepts to a dataset.

    Parameters
    ----------
    ds
        A captured dataset of one picture, or a run of many images.
    truth, labels, ignore, resize
        As in :func:`workbench.truth.read_regions`: a mapping from concept to mask; a label map with ``labels``; a
        DataArray; or a dataset with a truth. Pixels that ``ignore`` names count for nothing and against nothing. Masks
        have the size of the processed image unless ``resize`` is true. Of a run of many images ``truth`` has one of
        these for each item: a mapping from names, a list in the order of the items, or a function of the name.

    Returns
    -------
    A new dataset with ``truth``, (concept, pixel_y, pixel_x) bool, in place of an earlier one, and ``void``,
    (pixel_y, pixel_x) bool, where there are such pixels, both with ``item`` first where there are items; nothing is
    written to the store.

    Raises
    ------
    InputError
        If the masks do not fit the dataset, or it holds several pictures.
    """
    if isinstance(ds, xr.Dataset) and schema.ITEM in ds.dims:
        return _of_items(ds, truth, labels, ignore, resize)
    ds = normalised(ds)
    sizes = [ds.sizes.get(dim) for dim in (schema.PIXEL_Y, schema.PIXEL_X)]
    height, width = sizes
    if height is None or width is None or schema.CONCEPT not in ds.coords:
        raise InputError("this dataset has no concepts or no image to lay masks on; pass what wb.capture returned.")
    pictures = ds[schema.IMAGE].sizes.get(schema.SAMPLE, 1) if schema.IMAGE in ds else 1
    if pictures > 1:
        raise InputError(f"this dataset holds {pictures} different pictures; choose one first: ds.isel(sample=[0]).")
    concepts = [str(name) for name in ds[schema.CONCEPT].to_numpy()]
    regions = read_regions(truth, concepts, (height, width), labels=labels, ignore=ignore, resize=resize)
    return ds.drop_vars(schema.VOID, errors="ignore").assign(regions.variables())


def _of_items(ds: xr.Dataset, truth: Any, labels: Values | None, ignore: Ignored, resize: bool) -> xr.Dataset:
    """Masks of every item; what an item was not asked is nowhere."""
    count = ds.sizes[schema.ITEM]
    names = [str(name) for name in ds[schema.NAME].to_numpy()] if schema.NAME in ds.coords else [""] * count
    given = schema.PerItem.read("masks", truth)
    given.check(names, count)
    words = [str(word) for word in ds[schema.CONCEPT].to_numpy()]
    plane = (schema.PIXEL_Y, schema.PIXEL_X)
    sizes = [ds.sizes[dim] for dim in plane]
    masks, voids = np.zeros((count, len(words), *sizes), bool), np.zeros((count, *sizes), bool)
    for place in range(count):
        own = given.of(names[place], place)
        try:
            one = with_truth(schema.item_at(ds, place), own, labels=labels, ignore=ignore, resize=resize)
        except InputError as error:
            raise type(error)(f"{schema.item_name(ds.isel({schema.ITEM: place}))}: {error}") from error
        at = [words.index(str(word)) for word in one[schema.CONCEPT].to_numpy()]
        masks[place, at] = one[schema.TRUTH].transpose(schema.CONCEPT, *plane)
        if schema.VOID in one:
            voids[place] = one[schema.VOID].transpose(*plane)
    found = ds.drop_vars(schema.VOID, errors="ignore").assign(
        {schema.TRUTH: ((schema.ITEM, schema.CONCEPT, *plane), masks)}
    )
    return found.assign({schema.VOID: ((schema.ITEM, *plane), voids)}) if voids.any() else found


def masks_of(ds: xr.Dataset) -> xr.DataArray:
    """The truth of a normalised dataset, (concept, pixel_y, pixel_x) bool.

    Raises
    ------
    InputError
        If there is none, masks differ along a dimension of their own, or they are no masks any more.
    """
    if schema.TRUTH not in ds:
        raise InputError("this dataset has no truth to compare with; add masks: ds.wb.with_truth({'dog': mask, ...}).")
    truth = ds[schema.TRUTH]
    dims = {schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X}
    if extra := [str(dim) for dim in truth.dims if dim not in dims]:
        raise InputError(
            f"the joined datasets have different truth along {extra[0]!r}: choose one, ds.isel({extra[0]}=[0]), or "
            "measure them together, workbench.analysis.sweeps.sweep([ds_a, ds_b], ...)."
        )
    if set(truth.dims) != dims or truth.dtype != bool:
        raise InputError(
            f"the truth is {truth.dtype} along {', '.join(map(str, truth.dims)) or 'no dimension'}; expected masks, "
            "bool along concept, pixel_y and pixel_x. Add them anew: ds.wb.with_truth({'dog': mask, ...})."
        )
    return truth


def truth_hash(ds: xr.Dataset) -> str:
    """A hash of a dataset's masks and void pixels, which tells one truth from another; empty where it has none.

    Raises
    ------
    InputError
        If they are no masks any more.
    """
    ds = normalised(ds)
    if schema.TRUTH not in ds:
        return ""
    void = void_of(ds)
    masks = masks_of(ds).transpose(schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X).to_numpy()
    return bits_hash(masks) + ("" if void is None else f"-{bits_hash(void.to_numpy())}")


def void_of(ds: xr.Dataset) -> xr.DataArray | None:
    """The void pixels of a normalised dataset, (pixel_y, pixel_x) bool; None where it has none.

    Raises
    ------
    InputError
        If they differ along a dimension of their own, or they are no mask any more.
    """
    void = ds.get(schema.VOID)
    if void is None:
        return None
    if set(void.dims) != {schema.PIXEL_Y, schema.PIXEL_X} or void.dtype != bool:
        raise InputError(
            f"the void pixels are {void.dtype} along {', '.join(map(str, void.dims)) or 'no dimension'}; expected bool "
            "along pixel_y and pixel_x. Choose one picture, or add the masks anew: ds.wb.with_truth(..., ignore=...)."
        )
    return void.transpose(schema.PIXEL_Y, schema.PIXEL_X)
