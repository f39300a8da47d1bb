"""What a view shows, as plain values: which scores, reduced how, drawn how."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.heatmaps import HeatmapOptions, Reduction
from workbench.numerics.measures import FORMER_OVERVIEW, OVERVIEW, renamed
from workbench.numerics.scores import REDUCTIONS
from workbench.schema import InputError, SelectionError
from workbench.widgets.shared.forms import one_of
from workbench.widgets.shared.spaces import dim_of, has_pictures, held_spaces, labels_of, names_of

COLOUR_MAPS: Final = ("auto", "viridis", "cividis", "magma", "diverging")
"""``auto`` is viridis for shares, diverging for scores that were not softmaxed."""
SECTIONS: Final = ("overview", "heads", "patch", "options")
"""Parts of the view that unfold."""
MOST_PANELS: Final = 12
"""Shown at first when there are more concepts or tokens than that."""

T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """Everything a view shows, in plain values that JSON can hold.

    Attributes
    ----------
    space : str
        What was compared with what.
    layers : tuple of two int
        First and last layer, both included.
    timesteps : tuple of two float
        Highest and lowest timestep, both included.
    heads : tuple of int or None
        The heads that are summed; None sums all.
    sample : int or None
        One sample; None averages over all.
    frame : int or None
        The frame of a video; None for pictures.
    reduce : str
        As in :func:`workbench.analysis.heatmaps.heatmap`.
    concepts : tuple of int or None
        Positions of the concepts (or tokens) that have a panel; None means all.
    difference : tuple of two int or None
        Two positions: a panel shows the first map minus the second.
    focus : int or None
        Position of the picked concept.
    pin : tuple of two int or None
        Row and column of the pinned patch.
    statistic : str
        One of :data:`workbench.numerics.measures.OVERVIEW`.
    cmap : str
        One of :data:`COLOUR_MAPS`.
    opacity : float
        Of the maps over the picture, 0 to 1.
    smooth : bool
        Interpolate between patch centres.
    picture : bool
        Lay the maps over the picture.
    limits : tuple of two float or None
        Ends of the colour scale; None fits it to what is shown.
    open : tuple of str
        The unfolded sections, from :data:`SECTIONS`.
    """

    space: str
    layers: tuple[int, int]
    timesteps: tuple[float, float]
    heads: tuple[int, ...] | None = None
    sample: int | None = None
    frame: int | None = None
    reduce: Reduction = "softmax_mean"
    concepts: tuple[int, ...] | None = None
    difference: tuple[int, int] | None = None
    focus: int | None = None
    pin: tuple[int, int] | None = None
    statistic: str = "patch_agreement"
    cmap: str = "auto"
    opacity: float = 0.75
    smooth: bool = False
    picture: bool = True
    limits: tuple[float, float] | None = None
    open: tuple[str, ...] = ()

    @classmethod
    def default(cls, ds: xr.Dataset, space: str | None = None) -> State:
        """What a dataset shows at first: the heat map of ``ds.wb.heatmap()``.

        Parameters
        ----------
        ds
            A captured dataset.
        space
            Without it, the first of :data:`workbench.schema.SPACES` that was captured.
        """
        space = space or held_spaces(ds)[0]
        captured = labels_of(ds, schema.LAYER, int)
        chosen = [layer for layer in captured if layer in ds.attrs.get("default_layers", ())] or captured
        timesteps = labels_of(ds, schema.TIMESTEP, float)
        frames = labels_of(ds, schema.FRAME, int)
        names = names_of(ds, space)
        return cls(
            space=space,
            layers=(min(chosen), max(chosen)),
            timesteps=(max(timesteps), min(timesteps)),
            sample=labels_of(ds, schema.SAMPLE, int)[0] if has_pictures(ds) else None,
            frame=frames[0] if frames else None,
            reduce="softmax_mean" if len(names) > 1 else "mean",
            concepts=None if len(names) <= MOST_PANELS else tuple(range(MOST_PANELS)),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any], ds: xr.Dataset) -> State:
        """Read a state and check it against a dataset.

        Parameters
        ----------
        values
            What :meth:`to_json` gave, or a file that a view saved it in; what is left out is as in :meth:`default`.
        ds
            The dataset it is for.

        Raises
        ------
        InputError
            If a value is of the wrong kind or out of range.
        SelectionError
            If something is not in the dataset; lists what is.
        """
        if isinstance(values, Mapping) and set(values) == {"run", "state"}:  # a saved state, with where it comes from
            values = values["state"]
        if not isinstance(values, Mapping):
            raise InputError(f"the state is a {type(values).__name__}; expected a mapping such as view.state gives.")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                raise InputError(
                    f"a state has no {name!r}; "
                    + (f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}.")
                )
        space = selection.space_of(ds, values.get("space", held_spaces(ds)[0]))
        return _Reader(ds, space).read({**cls.default(ds, space).to_json(), **values})

    def to_json(self) -> dict[str, Any]:
        """The state as plain values: what ``json.dumps`` takes and :meth:`from_json` reads."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        }

    def options(self, ds: xr.Dataset) -> HeatmapOptions:
        """What to pass to ``ds.wb.heatmap`` for the maps of this state."""
        first, last = self.layers
        high, low = self.timesteps
        timesteps = labels_of(ds, schema.TIMESTEP, float)
        options: HeatmapOptions = {"layers": first if first == last else slice(first, last)}
        if self.space != schema.SPACES[0]:
            options["space"] = self.space
        if high == low:
            options["timesteps"] = high
        elif (high, low) != (max(timesteps), min(timesteps)):
            options["timesteps"] = slice(high, low)
        if self.heads is not None:
            options["heads"] = list(self.heads)
        if self.sample is not None:
            options["samples"] = self.sample
        if self.reduce != REDUCTIONS[0]:
            options["reduce"] = self.reduce
        return options

    def call(self, ds: xr.Dataset, variable: str = "ds") -> str:
        """Python code that computes the numbers on screen from a dataset that is in a variable."""
        written = ", ".join(f"{name}={_code(value)}" for name, value in self.options(ds).items())
        dim = dim_of(self.space)
        frame = "" if self.frame is None else f".sel(frame={self.frame})"
        names = names_of(ds, self.space)

        def chosen(positions: int | tuple[int, ...], more: str = "") -> str:
            """A choice by name; tokens may have one name twice, and are then chosen by position."""
            if len(set(names)) < len(names):
                return f".isel({dim}={_code(positions)}{more})"
            named = names[positions] if isinstance(positions, int) else [names[index] for index in positions]
            return f".sel({dim}={_code(named)}{more})"

        shown = "" if self.concepts is None else chosen(self.concepts)
        maps = f"{variable}.wb.heatmap({written}){frame}"
        lines = [f"maps = {maps}{shown}", f"areas = {variable}.wb.segment({written}){frame}"]
        if self.difference is not None:
            one, other = (f"{maps}{chosen(index, ', drop=True')}" for index in self.difference)
            lines.append(f"difference = {one} - {other}")
        return "\n".join(lines)


def _code(value: Any) -> str:
    if isinstance(value, slice):
        return f"slice({value.start!r}, {value.stop!r})"
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class _Reader:
    """Checks one state against one dataset."""

    ds: xr.Dataset
    space: str

    def read(self, values: dict[str, Any]) -> State:
        names = names_of(self.ds, self.space)
        position = self._among(range(len(names)), f"{dim_of(self.space)} position")
        rows, columns = (self._among(range(self.ds.sizes[dim]), dim) for dim in (schema.Y, schema.X))
        layer = self._among(labels_of(self.ds, schema.LAYER, int), "layer")
        first, last = self._pair("layers", values["layers"], layer)
        high, low = self._pair("timesteps", values["timesteps"], self._timestep)
        sample = self._among(labels_of(self.ds, schema.SAMPLE, int), "sample")
        frames = labels_of(self.ds, schema.FRAME, int)
        if frames and values["frame"] is None:
            values["frame"] = frames[0]
        difference = values["difference"]
        pin = values["pin"]
        limits = values["limits"]
        return State(
            space=self.space,
            layers=(min(first, last), max(first, last)),
            timesteps=(max(high, low), min(high, low)),
            heads=self._heads(values["heads"]),
            sample=None if values["sample"] is None else sample(values["sample"]),
            frame=None if values["frame"] is None else self._among(frames, "frame")(values["frame"]),
            reduce=one_of("reduce", values["reduce"], REDUCTIONS),
            concepts=self._several("concepts", values["concepts"], position),
            difference=None if difference is None else self._pair("difference", difference, position),
            focus=None if values["focus"] is None else position(values["focus"]),
            pin=None if pin is None else (rows(_two("pin", pin)[0]), columns(_two("pin", pin)[1])),
            statistic=one_of("statistic", renamed("statistic", values["statistic"], FORMER_OVERVIEW), tuple(OVERVIEW)),
            cmap=one_of("cmap", values["cmap"], COLOUR_MAPS),
            opacity=min(max(_real("opacity", values["opacity"]), 0.0), 1.0),
            smooth=_flag("smooth", values["smooth"]),
            picture=_flag("picture", values["picture"]),
            limits=None if limits is None else self._pair("limits", limits, lambda value: _real("limits", value)),
            open=tuple(one_of("open", name, SECTIONS) for name in _listed("open", values["open"])),
        )

    def _heads(self, heads: Any) -> tuple[int, ...] | None:
        if heads is not None and self.space not in self.ds.data_vars:
            raise SelectionError(
                f"heads were chosen, but this dataset holds only the sums over heads of {self.space!r}."
            )
        return self._several("heads", heads, self._among(labels_of(self.ds, schema.HEAD, int), "head"))

    def _timestep(self, value: Any) -> float:
        """The captured timestep nearest to a value."""
        held = labels_of(self.ds, schema.TIMESTEP, float)
        wanted = _real("timesteps", value)
        nearest = min(held, key=lambda timestep: abs(timestep - wanted))
        if abs(nearest - wanted) > selection.NEAREST:
            raise SelectionError(
                f"no timestep within {selection.NEAREST:g} of {wanted:g} was captured; captured timesteps: "
                f"{', '.join(f'{timestep:g}' for timestep in held)}."
            )
        return nearest

    def _among(self, held: Sequence[int], what: str) -> Callable[[Any], int]:
        def read(value: Any) -> int:
            try:
                if isinstance(value, bool | np.bool_):
                    raise TypeError
                number = operator.index(value)
            except TypeError:
                raise InputError(f"{what} {value!r} is not a whole number.") from None
            if number not in held:
                raise SelectionError(f"{what} {number} does not exist; it has {_span(held)}.")
            return number

        return read

    def _several(self, name: str, values: Any, read: Callable[[Any], int]) -> tuple[int, ...] | None:
        if values is None:
            return None
        chosen = sorted({read(value) for value in _listed(name, values)})
        if not chosen:
            raise InputError(f"{name} is empty; None means all.")
        return tuple(chosen)

    def _pair(self, name: str, values: Any, read: Callable[[Any], T]) -> tuple[T, T]:
        one, other = _two(name, values)
        return read(one), read(other)


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise InputError(f"{name} is {values!r}; expected a list.")
    return list(values)


def _two(name: str, values: Any) -> tuple[Any, Any]:
    listed = _listed(name, values)
    if len(listed) != 2:
        raise InputError(f"{name} is {values!r}; expected two values.")
    return listed[0], listed[1]


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}; expected a finite number.")
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; expected True or False.")
    return value


def _span(held: Sequence[int]) -> str:
    values = list(held)
    return f"{values[0]} to {values[-1]}" if len(values) > 12 else ", ".join(map(str, values)) or "none"
