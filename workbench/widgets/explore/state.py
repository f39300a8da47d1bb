"""What a view shows, as plain values: which scores, reduced how, drawn how."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import xarray as xr

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.heatmaps import HeatmapOptions, Reduction
from workbench.numerics.measures import FORMER_OVERVIEW, OVERVIEW
from workbench.numerics.scores import REDUCTIONS
from workbench.schema import SelectionError
from workbench.widgets.shared import forms
from workbench.widgets.shared.forms import Reader, among, one_of, optional, pair
from workbench.widgets.shared.spaces import dim_of, has_pictures, held_spaces, labels_of, names_of

COLOUR_MAPS: Final = ("auto", "viridis", "cividis", "magma", "diverging")
"""``auto`` is viridis for shares, diverging for scores that were not softmaxed."""
SECTIONS: Final = ("overview", "heads", "patch", "options")
"""Parts of the view that unfold."""
MOST_PANELS: Final = 12
"""Shown at first when there are more concepts or tokens than that."""


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
    head_layer : int or None
        The layer whose heads have a map each; None follows the last chosen layer.
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
    head_layer: int | None = None
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
        space = held_spaces(ds)[0]
        if isinstance(values, Mapping) and "space" in values:
            space = selection.space_of(ds, values["space"])
        return dataclasses.replace(cls.default(ds, space), **forms.read("a state", values, _fields(ds, space)))

    @property
    def strip_layer(self) -> int:
        """The layer whose heads have a map each."""
        return self.layers[1] if self.head_layer is None else self.head_layer

    def to_json(self) -> dict[str, Any]:
        """The state as plain values: what ``json.dumps`` takes and :meth:`from_json` reads."""
        found: dict[str, Any] = forms.plain(self)
        return found

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
        """Python code that computes the numbers on screen from a dataset that is in a variable; those of the overview,
        the heads and the patch as long as they are unfolded."""
        written = _arguments(self.options(ds))
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
        framed = variable if self.frame is None else f"{variable}.sel(frame=[{self.frame}])"
        known = schema.TRUTH in ds and dim == schema.CONCEPT
        if known:
            lines.append(f"mean_iou = {framed}.wb.score({written}).mean_iou")
        if self.difference is not None:
            one, other = (f"{maps}{chosen(index, ', drop=True')}" for index in self.difference)
            lines.append(f"difference = {one} - {other}")
        if self.pin is not None and "patch" in self.open:
            row, column = self.pin
            at = f"{frame}.isel(y={row}, x={column})"
            lines.append(f"patch = {variable}.wb.heatmap({written}){at}")
            for kept, every in self.along(ds).items():
                lines.append(f"over_{kept}s = {variable}.wb.heatmap({_arguments(every)}){at}")
        if "overview" in self.open and len(names) > 1 and (OVERVIEW[self.statistic].against != "truth" or known):
            asked: dict[str, Any] = {} if self.space == schema.SPACES[0] else {"space": self.space}
            asked |= {} if self.sample is None else {"samples": self.sample}
            given = ", ".join([_code(self.statistic), *([_arguments(asked)] if asked else [])])
            lines.append(f"overview = {framed}.wb.overview({given})")
        if "heads" in self.open and self.space in ds.data_vars:
            alone = dataclasses.replace(self, layers=(self.strip_layer,) * 2, heads=()).options(ds)
            alone["heads"] = _Name("head")  # type: ignore[typeddict-item]
            one = f"{variable}.wb.heatmap({_arguments(alone)}){frame}{chosen(self.focus or 0, ', drop=True')}"
            lines.append(f'heads = {{head: {one} for head in {variable}["head"].values.tolist()}}')
        return "\n".join(lines)

    def along(self, ds: xr.Dataset) -> dict[str, HeatmapOptions]:
        """What to pass to ``ds.wb.heatmap`` for the curves over layers and over timesteps.

        With chosen heads only what is selected is read: per-head scores are large.
        """
        found: dict[str, HeatmapOptions] = {schema.LAYER: self.options(ds), schema.TIMESTEP: self.options(ds)}
        if self.heads is None:
            found[schema.LAYER]["layers"] = _all_layers(ds)
            found[schema.TIMESTEP].pop("timesteps", None)
        found[schema.LAYER]["keep"], found[schema.TIMESTEP]["keep"] = ["layer"], ["timestep"]
        return found


class _Name(str):
    """A variable in code."""


def _all_layers(ds: xr.Dataset) -> Any:
    layers = labels_of(ds, schema.LAYER, int)
    return layers[0] if len(layers) == 1 else slice(layers[0], layers[-1])


def _arguments(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_code(value)}" for name, value in options.items())


def _fields(ds: xr.Dataset, space: str) -> dict[str, Reader]:
    """What reads each field of a state of a space."""
    position = among(range(len(names_of(ds, space))), f"{dim_of(space)} position")
    frames = labels_of(ds, schema.FRAME, int)
    frame = forms.optional(among(frames, "frame"))
    return {
        "space": lambda _name, _value: space,
        "layers": pair(among(labels_of(ds, schema.LAYER, int), "layer"), order=sorted),
        "timesteps": pair(_captured(labels_of(ds, schema.TIMESTEP, float)), order=forms.falling),
        "heads": _heads(ds, space),
        "sample": optional(among(labels_of(ds, schema.SAMPLE, int), "sample")),
        "frame": lambda name, value: frame(name, frames[0] if value is None and frames else value),
        "reduce": one_of(REDUCTIONS),
        "concepts": forms.chosen(position),
        "difference": optional(pair(position)),
        "focus": optional(position),
        "pin": optional(pair(*(among(range(ds.sizes[dim]), dim) for dim in (schema.Y, schema.X)))),
        "statistic": one_of(OVERVIEW, FORMER_OVERVIEW),
        "cmap": one_of(COLOUR_MAPS),
        "opacity": forms.real(0, 1, clip=True),
        "smooth": forms.flag,
        "picture": forms.flag,
        "limits": optional(pair(forms.real())),
        "head_layer": optional(among(labels_of(ds, schema.LAYER, int), "layer")),
        "open": forms.several(one_of(SECTIONS)),
    }


def _heads(ds: xr.Dataset, space: str) -> Reader:
    some = forms.chosen(among(labels_of(ds, schema.HEAD, int), "head"))

    def reads(name: str, value: Any) -> tuple[int, ...] | None:
        if value is not None and space not in ds.data_vars:
            raise SelectionError(f"heads were chosen, but this dataset holds only the sums over heads of {space!r}.")
        found: tuple[int, ...] | None = some(name, value)
        return found

    return reads


def _captured(held: Sequence[float]) -> Reader:
    """The captured timestep nearest to a value."""
    number = forms.real()

    def reads(name: str, value: Any) -> float:
        wanted = number(name, value)
        nearest = min(held, key=lambda timestep: abs(timestep - wanted))
        if abs(nearest - wanted) > selection.NEAREST:
            raise SelectionError(
                f"no timestep within {selection.NEAREST:g} of {wanted:g} was captured; captured timesteps: "
                f"{', '.join(f'{timestep:g}' for timestep in held)}."
            )
        return nearest

    return reads


def _code(value: Any) -> str:
    if isinstance(value, _Name):
        return value
    if isinstance(value, slice):
        return f"slice({value.start!r}, {value.stop!r})"
    return json.dumps(value, ensure_ascii=False)
