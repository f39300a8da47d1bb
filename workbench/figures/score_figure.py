"""Scores of a segmentation beside those of maps that cannot know the answer."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis.origin import provenance_of_result
from workbench.figures.paper import DPI, FONT_SIZE, NULL_COLOUR, PaperFigure, colour, style, wrap
from workbench.schema import InputError, read_attributes

_HEIGHT = 2.4
_STEP = 0.5


def score(found: xr.Dataset, *, dark: bool = False, width: float | None = None) -> PaperFigure:
    """Draw a score: IoU of every concept and their mean, each over the grey band of its null.

    Parameters
    ----------
    found
        What ``ds.wb.score()`` returned. With ``null=`` a grey bar spans the central 95 % of the null's repeats, or all
        of them where there are fewer than 20, and a line marks their median.
    dark
        Draw on black, for slides.
    width
        Width of the figure in inches.

    Returns
    -------
    A figure, ready for ``savefig``.

    Raises
    ------
    InputError
        If the dataset is no score.
    """
    if not {"iou", "mean_iou"} <= set(found.data_vars) or found["iou"].dims != (schema.CONCEPT,):
        raise InputError("this dataset is no score; pass what ds.wb.score(...) returned.")
    attrs = read_attributes(found.attrs)
    names = [*map(str, found[schema.CONCEPT].to_numpy()), "mean"]
    values = [*found["iou"].to_numpy(), float(found["mean_iou"])]
    wide = width or max(2.6, _STEP * len(names) + 1.6)
    with mpl.rc_context(style(dark, curves=True)):
        figure = PaperFigure(figsize=(wide, _HEIGHT), dpi=DPI, layout="constrained")
        ax = figure.add_subplot()
        ax.set_aspect("auto")
        ink = mpl.rcParams["text.color"]
        if "iou_null" in found:
            for place, drawn in enumerate([*found["iou_null"].transpose(schema.CONCEPT, ...), found["mean_iou_null"]]):
                known = drawn.to_numpy()[np.isfinite(drawn.to_numpy())]
                if not len(known):
                    continue
                low, high = np.quantile(known, [0.025, 0.975]) if len(known) >= 20 else (known.min(), known.max())
                label = "null" if place == 0 else None
                ax.bar(place, high - low, 0.7, low, color=NULL_COLOUR, alpha=0.45, linewidth=0, label=label)
                ax.hlines(np.median(known), place - 0.35, place + 0.35, color=NULL_COLOUR, linewidth=1.2)
        for place, value in enumerate(values):
            tint = ink if place == len(names) - 1 else colour(place)
            ax.plot(
                place, value, "o", color=tint, markersize=5, markeredgecolor=ink, markeredgewidth=0.5, clip_on=False
            )
        ax.set_xticks(range(len(names)), names)
        if sum(len(name) + 2 for name in names) > wide * 9:
            ax.tick_params(axis="x", labelrotation=60)
        ax.set_xlim(-0.6, len(names) - 0.4)
        ax.set_ylim(0, 1)
        ax.set_ylabel("IoU")
        ax.grid(axis="y", linewidth=0.4, alpha=0.35)
        ax.spines[["top", "right"]].set_visible(False)
        facts = provenance_of_result(found)
        parts = [str(attrs.get("space", "")), *([f"edited: {facts['edit']}"] if facts.get("edit") else [])]
        if "center" in attrs:
            parts.append(f"centred by {attrs['center']}")
        if "iou_null" in found:
            repeats = found.sizes["repeat"]
            parts.append(f"grey: {attrs['null']} ({repeats} repeat{'s' * (repeats != 1)})")
        ax.set_title(wrap("; ".join(parts), wide - 0.7, 2), fontsize=FONT_SIZE, loc="left")
    figure.facts = facts
    return figure
