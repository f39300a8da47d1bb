"""Choosing layers, timesteps, heads, samples and concepts of a dataset by their coordinate values.

A choice is one value, a list of values, or a slice with **both ends included, in either order**. It never drops a
dimension: one value gives a dimension of length one.
"""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Sequence
from typing import Any, Final, TypedDict

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.schema import SelectionError

Numbers = int | float | Sequence[int] | Sequence[float] | slice | NDArray[Any] | None
"""A choice of layers, timesteps, heads or samples; None means all of them."""
Labels = str | Sequence[str] | None
"""A choice of concepts (or, in the ``prompt`` space, of tokens); None means all of them."""


class PieceChoice(TypedDict, total=False):
    """Which pieces and heads, as options."""

    layers: Numbers
    timesteps: Numbers
    heads: Numbers
    samples: Numbers


class ScoreChoice(PieceChoice, total=False):
    """The same with concepts."""

    concepts: Labels


NEAREST: Final = 25.0
"""A timestep asked for stands for the nearest captured one, at most this far away (of 1000)."""
_END: Final = 0.01
"""Slack at the ends of a slice of timesteps: 500 includes a captured 500.0003."""

logger = logging.getLogger(__name__)


def space_of(ds: xr.Dataset, space: str) -> str:
    """Check that a dataset holds a space's scores.

    Parameters
    ----------
    ds
        A captured dataset.
    space
        One of :data:`workbench.schema.SPACES`.

    Returns
    -------
    ``space``.

    Raises
    ------
    SelectionError
        If the space is unknown or was not captured; names those that were.
    """
    held = [name for name in schema.SPACES if schema.total(name) in ds.data_vars]
    if not held:
        raise SelectionError(
            "this dataset holds no scores: it has no variable such as 'output_total'. "
            "Pass what wb.capture, wb.generate or wb.open returned, with its variables."
        )
    if space not in schema.SPACES:
        raise SelectionError(f"space {space!r} does not exist; this dataset holds {', '.join(held)}.")
    if space not in held:
        raise SelectionError(
            f"space {space!r} was not captured; this dataset holds {', '.join(held)}. "
            f"Choose one of these, or capture again with spaces={(*held, space)!r}."
        )
    return space


def take(
    values: xr.DataArray,
    *,
    layers: Numbers = None,
    timesteps: Numbers = None,
    heads: Numbers = None,
    samples: Numbers = None,
) -> xr.DataArray:
    """Select by coordinate value, without loading anything.

    Parameters
    ----------
    values
        Scores with the dimensions sample, timestep, layer and, where ``heads`` is given, head.
    layers, heads, samples
        Whole numbers of the coordinate: one, a list, or a slice with both ends included, in either order.
    timesteps
        The same in timesteps (1000 x sigma). A value stands for the nearest captured one within :data:`NEAREST`;
        which one that was is logged and kept in ``attrs["timesteps_asked"]``. The ends of a slice are exact.

    Returns
    -------
    The same dimensions, shorter.

    Raises
    ------
    SelectionError
        If something is not there, is named twice or is not a number; lists what exists.
    """
    indexers: dict[str, Any] = {}
    for dim, choice in ((schema.SAMPLE, samples), (schema.LAYER, layers), (schema.HEAD, heads)):
        if choice is not None:
            indexers[dim] = _contiguous(_whole(_coordinate(values, dim), choice, dim))
    attrs = dict(values.attrs)
    if timesteps is not None:
        positions, asked = _timesteps(_coordinate(values, schema.TIMESTEP), timesteps)
        indexers[schema.TIMESTEP] = _contiguous(positions)
        if asked:
            attrs["timesteps_asked"] = asked
    return values.isel(indexers).assign_attrs(attrs)


def take_concepts(values: xr.DataArray, concepts: Labels) -> xr.DataArray:
    """Select concepts, in the order asked for.

    Parameters
    ----------
    values
        Anything with the dimension concept, or token in the ``prompt`` space: every token that reads so is taken.
    concepts
        One string or a list of strings.

    Returns
    -------
    The same dimensions, shorter.

    Raises
    ------
    SelectionError
        If a concept was not captured or is named twice; lists those that were captured.
    """
    return values if concepts is None else values.isel({concept_dim(values): concept_positions(values, concepts)})


def concept_positions(values: xr.DataArray, concepts: Labels) -> list[int]:
    """Positions of the chosen concepts, as :func:`take_concepts` selects them."""
    dim = concept_dim(values)
    captured = [str(name) for name in _coordinate(values, dim)]
    if concepts is None:
        return list(range(len(captured)))
    names = [concepts] if isinstance(concepts, str) else _as_list(concepts, f"{dim}s", captured)
    for name in names:
        if not isinstance(name, str) or name not in captured:
            raise SelectionError(
                f"{dim} {name!r} was not captured; {dim}s: {_some(captured)}. Choose among these, or capture it."
            )
    _refuse_repeats(names, dim)
    return [index for name in names for index, held in enumerate(captured) if held == name]


def concept_dim(values: xr.DataArray) -> str:
    """``"concept"``, or ``"token"`` for scores of the ``prompt`` space."""
    return schema.TOKEN if schema.TOKEN in values.dims else schema.CONCEPT


def _coordinate(values: xr.DataArray, dim: str) -> NDArray[Any]:
    if dim not in values.dims or dim not in values.coords:
        raise SelectionError(
            f"there is no coordinate {dim!r} to choose from; dimensions: {', '.join(map(str, values.dims))}."
        )
    return values[dim].to_numpy()


def _whole(captured: NDArray[Any], choice: Any, dim: str) -> list[int]:
    """Positions of the chosen whole numbers in a coordinate."""
    held = [int(value) for value in captured]
    if isinstance(choice, slice):
        low, high = _ends(choice, dim, lambda value: _whole_number(value, dim, held))
        return _found([i for i, value in enumerate(held) if low <= value <= high], choice, dim, held)
    numbers = [_whole_number(value, dim, held) for value in _as_list(choice, f"{dim}s", held)]
    _refuse_repeats(numbers, dim)
    for number in numbers:
        if number not in held:
            raise SelectionError(f"{dim} {number} was not captured; captured {dim}s: {_some(held)}.")
    return [held.index(number) for number in numbers]


def _timesteps(captured: NDArray[Any], choice: Any) -> tuple[list[int], list[float]]:
    """Positions of the chosen timesteps (nearest for values, exact ends for a slice); what was asked, if inexact."""
    held = [float(value) for value in captured]
    dim = schema.TIMESTEP
    if isinstance(choice, slice):
        low, high = _ends(choice, dim, lambda value: _real_number(value, held))
        inside = [i for i, value in enumerate(held) if low - _END <= value <= high + _END]
        return _found(inside, choice, dim, held), []
    numbers = [_real_number(value, held) for value in _as_list(choice, "timesteps", held)]
    positions: list[int] = []
    for asked in numbers:
        nearest = min(range(len(held)), key=lambda index: abs(held[index] - asked))
        if abs(held[nearest] - asked) > NEAREST:
            raise SelectionError(
                f"no timestep within {NEAREST:g} of {asked:g} was captured; captured timesteps: {_some(held)}. "
                "Choose one of these, or capture that timestep."
            )
        if held[nearest] != asked:
            logger.info("timestep %g stands for the nearest captured one, %g", asked, held[nearest])
        positions.append(nearest)
    if len(set(positions)) < len(positions):
        raise SelectionError(
            f"timesteps {choice!r} name a captured one twice; captured timesteps: {_some(held)}. Name each once."
        )
    exact = numbers == [held[position] for position in positions]
    return positions, [] if exact else numbers


def _ends(choice: slice, dim: str, number: Any) -> tuple[float, float]:
    """Lower and upper end of a slice, whichever way round it was written."""
    if choice.step is not None:
        raise SelectionError(
            f"{dim}s {choice!r} has a step; a slice means everything between its ends: list the {dim}s instead."
        )
    start = None if choice.start is None else number(choice.start)
    stop = None if choice.stop is None else number(choice.stop)
    if start is not None and stop is not None:
        return min(start, stop), max(start, stop)
    # The open end follows the order of the coordinate: timesteps run downwards.
    if dim == schema.TIMESTEP:
        start, stop = stop, start
    return (-math.inf if start is None else start), (math.inf if stop is None else stop)


def _found(positions: list[int], choice: slice, dim: str, held: Sequence[Any]) -> list[int]:
    if not positions:
        raise SelectionError(
            f"no captured {dim} lies between {choice.start} and {choice.stop}; captured {dim}s: {_some(held)}."
        )
    return positions


def _as_list(choice: Any, plural: str, held: Sequence[Any]) -> list[Any]:
    """A scalar as a list of one; anything listable as a list; refuses text, mappings and empty lists."""
    if isinstance(choice, (str, bytes, dict)):
        raise SelectionError(f"{plural} is {choice!r}; expected a number, a list or a slice; captured: {_some(held)}.")
    if isinstance(choice, (xr.DataArray, np.ndarray)):
        choice = np.asarray(choice).tolist()
    try:
        values = list(choice)
    except TypeError:
        values = [choice]
    if not values:
        raise SelectionError(f"{plural} is an empty list; leave it out to take all, or choose among: {_some(held)}.")
    return values


def _whole_number(value: Any, dim: str, held: Sequence[int]) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise SelectionError(f"{dim} {value!r} is not a whole number; captured {dim}s: {_some(held)}.") from None


def _real_number(value: Any, held: Sequence[float]) -> float:
    refused = isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number))
    if refused or not math.isfinite(value):
        raise SelectionError(
            f"timestep {value!r} is not a number; expected 1000 x sigma, in (0, 1000]; "
            f"captured timesteps: {_some(held)}."
        )
    return float(value)


def _refuse_repeats(values: Sequence[Any], dim: str) -> None:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise SelectionError(f"{dim} {', '.join(map(repr, repeated))} is named more than once: name each {dim} once.")


def _some(values: Sequence[Any]) -> str:
    """What exists, readable however long it is."""
    names = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(names if len(names) <= 64 else [*names[:60], "…", *names[-3:]]) or "none"


def _contiguous(positions: list[int]) -> slice | list[int]:
    """A slice where one will do: zarr reads it without building an index array."""
    first = positions[0]
    if positions == list(range(first, first + len(positions))):
        return slice(first, first + len(positions))
    return positions
