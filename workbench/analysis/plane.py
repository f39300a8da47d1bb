"""Where patches lie in the picture."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.schema import InputError


def patch_side(ds: xr.Dataset, dim: str) -> float:
    """Side of a patch along ``y`` or ``x``, in pixels.

    Raises
    ------
    InputError
        If patches between others were left out, so that those that are there do not cover the picture, or if there is
        one patch alone and nothing says how large it is.
    """
    centres = np.atleast_1d(ds[dim].to_numpy()).astype(float)
    known = ds.attrs.get("patch")
    steps = np.diff(centres)
    if not len(steps):
        if known is None:
            raise InputError(
                f"there is one patch along {dim!r}, and the attribute 'patch', its side in pixels, is lost: set "
                "ds.attrs['patch'], or choose more patches."
            )
        return float(known)
    side = float(steps[0])
    if not np.allclose(steps, side) or (known is not None and not np.isclose(side, known)):
        apart = ", ".join(f"{step:g}" for step in np.unique(steps))
        wide = "" if known is None else f", and a patch is {known:g} pixels wide"
        raise InputError(
            f"the patches along {dim!r} lie {apart} pixels apart{wide}: choose neighbouring ones, "
            f"ds.isel({dim}=slice(...)); after averaging neighbours set ds.attrs['patch'] to the new side."
        )
    return side


def pixels_of(ds: xr.Dataset, dim: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Where the pixels along one axis lie among the patches.

    Parameters
    ----------
    ds
        A normalised dataset with the pixels of its image.
    dim
        ``"y"`` or ``"x"``.

    Returns
    -------
    For all pixels whether a patch covers them, and for those that are covered where they are: patch ``i`` has its
    centre at ``i``.
    """
    centres = np.atleast_1d(ds[dim].to_numpy())
    pixels = ds[schema.PIXEL_Y if dim == schema.Y else schema.PIXEL_X].to_numpy()
    position = (pixels - centres[0]) / patch_side(ds, dim)
    covered = (position > -0.5) & (position < len(centres) - 0.5)
    return covered, position[covered]
