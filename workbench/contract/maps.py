"""Whether maps can be maps at all: finite, not the same everywhere, and alike from layer to layer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench.contract.trying import Rule
from workbench.numerics.agreement import neighbours_agree, shuffled_neighbours_agree
from workbench.schema import LAYER, ContractError, X, Y, total

_FLAT: Final = 0.01
"""Least range over the patches of a heat map, whose values are 0 to 1, that is no uniform one."""


def maps_are_finite(ds: xr.Dataset) -> str:
    """Every score is a number.

    Raises
    ------
    ContractError
        If one is not.
    """
    count = 0
    for space in ds.attrs["spaces"]:
        for name in (space, total(space)):
            values = ds[name].to_numpy()
            count += values.size
            if not np.isfinite(values).all():
                raise ContractError(
                    f"{name} holds {int((~np.isfinite(values)).sum())} values that are no numbers: load the model in "
                    "bfloat16 or float32."
                )
    return f"{count} values"


def maps_are_not_uniform(ds: xr.Dataset) -> str:
    """The heat map of each concept differs from patch to patch.

    Raises
    ------
    ContractError
        If one is the same everywhere.
    """
    found = ds.wb.heatmap()
    ranges = (found.max((Y, X)) - found.min((Y, X))).to_series()
    flat = [str(concept) for concept, span in ranges.items() if span < _FLAT]
    if flat:
        raise ContractError(
            f"maps of {', '.join(flat)} are the same everywhere, to {_FLAT:g}: the concepts were not told apart. Look "
            "at them with other words, layers= and timesteps=."
        )
    return f"range over the patches: {', '.join(f'{concept} {span:.2f}' for concept, span in ranges.items())}"


def layers_agree(ds: xr.Dataset) -> str:
    """Maps of neighbouring layers are more alike than those of shuffled patches.

    Raises
    ------
    ContractError
        If one of 99 shuffles is as alike.
    """
    told = []
    for space in ds.attrs["spaces"]:
        maps = _by_layer(ds, space)
        if len(maps) < 2:
            return "not tried: one layer"
        found, chance = neighbours_agree(maps), shuffled_neighbours_agree(maps)
        if not found > chance.max():
            raise ContractError(
                f"maps of neighbouring layers ({space}) agree by {found:.3f}, and those of shuffled patches by up to "
                f"{chance.max():.3f}: they show no place in the picture."
            )
        told.append(f"{space} {found:.3f} (shuffled: at most {chance.max():.3f})")
    return ", ".join(told)


MAP_RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {rule.__name__: rule for rule in (maps_are_finite, maps_are_not_uniform, layers_agree)}
)
"""What is asked of the maps of a real capture, by name."""


def _by_layer(ds: xr.Dataset, space: str) -> NDArray[np.float64]:
    """Heat maps (layer, concept, patch) of the default layers that were recorded, one layer at a time."""
    recorded = ds[LAYER].values.tolist()
    chosen = [layer for layer in recorded if layer in ds.attrs["default_layers"]] or recorded
    maps = [ds.wb.heatmap(space=space, layers=[layer]).to_numpy().astype(np.float64) for layer in chosen]
    return np.stack([each.reshape(len(each), -1) for each in maps])
