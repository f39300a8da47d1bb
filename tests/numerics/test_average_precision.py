from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from workbench.numerics.average_precision import average_precision, stacked_average_precision
from workbench.numerics.confusion import cells_of, counts_in_cells

TRUTH = np.array([1, 0, 0, 0])
ONES = np.ones(4)
steady = settings(deadline=None, derandomize=True)


def test_plain_and_stacked() -> None:
    values = np.array([0.9, 0.6, 0.2, 0])
    assert average_precision(values, TRUTH, ONES) == 1
    assert stacked_average_precision(values, TRUTH, ONES) == pytest.approx(0.95)
    assert stacked_average_precision(40 * values, TRUTH, ONES, "none") == pytest.approx(0.6429, abs=5e-5)
    assert stacked_average_precision(40 * values, TRUTH, ONES) == pytest.approx(0.95)


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (0, 0.6875), (1, 0.4375)])
def test_constant_maps(value: float, expected: float) -> None:
    values = np.full(4, value)
    assert average_precision(values, TRUTH, ONES) == 0.25
    assert stacked_average_precision(values, TRUTH, ONES, "none") == pytest.approx(expected)
    assert math.isnan(stacked_average_precision(values, TRUTH, ONES))


def test_perfect_and_inverted() -> None:
    assert stacked_average_precision(TRUTH, TRUTH, ONES) == 1
    assert stacked_average_precision(1 - TRUTH, TRUTH, ONES) == 0.5


@pytest.mark.slow
@steady
@given(
    hnp.arrays(np.float64, 12, elements=st.sampled_from([-3.0, 0.0, 0.25, 0.5, 1.0, 7.0])),
    hnp.arrays(bool, (13, 17)),
    hnp.arrays(bool, (13, 17)),
)
def test_of_cells_equals_scikit_learn_of_pixels(values: np.ndarray, truth: np.ndarray, void: np.ndarray) -> None:
    labels = np.where(void, -1, truth.astype(int))
    cells = cells_of((13, 17), (3, 4))
    counts = counts_in_cells(labels, cells, 2, 12)
    found = average_precision(values, counts[1], counts[:-1].sum(0))
    known, pixels = ~void, values[cells]
    if not (truth & known).any():
        assert math.isnan(found)
        return
    assert abs(found - average_precision_score(truth[known], pixels[known])) < 1e-12
    stacked = stacked_average_precision(values, counts[1], counts[:-1].sum(0), "none")
    pair = np.concatenate([1 - pixels[known], pixels[known]])
    assert abs(stacked - average_precision_score(np.concatenate([~truth[known], truth[known]]), pair)) < 1e-12


def test_values_that_are_not_finite_have_none() -> None:
    assert math.isnan(average_precision(np.array([1, np.nan, 0, 0]), TRUTH, ONES))
    assert math.isnan(stacked_average_precision(np.array([1, np.inf, 0, 0]), TRUTH, ONES, "none"))


@steady
@given(hnp.arrays(bool, 12), hnp.arrays(np.float64, 12, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_average_precision_by_its_definition(truth: np.ndarray, values: np.ndarray) -> None:
    found = average_precision(values, truth, np.ones(12))
    if not truth.any():
        assert math.isnan(found)
        return
    area = before = 0.0
    for threshold in sorted(set(values), reverse=True):
        taken = values >= threshold
        recall = (truth & taken).sum() / truth.sum()
        area += (recall - before) * (truth & taken).sum() / taken.sum()
        before = recall
    assert math.isclose(found, area, rel_tol=1e-12)
