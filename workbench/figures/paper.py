"""What all figures share: how they are saved, their type and their colours."""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import matplotlib as mpl
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from workbench.analysis.origin import SOFTWARE, as_text, title_of
from workbench.figures import font_fallback

DPI: Final = 300
"""Resolution of PNG files, and of the pictures inside PDF and SVG files, in dots per inch."""
SEGMENT_COLOURS: Final = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C"),
    *("#332288", "#882255", "#6B4423", "#F6C6D9"),
)
"""One colour per concept: Okabe and Ito's palette, told apart with any colour vision, then four more."""
NULL_COLOUR: Final = "#8C8C8C"
"""Of the band in which maps score that cannot know the answer."""

_SAVING: Final[dict[Any, Any]] = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": SOFTWARE}
_METADATA: Final = {
    "png": ("Title", "workbench", ""),
    "pdf": ("Title", "Keywords", "CreationDate"),
    "svg": ("Title", "Description", "Date"),
}
"""By kind of file, what holds the title, the facts and the time."""
_ON_SCREEN_DPI: Final = 110
FONT_SIZE: Final = 8.0
"""Of all text, in points."""


class PaperFigure(Figure):
    """A matplotlib Figure that saves PDF with TrueType text and SVG with outlines, and shows itself in notebooks.

    No pyplot is involved: nothing has to be closed. The same figure gives the same bytes each time.

    Attributes
    ----------
    facts
        Where it comes from, as :func:`workbench.analysis.origin.provenance` says it: kept in PNG, PDF and SVG files.
    """

    facts: Mapping[str, Any] = MappingProxyType({})

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save as :meth:`matplotlib.figure.Figure.savefig` does, with the font types that journals ask for."""
        known = self._metadata(options.get("format") or Path(str(fname)).suffix[1:].lower())
        if known:
            options["metadata"] = {**known, **(options.get("metadata") or {})}
        font_fallback.tell(self)
        with mpl.rc_context(_SAVING), font_fallback.quiet():
            super().savefig(fname, **options)

    def _metadata(self, kind: str) -> dict[str, Any]:
        """What a kind of file keeps of where the figure comes from; no time, which would differ at each save."""
        names = _METADATA.get(kind)
        if names is None:
            return {}
        title, facts, time = names
        dated = {time: None} if time else {}
        if not self.facts:
            return dated
        return {title: title_of(self.facts), facts: as_text(self.facts), **dated}

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=_ON_SCREEN_DPI)
        return buffer.getvalue()


def style(dark: bool, *, curves: bool = False) -> dict[Any, Any]:
    """Settings of a figure, on white or on black; axes stand out as pictures' frames do, unless they hold curves."""
    ink, paper = ("#E8E8E8", "#101010") if dark else ("#000000", "#FFFFFF")
    frame = "#3A3A3A" if dark else "#E4E4E4"
    inked: tuple[Any, ...] = (
        "text.color",
        "axes.labelcolor",
        "axes.titlecolor",
        "axes.edgecolor",
        "xtick.color",
        "ytick.color",
    )
    return dict.fromkeys(inked, ink) | {
        "figure.facecolor": paper,
        "axes.facecolor": paper if curves else frame,
        "font.family": font_fallback.families(),
        "font.size": FONT_SIZE,
        "axes.linewidth": 0.5,
        "ytick.major.width": 0.5,
        "ytick.major.size": 2.0,
        "image.interpolation": "nearest",
        "image.aspect": "equal",
        "image.origin": "upper",
        "text.usetex": False,
        "text.parse_math": False,
    }


def colour(label: int) -> str:
    """The colour of a concept: the palette, then hues far from one another; the views have the same."""
    if label < len(SEGMENT_COLOURS):
        return SEGMENT_COLOURS[label]
    hue = math.floor(label * 222.5 % 360 + 0.5) / 360
    return to_hex(colorsys.hls_to_rgb(hue % 1, 0.5, 0.55))


def text_width(text: str) -> float:
    """Width of a line in inches."""
    with font_fallback.quiet():
        width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=FONT_SIZE), False)
    return float(width) / 72


def wrap(text: str, width: float, most: int) -> str:
    """Break a text into at most so many lines of a width in inches; the rest becomes "…"."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if text_width(joined) <= width:
            lines[-1] = joined
            continue
        lines.append("") if lines[-1] else None
        for letter in word:
            if lines[-1] and text_width(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    if len(lines) > most:
        lines = lines[:most]
        while lines[-1] and text_width(lines[-1] + "…") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] += "…"
    return "\n".join(lines)
