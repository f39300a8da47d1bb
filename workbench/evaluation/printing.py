"""Results as tables of text: what was measured, how, on how many images, and the published figures beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Final

from workbench.evaluation.datasets import published_count
from workbench.evaluation.foreign_text import one_line, shortened
from workbench.evaluation.harness import Evaluation, Result
from workbench.evaluation.protocols import Protocol, spans, value_of
from workbench.evaluation.published import Published
from workbench.evaluation.summaries import CONFIDENCE, METRICS, RESAMPLES, meaning
from workbench.numerics.resampling import FEW, LEAST

COLUMNS: Final = {
    "accuracy": "accuracy",
    "miou_set": "mIoU set",
    "miou_stacked": "mIoU stacked",
    "miou_image": "mIoU image",
    "ap": "AP",
    "ap_stacked": "AP stacked",
    "boundary_f": "boundary F",
}
"""Headings of the figures."""


def table(evaluation: Evaluation, published: Mapping[str, Published] | None = None, head: Sequence[str] = ()) -> str:
    """A table of text.

    Parameters
    ----------
    evaluation
        What :func:`workbench.evaluate` gave.
    published
        Published rows by the title of the entry that they stand beside. A difference is given where both are of the
        same data set.
    head
        Sentences above it.
    """
    shown_metrics = [
        name for name in METRICS if any(not math.isnan(one.summary.values[name]) for one in evaluation.results)
    ]
    rows = [["", *(COLUMNS[name] for name in shown_metrics), "images", "protocol"]]
    for one in evaluation.results:
        cells = [cell(one, name) for name in shown_metrics]
        rows.append([one.title, *cells, f"{one.summary.images:,}", one.protocol.hash[:6]])
        if (row := (published or {}).get(one.title)) is not None:
            alike = row.data == evaluation.data.source.get("data")
            # Published figures have no interval: they stand under ours, not under half the width.
            gaps = [len(text) - len(text.partition(" ±")[0]) for text in cells]
            for line in beside(one, row, shown_metrics)[: 2 if alike else 1]:
                shifted = [f"{text}{' ' * gap}" for text, gap in zip(line[1:-2], gaps, strict=True)]
                rows.append([line[0], *shifted, *line[-2:]])
    lines = [*head, *measured(evaluation), ""]
    lines += _aligned(rows)
    lines += ["", *legend(evaluation, shown_metrics)]
    return "\n".join(map(one_line, lines))


def cell(one: Result, name: str) -> str:
    """A figure in per cent, with half the width of its interval."""
    value, low, high = (part[name] for part in (one.summary.values, one.summary.low, one.summary.high))
    if math.isnan(value):
        return "-"
    return f"{100 * value:.2f}" + ("" if math.isnan(low) else f" ± {50 * (high - low):.2f}")


def beside(one: Result, row: Published, names: Sequence[str]) -> list[list[str]]:
    """Lines of a published row, and of the difference of ours from it."""
    figures = {"accuracy": row.accuracy, f"miou_{compared(row)}": row.miou, "ap_stacked": row.ap}
    there = [figures.get(name) for name in names]
    ours = [100 * one.summary.values[name] for name in names]
    mark = " *" if row.kind == "unexplained" else ""
    return [
        [f"  published: {row.title}{mark}", *("" if value is None else f"{value:.2f}" for value in there), "", ""],
        [
            "  ours minus published",
            *("" if value is None else f"{own - value:+.2f}" for own, value in zip(ours, there, strict=True)),
            "",
            "",
        ],
    ]


def compared(row: Published) -> str:
    """Which of our mIoUs a published one is compared with."""
    return "set" if row.kind == "set" else "stacked"


def measured(evaluation: Evaluation) -> list[str]:
    """Lines that say what was measured."""
    names, data = evaluation.names, evaluation.data
    part = "" if len(names) == evaluation.available else f" of {evaluation.available:,}, spread evenly"
    failed = {one.name for one in evaluation.problems}
    inside = len(failed & set(names))
    said = [f"{inside:,} failed"] if inside else []
    said += [f"{len(failed) - inside:,} more could not be selected"] if len(failed) > inside else []
    expected = published_count(data, evaluation.results[0].protocol)
    if expected is not None and expected != evaluation.available:
        said.append(f"NOT the published set, which has {expected:,}")
    elif expected is None and data.expected:
        said.append(f"published figures are of {next(iter(data.expected.values())):,}, selected by another rule")
    lines = ["; ".join([f"{data.name}: {len(names):,} images{part}", *said])]
    lines += [f"model: {name}" for name in models(evaluation)]
    by_hash: dict[str, Protocol] = {one.protocol.hash: one.protocol for one in evaluation.results}
    first = next(iter(by_hash.values()))
    said = [f"{one.name}={value_of(first, one.name)}" for one in fields(Protocol) if one.name not in ("name", "task")]
    lines += [f"protocol {first.hash[:6]}: {first.name}", *_wrapped(said)]
    for other in list(by_hash.values())[1:]:
        changed = [
            f"{one.name}={value_of(other, one.name)}"
            for one in fields(Protocol)
            if one.name != "name" and getattr(other, one.name) != getattr(first, one.name)
        ]
        lines.append(f"protocol {other.hash[:6]}: the same with {', '.join(changed)}")
    return lines


def models(evaluation: Evaluation) -> list[str]:
    """What the models are, by name and checksum."""
    found: dict[str, None] = {}
    for one in evaluation.results:
        settings = one.settings
        if "model" in settings:
            found[f"{settings['model']} (checksum {str(settings.get('fingerprint', 'none'))[:10]}){_own(one)}"] = None
    return list(found)


def _own(one: Result) -> str:
    """What the protocol leaves to the model, and what the model made of it."""
    own = []
    if one.protocol.layers is None and one.settings.get("layers"):
        own.append(f"its own layers are {spans(one.settings['layers'])}")
    if one.protocol.timestep is None and one.settings.get("timestep"):
        own.append(f"its own timestep is {one.settings['timestep']:g}")
    return "; " + ", ".join(own) if own else ""


def legend(evaluation: Evaluation, names: Sequence[str]) -> list[str]:
    """What the columns are, and what went wrong."""
    lines = [f"{COLUMNS[name]}: {said}." for name, said in meanings(evaluation, names).items()]
    said = intervals(evaluation)
    lines.append(f"±: {said}" if said.startswith("no ") else f"±: half of {said}")
    lines += remarks(evaluation)
    failed = list(evaluation.problems)
    lines += [f"failed: {shortened(one.name)}: {shortened(one.message)}" for one in failed[:10]]
    if len(failed) > 10:
        lines.append(f"and {len(failed) - 10:,} more, in .problems and in the report.")
    lines += [f"warning, {count:,} images: {shortened(note)}" for note, count in list(evaluation.notes.items())[:10]]
    return lines


def meanings(evaluation: Evaluation, names: Sequence[str]) -> dict[str, str]:
    """What each figure is, under every protocol that is in the table."""
    protocols = {one.protocol.hash: one.protocol for one in evaluation.results}.values()
    return {name: " | ".join(dict.fromkeys(meaning(name, one) for one in protocols)) for name in names}


def intervals(evaluation: Evaluation) -> str:
    """What the intervals are of, in a sentence."""
    counts = {one.summary.images for one in evaluation.results}
    enough = sorted(count for count in counts if count >= LEAST)
    if not enough:
        return f"no interval for so few images (under {LEAST})."
    few = f", exploratory for so few images (under {FEW})" if enough[0] < FEW else ""
    none = f"; none for rows of under {LEAST} images" if len(enough) < len(counts) else ""
    return f"the {100 * CONFIDENCE:g} % interval over images{few}; percentile bootstrap, {RESAMPLES:,} resamples{none}."


def remarks(evaluation: Evaluation) -> list[str]:
    """Sentences about rows that are of other images, and images in which average precision is not defined."""
    lines = []
    if len({one.summary.images for one in evaluation.results}) > 1:
        lines.append("Rows are NOT of the same images: each leaves out those on which its own method failed.")
    for one in evaluation.results:
        plain, stacked = one.summary.undefined
        parts = [f"AP in {plain:,} images"] if plain else []
        parts += [f"AP stacked in {stacked:,} (maps that are the same everywhere)"] if stacked else []
        if parts:
            lines.append(f"{one.title}: not defined, and counted as 0: {', '.join(parts)}.")
    return lines


def _wrapped(said: Sequence[str], width: int = 118) -> list[str]:
    lines, line = [], " "
    for one in said:
        if len(line) + len(one) + 2 > width:
            lines.append(line.rstrip(" "))
            line = " "
        line += f" {one},"
    return [*lines, line.rstrip(",")]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        parts = [row[0].ljust(widths[0]), *(one.rjust(width) for one, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(parts).rstrip())
        if number == 0:
            lines.append("-" * len(lines[0]))
    return lines
