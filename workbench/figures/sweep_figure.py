"""Curves and matrices of sweeps."""

from __future__ import annotations

from typing import Any, Final

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator

from workbench import schema
from workbench.analysis.origin import provenance_of_result
from workbench.figures.effect_figure import hatch_absent
from workbench.figures.paper import DPI, FONT_SIZE, NULL_COLOUR, PaperFigure, colour, style, wrap
from workbench.figures.sweep_facts import Swept, as_label, read_sweep
from workbench.schema import InputError

MOST_CONCEPTS: Final = 8
"""Curves of single concepts are drawn by default up to so many."""
_MOST_NUMBERS: Final = 120
"""Cells of a matrix that has its values written in."""
_LUMINANCE: Final = (0.299, 0.587, 0.114)
"""What red, green and blue add to the brightness of a colour."""
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
        dashed line; a space and another dimension one curve for each space; two others a matrix, its best cell framed
        and what was not captured hatched. Curves of a sweep with ``interval="t"`` are the means over observations that
        its intervals are of.
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
    swept = read_sweep(found, metric)
    with mpl.rc_context(style(dark, curves=True)):
        if swept.is_matrix:
            if null is not None:
                raise InputError("null is a band behind a curve, but this sweep is a matrix: leave null out.")
            figure = _matrix(swept, cmap, width)
        else:
            figure = _curves(swept, concepts, width or 4.6, null_of(swept, null))
    figure.facts = provenance_of_result(swept.found) | {"shown": swept.metric}
    return figure


def null_of(swept: Swept, null: xr.Dataset | None) -> xr.DataArray | None:
    """The repeats of a null, of what is drawn.

    Raises
    ------
    InputError
        If it is none of what is drawn.
    """
    if null is None:
        return None
    found, name = swept.found, swept.name
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


def _curves(swept: Swept, concepts: bool | None, width: float, null: xr.DataArray | None) -> PaperFigure:
    figure = PaperFigure(figsize=(width, _HEIGHT), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    ax.set_aspect("auto")
    found, name, values = swept.found, swept.name, swept.curve
    by_space = values.ndim == 2
    dim = next(str(other) for other in values.dims if other != "space" or not by_space)
    where, names = swept.positions(dim)
    ink = mpl.rcParams["text.color"]
    apart = swept.stands_apart(dim)
    joined = "none" if apart else "-"
    if null is not None:
        low, high = np.nanquantile(null.to_numpy(), [0.025, 0.975])
        ax.axhspan(low, high, color=NULL_COLOUR, alpha=0.35, linewidth=0, zorder=0, label="null")
    per_concept = not by_space and swept.by_concept
    if per_concept and concepts is not False and (concepts or found.sizes[schema.CONCEPT] <= MOST_CONCEPTS):
        for index, concept in enumerate(found[schema.CONCEPT].to_numpy()):
            label = wrap(str(concept), width / 4, 1)
            # Dots that no line joins stand beside that of the mean, not behind it.
            beside, size = (0.09 * (index + 1), 3.5) if apart else (0, 2)
            at = np.asarray(where) + beside
            _line(ax, at, swept.curve_of(index), colour(index), label, linewidth=1, markersize=size, linestyle=joined)
    lines = values.transpose("space", dim) if by_space else values.expand_dims("line")
    for index in range(len(lines)):
        tint = colour(index) if by_space else ink
        named = str(lines["space"].to_numpy()[index]) if by_space else ("mean" if per_concept else None)
        bounds = found.get(f"{name}_interval")
        if bounds is not None:
            ends = bounds.isel(space=index) if by_space else bounds
            low, high = ends.transpose("bound", dim).to_numpy()
            if names is None and joined == "-":
                ax.fill_between(where, low, high, color=tint, alpha=0.2, linewidth=0)
            else:
                ax.vlines(where, low, high, color=tint, alpha=0.5, linewidth=3)
        _line(ax, where, lines[index], tint, named, linewidth=1.6, markersize=3.5, linestyle=joined)
    if swept.full is not None and not by_space:
        ax.axhline(swept.full, color=ink, linewidth=0.8, linestyle=(0, (4, 3)), label="all together")
    _axis(ax, swept, dim)
    ax.set_ylabel(wrap(swept.curve_label, _HEIGHT - 0.5, 2))
    ax.grid(axis="y", linewidth=0.4, alpha=0.35)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right center", frameon=False, fontsize=FONT_SIZE, handlelength=1.4)
    ax.set_title(wrap(swept.about(with_intervals=True), width - 0.7, 2), fontsize=FONT_SIZE, loc="left")
    return figure


def _line(ax: Axes, where: Any, values: Any, tint: str, label: str | None, **how: Any) -> None:
    """A line with a thin edge, so that pale colours show on white and dark ones on black."""
    edge = patheffects.Stroke(linewidth=how["linewidth"] + 0.6, foreground=mpl.rcParams["text.color"], alpha=0.45)
    ax.plot(where, values, color=tint, label=label, marker="o", path_effects=[edge, patheffects.Normal()], **how)


def _matrix(swept: Swept, cmap: Any, width: float | None) -> PaperFigure:
    values = swept.matrix
    down, across = (str(dim) for dim in values.dims)
    cells = values.to_numpy()
    rows, columns = cells.shape
    side = min(_CELL, 5.4 / columns)
    wide = width or max(side * columns + 1.5, 3.2)
    figure = PaperFigure(figsize=(wide, max(side * rows, 1.2) + 0.95), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    drawn = ax.imshow(cells, cmap=cmap)
    drawn.axes.set_aspect("auto")
    hatch_absent(ax, cells)
    for dim, axis in ((down, ax.yaxis), (across, ax.xaxis)):
        every = -(-values.sizes[dim] // 14)
        labels = [as_label(value) for value in values[dim].to_numpy()]
        axis.set_ticks(list(range(0, len(labels), every)), labels[::every])
    if down == schema.LAYER:
        ax.invert_yaxis()  # upwards is deeper
    ax.set_xlabel(swept.meaning(across))
    ax.set_ylabel(wrap(swept.meaning(down), max(side * rows, 1.2), 2))
    if swept.best is not None:
        y, x = swept.best
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.8, zorder=3))
        if cells.size <= _MOST_NUMBERS:
            _write(ax, drawn, cells)
    figure.colorbar(drawn, ax=ax, label=swept.label, pad=0.02)
    ax.set_title(wrap(swept.about(with_intervals=False), wide - 0.6, 2), fontsize=FONT_SIZE, loc="left")
    return figure


def _write(ax: Axes, drawn: AxesImage, cells: Any) -> None:
    """The numbers in the cells, dark on light colours and light on dark ones."""
    largest = np.nanmax(np.abs(cells))
    for (y, x), value in np.ndenumerate(cells):
        if np.isfinite(value):
            text = f"{value:.2f}".replace("0.", ".", 1) if largest <= 1 else f"{value:.3g}"
            light = np.dot(drawn.to_rgba(value)[:3], _LUMINANCE) > 0.5
            ink = "#000000" if light else "#FFFFFF"
            ax.text(x, y, text, ha="center", va="center", fontsize=FONT_SIZE - 2, color=ink)


def _axis(ax: Axes, swept: Swept, dim: str) -> None:
    where, names = swept.positions(dim)
    ax.set_xlabel(swept.meaning(dim))
    if names is not None:
        every = -(-len(names) // 24)
        ax.set_xticks(where[::every], names[::every])
        if sum(len(name) + 2 for name in names[::every]) > _MOST_LETTERS:
            ax.tick_params(axis="x", labelrotation=60)
    elif len(where) <= 12:
        ax.xaxis.set_major_locator(FixedLocator(where))
        ax.set_xticks(where, [as_label(value) for value in where])
    else:
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    if dim == schema.TIMESTEP:
        ax.invert_xaxis()  # noisy to clean, as a picture is made
