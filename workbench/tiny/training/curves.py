"""Loss curves of a training: ``python -m workbench.tiny.training.curves training/log.jsonl curves.png``."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_LOSSES = (("flow", "flow matching", "#0072B2"), ("presence", "presence", "#D55E00"), ("colour", "colour", "#009E73"))


def _stage(record: dict[str, Any]) -> str:
    """What a stage's steps have in common."""
    return f"{record['size']} px, {record['rows']} rows"


def read_log(path: Path) -> list[dict[str, Any]]:
    """Records of a training's log by step; where a training was resumed, what it did last counts."""
    records = (json.loads(line) for line in path.read_text().splitlines())
    return [record for _, record in sorted({record["step"]: record for record in records}.items())]


def loss_curves(log: Sequence[dict[str, Any]], control: Sequence[dict[str, Any]] = ()) -> Figure:
    """Losses over steps, with the stages told apart, and the flow loss of a control beside them."""
    figure = Figure(figsize=(5.5, 3.0), layout="constrained")
    axes = figure.add_subplot()
    steps = [record["step"] for record in log]
    for name, label, colour in _LOSSES:
        axes.plot(steps, [record[name] for record in log], color=colour, label=label)
    if control:
        own = [record["step"] for record in control]
        axes.plot(own, [record["flow"] for record in control], color="#0072B2", linestyle=":", label="control's flow")
    starts = [(0, log[0]), *((a["step"], b) for a, b in pairwise(log) if _stage(a) != _stage(b))]
    last = -math.inf
    for start, record in starts:
        if start:
            axes.axvline(start, color="0.6", linewidth=0.8)
        crowded = start - last < 0.12 * steps[-1]
        last = start
        axes.annotate(
            _stage(record).replace(", ", "\n"),
            (start, 1),
            (0, 23 if crowded else 3),
            xycoords=("data", "axes fraction"),
            va="bottom",
            fontsize=7,
            textcoords="offset points",
            color="0.35",
        )
    axes.set_yscale("log")
    axes.set_xlim(0, steps[-1])
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def throughput(log: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Rows a second of each stage: the median over its records, which idle machines lead."""
    rates: dict[str, list[float]] = {}
    for before, after in pairwise(log):
        if _stage(before) == _stage(after) and after["seconds"] > before["seconds"]:
            rows = (after["step"] - before["step"]) * after["rows"]
            rates.setdefault(_stage(after), []).append(rows / (after["seconds"] - before["seconds"]))
    return {stage: sorted(values)[len(values) // 2] for stage, values in rates.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path, help="log.jsonl of a training folder")
    parser.add_argument("output", type=Path, help="picture to write")
    parser.add_argument("--control", type=Path, help="log of a training with --control")
    options = parser.parse_args()
    log = read_log(options.log)
    control = [] if options.control is None else read_log(options.control)
    loss_curves(log, control).savefig(options.output, dpi=200)
    for stage, rate in throughput(log).items():
        print(f"{stage}: {rate:.1f} rows/s")


if __name__ == "__main__":
    main()
