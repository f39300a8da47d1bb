"""What keeps a dataset from being shown, in a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from workbench import schema
from workbench.schema import WorkbenchError
from workbench.widgets.state import dim_of, held_spaces


def problem(ds: Any) -> str | None:
    """Say why an object cannot be shown, and what to do; None when it can.

    Only names and sizes are looked at: nothing is read from disk.

    Parameters
    ----------
    ds
        What was passed to ``explore``.
    """
    if isinstance(ds, WorkbenchError):
        return str(ds)
    if isinstance(ds, xr.DataArray):
        return f"This is one variable ({ds.name!r}), not a dataset: pass the whole dataset, explore(ds)."
    if not isinstance(ds, xr.Dataset):
        return (
            "explore takes the dataset that wb.capture, wb.generate or wb.open returned; this is of type "
            f"{type(ds).__name__}."
        )
    spaces = held_spaces(ds)
    if not spaces:
        held = ", ".join(map(str, ds.data_vars)) or "nothing"
        return (
            f"This dataset holds no scores: it has no variable such as 'output_total' (it holds {held}). "
            "Pass what wb.capture, wb.generate or wb.open returned, with its variables."
        )
    for space in spaces:
        if sentence := _space_problem(ds, space):
            return sentence
    return None


def remarks(ds: xr.Dataset) -> list[str]:
    """What a dataset that can be shown lacks, in sentences."""
    found = []
    if schema.IMAGE not in ds:
        found.append("This dataset has no picture: the maps are drawn alone.")
    elif not drawable(ds):
        found.append("The variable 'image' is no uint8 picture with three channels: the maps are drawn alone.")
    if schema.CONCEPT in ds.sizes and ds.sizes[schema.CONCEPT] == 1:
        found.append("With one concept a softmax is 1 everywhere, so raw scores are shown; capture a second concept.")
    return found


def drawable(ds: xr.Dataset) -> bool:
    """Whether ``image`` is a picture, one for all or one for each sample or frame."""
    image = ds.get(schema.IMAGE)
    plane = {schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL}
    return (
        image is not None
        and image.dtype == np.uint8
        and plane <= set(image.dims) <= plane | {schema.SAMPLE, schema.FRAME}
        and image.sizes[schema.CHANNEL] == 3
        and image.size > 0
    )


def _space_problem(ds: xr.Dataset, space: str) -> str | None:
    name = schema.total(space)
    expected = {*schema.PIECE_DIMS, dim_of(space), schema.Y, schema.X}
    values = ds[name]
    for dim in sorted(expected - set(values.dims)):
        one = f"ds.sel({dim}=[value]) keeps it" if dim in ds.coords else f"{name!r} needs it"
        return f"{name!r} has no dimension {dim!r}: {one}. Its dimensions are {', '.join(map(str, values.dims))}."
    unknown = set(values.dims) - expected - {schema.FRAME}
    if unknown:
        return (
            f"{name!r} has the unknown dimension {', '.join(sorted(map(str, unknown)))}; expected a captured dataset."
        )
    for dim in map(str, values.dims):
        if not values.sizes[dim]:
            return f"{name!r} is empty: its dimension {dim!r} has length 0."
        if dim not in ds.coords:
            return f"The dimension {dim!r} of {name!r} has no coordinate; expected a captured dataset."
    for dim in (schema.SAMPLE, schema.LAYER, schema.TIMESTEP):
        if ds[dim].dtype.kind not in "iuf":
            return f"The coordinate {dim!r} holds {ds[dim].dtype}; expected numbers."
    if values.dtype.kind != "f":
        return f"{name!r} holds {values.dtype}; expected floating-point scores."
    return None
