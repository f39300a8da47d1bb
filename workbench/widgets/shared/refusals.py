"""What keeps a dataset from being shown, in a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis.adding_truth import masks_of, void_of
from workbench.analysis.normalising import normalised
from workbench.analysis.plane import patch_side
from workbench.schema import WorkbenchError
from workbench.widgets.shared.spaces import held_spaces


def problem(ds: Any) -> str | None:
    """Say why an object cannot be shown, and what to do; None when :func:`normalised` makes it one that can.

    No scores are read from disk, but for a single piece of runs of early versions that lack heads.

    Parameters
    ----------
    ds
        What was passed to ``explore``.
    """
    if isinstance(ds, WorkbenchError):
        return str(ds)
    if isinstance(ds, xr.DataArray):
        return f"This is one variable ({ds.name!r}), not a dataset: pass the whole dataset, explore(ds)."
    if isinstance(ds, str):
        return f"explore takes a dataset, and this is text: open the run first, explore(wb.open({ds!r:.80}))."
    if not isinstance(ds, xr.Dataset):
        return (
            "explore takes the dataset that wb.capture, wb.generate or wb.open returned; this is of type "
            f"{type(ds).__name__}."
        )
    try:
        plain = normalised(ds)
        spaces = held_spaces(plain)
        for dim in (schema.Y, schema.X) if spaces else ():
            patch_side(plain, dim)
    except WorkbenchError as error:
        return str(error)
    if not spaces:
        held = ", ".join(map(str, ds.data_vars)) or "nothing"
        return (
            f"This dataset holds no scores: it has no variable such as 'output_total' (it holds {held}). "
            "Pass what wb.capture, wb.generate or wb.open returned, with its variables."
        )
    return None


def shown(ds: xr.Dataset) -> xr.Dataset:
    """The dataset as views hold it: in its usual form, without a truth that is none of it any more.

    Parameters
    ----------
    ds
        A captured dataset without a :func:`problem`.
    """
    ds = normalised(ds)
    try:
        void_of(ds)
        return ds if schema.TRUTH not in ds else ds.assign({schema.TRUTH: masks_of(ds)})
    except WorkbenchError:
        return ds.drop_vars([schema.TRUTH, schema.VOID], errors="ignore")


def remarks(ds: xr.Dataset) -> list[str]:
    """What a dataset that can be shown lacks, in sentences."""
    found = []
    if schema.IMAGE not in ds:
        found.append("This dataset has no picture: the maps are drawn alone.")
    elif not drawable(ds):
        found.append("The variable 'image' is no uint8 picture with three channels: the maps are drawn alone.")
    if schema.CONCEPT in ds.sizes and ds.sizes[schema.CONCEPT] == 1:
        found.append(
            "With one concept a softmax is 1 everywhere, so raw scores are shown; capture a second concept, such as "
            "a word for the background (grass, sky, wall)."
        )
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
