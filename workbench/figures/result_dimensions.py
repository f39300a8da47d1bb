"""Results as the figures expect them, also after a selection and from a file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from workbench.schema import InputError, read_attributes


def along(found: xr.Dataset, dims: Mapping[str, tuple[str, ...]]) -> xr.Dataset:
    """A result with plain attributes, and variables along the dimensions they are drawn along.

    Parameters
    ----------
    found
        What a method of ``ds.wb`` or an experiment returned, or what xarray made of it.
    dims
        For each variable or coordinate its dimensions; those that ``found`` does not hold are left out.

    Returns
    -------
    The same numbers; a dimension that only a scalar coordinate remembers comes back with length one.

    Raises
    ------
    InputError
        If a dimension is gone, there is one that results do not have, or means are over other concepts than it holds.
    """
    attrs = read_attributes(found.attrs)
    recorded = [str(name) for name in attrs.get("concepts", ())]
    held = [str(name) for name in np.atleast_1d(found["concept"].to_numpy())] if "concept" in found.coords else recorded
    if set(held) != set(recorded) and recorded:
        raise InputError(
            f"this result holds {', '.join(held)} alone, but its means are over {', '.join(recorded)}: pass the whole "
            "result, or measure these concepts alone, concepts=[...]."
        )
    wanted = {name: own for name, own in dims.items() if name in found.variables}
    names = {dim for own in wanted.values() for dim in own}
    dropped = {dim for dim in names if dim in found.coords and found[dim].ndim == 0}
    changed = {}
    for name, own in wanted.items():
        variable = found.variables[name]
        gone = [dim for dim in own if dim not in variable.dims and dim not in dropped]
        more = [str(dim) for dim in variable.dims if dim not in own]
        if gone or more:
            lies = ", ".join(map(str, variable.dims)) or "none"
            raise InputError(
                f"{name!r} lies along {lies}; a figure needs {', '.join(own)}. Pass the result as it was returned, or "
                f"choose from it by label, result.sel({(gone or more)[0]}=value), without drop=True."
            )
        changed[name] = variable.set_dims(list(own)).transpose(*own)
    labels = {dim: (dim, np.atleast_1d(found[dim].to_numpy())) for dim in dropped if dim not in wanted}
    beside = {name: changed.pop(name) for name in list(changed) if name in found.coords}
    plain = found.assign_attrs(attrs).drop_vars([*changed, *beside, *labels])
    return plain.assign_coords({**labels, **beside}).assign(changed)
