"""What figures say of a sweep: its curve or matrix, where the points lie, and what was held fixed."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr

from workbench import schema
from workbench.figures.result_dimensions import along
from workbench.numerics import resampling
from workbench.numerics.measures import FORMER_MEASURES, renamed
from workbench.schema import InputError, read_attributes

WITH_FULL_MAP: Final = ("full_map_iou", "agreement")
"""The metric that compares with the full map, and what results of earlier versions call it."""
_NAMES: Final = {
    "iou": "IoU",
    "ap": "average precision",
    "calinski_harabasz": "Calinski-Harabasz index",
    "total_variation": "total variation",
    **dict.fromkeys(WITH_FULL_MAP, "IoU with the full map"),
}
_HOWS: Final = {
    "only": "{dim} (each alone)",
    "drop": "{dim} (left out)",
    "prefix": "{dim} (all up to it)",
    "suffix": "{dim} (all from it on)",
    "window": "{dim} (first of {window} in a row)",
}
_EACH: Final = ("only", "drop")
"""Sweeps whose members stand each for itself."""


class Swept(NamedTuple):
    """A sweep, and which of its variables is drawn.

    Attributes
    ----------
    found
        The sweep with its variables along what was swept.
    metric
        One of its metrics.
    name
        The variable: the metric's mean over concepts where it is by concept, else the metric.
    """

    found: xr.Dataset
    metric: str
    name: str

    @property
    def values(self) -> xr.DataArray:
        """(swept dimensions) what is drawn."""
        return self.found[self.name]

    @property
    def is_matrix(self) -> bool:
        """Whether two dimensions were swept, neither of them the space."""
        return self.values.ndim == 2 and "space" not in self.values.dims

    @property
    def by_concept(self) -> bool:
        """Whether each concept has values of its own."""
        return self.name != self.metric

    @property
    def label(self) -> str:
        """The measure in words."""
        label = _NAMES.get(self.metric, self.metric)
        return f"mean {label}" if self.by_concept else label

    @property
    def curve(self) -> xr.DataArray:
        """The values of a curve: with t intervals the means over observations that those are of."""
        return self.found[self.name + self._each]

    def curve_of(self, concept: int) -> Any:
        """The values of the concept at a position."""
        return self.found[self.metric + self._each].isel({schema.CONCEPT: concept}).to_numpy()

    @property
    def curve_label(self) -> str:
        """The measure of a curve in words."""
        return self.label + (f", mean over {self.found.attrs['observation']}s" if self._each else "")

    @property
    def _each(self) -> str:
        # A t interval is of the mean over observations of each one's value, not of the value over all observations.
        return "_each" if f"{self.name}_each" in self.found else ""

    @property
    def full(self) -> float | None:
        """The value of everything together, where that is one number beside the curve."""
        full = self.found.get(f"{self.name}_full{self._each}")
        return float(full) if full is not None and self.metric not in WITH_FULL_MAP and not full.ndim else None

    @property
    def matrix(self) -> xr.DataArray:
        """A matrix with layers down its side, and timesteps along it from noise to picture."""
        values = self.values
        values = values.transpose(*sorted(values.dims, key=lambda dim: (dim != schema.LAYER, dim == schema.TIMESTEP)))
        if self.found.attrs["how"] not in _EACH:  # the others go by the order that was asked for
            return values
        for dim, rising in ((schema.LAYER, True), (schema.TIMESTEP, False)):
            values = values.sortby(dim, ascending=rising) if dim in values.dims else values
        return values

    def stands_apart(self, dim: str) -> bool:
        """Whether places along a dimension have no order that a line could follow: spaces, single heads, samples."""
        return dim == "space" or (dim in (schema.HEAD, schema.SAMPLE) and self.found.attrs["how"] in _EACH)

    @property
    def best(self) -> tuple[int, int] | None:
        """Row and column of the best cell of :attr:`matrix`; None where no cell has a value."""
        cells = self.matrix.to_numpy()
        if not np.isfinite(cells).any():
            return None
        attrs = self.found.attrs
        signed = cells if attrs["higher_is_better"][attrs["metrics"].index(self.metric)] else -cells
        row, column = np.unravel_index(int(np.nanargmax(signed)), cells.shape)
        return int(row), int(column)

    def positions(self, dim: str) -> tuple[Any, list[str] | None]:
        """Where the points lie along a dimension, and their names where these are no numbers."""
        found = self.found
        if dim == "rank":
            members = [str(other) for other in found.attrs["over"]]
            added = zip(*(found[other].to_numpy() for other in members), strict=True)
            names = [" / ".join(as_label(value) for value in values) for values in added]
            return np.arange(len(names)), names
        if dim == "space":
            return np.arange(found.sizes[dim]), [str(name) for name in found[dim].to_numpy()]
        return found[dim].to_numpy(), None

    def meaning(self, dim: str) -> str:
        """What a place along a dimension stands for."""
        attrs = self.found.attrs
        if dim == "rank":
            return f"{' / '.join(attrs['over'])} added, best first"
        if dim == "space":
            return _HOWS["only"].format(dim=dim) if attrs["how"] == "only" else _HOWS["drop"].format(dim=dim)
        return _HOWS[attrs["how"]].format(dim=dim, window=attrs.get("window"))

    def about(self, *, with_intervals: bool) -> str:
        """What was held fixed, and what the intervals are."""
        attrs = self.found.attrs
        parts = ["post-hoc sweep"]
        if attrs.get("center"):
            parts.append(f"centred by {attrs['center']}")
        if edits := attrs.get("edits"):
            parts.append(f"edited: {' or '.join(edits)}")
        if "space" not in attrs["over"]:
            parts.append(str(attrs["space"]))
        for dim in (schema.LAYER, schema.TIMESTEP):
            labels = attrs[f"{dim}s"]
            if dim not in attrs["over"]:
                parts.append(f"{dim} {as_label(labels[0])}" if len(labels) == 1 else f"{len(labels)} {dim}s")
        if attrs["observations"] > 1:
            intervals = (
                f", {resampling.described(attrs['observations'], attrs['confidence'])}" if with_intervals else ""
            )
            parts.append(f"{attrs['observations']} {attrs['observation']}s{intervals}")
        return "; ".join(parts)


def read_sweep(found: xr.Dataset, metric: str | None) -> Swept:
    """A sweep, and the metric of a name; the first one without a name.

    Raises
    ------
    InputError
        If the dataset is no sweep, or has no such metric.
    """
    found = _arranged(found)
    measured = [str(name) for name in found.attrs.get("metrics", ())]
    if not measured or "how" not in found.attrs:
        raise InputError("this dataset is no sweep; pass what ds.wb.sweep(...) returned.")
    chosen = metric or measured[0]
    if chosen not in measured:
        chosen = renamed("metric", chosen, FORMER_MEASURES)
    if chosen not in measured:
        raise InputError(f"metric is {metric!r}; this sweep has {', '.join(measured)}.")
    return Swept(found, chosen, f"mean_{chosen}" if f"mean_{chosen}" in found else chosen)


def as_label(value: Any) -> str:
    """A coordinate's value as it stands at an axis."""
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _arranged(found: xr.Dataset) -> xr.Dataset:
    """The sweep with its variables along what was swept."""
    attrs = read_attributes(found.attrs)
    swept = ("rank",) if attrs.get("how") == "greedy" else tuple(map(str, attrs.get("over", ())))
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(map(str, attrs.get("over", ())), swept) if "rank" in swept else {}
    for metric in map(str, attrs.get("metrics", ())):
        by_concept = f"mean_{metric}" in found
        for name, more in ((metric, (schema.CONCEPT,) if by_concept else ()), (f"mean_{metric}", ())):
            dims |= {name: (*swept, *more), f"{name}_full": more, f"{name}_interval": ("bound", *swept, *more)}
            dims |= {f"{name}_full_each": more}
            dims |= {f"{name}_n": (*swept, *more), f"{name}_each": (*swept, *more)}
    return along(found, dims)
