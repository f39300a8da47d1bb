"""Which dataset in memory is which stored run, as it was opened."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Final

import xarray as xr

_opened: Final[dict[int, tuple[weakref.ref[xr.Dataset], Path | str]]] = {}


def remember(ds: xr.Dataset, location: Path | str) -> xr.Dataset:
    """Keep in mind where this very dataset was opened from, as long as it is alive."""
    number = id(ds)

    def forget(gone: weakref.ref[xr.Dataset]) -> None:
        held = _opened.get(number)
        if held is not None and held[0] is gone:
            del _opened[number]

    _opened[number] = weakref.ref(ds, forget), location
    return ds


def opened_from(ds: object) -> Path | str | None:
    """Where this very dataset was opened from; None for one that was made otherwise, such as a part of a stored run."""
    held = _opened.get(id(ds))
    return held[1] if held is not None and held[0]() is ds else None
