from __future__ import annotations

import numpy as np
import pytest

from workbench.numerics import resampling


def test_draws_are_samples_with_replacement() -> None:
    rows = resampling.draws(7, 500, seed=3)
    assert rows.shape == (500, 7)
    assert (rows.sum(1) == 7).all()
    assert abs(rows.mean() - 1) < 1e-12
    # Of n draws each observation gets binomially many: variance 1 - 1/n.
    assert rows.var() == pytest.approx(1 - 1 / 7, rel=0.1)
    np.testing.assert_array_equal(rows, resampling.draws(7, 500, seed=3))
    assert (rows != resampling.draws(7, 500, seed=4)).any()


def test_a_draw_is_what_its_observations_sum_to() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((4, 2, 3))
    rows = resampling.draws(4, 10, seed=0)
    found = resampling.resampled(rows, values)
    for draw, row in enumerate(rows):
        picked = np.repeat(np.arange(4), row.astype(int))
        np.testing.assert_allclose(found[draw], values[picked].sum(0))


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    means = resampling.resampled(resampling.draws(400, 4000, seed=0), values) / 400
    low, high = resampling.interval(means, 0.95)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_nothing_to_divide_by_is_unknown() -> None:
    found = resampling.ratio(np.array([1.0, 0.0, 3.0]), np.array([2.0, 0.0, 1.0]))
    np.testing.assert_array_equal(found, [0.5, np.nan, 3])
    np.testing.assert_array_equal(resampling.mean_over_concepts(found[None]), [1.75])
    assert np.isnan(resampling.mean_over_concepts(np.full((2, 3), np.nan))).all()


def test_draws_without_a_value_are_left_out_of_the_interval() -> None:
    drawn = np.stack([np.linspace(0, 1, 101), np.full(101, np.nan), np.linspace(0, 1, 101)], 1)
    drawn[50:, 2] = np.nan
    bounds = resampling.interval(drawn, 0.9)
    np.testing.assert_allclose(bounds[:, 0], [0.05, 0.95])
    assert np.isnan(bounds[:, 1]).all()
    np.testing.assert_allclose(bounds[:, 2], np.quantile(drawn[:50, 2], [0.05, 0.95]))


def test_a_concept_that_a_draw_lacks_keeps_its_value() -> None:
    drawn = np.array([[0.2, 0.4, np.nan], [np.nan, 0.6, np.nan]])
    found = resampling.mean_of_draws(drawn, np.array([0.8, 0.5, np.nan]))
    np.testing.assert_allclose(found, [0.3, 0.7])
