"""One item of a run of many images, as the dataset that a capture of its image alone is."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr

from workbench.schema.dataset_names import ASKED, CONCEPT, IMAGE_HASH, ITEM, NAME, ORDER, PROMPT, RUN
from workbench.schema.errors import InputError

_OF_ITEM: Final = (ITEM, NAME, RUN, IMAGE_HASH, ASKED, ORDER)
"""Coordinates that only items have."""


def item_at(ds: xr.Dataset, place: int) -> xr.Dataset:
    """The item at a place along ``item``, as :func:`of_item` makes it."""
    return of_item(ds.isel({ITEM: place}))


def of_item(ds: xr.Dataset) -> xr.Dataset:
    """What was chosen of one item, as the capture of its image alone: its own concepts, in its own order.

    Parameters
    ----------
    ds
        A dataset without the dimension ``item``. One that is of no item is returned as it is.

    Raises
    ------
    InputError
        If the item was asked none of the concepts that are there.
    """
    held = [name for name in _OF_ITEM if name in ds.coords]
    if not held:
        return ds
    own = ((RUN, "key"), (IMAGE_HASH, IMAGE_HASH), (PROMPT, PROMPT))
    if _is_scalar(ds, PROMPT):
        held.append(PROMPT)
    attrs = {to: str(ds[name].to_numpy().item()) for name, to in own if _is_scalar(ds, name)}
    if ORDER in held and ds[ORDER].dims == (CONCEPT,):
        order = ds[ORDER].to_numpy()
        chosen = np.argsort(order, kind="stable")[int((order < 0).sum()) :]
        if not len(chosen):
            raise InputError(
                f"{item_name(ds)} was asked none of {', '.join(map(str, ds[CONCEPT].to_numpy()))}: choose the items "
                f"that were, ds.isel(item=ds.{ASKED}.any('concept')), or other concepts."
            )
        ds = ds.isel({CONCEPT: chosen})
    elif ORDER in held and not ds[ORDER].dims and ds[ORDER].to_numpy().item() < 0:
        raise InputError(
            f"{item_name(ds)} was not asked {ds[CONCEPT].to_numpy().item()!r}: choose another concept or item."
        )
    return ds.drop_vars(held).assign_attrs(attrs)


def item_name(ds: xr.Dataset) -> str:
    """What a message calls the item that a dataset is of."""
    return f"the item {ds[NAME].to_numpy().item()!r}" if _is_scalar(ds, NAME) else "the item"


def _is_scalar(ds: xr.Dataset, name: str) -> bool:
    return name in ds.coords and not ds[name].dims
