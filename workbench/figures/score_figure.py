"""Scores of a segmentation beside those of maps that cannot know the answer."""

from __future__ import annotations

import math
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis.origin import provenance_of_result
from workbench.figures.paper import DPI, FONT_SIZE, NULL_COLOUR, PaperFigure, colour, style, text_width, wrap
from workbench.schema import InputError, read_attributes

_HEIGHT: Final = 2.4
_STEP: Final = 0.5
_LONGEST: Final = 1.3
"""Of a name below the axis, in inches; the rest of it becomes "…"."""
_ANGLE: Final = 60


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
        If the dataset is no score, or its mean is over other concepts than it holds.
    """
    if not {"iou", "mean_iou"} <= set(found.data_vars) or found["iou"].dims != (schema.CONCEPT,):
        raise InputError("this dataset is no score; pass what ds.wb.score(...) returned.")
    attrs = read_attributes(found.attrs)
    own = [str(name) for name in found[schema.CONCEPT].to_numpy()]
    values = [*found["iou"].to_numpy(), float(found["mean_iou"])]
    if not np.isclose(float(found["iou"].mean()), values[-1], equal_nan=True):
        raise InputError(
            f"this score holds {', '.join(own)} alone, but its mean is over other concepts: pass the whole score, or "
            "measure these alone, ds.wb.score(concepts=[...])."
        )
    names = [wrap(name, _LONGEST, 1) for name in [*own, "mean"]]
    wide = width or max(2.6, _STEP * len(names) + 1.6)
    turned = max(map(len, names)) * len(names) > wide * 9
    with mpl.rc_context(style(dark, curves=True)):
        below = max(map(text_width, names)) * math.sin(math.radians(_ANGLE)) if turned else 0.0
        figure = PaperFigure(figsize=(wide, _HEIGHT + below), dpi=DPI, layout="constrained")
        ax = figure.add_subplot()
        ax.set_aspect("auto")
        ink = mpl.rcParams["text.color"]
        if "iou_null" in found:
            for place, drawn in enumerate([*found["iou_null"].transpose(schema.CONCEPT, ...), found["mean_iou_null"]]):
                known = drawn.to_numpy()[np.isfinite(drawn.to_numpy())]
                if not len(known):
                    continue
                low, high = np.quantile(known, [0.025, 0.975]) if len(known) >= 20 else (known.min(), known.max())
                ax.bar(place, high - low, 0.7, low, color=NULL_COLOUR, alpha=0.45, linewidth=0)
                ax.hlines(np.median(known), place - 0.35, place + 0.35, color=NULL_COLOUR, linewidth=1.2)
        for place, value in enumerate(values):
            tint = ink if place == len(names) - 1 else colour(place)
            ax.plot(
                place, value, "o", color=tint, markersize=5, markeredgecolor=ink, markeredgewidth=0.5, clip_on=False
            )
            if np.isnan(value):
                ax.text(place, 0.02, "nowhere", rotation=90, ha="center", va="bottom", alpha=0.65)
        leaning: dict[str, Any] = {"rotation": _ANGLE, "ha": "right", "rotation_mode": "anchor"} if turned else {}
        ax.set_xticks(range(len(names)), names, **leaning)
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
