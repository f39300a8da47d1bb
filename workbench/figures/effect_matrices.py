"""Effects of interventions on every layer that was read."""

from __future__ import annotations

from typing import Any, Final

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import Colormap
from matplotlib.patches import Patch, Rectangle

from workbench.analysis.origin import provenance_of_result
from workbench.figures.effect_figure import by_depth, chosen_effect, hatch_absent, prepared, read_at, usual_map
from workbench.figures.paper import DPI, FONT_SIZE, PaperFigure, style, text_width, wrap
from workbench.schema import InputError

_CELL: Final = 0.34
_MOST_LABEL: Final = 2.4
_OWN: Final = "#D55E00"


def effects_by_layer(
    result: xr.Dataset,
    effect: str | None = None,
    *,
    concept: str | None = None,
    cmap: str | Colormap | None = None,
    dark: bool = False,
) -> PaperFigure:
    """Draw the matrix of interventions and the layers where their effects were read.

    Layers that are read run to the right, and edits that go through the layers upwards: both ways is deeper. Edits of
    another kind, or sorted by their effect, are a list. Cells that an edit cannot reach, or leaves out, are hatched:
    nothing was measured there. Those that it acts inside are framed: their change is that of the edited score itself,
    and no effect on what comes after. Triangles above mark the read-out that :func:`workbench.figures.effects` shows.

    Parameters
    ----------
    result
        What :func:`workbench.intervene` or :func:`workbench.vital_layers` returned.
    effect
        ``map_distance``, ``total_variation_distance`` or ``iou_shift``.
    concept
        Of ``map_distance`` and ``iou_shift``: that of one concept; the mean over concepts otherwise.
    cmap
        A perceptually uniform colour map; by default ``"viridis"``, and ``"RdBu"`` around zero for a shift.
    dark
        Draw on black, for slides.

    Returns
    -------
    A figure, ready for ``savefig``.

    Raises
    ------
    InputError
        If the dataset is no result of interventions, or has no such effect by layer.
    """
    result = prepared(result)
    drawn = chosen_effect(result, effect or "map_distance", concept)
    if drawn.by_layer is None:
        raise InputError(
            f"{effect or 'map_distance'} was not read by layer in this result; expected map_distance, "
            "total_variation_distance or iou_shift of a result that wb.intervene(...) of this version returned."
        )
    values = np.where(np.isfinite(drawn.by_layer), drawn.by_layer, np.nan)
    kinds, layers = result["reach"].to_numpy(), result["read_layer"].to_numpy().tolist()
    labels = [str(name) for name in result["intervention"].to_numpy()]
    with mpl.rc_context(style(dark, curves=True)):
        left = min(max(map(text_width, labels)), _MOST_LABEL)
        size = (left + _CELL * len(layers) + 1.5, _CELL * len(labels) + 1.55)
        figure = PaperFigure(figsize=(max(size[0], 3.4), size[1]), dpi=DPI, layout="constrained")
        ax = figure.add_subplot()
        ends: dict[str, Any] = {} if not drawn.from_zero else {"vmin": 0}
        if drawn.signed and np.isfinite(values).any():
            most = float(np.nanmax(abs(values))) or 1.0
            ends = {"vmin": -most, "vmax": most}
        shown = ax.imshow(values, cmap=cmap or usual_map(drawn), **ends)
        upwards = by_depth(result)
        if upwards:
            ax.invert_yaxis()
        hatch_absent(ax, values)
        for y, x in zip(*np.nonzero(kinds == "own"), strict=True):
            ax.add_patch(Rectangle((x - 0.43, y - 0.43), 0.86, 0.86, fill=False, edgecolor=_OWN, linewidth=1.4))
        ax.set_xticks(range(len(layers)), [str(layer) for layer in layers])
        ax.set_yticks(range(len(labels)), [wrap(label, _MOST_LABEL, 1) for label in labels])
        ax.set_xlabel("layer that is read")
        ax.spines[:].set_visible(False)
        readout = result.attrs.get("readout", ())
        if not isinstance(readout, str):
            for layer in set(readout) & set(layers):
                at = (layers.index(layer), len(labels) - 0.28 if upwards else -0.72)
                ax.plot(*at, marker="v", markersize=4, color=mpl.rcParams["text.color"], clip_on=False)
        figure.colorbar(shown, ax=ax, label=wrap(drawn.name, size[1] - 0.8, 3), pad=0.02)
        ink = mpl.rcParams["text.color"]
        keys = [
            Patch(fill=False, hatch="////", edgecolor=ink, alpha=0.4, linewidth=0, label="out of reach, or left out")
        ]
        if (kinds == "own").any():
            keys.append(Patch(fill=False, edgecolor=_OWN, linewidth=1.4, label="inside the edited layer"))
        figure.legend(handles=keys, loc="outside lower left", ncols=1, frameon=False, fontsize=FONT_SIZE - 1)
        where = "" if isinstance(readout, str) or not readout else f" (read-out, ▾: {read_at(result)})"
        title = wrap(f"Effects of edits by layer{where}", figure.get_figwidth() - 0.2, 3)
        figure.suptitle(title, x=0.1 / figure.get_figwidth(), ha="left", fontsize=FONT_SIZE)
    figure.facts = provenance_of_result(result) | {"shown": f"{drawn.name}, by layer"}
    return figure
