"""What a captured dataset holds to be shown: its spaces, their names, its labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import xarray as xr

from workbench import schema

T = TypeVar("T")


def held_spaces(ds: xr.Dataset) -> list[str]:
    """The captured spaces, in the order of :data:`workbench.schema.SPACES`."""
    return [space for space in schema.SPACES if schema.total(space) in ds.data_vars]


def dim_of(space: str) -> str:
    """``"concept"``, or ``"token"`` in the ``prompt`` space."""
    return schema.TOKEN if space == schema.PROMPT else schema.CONCEPT


def names_of(ds: xr.Dataset, space: str) -> list[str]:
    """The concepts of a space, or its tokens."""
    return [str(name) for name in ds[dim_of(space)].to_numpy()]


def has_pictures(ds: xr.Dataset) -> bool:
    """Whether every sample has a picture of its own."""
    return schema.IMAGE in ds and schema.SAMPLE in ds[schema.IMAGE].dims


def labels_of(ds: xr.Dataset, dim: str, kind: Callable[[Any], T]) -> list[T]:
    """The labels of a dimension, each made to be of a kind; none where it has no coordinate."""
    return [kind(value) for value in ds[dim].to_numpy()] if dim in ds.coords else []
