"""Curves and matrices of sweeps."""

from __future__ import annotations

from typing import Any, Final

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator

from workbench import schema
from workbench.analysis.origin import provenance_of_result
from workbench.figures.paper import DPI, FONT_SIZE, NULL_COLOUR, PaperFigure, colour, style, wrap
from workbench.figures.results import along
from workbench.numerics import resampling
from workbench.numerics.measures import FORMER_MEASURES, renamed
from workbench.schema import InputError, read_attributes

_WITH_FULL_MAP: Final = ("full_map_iou", "agreement")
"""The metric that compares with the full map, and what results of earlier versions call it."""
_NAMES: Final = {
    "iou": "IoU",
    "ap": "average precision",
    "calinski_harabasz": "Calinski-Harabasz index",
    "total_variation": "total variation",
    **dict.fromkeys(_WITH_FULL_MAP, "IoU with the full map"),
}
_HOWS: Final = {
    "only": "{dim} (each alone)",
    "drop": "{dim} (left out)",
    "prefix": "{dim} (all up to it)",
    "suffix": "{dim} (all from it on)",
    "window": "{dim} (first of {window} in a row)",
}
_MOST_CONCEPTS: Final = 8
"""Curves of single concepts are drawn by default up to so many."""
_MOST_NUMBERS: Final = 120
"""Cells of a matrix that has its values written in."""
_MOST_LETTERS: Final = 50
"""Names below an axis that stand level."""
_CELL: Final = 0.36
_HEIGHT: Final = 2.5


def sweep(
    found: xr.Dataset,
    metric: str | None = None,
    *,
    concepts: bool | None = None,
    cmap: str | Colormap = "viridis",
    dark: bool = False,
    width: float | None = None,
    null: xr.Dataset | None = None,
) -> PaperFigure:
    """Draw a sweep: a curve with its confidence band, or a matrix.

    Parameters
    ----------
    found
        What :func:`workbench.analysis.sweeps.sweep` returned. One dimension gives a curve, with the full map as a
        dashed line; a space and another dimension one curve for each space; two others a matrix, its best cell framed.
    metric
        Which of the sweep's metrics; the first one by default.
    concepts
        Also draw a thin curve for each concept; by default where there are at most eight. Curves only.
    cmap
        A perceptually uniform colour map, for matrices.
    dark
        Draw on black, for slides.
    width
        Width of the figure in inches.
    null
        What ``ds.wb.score(null=...)`` returned for the same dataset: the central 95 % of its repeats are a grey band
        behind the curve of ``"iou"`` or ``"accuracy"``.

    Returns
    -------
    A figure, ready for ``savefig``.

    Raises
    ------
    InputError
        If the dataset is no sweep, or has no such metric, or the null does not fit it.
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
    name = f"mean_{chosen}" if f"mean_{chosen}" in found else chosen
    values = found[name]
    matrix = values.ndim == 2 and "space" not in values.dims
    with mpl.rc_context(style(dark, curves=True)):
        if matrix:
            if null is not None:
                raise InputError("null is a band behind a curve, but this sweep is a matrix: leave null out.")
            figure = _matrix(found, values, _label(name, chosen), cmap, width)
        else:
            figure = _curves(found, chosen, name, concepts, width or 4.6, _null_of(found, name, null))
    figure.facts = provenance_of_result(found) | {"shown": chosen}
    return figure


def _arranged(found: xr.Dataset) -> xr.Dataset:
    """The sweep with its variables along what was swept."""
    attrs = read_attributes(found.attrs)
    swept = ("rank",) if attrs.get("how") == "greedy" else tuple(map(str, attrs.get("over", ())))
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(map(str, attrs.get("over", ())), swept) if "rank" in swept else {}
    for metric in map(str, attrs.get("metrics", ())):
        by_concept = f"mean_{metric}" in found
        for name, more in ((metric, (schema.CONCEPT,) if by_concept else ()), (f"mean_{metric}", ())):
            dims |= {name: (*swept, *more), f"{name}_full": more, f"{name}_interval": ("bound", *swept, *more)}
            dims |= {f"{name}_n": (*swept, *more), f"{name}_each": (*swept, *more)}
    return along(found, dims)


def _label(name: str, metric: str) -> str:
    label = _NAMES.get(metric, metric)
    return f"mean {label}" if name != metric else label


def _null_of(found: xr.Dataset, name: str, null: xr.Dataset | None) -> xr.DataArray | None:
    """The repeats of a null, of what is drawn."""
    if null is None:
        return None
    if not isinstance(null, xr.Dataset) or f"{name}_null" not in null:
        raise InputError(
            f"null has no repeats of {name!r}; pass what ds.wb.score(null='patches') returned, with metric='iou' or "
            "'accuracy'."
        )
    if found.attrs["observations"] > 1 and found.attrs["observation"] == "image":
        raise InputError(
            f"this sweep is over {found.attrs['observations']} images, and a null is of one: draw them apart."
        )
    return null[f"{name}_null"].assign_attrs(null=null.attrs.get("null", ""))


def _curves(
    found: xr.Dataset, metric: str, name: str, concepts: bool | None, width: float, null: xr.DataArray | None
) -> PaperFigure:
    figure = PaperFigure(figsize=(width, _HEIGHT), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    ax.set_aspect("auto")
    values = found[name]
    by_space = values.ndim == 2
    dim = next(str(other) for other in values.dims if other != "space" or not by_space)
    where, names = _positions(found, dim)
    ink = mpl.rcParams["text.color"]
    if null is not None:
        low, high = np.nanquantile(null.to_numpy(), [0.025, 0.975])
        ax.axhspan(low, high, color=NULL_COLOUR, alpha=0.35, linewidth=0, zorder=0, label="null")
    per_concept = not by_space and f"mean_{metric}" in found
    if per_concept and concepts is not False and (concepts or found.sizes[schema.CONCEPT] <= _MOST_CONCEPTS):
        for index, concept in enumerate(found[schema.CONCEPT].to_numpy()):
            line = found[metric].sel({schema.CONCEPT: concept}).to_numpy()
            _line(ax, where, line, colour(index), str(concept), linewidth=1, markersize=2)
    lines = values.transpose("space", dim) if by_space else values.expand_dims("line")
    for index in range(len(lines)):
        tint = colour(index) if by_space else ink
        label = str(lines["space"].to_numpy()[index]) if by_space else ("mean" if per_concept else None)
        bounds = found.get(f"{name}_interval")
        if bounds is not None:
            ends = bounds.isel(space=index) if by_space else bounds
            low, high = ends.transpose("bound", dim).to_numpy()
            if names is None:
                ax.fill_between(where, low, high, color=tint, alpha=0.2, linewidth=0)
            else:
                ax.vlines(where, low, high, color=tint, alpha=0.5, linewidth=3)
        joined = "none" if dim == "space" else "-"
        _line(ax, where, lines[index], tint, label, linewidth=1.6, markersize=3.5, linestyle=joined)
    full = found.get(f"{name}_full")
    if full is not None and not by_space and metric not in _WITH_FULL_MAP:
        ax.axhline(float(full), color=ink, linewidth=0.8, linestyle=(0, (4, 3)), label="all together")
    _axis(ax, found, dim, where, names)
    ax.set_ylabel(wrap(_label(name, metric), _HEIGHT - 0.5, 2))
    ax.grid(axis="y", linewidth=0.4, alpha=0.35)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right center", frameon=False, fontsize=FONT_SIZE, handlelength=1.4)
    _title(ax, found, width - 0.7, with_intervals=True)
    return figure


def _line(ax: Axes, where: Any, values: Any, tint: str, label: str | None, **how: Any) -> None:
    """A line with a thin edge, so that pale colours show on white and dark ones on black."""
    edge = patheffects.Stroke(linewidth=how["linewidth"] + 0.6, foreground=mpl.rcParams["text.color"], alpha=0.45)
    ax.plot(where, values, color=tint, label=label, marker="o", path_effects=[edge, patheffects.Normal()], **how)


def _matrix(found: xr.Dataset, values: xr.DataArray, label: str, cmap: Any, width: float | None) -> PaperFigure:
    down, across = (str(dim) for dim in values.dims)
    cells = values.to_numpy()
    rows, columns = cells.shape
    side = min(_CELL, 5.4 / columns)
    wide = width or max(side * columns + 1.5, 3.2)
    figure = PaperFigure(figsize=(wide, max(side * rows, 1.2) + 0.95), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    drawn = ax.imshow(cells, cmap=cmap)
    drawn.axes.set_aspect("auto")
    for dim, axis in ((down, ax.yaxis), (across, ax.xaxis)):
        every = -(-values.sizes[dim] // 14)
        labels = [_text(value) for value in values[dim].to_numpy()]
        axis.set_ticks(list(range(0, len(labels), every)), labels[::every])
    if down == schema.LAYER:
        ax.invert_yaxis()  # upwards is deeper
    ax.set_xlabel(_meaning(found, across))
    ax.set_ylabel(wrap(_meaning(found, down), max(side * rows, 1.2), 2))
    if np.isfinite(cells).any():
        signed = cells if found.attrs["higher_is_better"][found.attrs["metrics"].index(_metric(values))] else -cells
        y, x = np.unravel_index(int(np.nanargmax(signed)), cells.shape)
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.8, zorder=3))
        if cells.size <= _MOST_NUMBERS:
            _write(ax, cells)
    figure.colorbar(drawn, ax=ax, label=label, pad=0.02)
    _title(ax, found, wide - 0.6, with_intervals=False)
    return figure


def _metric(values: xr.DataArray) -> str:
    return str(values.name).removeprefix("mean_")


def _write(ax: Axes, cells: Any) -> None:
    """The numbers in the cells, readable on any colour."""
    largest = np.nanmax(np.abs(cells))
    for (y, x), value in np.ndenumerate(cells):
        if np.isfinite(value):
            text = f"{value:.2f}".replace("0.", ".", 1) if largest <= 1 else f"{value:.3g}"
            written = ax.text(x, y, text, ha="center", va="center", fontsize=FONT_SIZE - 2, color="#FFFFFF")
            written.set_path_effects([patheffects.withStroke(linewidth=1.2, foreground="#202020")])


def _positions(found: xr.Dataset, dim: str) -> tuple[Any, list[str] | None]:
    """Where the points lie, and their names where these are no numbers."""
    if dim == "rank":
        members = [str(other) for other in found.attrs["over"]]
        added = zip(*(found[other].to_numpy() for other in members), strict=True)
        names = [" / ".join(_text(value) for value in values) for values in added]
        return np.arange(len(names)), names
    if dim == "space":
        return np.arange(found.sizes[dim]), [str(name) for name in found[dim].to_numpy()]
    return found[dim].to_numpy(), None


def _axis(ax: Axes, found: xr.Dataset, dim: str, where: Any, names: list[str] | None) -> None:
    ax.set_xlabel(_meaning(found, dim))
    if names is not None:
        every = -(-len(names) // 24)
        ax.set_xticks(where[::every], names[::every])
        if sum(len(name) + 2 for name in names[::every]) > _MOST_LETTERS:
            ax.tick_params(axis="x", labelrotation=60)
    elif len(where) <= 12:
        ax.xaxis.set_major_locator(FixedLocator(where))
        ax.set_xticks(where, [_text(value) for value in where])
    else:
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    if dim == schema.TIMESTEP:
        ax.invert_xaxis()  # noisy to clean, as a picture is made


def _meaning(found: xr.Dataset, dim: str) -> str:
    attrs = found.attrs
    if dim == "rank":
        return f"{' / '.join(attrs['over'])} added, best first"
    if dim == "space":
        return _HOWS["only"].format(dim=dim) if attrs["how"] == "only" else _HOWS["drop"].format(dim=dim)
    return _HOWS[attrs["how"]].format(dim=dim, window=attrs.get("window"))


def _title(ax: Axes, found: xr.Dataset, width: float, *, with_intervals: bool) -> None:
    """What was held fixed, and what the intervals are."""
    attrs = found.attrs
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
            parts.append(f"{dim} {_text(labels[0])}" if len(labels) == 1 else f"{len(labels)} {dim}s")
    if attrs["observations"] > 1:
        intervals = f", {resampling.described(attrs['observations'], attrs['confidence'])}" if with_intervals else ""
        parts.append(f"{attrs['observations']} {attrs['observation']}s{intervals}")
    ax.set_title(wrap("; ".join(parts), width, 2), fontsize=FONT_SIZE, loc="left")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
