"""Truth that was drawn by hand, patch by patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.schema import InputError
from workbench.widgets.shared.forms import listed, pair, whole

Drawn: TypeAlias = Mapping[str, Sequence[tuple[int, int]]]
"""By concept, the rows and columns of its patches."""


def read_drawn(values: Any, ds: xr.Dataset) -> Drawn:
    """Check drawn patches against a dataset.

    Raises
    ------
    InputError
        If a concept or a patch is none of the dataset's.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"the drawn truth is a {type(values).__name__}; expected patches by concept.")
    patch_of = pair(whole())
    names = [str(name) for name in ds[schema.CONCEPT].to_numpy()]
    grid = (ds.sizes[schema.Y], ds.sizes[schema.X])
    found = {}
    for name, patches in values.items():
        if name not in names:
            raise InputError(f"truth is drawn for {name!r}, which is not among the concepts {', '.join(names)}.")
        held = {patch_of(f"a patch of {name}", patch) for patch in listed(f"the patches of {name}", patches)}
        for row, column in held:
            if not (0 <= row < grid[0] and 0 <= column < grid[1]):
                raise InputError(
                    f"patch {row}, {column} of {name!r} is outside the grid of {grid[0]} x {grid[1]} patches."
                )
        if held:
            found[name] = sorted(held)
    return found


def masks_of(drawn: Drawn, ds: xr.Dataset, *, pixels: bool = False) -> dict[str, NDArray[np.bool_]]:
    """Masks (y, x) of all concepts, or (pixel_y, pixel_x); where nothing is drawn, a concept is nowhere.

    Raises
    ------
    InputError
        If nothing is drawn at all.
    """
    if not drawn:
        raise InputError("no truth is drawn yet: choose a concept and click its patches in the picture.")
    masks = {str(name): np.zeros((ds.sizes[schema.Y], ds.sizes[schema.X]), bool) for name in ds[schema.CONCEPT].values}
    for name, patches in drawn.items():
        rows, columns = zip(*patches, strict=True)
        masks[name][list(rows), list(columns)] = True
    if not pixels:
        return masks
    down, across = _pixels(ds)
    return {name: mask.repeat(down, 0).repeat(across, 1) for name, mask in masks.items()}


def code_of(drawn: Drawn, ds: xr.Dataset, *, pixels: bool = False) -> str:
    """Code that makes the same masks, as the variable ``masks``."""
    names = [str(name) for name in ds[schema.CONCEPT].to_numpy()]
    grid = (ds.sizes[schema.Y], ds.sizes[schema.X])
    lines = ["import numpy as np", "", f"masks = {{name: np.zeros({grid}, bool) for name in {names!r}}}"]
    for name, patches in drawn.items():
        rows, columns = ([patch[axis] for patch in patches] for axis in (0, 1))
        lines.append(f"masks[{name!r}][{rows}, {columns}] = True")
    if pixels:
        down, across = _pixels(ds)
        lines.append(f"masks = {{name: mask.repeat({down}, 0).repeat({across}, 1) for name, mask in masks.items()}}")
    return "\n".join(lines)


def truth_in_words(kind: str, drawn: Drawn) -> str:
    """The truth that maps were compared with: ``"own"``, ``"drawn"``, or nothing for ``"none"``."""
    if kind == "own":
        return "the dataset’s own"
    counts = ", ".join(f"{name} {len(patches)}" for name, patches in drawn.items())
    return f"drawn: {counts} patches" if kind == "drawn" else ""


def _pixels(ds: xr.Dataset) -> tuple[int, int]:
    """Pixels of a patch, down and across."""
    found = []
    for dim, pixel_dim in ((schema.Y, schema.PIXEL_Y), (schema.X, schema.PIXEL_X)):
        size, left = divmod(ds.sizes[pixel_dim], ds.sizes[dim])
        if left:
            raise InputError(
                f"truth can only be drawn where patches cover the picture evenly; here {ds.sizes[dim]} patches cover "
                f"{ds.sizes[pixel_dim]} pixels. Pass the run as it was captured."
            )
        found.append(size)
    return found[0], found[1]
