from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

from workbench.numerics.ranking import correlation, ranks

steady = settings(deadline=None, derandomize=True, max_examples=50)


@steady
@given(hnp.arrays(np.int64, (3, 8), elements={"min_value": 0, "max_value": 4}))
def test_correlation_is_that_of_scipy(values: np.ndarray) -> None:
    found = correlation(values.astype(float))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        if np.ptp(values[one]) and np.ptp(values[other]):
            expected = spearmanr(values[one], values[other]).statistic
            assert found[one, other] == found[other, one] == pytest.approx(expected)
        else:
            assert np.isnan(found[one, other])


def test_what_was_not_captured_has_no_part_in_a_correlation() -> None:
    values = np.array([[1.0, 2, 3, np.nan], [3.0, 2, 1, 5], [1.0, 1, np.nan, np.nan]])
    found = correlation(values)
    assert found[0, 1] == pytest.approx(-1)
    assert np.isnan(found[0, 2])


def test_equals_share_the_better_rank() -> None:
    found = ranks(np.array([[2.0, np.nan, 5.0], [2.0, 1.0, 5.0]]))
    np.testing.assert_array_equal(found, [[3, np.nan, 1], [3, 5, 1]])
    assert np.isnan(ranks(np.full(2, np.nan))).all()
