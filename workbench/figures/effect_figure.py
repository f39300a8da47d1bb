"""Effects of interventions beside those of their controls."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from workbench.analysis.origin import provenance_of_result
from workbench.figures.paper import DPI, FONT_SIZE, PaperFigure, style, text_width, wrap
from workbench.figures.result_dimensions import along
from workbench.interventions import layers_in_words
from workbench.schema import InputError, warn

_NAMES: Final = {
    "mean_map_distance": "mean absolute difference of the maps",
    "total_variation_distance": "total variation of the shares at a patch, 0–1",
    "mean_iou_shift": "shift of the mean IoU",
    "psnr": "PSNR of the picture, dB (lower: larger effect)",
    "ssim": "SSIM of the picture (lower: larger effect)",
    "perceptual": "LPIPS of the picture",
}
KINDS: Final = {
    "direction": "random directions of the same size",
    "matched": "random directions with the covariance of the activations",
    "resample": "the same place in other images",
    "units": "as many other units of the same layers",
    "none": "none",
}
"""What controls are, in words."""
_OF_CONCEPT: Final = {
    "map_distance": "mean absolute difference of the map of “{}”",
    "iou_shift": "shift of the IoU of “{}”",
}
ENOUGH: Final = 19
"""Of fewer controls no effect is marked as larger than all: chance alone would do that in more than one of twenty."""
_EFFECT: Final = "#D55E00"
_ROW: Final = 0.19
_LINE: Final = 0.14
_CELL: Final = 0.42


def effects(
    result: xr.Dataset,
    effect: str | None = None,
    *,
    concept: str | None = None,
    cmap: str | Colormap | None = None,
    dark: bool = False,
    width: float = 4.6,
) -> PaperFigure:
    """Draw what interventions did at the read-out, and what their controls did there.

    One row for each intervention, upwards deeper where they go through the layers: its effect as a dot, which is open
    where the edit acts in a layer that is read, and its controls as ticks on a bar that spans them. Where the read-out
    is out of reach the row says so. A plan of every head of several blocks gives a matrix of block and head instead;
    with 19 controls or more, cells whose effect is larger than that of every control are framed, and those with none to
    read are hatched.
    :func:`workbench.figures.effects_by_layer` shows all layers that were read.

    Parameters
    ----------
    result
        What :func:`workbench.intervene` or :func:`workbench.vital_layers` returned.
    effect
        ``map_distance``, ``total_variation_distance``, ``iou_shift``, ``psnr``, ``ssim`` or ``perceptual``; by default
        what it was sorted by, or PSNR where pictures were made.
    concept
        Of ``map_distance`` and ``iou_shift``: that of one concept; the mean over concepts otherwise.
    cmap
        A perceptually uniform colour map, for matrices; by default ``"viridis"``, reversed for PSNR and SSIM, which are
        small where the effect is large, and ``"RdBu"`` around zero for a shift.
    dark
        Draw on black, for slides.
    width
        Width of the figure in inches; a matrix is as wide as its cells need.

    Returns
    -------
    A figure, ready for ``savefig``.

    Raises
    ------
    InputError
        If the dataset is no result of interventions, or has no such effect.
    """
    result = prepared(result)
    drawn = chosen_effect(result, effect, concept)
    with mpl.rc_context(style(dark, curves=True)):
        places = single_heads(result)
        if places is not None:
            figure = _matrix(result, drawn, places, cmap or usual_map(drawn))
        else:
            figure = _rows(result, drawn, width)
    figure.facts = provenance_of_result(result) | {"shown": drawn.name}
    return figure


def prepared(result: xr.Dataset) -> xr.Dataset:
    """A result of interventions as figures expect it, also one of the release before.

    Raises
    ------
    InputError
        If it is none, or a dimension is gone.
    """
    if result.attrs.get("kind") != "intervention":
        raise InputError("this dataset holds no interventions; pass what wb.intervene(...) returned.")
    if "draw" in result.dims or "draw" in result.coords:
        warn("the dimension 'draw' of this result is called 'repeat' now; the next version refuses the former name.")
        result = result.rename(draw="repeat")
    texts = ("control", "edits", "note", "readout_reach")
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(texts, ("intervention",))
    dims["reach"] = ("intervention", "read_layer")
    for name, more in [(name, ()) for name in _NAMES] + [(name, ("concept",)) for name in _OF_CONCEPT]:
        dims |= dict.fromkeys((name, f"{name}_rank"), ("intervention", *more))
        dims[f"{name}_control"] = ("intervention", "repeat", *more)
        dims[f"{name}_by_layer"] = ("intervention", "read_layer", *more)
    return along(result, dims)


@dataclass(frozen=True)
class Effect:
    """What is drawn: (intervention), (intervention, repeat) for the controls, (intervention, read_layer) by layer."""

    values: NDArray[np.float64]
    controls: NDArray[np.float64] | None
    ranks: NDArray[np.float64] | None
    by_layer: NDArray[np.float64] | None
    name: str
    signed: bool
    from_zero: bool
    of_maps: bool
    smaller_is_more: bool


def chosen_effect(result: xr.Dataset, effect: str | None, concept: str | None) -> Effect:
    """The effect of a name, or the usual one, for one concept or all.

    Raises
    ------
    InputError
        If there is none such; lists those there are.
    """
    known = [name for name in _NAMES if name in result]
    of_concept = [name for name in _OF_CONCEPT if name in result]
    usual = "psnr" if "psnr" in known and concept is None else known[0]
    chosen = effect or result.attrs.get("sorted_by") or usual
    bare = chosen.removeprefix("mean_")
    if concept is None:
        chosen = f"mean_{bare}" if f"mean_{bare}" in known else chosen
        if chosen not in known:
            names = ", ".join(name.removeprefix("mean_") for name in known)
            raise InputError(f"effect is {effect!r}; expected one of {names}.")
        name = _NAMES[chosen]
    else:
        if bare not in of_concept:
            raise InputError(f"effect is {chosen!r}, which is not by concept; expected {' or '.join(of_concept)}.")
        held = [str(one) for one in result["concept"].to_numpy()]
        if concept not in held:
            raise InputError(f"concept is {concept!r}; expected one of {', '.join(held)}.")
        chosen, name, result = bare, _OF_CONCEPT[bare].format(concept), result.sel(concept=concept)
    if bare == "iou_shift":
        name += " with the truth" if result.attrs.get("iou_of") == "truth" else " with the unedited run"
    controls, ranks, by_layer = (result.get(f"{chosen}_{part}") for part in ("control", "rank", "by_layer"))
    return Effect(
        result[chosen].to_numpy(),
        None if controls is None else controls.transpose("intervention", "repeat").to_numpy(),
        None if ranks is None else ranks.to_numpy(),
        None if by_layer is None else by_layer.transpose("intervention", "read_layer").to_numpy(),
        name,
        bare == "iou_shift",
        bare in ("map_distance", "total_variation_distance", "perceptual"),
        bare in ("map_distance", "total_variation_distance", "iou_shift"),
        bare in ("psnr", "ssim"),
    )


def _rows(result: xr.Dataset, effect: Effect, width: float) -> PaperFigure:
    values = effect.values
    count = len(values)
    room = 0.45 * width
    labels = [_shortened(str(name), room) for name in result["intervention"].to_numpy()]
    beside = width - max(map(text_width, labels)) - 0.3
    title = wrap(about(result, effect), beside, 4)
    lines = title.count("\n") + wrap(effect.name, beside, 2).count("\n")
    figure = PaperFigure(figsize=(width, _ROW * count + 1.1 + _LINE * lines), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    ax.set_aspect("auto")
    ink, paper = mpl.rcParams["text.color"], mpl.rcParams["axes.facecolor"]
    shown = False
    if effect.controls is not None:
        for row, repeats in enumerate(effect.controls):
            there = repeats[np.isfinite(repeats)]
            if len(there):
                ax.barh(row, np.ptp(there), 0.62, there.min(), color=ink, alpha=0.13, linewidth=0)
                ax.vlines(there, row - 0.31, row + 0.31, color=ink, alpha=0.45, linewidth=0.8)
                shown = True
    known, own = np.isfinite(values), read_where_edited(result, effect)
    handles: list[Artist] = []
    for where, face, text in ((~own, _EFFECT, "the edit"), (own, paper, "the edit, read in a layer that it acts in")):
        rows = np.flatnonzero(known & where)
        if len(rows):
            dots = ax.scatter(values[rows], rows, 20, facecolors=face, edgecolors=_EFFECT, linewidths=1.2, label=text)
            dots.set(zorder=3, clip_on=False)
            handles.append(dots)
    small = FONT_SIZE - 1
    for missing in np.flatnonzero(~known).tolist():
        said, at = why_absent(result, missing, values[missing]), ax.get_yaxis_transform()
        ax.text(0.015, missing, said, transform=at, va="center", ha="left", alpha=0.65, fontsize=small)
    if shown:
        ticks: dict[str, Any] = {"color": ink, "alpha": 0.45, "marker": "|", "linestyle": "none"}
        handles.append(Line2D([], [], label="controls", **ticks))
    if handles:
        figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, fontsize=small)
    ax.set_yticks(range(count), labels)
    ax.set_ylim((-0.6, count - 0.4) if by_depth(result) else (count - 0.4, -0.6))
    ax.use_sticky_edges = False
    ax.margins(x=0.04)
    if effect.from_zero:
        ax.set_xlim(left=0)
    if effect.smaller_is_more:
        ax.invert_xaxis()  # a larger effect lies to the right, as everywhere
    if effect.signed:
        ax.axvline(0, color=ink, linewidth=0.6, alpha=0.6, zorder=1)
    ax.set_xlabel(wrap(effect.name, beside, 2))
    ax.grid(axis="x", linewidth=0.4, alpha=0.35)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title, fontsize=FONT_SIZE, loc="left")
    return figure


class HeadMatrix(NamedTuple):
    """Effects of edits of one head each, by block and head.

    Attributes
    ----------
    layers, heads
        Of its rows and columns.
    values
        (layer, head), NaN where there is none that could be drawn.
    beyond
        (layer, head): whether an effect is larger than all of at least :data:`ENOUGH` controls.
    edits
        (layer, head): position of the intervention; -1 where the plan has none.
    own
        The layers whose edits are read in the edited layer itself.
    notes
        What marks, in words.
    """

    layers: list[int]
    heads: list[int]
    values: NDArray[np.float64]
    beyond: NDArray[np.bool_]
    edits: NDArray[np.int64]
    own: set[int]
    notes: list[str]

    @property
    def rows(self) -> list[str]:
        """Names of the layers, with a star at those of :attr:`own`."""
        return [f"{layer}*" if layer in self.own else str(layer) for layer in self.layers]


def head_matrix(result: xr.Dataset, effect: Effect, places: list[tuple[int, int]]) -> HeadMatrix:
    """The matrix of what :func:`single_heads` found."""
    layers, heads = (sorted({place[axis] for place in places}) for axis in (0, 1))
    shape = len(layers), len(heads)
    values, beyond, edits = np.full(shape, np.nan), np.zeros(shape, bool), np.full(shape, -1)
    counts, reasons = _controls(effect), set()
    for index, (layer, head) in enumerate(places):
        cell = layers.index(layer), heads.index(head)
        edits[cell] = index
        if np.isfinite(value := effect.values[index]):
            values[cell] = value
        else:
            reasons.add(why_absent(result, index, value))
        beyond[cell] = effect.ranks is not None and counts[index] >= ENOUGH and effect.ranks[index] == 1
    reasons |= {"not among the edits"} if (edits < 0).any() else set()
    own = {layer for (layer, _), inside in zip(places, read_where_edited(result, effect), strict=True) if inside}
    notes = []
    if beyond.any():
        least = counts[edits[beyond]].min()
        notes.append(f"framed: larger than all {least}{' or more' if least < counts.max() else ''} controls")
    notes += ["* read in the edited layer itself"] if own else []
    notes += [f"hatched: {' or '.join(sorted(reasons))}"] if reasons else []
    return HeadMatrix(layers, heads, values, beyond, edits, own, notes)


def _matrix(result: xr.Dataset, effect: Effect, places: list[tuple[int, int]], cmap: Any) -> PaperFigure:
    matrix = head_matrix(result, effect, places)
    values, layers, heads = matrix.values, matrix.layers, matrix.heads
    side = min(_CELL, 5.0 / len(heads))
    size = (max(side * len(heads) + 1.5, 3.0), max(side * len(layers), 1.2) + 0.95)
    figure = PaperFigure(figsize=size, dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    most = float(np.nanmax(abs(values))) if effect.signed and np.isfinite(values).any() else None
    shown = ax.imshow(values, cmap=cmap, vmin=None if most is None else -most, vmax=most)
    ax.set_aspect("auto")
    hatch_absent(ax, values)
    ax.set_xticks(range(len(heads)), [str(head) for head in heads])
    ax.set_yticks(range(len(layers)), matrix.rows)
    ax.invert_yaxis()  # upwards is deeper
    ax.set_xlabel("head")
    ax.set_ylabel("layer")
    for y, x in zip(*np.nonzero(matrix.beyond), strict=True):
        frame = Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor=_EFFECT, linewidth=1.6)
        frame.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground="#FFFFFF")])
        ax.add_patch(frame)
    figure.colorbar(shown, ax=ax, label=wrap(effect.name, size[1] - 0.5, 3), pad=0.02)
    ax.set_title(wrap(about(result, effect, *matrix.notes), size[0] - 0.6, 4), fontsize=FONT_SIZE, loc="left")
    return figure


def _controls(effect: Effect) -> NDArray[np.int64]:
    """(intervention): how many controls have a value; some edits have fewer distinct ones than others."""
    if effect.controls is None:
        return np.zeros(len(effect.values), dtype=np.int64)
    return np.asarray((~np.isnan(effect.controls)).sum(-1))


def hatch_absent(ax: Axes, values: NDArray[np.float64]) -> None:
    """Hatch the cells of a matrix that have no value."""
    ink = mpl.rcParams["text.color"]
    for y, x in zip(*np.nonzero(np.isnan(values)), strict=True):
        cell = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", edgecolor=ink, alpha=0.25, linewidth=0)
        ax.add_patch(cell)


def usual_map(effect: Effect) -> str:
    """The colour map of a matrix of an effect: yellow, or farthest from white, where it is largest."""
    return "RdBu" if effect.signed else "viridis_r" if effect.smaller_is_more else "viridis"


def by_depth(result: xr.Dataset) -> bool:
    """Whether the edits go through the layers, one or some after the other: they are then drawn from the bottom up.

    Others, and those that are sorted by their effect, are a list to be read from the top.
    """
    if "edits" not in result.coords or "sorted_by" in result.attrs:
        return False
    plan = [json.loads(str(edits)) for edits in result["edits"].to_numpy()]
    places = [(edits[0].get("layers") or [None])[0] if len(edits) == 1 else None for edits in plan]
    known = [place for place in places if place is not None]
    return len(known) == len(plan) and len(set(known)) > 1 and known == sorted(known)


def read_at(result: xr.Dataset) -> str:
    """Where the effects on the maps were read, in words; nothing for results of early versions."""
    readout = result.attrs.get("readout")
    if readout is None:
        return ""
    return "all layers behind each edit" if isinstance(readout, str) else layers_in_words(readout)


def read_where_edited(result: xr.Dataset, effect: Effect) -> NDArray[np.bool_]:
    """(intervention): whether an edit acts inside a layer whose maps are read."""
    if "readout_reach" not in result.coords or not effect.of_maps:
        return np.zeros(result.sizes["intervention"], dtype=bool)
    return np.array(["own" in str(how).split(" + ") for how in result["readout_reach"].to_numpy()])


def why_absent(result: xr.Dataset, row: int, value: float) -> str:
    """Why a row has no value that could be drawn, in a few words."""
    if np.isinf(value):
        return "leaves every picture as it is"
    how = str(result["readout_reach"].to_numpy()[row]) if "readout_reach" in result.coords else ""
    if "skipped" in how:
        return f"leaves out what is read ({read_at(result)})"
    return f"cannot reach {read_at(result)}" if "unreachable" in how else "nothing to compare"


def single_heads(result: xr.Dataset) -> list[tuple[int, int]] | None:
    """Block and head of each intervention, where all edit one head of one block and there are several blocks."""
    if "edits" not in result.coords:
        return None
    found, plan = [], [json.loads(str(edits)) for edits in result["edits"].to_numpy()]
    for edits in plan:
        layers, heads = (edits[0].get(name) or [] for name in ("layers", "heads"))
        if len(edits) != 1 or len(layers) != 1 or len(heads) != 1:
            return None
        found.append((layers[0], heads[0]))
    alike = len({(edits[0]["edit"], str(edits[0].get("timesteps"))) for edits in plan}) == 1
    several = len({layer for layer, _ in found}) > 1 and len({head for _, head in found}) > 1
    return found if alike and several and len(set(found)) == len(found) else None


def _shortened(text: str, room: float) -> str:
    """A text on one line of so many inches."""
    if text_width(text) <= room:
        return text
    while text and text_width(text + "…") > room:
        text = text[:-1]
    return text + "…"


def about(result: xr.Dataset, effect: Effect, *notes: str) -> str:
    """Where effects were read, what the controls are, and further notes."""
    where = read_at(result) if effect.of_maps else ""
    parts = [f"Effects of edits{f', maps of {where}' if where else ''}"]
    counts = _controls(effect)
    if counts.any():
        kinds = [KINDS.get(kind, kind) for kind in sorted(set(map(str, result["control"].to_numpy())))]
        few, most = int(counts[counts > 0].min(initial=counts.max())), int(counts.max())
        count = f"{most} repeat{'s' * (most != 1)}" if few == most else f"{few} to {most} repeats"
        parts.append(f"controls: {' or '.join(kinds)}, {count}")
    return "; ".join([*parts, *notes])
