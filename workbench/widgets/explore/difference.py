"""What differs between two datasets that are shown side by side: in words, and in their maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr

from workbench import schema
from workbench.interventions import edit_of
from workbench.store.opened import opened_from
from workbench.widgets.explore import arrays
from workbench.widgets.explore.explorer_still import colour_of, difference_tile, symmetric_ramp
from workbench.widgets.explore.state import State
from workbench.widgets.shared.drawing import Block, Text, Tile, Tiles
from workbench.widgets.shared.spaces import names_of

LETTERS: Final = "ABCDEFGH"
_LONGEST: Final = 90


def titles(datasets: Sequence[xr.Dataset]) -> list[str]:
    """For each dataset its letter, and what it has that another one has not.

    Parameters
    ----------
    datasets
        Captured datasets.
    """
    said: list[list[str]] = [[] for _ in datasets]
    for write in _FACTS.values():
        values = [write(ds) for ds in datasets]
        if len(set(values)) > 1:
            for own, value in zip(said, values, strict=True):
                own.append(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…")
    # Of runs that differ in nothing that has a name, the key tells which is which.
    keys = [str(ds.attrs.get("key", "")) for ds in datasets]
    if not any(said):
        alike = _alike(datasets)
        said = [[key] for key in keys] if len(set(keys)) > 1 else [[alike] for _ in datasets]
    return [f"{letter}: {'; '.join(own)}" for letter, own in zip(LETTERS, said, strict=False)]


def _alike(datasets: Sequence[xr.Dataset]) -> str:
    """What is said of datasets that differ in nothing that is recorded: their scores may have been changed since."""
    first, *others = datasets
    if all(ds is first for ds in others):
        return "the same run"
    origin = opened_from(first)
    if origin is not None and all(opened_from(ds) == origin for ds in others):
        return "opened from one stored run"
    return "alike in all that is recorded"


def minus(
    ds_a: xr.Dataset,
    state_a: State,
    ds_b: xr.Dataset,
    state_b: State,
    totals: Sequence[xr.Dataset] = (),
    letter: str = "B",
) -> list[Block]:
    """The maps of one dataset minus those of another, for every concept that both show.

    Parameters
    ----------
    ds_a, state_a, ds_b, state_b
        Two datasets, and what of them is shown.
    totals
        The datasets with the scores of these spaces in memory, where they are.
    letter
        Of the second dataset.

    Returns
    -------
    What is drawn: the differences, or a sentence why there are none.
    """
    reason, sign = _apart(ds_a, state_a, ds_b, state_b), f"A − {letter}"
    if reason:
        return [Text(f"{sign} is not drawn: {reason}.", soft=True)]
    here, there = names_of(ds_a, state_a.space), names_of(ds_b, state_b.space)
    shown = [index for index in state_a.concepts or range(len(here)) if here[index] in there]
    held_a, held_b = totals or (ds_a, ds_b)
    maps_a, maps_b = arrays.maps(state_a, held_a), arrays.maps(state_b, held_b)
    values = np.stack([maps_a[index] - maps_b[there.index(here[index])] for index in shown])
    if not values.any():
        return [Text(f"{sign} is zero everywhere: these maps are the same.", soft=True)]
    tiles: list[Tile] = [
        difference_tile(f"{here[index]}: {sign}", each, values, state_a, colour_of(index))
        for index, each in zip(shown, values, strict=True)
    ]
    return [Tiles(tiles, values.shape[1] / values.shape[2]), symmetric_ramp(values, f"difference, {sign}")]


def _apart(ds_a: xr.Dataset, state_a: State, ds_b: xr.Dataset, state_b: State) -> str:
    """Why maps cannot be subtracted; empty when they can."""
    grids = [tuple(ds.sizes[dim] for dim in (schema.Y, schema.X)) for ds in (ds_a, ds_b)]
    here, there = names_of(ds_a, state_a.space), names_of(ds_b, state_b.space)
    if grids[0] != grids[1]:
        return f"the grids differ, {grids[0][0]} × {grids[0][1]} and {grids[1][0]} × {grids[1][1]} patches"
    if (state_a.space, state_a.reduce) != (state_b.space, state_b.reduce):
        return f"the spaces differ, {state_a.space} and {state_b.space}"
    if not any(here[index] in there for index in state_a.concepts or range(len(here))):
        return "they have no concept in common"
    if sorted(here) != sorted(there) and state_a.reduce != "mean":
        return "their concepts differ, and shares among other concepts cannot be compared; raw scores can"
    return ""


def _joined(name: str, before: str) -> Callable[[xr.Dataset], str]:
    def write(ds: xr.Dataset) -> str:
        held = ds.attrs.get(name)
        if held is None or (not isinstance(held, int | float) and not len(held)):
            return f"no {before}"
        return f"{before} {', '.join(map(str, held)) if isinstance(held, list | tuple) else held}"

    return write


def _labels(name: str) -> Callable[[xr.Dataset], str]:
    def write(ds: xr.Dataset) -> str:
        held = [f"{value:g}" for value in ds[name].to_numpy().tolist()] if name in ds.coords else []
        ends = held if len(held) < 4 else [f"{held[0]} to {held[-1]} ({len(held)})"]
        return f"{name}{'s' * (len(held) > 1)} {', '.join(ends)}"

    return write


def _seeds(ds: xr.Dataset) -> str:
    seeds = list(map(str, ds.attrs.get("seeds", ())))
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" if seeds else "no seed"


def _prompt(ds: xr.Dataset) -> str:
    prompt = ds.attrs.get("prompt") or ""
    text = prompt if isinstance(prompt, str) else "; ".join(map(str, prompt))
    return f"prompt “{text}”" if text else "no prompt"


def _inputs(ds: xr.Dataset) -> str:
    """Further inputs of the pipeline: numbers, and of images and tensors the beginning of their hashes."""

    def told(value: Any) -> str:
        if isinstance(value, Mapping):
            return next((str(value[kind])[:8] for kind in ("image", "tensor") if kind in value), "")
        return ", ".join(map(told, value)) if isinstance(value, list | tuple) else str(value)

    held = schema.read_attributes(ds.attrs).get(schema.INPUTS) or {}
    return ", ".join(f"{name} {told(value)}" for name, value in held.items()) or "no further inputs"


def _edit(ds: xr.Dataset) -> str:
    edit = edit_of(ds.attrs)
    return f"edited: {edit}" if edit else "not edited"


def _concepts(ds: xr.Dataset) -> str:
    return ", ".join(map(str, ds[schema.CONCEPT].to_numpy())) if schema.CONCEPT in ds.coords else "no concepts"


_FACTS: Final[Mapping[str, Callable[[xr.Dataset], Any]]] = {
    "edit": _edit,
    "model": lambda ds: str(ds.attrs.get("model") or "an unnamed model"),
    "revision": _joined("model_revision", "revision"),
    "prompt": _prompt,
    "concepts": _concepts,
    "picture": _joined("image_hash", "picture"),
    "inputs": _inputs,
    "seeds": _seeds,
    "timesteps": _labels(schema.TIMESTEP),
    "layers": _labels(schema.LAYER),
    "size": _joined("size", "size"),
    "attend": _joined("attend", "attend"),
    "pool": _joined("pool", "pool"),
    "guidance": _joined("guidance", "guidance"),
    "steps": _joined("steps", "steps"),
}
