"""Attributes of datasets as files hold them: netCDF knows text, numbers and flat lists of them.

What it does not know is written as JSON, true and false as 1 and 0; a list of one value comes back as that value, and
plain numbers as those of NumPy. :func:`read_attributes` undoes all of that, whichever file a dataset came from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

_NESTED: Final = frozenset(
    {
        *("missing", "failed", "interventions", "plan", "controls", "keys", "guidance", "true_guidance", "readout"),
        "origin",
    }
)
"""Attributes that may be JSON in a file."""
_LISTS: Final = frozenset(
    {
        *("spaces", "seeds", "size", "default_layers", "missing", "failed", "interventions", "plan", "controls"),
        *("samples", "timesteps", "layers", "heads", "softmax_over", "timesteps_asked", "over", "metrics", "concepts"),
        *("flag_values", "flag_meanings"),
    }
)
"""Attributes that are lists, however few values they hold."""


def pack_attributes(attrs: Mapping[Any, Any], *, texts: bool = True) -> dict[Any, Any]:
    """Attributes as netCDF can hold them.

    Parameters
    ----------
    attrs
        Plain values.
    texts
        Whether the format holds lists of text; netCDF 3, which SciPy writes, does not.

    Returns
    -------
    Text, numbers and flat lists of numbers or of text as they are; true and false as 1 and 0; all else as JSON.
    """
    return {name: _packed(value, texts) for name, value in attrs.items()}


def read_attributes(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    """Attributes as plain values, from a dataset in memory or from any file.

    Parameters
    ----------
    attrs
        As :attr:`xarray.Dataset.attrs` gives them.

    Returns
    -------
    Values that JSON can hold, lists of one value as lists; what is not recognised stays as it is.
    """
    listed = _LISTS | ({"higher_is_better"} if "metrics" in attrs else set())
    return {name: _read(name, value, listed) for name, value in attrs.items()}


def _packed(value: Any, texts: bool) -> Any:
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, str | int | float | np.number):
        return value
    if isinstance(value, list | tuple) and value:
        if all(isinstance(item, bool) for item in value):
            return [int(item) for item in value]
        if all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
            return list(value)
        if texts and all(isinstance(item, str) for item in value):
            return list(value)
    return json.dumps(value)


def _read(name: Any, value: Any, listed: frozenset[str] | set[str]) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, str) and (name in _NESTED or (name in listed and value.startswith("["))):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return value
    if name in listed and not isinstance(value, list | tuple):
        return [value]
    return value
