"""Effects of interventions beside those of their controls."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from workbench.figures.paper import DPI, FONT_SIZE, PaperFigure, style, text_width, wrap
from workbench.figures.results import along
from workbench.schema import InputError

_NAMES: Final = {
    "mean_map_distance": "mean distance of the maps",
    "mean_iou_shift": "shift of the mean IoU",
    "psnr": "PSNR of the picture, dB",
    "ssim": "SSIM of the picture",
    "perceptual": "LPIPS of the picture",
}
_OF_CONCEPT: Final = {"map_distance": "distance of the map of “{}”", "iou_shift": "shift of the IoU of “{}”"}
_EFFECT: Final = "#D55E00"
_ROW: Final = 0.19
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
    """Draw what interventions did, and what their controls did.

    One row for each intervention: its effect as a dot, the draws of its control as ticks on a bar that spans them.
    Draws of other units may leave other layers to compare; the ranks in the dataset take that into account.
    A plan of every head of several blocks gives a matrix of block and head instead; cells whose effect is larger than
    that of every draw are framed.

    Parameters
    ----------
    result
        What :func:`workbench.intervene` or :func:`workbench.vital_layers` returned.
    effect
        ``map_distance``, ``iou_shift``, ``psnr``, ``ssim`` or ``perceptual``; by default what it was sorted by, or
        PSNR where pictures were made.
    concept
        Of ``map_distance`` and ``iou_shift``: that of one concept; the mean over concepts otherwise.
    cmap
        A perceptually uniform colour map, for matrices; by default ``"viridis"``, and ``"RdBu"`` around zero for a
        shift.
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
    if result.attrs.get("kind") != "intervention":
        raise InputError("this dataset holds no interventions; pass what wb.intervene(...) returned.")
    result = along(result, _dims(result))
    drawn = _effect(result, effect, concept)
    with mpl.rc_context(style(dark, curves=True)):
        places = _heads(result)
        if places is not None:
            return _matrix(result, drawn, places, cmap or ("RdBu" if drawn.signed else "viridis"))
        return _rows(result, drawn, width)


def _dims(result: xr.Dataset) -> dict[str, tuple[str, ...]]:
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(("control", "edits"), ("intervention",))
    for name, more in [(name, ()) for name in _NAMES] + [(name, ("concept",)) for name in _OF_CONCEPT]:
        dims |= dict.fromkeys((name, f"{name}_rank"), ("intervention", *more))
        dims[f"{name}_control"] = ("intervention", "draw", *more)
    return dims


@dataclass(frozen=True)
class _Effect:
    """What is drawn: (intervention), and (intervention, draw) for the controls."""

    values: NDArray[np.float64]
    controls: NDArray[np.float64] | None
    ranks: NDArray[np.float64] | None
    name: str
    signed: bool
    from_zero: bool


def _effect(result: xr.Dataset, effect: str | None, concept: str | None) -> _Effect:
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
    controls, ranks = result.get(f"{chosen}_control"), result.get(f"{chosen}_rank")
    return _Effect(
        result[chosen].to_numpy(),
        None if controls is None else controls.transpose("intervention", "draw").to_numpy(),
        None if ranks is None else ranks.to_numpy(),
        name,
        bare == "iou_shift",
        bare in ("map_distance", "perceptual"),
    )


def _rows(result: xr.Dataset, effect: _Effect, width: float) -> PaperFigure:
    values = effect.values
    count = len(values)
    figure = PaperFigure(figsize=(width, _ROW * count + 0.95), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    ax.set_aspect("auto")
    ink = mpl.rcParams["text.color"]
    if effect.controls is not None:
        for row, draws in enumerate(effect.controls):
            there = draws[np.isfinite(draws)]
            if len(there):
                ax.barh(row, np.ptp(there), 0.62, there.min(), color=ink, alpha=0.13, linewidth=0)
                ax.vlines(there, row - 0.31, row + 0.31, color=ink, alpha=0.45, linewidth=0.8)
    known = np.isfinite(values)
    ax.scatter(
        values[known], np.flatnonzero(known), 22, color=_EFFECT, edgecolors=ink, linewidths=0.4, zorder=3, clip_on=False
    )
    room = 0.45 * width
    labels = [_shortened(str(name), room) for name in result["intervention"].to_numpy()]
    ax.set_yticks(range(count), labels)
    ax.set_ylim(count - 0.4, -0.6)
    ax.use_sticky_edges = False
    ax.margins(x=0.04)
    if effect.from_zero:
        ax.set_xlim(left=0)
    if effect.signed:
        ax.axvline(0, color=ink, linewidth=0.6, alpha=0.6, zorder=1)
    ax.set_xlabel(wrap(effect.name, width - max(map(text_width, labels)) - 0.3, 2))
    ax.grid(axis="x", linewidth=0.4, alpha=0.35)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    _title(ax, result, width - max(map(text_width, labels)) - 0.3)
    return figure


def _matrix(result: xr.Dataset, effect: _Effect, places: list[tuple[int, int]], cmap: Any) -> PaperFigure:
    layers, heads = (sorted({place[axis] for place in places}) for axis in (0, 1))
    at = [(layers.index(layer), heads.index(head)) for layer, head in places]
    values, beyond = np.full((len(layers), len(heads)), np.nan), np.zeros((len(layers), len(heads)), bool)
    for index, cell in enumerate(at):
        values[cell] = effect.values[index]
        beyond[cell] = effect.ranks is not None and effect.ranks[index] == 1
    side = min(_CELL, 5.0 / len(heads))
    size = (max(side * len(heads) + 1.5, 3.0), max(side * len(layers), 1.2) + 0.95)
    figure = PaperFigure(figsize=size, dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    values[~np.isfinite(values)] = np.nan
    most = float(np.nanmax(abs(values))) if effect.signed and np.isfinite(values).any() else None
    shown = ax.imshow(values, cmap=cmap, vmin=None if most is None else -most, vmax=most)
    ax.set_aspect("auto")
    ax.set_xticks(range(len(heads)), [str(head) for head in heads])
    ax.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    ax.set_xlabel("head")
    ax.set_ylabel("layer")
    for y, x in zip(*np.nonzero(beyond), strict=True):
        frame = Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor=_EFFECT, linewidth=1.6)
        frame.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground="#FFFFFF")])
        ax.add_patch(frame)
    figure.colorbar(shown, ax=ax, label=wrap(effect.name, size[1] - 0.5, 3), pad=0.02)
    _title(ax, result, size[0] - 0.6, framed=bool(beyond.any()))
    return figure


def _heads(result: xr.Dataset) -> list[tuple[int, int]] | None:
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
    while text_width(text + "…") > room:
        text = text[:-1]
    return text + "…"


def _title(ax: Axes, result: xr.Dataset, width: float, *, framed: bool = False) -> None:
    parts = ["interventions"]
    if "draw" in result.sizes:
        kinds = " or ".join(sorted(set(map(str, result["control"].to_numpy()))))
        parts.append(f"control: {kinds}, {result.sizes['draw']} draws")
    if framed:
        parts.append("framed: beyond all draws")
    ax.set_title(wrap("; ".join(parts), width, 3), fontsize=FONT_SIZE, loc="left")
