"""Sweeps and effects of interventions as plotly figures: the numbers of the figures for papers, to be pointed at."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis.origin import as_text, provenance_of_result
from workbench.figures.effect_figure import (
    Effect,
    about,
    by_depth,
    chosen_effect,
    head_matrix,
    prepared,
    read_where_edited,
    single_heads,
    usual_map,
    why_absent,
)
from workbench.figures.paper import colour
from workbench.figures.sweep_facts import Swept, as_label, read_sweep
from workbench.figures.sweep_figure import MOST_CONCEPTS
from workbench.schema import InputError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_EFFECT: Final = "#D55E00"
_GREY: Final = "#8C8C8C"
_INKS: Final = {False: "#202020", True: "#E8E8E8"}
_EXPECTED: Final = "what ds.wb.sweep(...), wb.intervene(...) or wb.vital_layers(...) returned"
_MOST_NAMES: Final = 24
"""Names along an axis of a matrix."""
_LINE: Final = 82
"""Letters in a line of a title."""


def interactive(
    found: xr.Dataset, measure: str | None = None, *, concept: str | None = None, dark: bool = False
) -> Figure:
    """Draw a sweep or the effects of interventions as a plotly figure: values on hover, curves by click, zoom.

    It shows what :func:`workbench.figures.sweep` and :func:`workbench.figures.effects` show; plotly's own
    ``write_html`` and ``write_json`` save it. For papers take those two.

    Parameters
    ----------
    found
        What ``ds.wb.sweep(...)``, :func:`workbench.intervene` or :func:`workbench.vital_layers` returned.
    measure
        Which metric of the sweep, or which effect; what the paper's figure shows by default.
    concept
        Of effects that are by concept: that of one; the mean over concepts otherwise.
    dark
        Draw on black.

    Returns
    -------
    plotly.graph_objects.Figure
        ``figure.layout.meta["workbench"]`` says of which runs it is, as JSON.

    Raises
    ------
    InputError
        If ``found`` is neither, or has no such measure or concept.

    Examples
    --------
    >>> workbench.figures.interactive(ds.wb.sweep("layer"))  # doctest: +SKIP
    """
    if not isinstance(found, xr.Dataset):
        raise InputError(f"this is a {type(found).__name__}; expected {_EXPECTED}.")
    if found.attrs.get("kind") == "intervention":
        result = prepared(found)
        effect = chosen_effect(result, measure, concept)
        places = single_heads(result)
        figure = _effects(result, effect) if places is None else _heads(result, effect, places)
        facts = provenance_of_result(result) | {"shown": effect.name}
    else:
        if concept is not None:
            raise InputError("concept is for the effects of interventions; a sweep has a curve for each concept.")
        if "how" not in found.attrs:
            raise InputError(f"this dataset is no sweep and holds no effects; expected {_EXPECTED}.")
        swept = read_sweep(found, measure)
        figure = _matrix(swept) if swept.is_matrix else _curves(swept, _INKS[dark])
        facts = provenance_of_result(swept.found) | {"shown": swept.metric}
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        meta={"workbench": as_text(facts)},
        title={"font": {"size": 13}, "x": 0, "xref": "paper", "yref": "container", "y": 0.97, "yanchor": "top"},
        margin={"t": 44 + 17 * str(figure.layout.title.text).count("<br>"), "l": 60, "r": 20, "b": 50},
        hoverlabel={"align": "left"},
    )
    if dark:
        figure.update_layout(paper_bgcolor="#101010", plot_bgcolor="#101010")
    return figure


def _curves(swept: Swept, ink: str) -> Figure:
    from plotly import graph_objects as go

    figure = go.Figure()
    found, values = swept.found, swept.curve
    by_space = values.ndim == 2
    dim = next(str(other) for other in values.dims if other != "space" or not by_space)
    where, names = swept.positions(dim)
    labels = list(map(html.escape, names)) if names is not None else [as_label(value) for value in where]
    apart = swept.stands_apart(dim)
    mode = "markers" if apart else "lines+markers"

    def line(heights: Any, label: str, tint: str, texts: Sequence[str], **more: Any) -> None:
        figure.add_scatter(
            x=where, y=heights, name=html.escape(label), mode=mode, text=texts, hovertemplate="%{text}", **more
        )
        edge = {"width": 1, "color": ink}  # so that pale colours show on white
        figure.data[-1].update(line={"color": tint}, marker={"color": tint, "size": 7, "line": edge})

    ranked = dim == "rank"
    what = " / ".join(map(str, found.attrs["over"])) if ranked else dim

    def hover(label: str, heights: Any, bounds: Any = None) -> list[str]:
        """What is said where one points, at each position."""
        lines = []
        for index, value in enumerate(heights):
            added = f", added {index + 1}." if ranked else ""
            said = f"<b>{html.escape(label)}</b><br>{what} {labels[index]}{added}: {value:.4g}"
            if bounds is not None and np.isfinite(bounds[:, index]).all():
                low, high = bounds[:, index]
                said += f"<br>{100 * found.attrs['confidence']:g} % interval {low:.4g} – {high:.4g}"
            lines.append(said + "<extra></extra>")
        return lines

    if not by_space and swept.by_concept:
        many = found.sizes[schema.CONCEPT] > MOST_CONCEPTS
        for index, concept in enumerate(map(str, found[schema.CONCEPT].to_numpy())):
            heights = swept.curve_of(index)
            shown = "legendonly" if many else True
            line(heights, concept, colour(index), hover(concept, heights), visible=shown, opacity=0.75)
    lines = values.transpose("space", dim) if by_space else values.expand_dims("line")
    bounds = found.get(f"{swept.name}_interval")
    for index in range(len(lines)):
        label = str(lines["space"].to_numpy()[index]) if by_space else swept.curve_label
        tint = colour(index) if by_space else ink
        heights, ends = lines[index].to_numpy(), None
        if bounds is not None:
            ends = (bounds.isel(space=index) if by_space else bounds).transpose("bound", dim).to_numpy()
            if not apart and names is None:
                _band(figure, where, ends, tint, label)
        line(heights, label, tint, hover(label, heights, ends), legendgroup=label)
        figure.data[-1].line.width = 3
        if ends is not None and (apart or names is not None):  # between names there is nothing
            figure.data[-1].error_y = {"array": ends[1] - heights, "arrayminus": heights - ends[0], "color": tint}
    if swept.full is not None and not by_space:
        dashed = {"dash": "dash", "width": 1, "color": _GREY}
        beside = 0.5 if len(where) == 1 else 0.0
        figure.add_scatter(x=[min(where) - beside, max(where) + beside], y=[swept.full] * 2, mode="lines", line=dashed)
        figure.data[-1].update(name="all together", hovertemplate=f"all together: {swept.full:.4g}<extra></extra>")
    figure.update_xaxes(title=html.escape(swept.meaning(dim)))
    if names is not None or len(where) <= 12:
        figure.update_xaxes(tickvals=where, ticktext=labels)
    if dim == schema.TIMESTEP:
        figure.update_xaxes(autorange="reversed")  # noisy to clean, as a picture is made
    figure.update_yaxes(title=html.escape(swept.curve_label))
    figure.update_layout(title=_broken(swept.about(with_intervals=True)))
    return figure


def _band(figure: Figure, where: Any, ends: Any, tint: str, label: str) -> None:
    """The intervals of a curve."""
    known = np.flatnonzero(np.isfinite(ends).all(axis=0))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):  # nothing is said across a gap
        if not len(run):
            continue
        x, low, high = np.asarray(where)[run], ends[0][run], ends[1][run]
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            mode="lines",
            line={"width": 0, "color": tint},
            opacity=0.25,
            legendgroup=label,
            showlegend=False,
            hoverinfo="skip",
            name="interval",
        )


def _matrix(swept: Swept) -> Figure:
    values = swept.matrix
    down, across = map(str, values.dims)
    figure = _heat_map(
        values.to_numpy(),
        [as_label(value) for value in values[down].to_numpy()],
        [as_label(value) for value in values[across].to_numpy()],
        (swept.meaning(down), swept.meaning(across)),
        swept.label,
        upwards=down == schema.LAYER,
    )
    if swept.best is not None:
        _frame(figure, *swept.best)
    figure.update_layout(title=_broken(swept.about(with_intervals=False)))
    return figure


def _heads(result: xr.Dataset, effect: Effect, places: list[tuple[int, int]]) -> Figure:
    matrix = head_matrix(result, effect, places)
    names = [str(name) for name in result["intervention"].to_numpy()]
    figure = _heat_map(
        matrix.values, matrix.rows, list(map(str, matrix.heads)), ("layer", "head"), effect.name, upwards=True
    )
    hover = [[_said(result, effect, names, index) if index >= 0 else "" for index in row] for row in matrix.edits]
    figure.update_traces(text=hover, colorscale=usual_map(effect))
    for y, x in np.argwhere(matrix.beyond).tolist():
        _frame(figure, y, x)
    if effect.signed and np.isfinite(matrix.values).any():
        most = float(np.nanmax(abs(matrix.values)))
        figure.update_traces(zmin=-most, zmax=most)
    notes = [note.replace("hatched", "empty") for note in matrix.notes]
    figure.update_layout(title=_broken(about(result, effect, *notes)))
    return figure


def _heat_map(
    cells: Any,
    rows: list[str],
    columns: list[str],
    meanings: tuple[str, str],
    label: str,
    *,
    upwards: bool,
) -> Figure:
    from plotly import graph_objects as go

    hover = [
        [
            f"{html.escape(meanings[0])}: {rows[y]}<br>{html.escape(meanings[1])}: {columns[x]}<br><b>{value:.4g}</b>"
            for x, value in enumerate(line)
        ]
        for y, line in enumerate(cells)
    ]
    scale = {"title": {"text": html.escape(label), "side": "right"}}
    figure = go.Figure(
        go.Heatmap(z=cells, text=hover, hoverinfo="text", hoverongaps=False, colorscale="Viridis", colorbar=scale)
    )
    for update, meaning, labels in (
        (figure.update_xaxes, meanings[1], columns),
        (figure.update_yaxes, meanings[0], rows),
    ):
        every = -(-len(labels) // _MOST_NAMES)
        shown = list(range(0, len(labels), every))
        update(title=html.escape(meaning), tickvals=shown, ticktext=labels[::every], showgrid=False, zeroline=False)
    figure.update_yaxes(autorange=True if upwards else "reversed")
    return figure


def _frame(figure: Figure, y: int, x: int) -> None:
    """Mark a cell of a matrix."""
    line = {"color": _EFFECT, "width": 3}
    figure.add_shape(type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line=line)


def _effects(result: xr.Dataset, effect: Effect) -> Figure:
    from plotly import graph_objects as go

    names = [str(name) for name in result["intervention"].to_numpy()]
    figure = go.Figure()
    if effect.controls is not None:
        row, column = np.nonzero(np.isfinite(effect.controls))
        figure.add_scatter(
            x=effect.controls[row, column],
            y=row,
            mode="markers",
            name="controls",
            marker={"symbol": "line-ns-open", "size": 12, "color": _GREY},
            hovertemplate="a control: %{x:.4~g}<extra></extra>",
        )
    own, known = read_where_edited(result, effect), np.isfinite(effect.values)
    for where, symbol, label in (
        (~own, "circle", "the edit"),
        (own, "circle-open", "the edit, read in a layer that it acts in"),
    ):
        rows = np.flatnonzero(known & where)
        if len(rows):
            figure.add_scatter(
                x=effect.values[rows],
                y=rows,
                mode="markers",
                name=label,
                marker={"symbol": symbol, "size": 10, "color": _EFFECT, "line": {"width": 2, "color": _EFFECT}},
                text=[_said(result, effect, names, index) for index in rows.tolist()],
                hovertemplate="%{text}<extra></extra>",
            )
    for index in np.flatnonzero(~known).tolist():
        figure.add_annotation(
            x=0,
            xref="paper",
            xanchor="left",
            y=index,
            xshift=6,
            text=html.escape(why_absent(result, index, effect.values[index])),
            showarrow=False,
        )
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=list(map(html.escape, names)),
        range=[-0.6, len(names) - 0.4] if by_depth(result) else [len(names) - 0.4, -0.6],
        zeroline=False,
        automargin=True,
    )
    figure.update_xaxes(title=html.escape(effect.name), zeroline=effect.signed)
    if effect.from_zero:
        figure.update_xaxes(rangemode="tozero")
    if effect.smaller_is_more:
        figure.update_xaxes(autorange="reversed")  # a larger effect lies to the right, as everywhere
    figure.update_layout(title=_broken(about(result, effect)), height=200 + 24 * len(names))
    figure.update_layout(legend={"orientation": "h", "y": -0.2, "yref": "container", "yanchor": "bottom"})
    return figure


def _said(result: xr.Dataset, effect: Effect, names: Sequence[str], index: int) -> str:
    """What is said of an edit where one points at it."""
    said = f"<b>{html.escape(names[index])}</b><br>{effect.values[index]:.4g}"
    if effect.ranks is not None and np.isfinite(effect.ranks[index]):
        share = effect.ranks[index]
        said += f"<br>larger than {'all' if share == 1 else f'{min(share, 0.99):.0%}'} of its controls"
    note = str(result["note"].to_numpy()[index]) if "note" in result.variables else ""
    return said + (f"<br>{html.escape(note)}" if note else "")


def _broken(text: str) -> str:
    """A title in lines, safe in plotly's markup."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > _LINE and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(map(html.escape, lines))
