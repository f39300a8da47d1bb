"""Pieces without scores: which are known to be missing, and what to say of the others."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.schema import SchemaError, SelectionError


def absent_pieces(ds: xr.Dataset, taken: xr.DataArray) -> NDArray[np.bool_]:
    """(sample, timestep, layer): which of the chosen pieces the run lists as missing.

    Raises
    ------
    SelectionError
        If all are.
    """
    chosen = [taken[dim].to_numpy().tolist() for dim in schema.PIECE_DIMS]
    absent = np.zeros([len(values) for values in chosen], dtype=bool)
    for piece in ds.attrs.get("missing", ()):
        at = [values.index(piece[d]) for d, values in zip(schema.PIECE_DIMS, chosen, strict=True) if piece[d] in values]
        if len(at) == len(schema.PIECE_DIMS):
            absent[tuple(at)] = True
    if absent.all():
        raise SelectionError(
            "every chosen piece is missing from this run: its blocks did not run. Choose other layers or timesteps; "
            "attrs['missing'] lists what is missing."
        )
    return absent


def unlisted(taken: xr.DataArray, absent: NDArray[np.bool_]) -> SchemaError:
    """The error for scores that are not finite, although nothing lists them as missing.

    Parameters
    ----------
    taken
        The scores, (sample, timestep, layer) and more.
    absent
        (sample, timestep, layer): the pieces that are listed.
    """
    listed = xr.DataArray(absent, dims=schema.PIECE_DIMS)
    finite: xr.DataArray = xr.apply_ufunc(np.isfinite, taken.compute()) | listed
    inner = [dim for dim in finite.dims if dim not in schema.PIECE_DIMS]
    nothing = ~finite.any(inner)
    if nothing.any():
        return SchemaError(
            f"there are no scores of {_first(nothing)}, and attrs['missing'] does not list it. Datasets that were "
            "joined keep the list of the first: set ds.attrs['missing'] to those of all, or choose what all have. "
            "Otherwise the dataset is damaged: workbench.schema.validate(ds, values=True) says where."
        )
    dim = schema.TOKEN if schema.TOKEN in finite.dims else schema.CONCEPT
    bare = ~finite.any([other for other in inner if other != dim])
    if bare.any():
        return SchemaError(
            f"there are no scores of {_first(bare)}: runs with different {dim}s were joined. Choose those that all "
            f"have, ds.sel({dim}=[...])."
        )
    return SchemaError(
        "some of the chosen scores are NaN or infinite although attrs['missing'] does not list them: the dataset is "
        "damaged. workbench.schema.validate(ds, values=True) says where."
    )


def listed_but_there(taken: xr.DataArray, absent: NDArray[np.bool_]) -> SchemaError:
    """The error for pieces that are listed as missing and have scores: the list is that of another dataset."""
    return SchemaError(
        f"attrs['missing'] lists {_first(xr.DataArray(absent, taken.isel(_inner(taken)).coords, schema.PIECE_DIMS))}, "
        "which has scores: the list is that of another dataset. Set ds.attrs['missing'] to the pieces of this one that "
        "do not exist."
    )


def _inner(taken: xr.DataArray) -> dict[str, int]:
    return {str(dim): 0 for dim in taken.dims if dim not in schema.PIECE_DIMS}


def _first(where: xr.DataArray) -> str:
    """The labels of the first place, in words."""
    places = [int(axis[0]) for axis in np.nonzero(where.to_numpy())]
    labels = (where[dim].to_numpy()[at].item() for dim, at in zip(where.dims, places, strict=True))
    words = (
        f"{dim} {label:g}" if isinstance(label, float) else f"{dim} {label!r}"
        for dim, label in zip(where.dims, labels, strict=True)
    )
    return ", ".join(words)
