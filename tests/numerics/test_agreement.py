"""Agreement between neighbouring layers, against a hand computation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from workbench.numerics.agreement import neighbours_agree, shuffled_neighbours_agree


def test_neighbours_against_correlation_by_hand() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(4, 1, 30))
    expected = np.mean([np.corrcoef(one[0], other[0])[0, 1] for one, other in pairwise(maps)])
    assert neighbours_agree(maps) == pytest.approx(expected)


def test_concepts_strong_everywhere_count_for_nothing() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 2, 30))
    assert neighbours_agree(maps + np.array([[5.0], [-5.0]])) == pytest.approx(neighbours_agree(maps))
    assert neighbours_agree(np.ones((3, 2, 30))) == 0
    assert np.isnan(neighbours_agree(maps[:1]))


def test_one_value_everywhere_agrees_with_nothing_whatever_its_size() -> None:
    for value in (0.1, 1e6 / 3, 1e-7 / 3):
        assert neighbours_agree(np.full((3, 2, 49), value)) == 0
    maps = np.random.default_rng(0).normal(size=(3, 2, 30))
    assert neighbours_agree(maps * 1e-14) == pytest.approx(neighbours_agree(maps))


def test_shuffles() -> None:
    picture = np.random.default_rng(0).normal(size=(2, 40))
    alike = np.stack([picture, picture * 2, picture + 1])
    chance = shuffled_neighbours_agree(alike, repeats=50)
    assert neighbours_agree(alike) == pytest.approx(1)
    assert chance.shape == (50,)
    assert abs(chance.mean()) < 0.05
    assert chance.max() < 0.5
    np.testing.assert_array_equal(chance, shuffled_neighbours_agree(alike, repeats=50))
