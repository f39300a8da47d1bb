"""What the ablation panel shows at a moment, drawn without a browser."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from workbench.widgets.ablate.finished_runs import Result, figure
from workbench.widgets.shared.drawing import Block, Shown, Still, Table, Text
from workbench.widgets.shared.picture_text import short

_HEADS: Final = ("#", "what", "measure", "truth", "points", "best", "value")
_NAMES: Final = {"sweep": "Sweeps", "intervention": "Interventions"}
_MOST: Final = 12
_DPI: Final = 110


def still_of(
    title: str, results: Mapping[str, Sequence[Result]], last: Result | None, facts: Mapping[str, Any]
) -> Still:
    """The panel at a moment: its results, and the figure of the last one.

    Parameters
    ----------
    title
        What it is about.
    results
        By mode, what was found so far.
    last
        The one that was found last.
    facts
        Where the run comes from that they are about.
    """
    blocks: list[Block] = [Text(f"Ablations: {title}", size=15, bold=True)]
    said = [f"Ablations of {title}"]
    for mode, found in results.items():
        if not found:
            continue
        rows = [result.row() for result in found[-_MOST:]]
        blocks += [Text(_NAMES[mode], bold=True), Table(_HEADS, [_cells(row) for row in rows])]
        said += [f"{_named(one)}: {_outcome(row)}" for one, row in zip(found[-_MOST:], rows, strict=True)]
        if len(found) > _MOST:
            blocks.append(Text(f"{len(found) - _MOST} earlier results are not listed.", soft=True))
    if last is None:
        blocks.append(Text("Nothing was run yet.", soft=True))
        said.append("nothing was run yet")
        return Still(f"{'; '.join(said)}.", blocks, facts)
    blocks += [Text(_named(last), soft=True), Shown(_figure(last))]
    return Still(f"{'; '.join(said)}.", blocks, {**facts, "code": last.code})


def _named(result: Result) -> str:
    truth = f"; truth: {result.truth}" if result.truth else ""
    return f"{result.mode} {result.number}, {result.what}{truth}"


def _cells(row: Mapping[str, Any]) -> list[str]:
    value = "–" if row["value"] is None else short(row["value"])
    cells = [str(row["number"]), row["what"], row["measure"], row["truth"] or "–", str(row["points"])]
    return [*cells, row["best"] or "–", value]


def _outcome(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return f"{row['measure']} could not be measured"
    return f"{row['peak']} {row['best']}, {row['measure']} {short(row['value'])}"


def _figure(result: Result) -> Any:
    """The figure of a result's first measure."""
    from PIL import Image

    return Image.open(io.BytesIO(figure(result, kind="png", dpi=_DPI)))
