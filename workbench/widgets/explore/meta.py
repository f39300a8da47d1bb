"""What the browser knows about the dataset of a view."""

from __future__ import annotations

from typing import Any

import xarray as xr

from workbench.analysis.origin import provenance, stem_of
from workbench.widgets.explore.cube import LARGEST, size
from workbench.widgets.explore.state import State
from workbench.widgets.shared.description import describe


def meta_of(ds: xr.Dataset, *, cube: bool | None = None, variable: str = "ds", source: str = "") -> dict[str, Any]:
    """The description of a dataset, what each of its spaces shows at first, its provenance, and a name for files.

    Parameters
    ----------
    ds
        A captured dataset without a :func:`workbench.widgets.shared.refusals.problem`.
    cube
        Whether the browser is to hold a space's cube; None means if it is small.
    variable
        What copied code calls the dataset.
    source
        Code that opens the dataset, where it is known.
    """
    known = describe(ds)
    for space, about in known["spaces"].items():
        about["cube"] = size(ds, space) < LARGEST if cube is None else cube
        about["state"] = State.default(ds, space).to_json()
    return {**known, "run": provenance(ds), "file": stem_of(ds), "variable": variable, "source": source}
