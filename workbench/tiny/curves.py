"""Loss curves of a training: ``python -m workbench.tiny.curves training/log.jsonl curves.png``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_LOSSES = (("flow", "flow matching", "#0072B2"), ("presence", "presence", "#D55E00"), ("colour", "colour", "#009E73"))


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
    starts = [0, *(before["step"] for before, after in pairwise(log) if after["rows"] != before["rows"])]
    for start in starts[1:]:
        axes.axvline(start, color="0.6", linewidth=0.8)
    sizes = [record["size"] for before, record in pairwise([{}, *log]) if before.get("size") != record["size"]]
    for start, size in zip(starts, sizes, strict=True):
        axes.annotate(
            f"{size} px",
            (start, 1),
            (3, -3),
            xycoords=("data", "axes fraction"),
            va="top",
            fontsize=7,
            textcoords="offset points",
            color="0.35",
        )
    axes.set_yscale("log")
    axes.set_xlim(0, steps[-1])
    axes.set_xlabel("step")
    axes.set_ylabel("loss, mean of 100 steps")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def throughput(log: Sequence[dict[str, Any]]) -> dict[int, float]:
    """Rows a second of each stage, by side in pixels: the median over its records, which idle machines lead."""
    rates: dict[int, list[float]] = {}
    for before, after in pairwise(log):
        if before["size"] == after["size"] and after["seconds"] > before["seconds"]:
            rows = (after["step"] - before["step"]) * after["rows"]
            rates.setdefault(after["size"], []).append(rows / (after["seconds"] - before["seconds"]))
    return {size: sorted(values)[len(values) // 2] for size, values in rates.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path, help="log.jsonl of a training folder")
    parser.add_argument("output", type=Path, help="picture to write")
    parser.add_argument("--control", type=Path, help="log of a training with --presence 0 --colour 0")
    options = parser.parse_args()
    log = read_log(options.log)
    control = [] if options.control is None else read_log(options.control)
    loss_curves(log, control).savefig(options.output, dpi=200)
    for size, rate in throughput(log).items():
        print(f"{size} px: {rate:.1f} rows/s")


if __name__ == "__main__":
    main()
