"""Published figures, and what they really are: rows of Helbling et al. 2025 (arXiv 2502.04320v2), in per cent."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

IoUKind = Literal["stacked", "set", "unexplained"]


class Published(NamedTuple):
    """One published row.

    Attributes
    ----------
    table
        Of the paper.
    data
        The data set, as :data:`workbench.evaluation.sources.SOURCES` names it.
    title
        The row.
    accuracy, miou, ap
        In per cent; None where the paper has none.
    kind
        What its mIoU is: of the ``"stacked"`` pair, which is a function of the accuracy; of the ``"set"``; or
        ``"unexplained"``: neither by its numbers.
    """

    table: str
    data: str
    title: str
    accuracy: float
    miou: float
    ap: float | None
    kind: IoUKind


ROWS: Final = (
    Published("table1", "imagenet", "ConceptAttention, FLUX.1-schnell", 83.07, 71.04, 90.45, "stacked"),
    Published("table1", "imagenet", "ConceptAttention, SD3.5 Turbo", 81.92, 67.47, 90.79, "unexplained"),
    Published("table1", "imagenet", "cross attention, FLUX.1-schnell", 74.92, 59.90, 87.23, "stacked"),
    Published("table1", "imagenet", "cross attention, SD3.5", 77.80, 63.67, 83.50, "stacked"),
    Published("table1", "imagenet", "DINO self-attention", 81.97, 69.44, 86.12, "stacked"),
    Published("table1", "imagenet", "DAAM, SDXL", 78.47, 64.56, 88.79, "stacked"),
    Published("table1", "voc-single", "ConceptAttention, FLUX.1-schnell", 87.85, 76.45, 90.19, "set"),
    Published("table1", "voc-single", "ConceptAttention, SD3.5 Turbo", 83.90, 69.93, 90.02, "set"),
    Published("table1", "voc-single", "cross attention, FLUX.1-schnell", 80.37, 54.77, 89.08, "set"),
    Published("table1", "voc-single", "cross attention, SD3.5", 80.22, 61.46, 86.97, "set"),
    Published("table1", "voc-single", "DINO self-attention", 80.71, 64.33, 88.90, "set"),
    Published("table1", "voc-single", "DAAM, SDXL", 72.76, 55.95, 88.34, "set"),
    Published("table2", "voc-multi", "ConceptAttention, FLUX.1-schnell", 86.99, 51.39, None, "set"),
    Published("table2", "voc-multi", "cross attention, FLUX.1-schnell", 79.52, 27.04, None, "set"),
    Published("table2", "voc-multi", "TextSpan", 73.84, 38.10, None, "set"),
    Published("table2", "voc-multi", "DAAM, SDXL", 62.89, 10.97, None, "set"),
    Published("table3", "imagenet", "cross attention, no softmax", 66.59, 49.91, 73.17, "stacked"),
    Published("table3", "imagenet", "cross attention, softmax", 74.92, 59.90, 87.23, "stacked"),
    Published("table3", "imagenet", "value, no softmax", 45.93, 29.81, 65.79, "stacked"),
    Published("table3", "imagenet", "value, softmax", 45.78, 29.68, 39.61, "stacked"),
    Published("table3", "imagenet", "output, no softmax", 78.75, 64.95, 88.39, "stacked"),
    Published("table3", "imagenet", "output, softmax", 83.07, 71.04, 90.45, "stacked"),
    Published("table4", "imagenet", "attends to neither", 52.63, 35.72, 70.21, "stacked"),
    Published("table4", "imagenet", "attends to concepts", 51.68, 34.85, 69.36, "stacked"),
    Published("table4", "imagenet", "attends to the image", 76.51, 61.96, 86.73, "stacked"),
    Published("table4", "imagenet", "attends to both", 83.07, 71.04, 90.45, "stacked"),
)
"""Rows that can be looked up here; not all of the paper's baselines are among them."""


def row(table: str, data: str, title: str) -> Published | None:
    """The published row of a title; None where there is none."""
    return next((one for one in ROWS if (one.table, one.data, one.title) == (table, data, title)), None)
