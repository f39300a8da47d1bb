from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.evaluation.examples import Figures
from workbench.evaluation.parts import Row
from workbench.evaluation.protocols import Protocol
from workbench.evaluation.summaries import METRICS, ranked, summarise
from workbench.numerics.boundaries import Edges

RULES = Protocol()


def row(name: str, counts: list[list[int]], ap: float = 0.5, stacked: float = 0.5) -> Row:
    return Row(name, figures=Figures(np.array(counts), ap, stacked, Edges(1, 1, 1, 1), np.zeros((1, 1), np.uint8)))


def random_rows(count: int, classes: int = 2) -> list[Row]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        counts = rng.integers(0, 50, (classes + 1, classes + 1))
        counts[:, -1] = 0
        found.append(row(str(number), counts.tolist(), rng.random(), rng.random()))
    return found


def test_figures_of_a_set() -> None:
    rows = [row("a", [[2, 1, 0], [0, 1, 0], [0, 0, 0]]), row("b", [[0, 3, 0], [1, 0, 0], [0, 2, 0]])]
    found = summarise(rows, RULES)
    assert found.images == 2
    assert found.values["accuracy"] == pytest.approx(3 / 8)
    assert found.values["miou_set"] == pytest.approx((2 / 7 + 1 / 6) / 2)
    assert found.values["miou_stacked"] == pytest.approx((3 / 8) / (2 - 3 / 8))
    assert found.values["miou_image"] == pytest.approx((7 / 12 + 0) / 2)
    assert found.per_class.tolist() == pytest.approx([2 / 7, 1 / 6])
    public = summarise(rows, RULES.changed(void="public"))
    assert public.values["accuracy"] == pytest.approx(6 / 18)
    assert public.values["miou_set"] == found.values["miou_set"]


def test_set_and_image_miou_against_torchmetrics() -> None:
    from torchmetrics.segmentation import MeanIoU

    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 3, (6, 5, 5)), rng.integers(0, 3, (6, 5, 5))
    metric = MeanIoU(num_classes=3, input_format="index", per_class=False)
    expected = metric(torch.from_numpy(predicted), torch.from_numpy(truth))
    rows = []
    for number, (one, other) in enumerate(zip(truth, predicted, strict=True)):
        counts = np.zeros((4, 4), dtype=np.int64)
        np.add.at(counts, (one.ravel(), other.ravel()), 1)
        rows.append(row(str(number), counts.tolist()))
    found = summarise(rows, Protocol(task="multi", mask="argmax"))
    assert found.values["miou_image"] == pytest.approx(float(expected), abs=1e-6)
    assert found.values["miou_set"] != pytest.approx(found.values["miou_image"], abs=1e-3)
    assert np.isnan(found.values["miou_stacked"])


def test_void_in_the_union_of_several_classes() -> None:
    rows = [row("a", [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 1, 0]])]
    rules = Protocol(task="multi", mask="argmax")
    assert summarise(rows, rules).per_class[2] == pytest.approx(2 / 3)
    assert summarise(rows, rules.changed(void="public")).per_class[2] == 0.5


def test_what_is_not_defined_counts_as_zero_and_is_counted() -> None:
    rows = [row("a", [[1, 0, 0], [0, 1, 0], [0, 0, 0]], 1.0, float("nan")), Row("b", "truncated")]
    found = summarise(rows, RULES)
    assert (found.values["ap"], found.values["ap_stacked"], found.undefined) == (1, 0, (0, 1))
    assert (found.images, found.failures) == (1, 1)
    assert np.isnan(found.low["accuracy"])


def test_intervals_hold_the_value_and_narrow() -> None:
    few, many = summarise(random_rows(20), RULES), summarise(random_rows(200), RULES)
    for name in METRICS:
        if name != "boundary_f":
            assert few.low[name] < few.values[name] < few.high[name]
            assert many.high[name] - many.low[name] < few.high[name] - few.low[name]


def test_a_class_that_a_draw_lacks_keeps_its_value() -> None:
    """One image of ten shows the second class, with an IoU of a half: a third of the draws do without it."""
    rows = [row(str(number), [[5, 0, 0], [0, 0, 0], [0, 0, 0]]) for number in range(9)]
    found = summarise([*rows, row("both", [[5, 0, 0], [3, 3, 0], [0, 0, 0]])], RULES)
    assert found.values["miou_set"] == pytest.approx((50 / 53 + 1 / 2) / 2)
    assert found.high["miou_set"] == pytest.approx(0.75), "not the 1 of the first class alone"


def test_nothing_at_all() -> None:
    found = summarise([Row("a", "truncated")], RULES)
    assert found.images == 0
    assert all(np.isnan(value) for value in found.values.values())


def test_worst_first() -> None:
    good, bad = row("a", [[1, 0, 0], [0, 1, 0], [0, 0, 0]]), row("b", [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert [(value, one.name) for value, one in ranked([good, bad, Row("c", "no")], RULES)] == [(0, "b"), (1, "a")]
