"""Finished runs of the ablation panel: a row of the table, and files to take along."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import xarray as xr

from workbench.analysis.origin import provenance_of_result
from workbench.schema import pack_attributes
from workbench.widgets.ablate.effect_plots import BY_LAYER
from workbench.widgets.ablate.plots import best

SWEEP: Final = "sweep"
INTERVENTION: Final = "intervention"
SWEPT_FILES: Final = (".csv", ".nc")
"""Endings of the files of a result that are no figures."""


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes
    ----------
    number
        Its place among those of its mode, from 1.
    mode
        :data:`SWEEP` or :data:`INTERVENTION`.
    what
        What was done, in words.
    found
        What came out.
    plots
        What is drawn, by measure.
    code
        Python that gives the same numbers.
    shown
        Gives the maps behind a point (``pair``), and lets go of them (``free``).
    seconds
        How long it took.
    notes
        The warnings that were given.
    truth
        That the maps were compared with, in words; empty where with none.
    facts
        Where the run comes from that this is about, as :func:`workbench.analysis.origin.provenance` says it.
    """

    number: int
    mode: str
    what: str
    found: xr.Dataset
    plots: dict[str, dict[str, Any]]
    code: str
    shown: Any
    seconds: float
    notes: tuple[str, ...] = ()
    truth: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its files are called, without their ending."""
        return f"{self.mode}-{self.number}"

    def row(self) -> dict[str, Any]:
        """The row of the table."""
        measure, plot = next(iter(self.plots.items()))
        top = best(plot)
        return {
            "number": self.number,
            "what": self.what,
            "truth": self.truth,
            "measure": plot["measure"],
            "measures": [[name, other["measure"]] for name, other in self.plots.items()],
            "points": int(np.prod([len(labels) for labels in plot["labels"]])),
            "best": None if top is None else _place(plot, top[0]),
            "value": None if top is None else top[1],
            "peak": plot.get("peak", "best"),
            "seconds": self.seconds,
            "first": measure,
        }

    def told(self) -> dict[str, Any]:
        """What came out, as values that JSON can hold: the row, the points of the first line, and the code."""
        plot = next(iter(self.plots.values()))
        values = _array(plot["lines"][0]["values"])
        places = list(itertools.product(*(range(len(labels)) for labels in plot["labels"])))
        points = [
            {"point": _place(plot, at), "value": None if np.isnan(values[at]) else float(values[at])} for at in places
        ]
        row, kept = self.row(), ("what", "truth", "measure", "best", "value", "peak")
        line = plot["lines"][0]["name"]
        return {**{name: row[name] for name in kept}, "line": line, "points": points, "code": self.code}

    def file(self, kind: str) -> bytes:
        """A file of the result: ``"csv"``, ``"nc"``, or a figure in a format of matplotlib."""
        if f".{kind}" not in SWEPT_FILES:
            return figure(self, kind=kind)
        return table([self]).encode() if kind == "csv" else netcdf(self)


def table(results: Sequence[Result]) -> str:
    """All points of some runs of one mode as CSV: a row for each point, concept and measure."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for result in results:
        writer.writerows(_points(result))
    return buffer.getvalue()


def netcdf(result: Result) -> bytes:
    """A result as a netCDF file; attributes that netCDF cannot hold are written as JSON."""
    found = result.found.assign_attrs({"truth": result.truth} if result.truth else {})
    return bytes(found.assign_attrs(pack_attributes(found.attrs, texts=False)).to_netcdf(engine="scipy"))


_COLUMNS: Final = (
    "run", "mode", "what", "measure", "point", "concept", "value", "low", "high", "all_together",
    "control_low", "control_middle", "control_high", "rank", "reach", "why",
    "truth", "truth_hash", "key", "image_hash", "prompt", "edit", "model", "model_revision",
)  # fmt: skip
_OF_RUN: Final = _COLUMNS[-6:]


def _points(result: Result) -> Iterator[list[Any]]:
    facts = {**result.facts, **provenance_of_result(result.found)}
    origin = [result.truth, result.found.attrs.get("truth_hash", ""), *(facts.get(name, "") for name in _OF_RUN)]
    for plot in result.plots.values():
        for line in plot["lines"]:
            parts = [_array(line.get(name)) for name in ("values", "low", "high")]
            controls = [_array(line.get(f"control_{name}")) for name in ("low", "middle", "high")]
            ranks = _array(line.get("rank"))
            full = "" if line.get("full") is None else line["full"]
            said = [plot.get(name) for name in ("reach", "why")]
            for at in itertools.product(*(range(len(labels)) for labels in plot["labels"])):
                first = [result.number, result.mode, result.what, plot["measure"], _place(plot, at), line["name"]]
                values = [_cell(part, at) for part in parts]
                beside = [_cell(part, at) for part in (*controls, ranks)]
                yield [*first, *values, full, *beside, *(_said(texts, at) for texts in said), *origin]


def _place(plot: dict[str, Any], at: Sequence[int]) -> str:
    names = zip(plot["dims"], plot["labels"], at, strict=True)
    return ", ".join(labels[i] if dim in ("rank", "intervention") else f"{dim} {labels[i]}" for dim, labels, i in names)


def _array(values: Any) -> Any:
    return None if values is None else np.array(values, dtype=float)


def _cell(values: Any, at: tuple[int, ...]) -> Any:
    return "" if values is None or np.isnan(values[at]) else float(values[at])


def _said(texts: Any, at: tuple[int, ...]) -> str:
    """A text of a point, where the points have some."""
    for place in at if texts is not None else ():
        texts = texts[place]
    return texts or ""


def figure(
    result: Result, measure: str | None = None, line: int | None = None, kind: str = "pdf", dpi: int | None = None
) -> bytes:
    """The figure of a result, as a file.

    Parameters
    ----------
    result
        What is drawn.
    measure
        Which of its measures; the first one without.
    line
        Of an intervention: which of its lines; the first one without.
    kind
        Of file, as matplotlib names it.
    dpi
        Of a picture, dots per inch; without it those of the figure.
    """
    from workbench import figures

    chosen = measure or next(iter(result.plots))
    buffer = io.BytesIO()
    if result.mode == SWEEP:
        drawn = figures.sweep(result.found, chosen)
    else:
        shown = result.plots[chosen]["lines"][line or 0]
        concept = None if shown["concept"] is None else shown["name"]
        draw = figures.effects_by_layer if chosen.endswith(BY_LAYER) else figures.effects
        drawn = draw(result.found, chosen.removesuffix(BY_LAYER), concept=concept)
    drawn.savefig(buffer, format=kind, dpi=dpi or "figure")
    return buffer.getvalue()
