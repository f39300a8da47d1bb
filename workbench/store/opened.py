"""Which dataset in memory was opened from which stored run, and has not been given other variables since."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import xarray as xr


class _Opened(NamedTuple):
    """A dataset, where it is from, and what it consisted of then."""

    ds: weakref.ref[xr.Dataset]
    location: Path | str
    variables: Mapping[object, tuple[int, dict[Any, Any]]]
    attrs: Mapping[Any, Any]


_opened: Final[dict[int, _Opened]] = {}


def remember(ds: xr.Dataset, location: Path | str) -> xr.Dataset:
    """Keep in mind where this very dataset was opened from, as long as it is alive."""
    number = id(ds)

    def forget(gone: weakref.ref[xr.Dataset]) -> None:
        held = _opened.get(number)
        if held is not None and held.ds is gone:
            del _opened[number]

    _opened[number] = _Opened(weakref.ref(ds, forget), location, _marks(ds), dict(ds.attrs))
    return ds


def opened_from(ds: object) -> Path | str | None:
    """Where this very dataset was opened from.

    A write into an array that it holds is not noticed.

    Returns
    -------
    pathlib.Path, str or None
        None for one that was made otherwise, such as a part of a stored run; and for one whose variables, coordinates
        or attributes were replaced, added or removed since.
    """
    held = _opened.get(id(ds))
    if held is None or not isinstance(ds, xr.Dataset) or held.ds() is not ds:
        return None
    alike = _are_same(_marks(ds), held.variables) and ds.attrs.keys() == held.attrs.keys()
    return held.location if alike and all(ds.attrs[name] is held.attrs[name] for name in held.attrs) else None


def _marks(ds: xr.Dataset) -> dict[object, tuple[int, dict[Any, Any]]]:
    """What tells each variable object from any other, without keeping its values alive.

    Variables take no weak references, and the id of one that is gone may be given to another. Each has an encoding of
    its own, which lives on here and so cannot be another's.
    """
    return {name: (id(variable), variable.encoding) for name, variable in ds.variables.items()}


def _are_same(
    now: Mapping[object, tuple[int, dict[Any, Any]]], then: Mapping[object, tuple[int, dict[Any, Any]]]
) -> bool:
    return now.keys() == then.keys() and all(
        now[name][0] == number and now[name][1] is encoding for name, (number, encoding) in then.items()
    )
