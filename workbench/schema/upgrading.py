"""Datasets of earlier versions of the contract, made what the present one says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import xarray as xr

from workbench.schema.dataset_names import SCHEMA_VERSION
from workbench.schema.errors import SchemaError

Upgrade = Callable[[xr.Dataset], xr.Dataset]

UPGRADES: Final[dict[int, Upgrade]] = {}
"""By schema version, what makes a dataset of it one of the next: one entry for each version before the present.

It leaves the dataset that it is given as it is, and loads no scores.
"""


def upgraded(ds: xr.Dataset) -> xr.Dataset:
    """The dataset as the present version of the contract has it; itself when it is of that version.

    Parameters
    ----------
    ds
        A dataset of a run. Without a schema version that is a positive int it is returned as it is.

    Raises
    ------
    SchemaError
        If it is of a newer version.
    """
    version = ds.attrs.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        return ds
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"attribute 'schema_version' is {version}; this version of the package reads up to {SCHEMA_VERSION}: "
            "upgrade concept-workbench"
        )
    for before in range(version, SCHEMA_VERSION):
        ds = UPGRADES[before](ds).assign_attrs(schema_version=before + 1)
    return ds
