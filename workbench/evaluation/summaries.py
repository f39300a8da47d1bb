"""From rows to figures: what is summed over a set, what is averaged over images, and intervals over images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.evaluation.parts import Row
from workbench.evaluation.protocols import Protocol
from workbench.numerics import resampling
from workbench.numerics.boundaries import TOLERANCE, boundary_f
from workbench.numerics.confusion import accuracy, mean_iou, overlap, stacked

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 1000
"""Resamples of the images."""
METRICS: Final = ("accuracy", "miou_set", "miou_stacked", "miou_image", "ap", "ap_stacked", "boundary_f")
"""Figures of a method; what each is under a protocol, :func:`meaning` says."""


def meaning(metric: str, protocol: Protocol) -> str:
    """What a figure is under a protocol, in words."""
    single = protocol.task == "single"
    public = protocol.void == "public"
    classes = "background and foreground" if single else "the classes that are true or predicted anywhere"
    void = "; void pixels are left out"
    counted = "; void pixels that were given a class are in its union, as the public code has it" if public else void
    halves = "; void counts as the public code has it, 2 right / (2 labelled + void)" if public and single else void
    scaled = (
        "each map scaled to 0 .. 1"
        if protocol.ap_scaling == "minmax"
        else "of the map as it is, so that the scale of the scores decides"
    )
    each = "" if single else "over the classes of an image, then "
    return {
        "accuracy": f"share of the pixels that are given the right class, over all images together{halves}",
        "miou_set": f"intersection and union summed over images, then the mean over {classes}"
        f"{void if single else counted}",
        "miou_stacked": "mIoU of the stacked pair (1 - mask, mask), over all images: accuracy / (2 - accuracy), void "
        "left out, and what the paper's ImageNet rows are",
        "miou_image": f"mIoU over {classes.replace('anywhere', 'in an image')}, then the mean over images"
        f"{void if single else counted}",
        "ap": f"average precision of the map of a class, mean {each}over images; 0 where it is not defined",
        "ap_stacked": f"average precision of the stacked pair (1 - map, map), {scaled}, mean {each}over images; 0 "
        "where it is not defined",
        "boundary_f": f"F measure of edges, found within {100 * TOLERANCE:g} % of the diagonal, mean over images",
    }[metric]


@dataclass(frozen=True)
class Summary:
    """Figures of one method.

    Attributes
    ----------
    values
        By metric of :data:`METRICS`; NaN for what it does not have.
    low, high
        Ends of the bootstrap intervals over images; a class that a resample lacks keeps its IoU over the set.
    per_class
        IoU of each class over the set, by position; NaN for what is nowhere.
    images, failures
        How many images were evaluated, and could not be.
    undefined
        In how many of them average precision is not defined: plain, and stacked.
    """

    values: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    per_class: NDArray[np.float64]
    images: int
    failures: int
    undefined: tuple[int, int]

    def frame(self) -> pd.DataFrame:
        """Values with their intervals, one row a metric."""
        found = {"value": self.values, "low": self.low, "high": self.high}
        return pd.DataFrame(found).rename_axis("metric")


def summarise(rows: Iterable[Row], protocol: Protocol) -> Summary:
    """Figures over rows, which are read once.

    Parameters
    ----------
    rows
        Rows of images, each once, in any order that is always the same.
    protocol
        The rules they were counted by.
    """
    held = _Held(protocol)
    failures = 0
    for row in rows:
        if row.figures is None:
            failures += 1
        else:
            held.add(row)
    return held.summary(failures)


class _Held:
    """Numbers of each image, not its counts: memory does not grow with classes squared."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.sums: dict[str, list[NDArray[np.int64]]] = {"accuracy": [], "set": [], "stacked": []}
        self.means: dict[str, list[float]] = {"miou_image": [], "ap": [], "ap_stacked": [], "boundary_f": []}
        self.undefined = [0, 0]

    def add(self, row: Row) -> None:
        figures = row.figures
        assert figures is not None
        public = self.protocol.void == "public"
        single = self.protocol.task == "single"
        counts = figures.counts
        self.sums["accuracy"].append(np.stack(accuracy(counts, "stacked" if public and single else "excluded")))
        overlaps = overlap(counts, "union" if public and not single else "excluded")
        self.sums["set"].append(np.stack(overlaps))
        if single:
            self.sums["stacked"].append(np.stack(overlap(stacked(counts))))
        self.means["miou_image"].append(float(mean_iou(overlaps)))
        for place, name in enumerate(("ap", "ap_stacked")):
            value = getattr(figures, name)
            self.undefined[place] += not np.isfinite(value)
            self.means[name].append(value if np.isfinite(value) else 0.0)
        self.means["boundary_f"].append(float(boundary_f(np.asarray(figures.edges))))

    def summary(self, failures: int) -> Summary:
        images = len(self.means["ap"])
        if not images:
            nothing = dict.fromkeys(METRICS, float("nan"))
            return Summary(nothing, nothing, nothing, np.array([]), 0, failures, (0, 0))
        weights = resampling.draws(images, RESAMPLES, 0) if images >= resampling.LEAST else None
        values, low, high = ({} for _ in range(3))  # type: dict[str, float], dict[str, float], dict[str, float]
        for name, kind in (("accuracy", "accuracy"), ("miou_set", "set"), ("miou_stacked", "stacked")):
            if not self.sums[kind]:
                continue
            # (image, above or below, class); accuracy is the fraction of a single one.
            parts = np.stack(self.sums[kind]).astype(np.float64).reshape(images, 2, -1)
            fractions = resampling.ratio(*parts.sum(0))
            values[name] = float(resampling.mean_over_concepts(fractions))
            drawn = None
            if weights is not None:
                each = resampling.ratio(*resampling.resampled(weights, parts).swapaxes(0, 1))
                drawn = resampling.mean_of_draws(each, fractions)
            low[name], high[name] = _ends(drawn)
        for name, numbers in self.means.items():
            found = np.asarray(numbers, dtype=np.float64)
            known = np.isfinite(found)
            values[name] = float(found[known].mean()) if known.any() else float("nan")
            drawn = None if weights is None or not known.all() else resampling.resampled(weights, found) / images
            low[name], high[name] = _ends(drawn)
        for name in METRICS:
            for part in (values, low, high):
                part.setdefault(name, float("nan"))
        total = np.stack(self.sums["set"]).sum(0)
        return Summary(
            {name: values[name] for name in METRICS},
            {name: low[name] for name in METRICS},
            {name: high[name] for name in METRICS},
            resampling.ratio(total[0], total[1]),
            images,
            failures,
            (self.undefined[0], self.undefined[1]),
        )


def _ends(drawn: NDArray[np.float64] | None) -> tuple[float, float]:
    if drawn is None:
        return float("nan"), float("nan")
    low, high = resampling.interval(drawn, CONFIDENCE)
    return float(low), float(high)


def ranked(rows: Sequence[Row], protocol: Protocol) -> list[tuple[float, Row]]:
    """Rows with figures by the mIoU of their image, the worst first."""
    rule = "union" if protocol.void == "public" and protocol.task == "multi" else "excluded"
    scored = [
        (float(mean_iou(overlap(row.figures.counts, rule))), row)  # type: ignore[arg-type]
        for row in rows
        if row.figures is not None
    ]
    return sorted((pair for pair in scored if np.isfinite(pair[0])), key=lambda pair: (pair[0], pair[1].name))
