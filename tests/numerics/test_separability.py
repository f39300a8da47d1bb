from __future__ import annotations

import numpy as np

from workbench.numerics.separability import (
    clusters,
    label_separability,
    patch_colours,
    shuffled_separability,
    unit_scores,
)


def test_units_take_scale_and_origins_away() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    moved = 7 * scores + np.arange(3)[:, None, None] + np.arange(5)
    np.testing.assert_allclose(unit_scores(scores), unit_scores(moved), atol=1e-9)
    np.testing.assert_allclose((unit_scores(scores) ** 2).mean((-3, -2, -1)), 1)
    flat = unit_scores(np.full((3, 4, 5), 1234.567, np.float32) * np.array([1, 2, 3], np.float32)[:, None, None])
    assert (flat == 0).all(), "rounding is no structure"


def test_all_variance_between_labels_and_none() -> None:
    labels = np.array([[0, 0, 5], [5, 9, 9]])
    apart = np.stack([labels, -2 * labels])[None].astype(float)
    np.testing.assert_allclose(label_separability(apart, labels), 1)
    within = np.array([[[[1.0, -1, 2], [-2, 3, -3]]]])
    np.testing.assert_allclose(label_separability(within, labels), 0, atol=1e-12)
    assert label_separability(np.zeros((1, 2, 2, 3)), labels) == 0


def test_what_varies_nowhere_has_no_variance_between_labels() -> None:
    """The mean of many equal numbers differs from them by rounding, which lay between labels to 100 %."""
    labels = np.random.default_rng(0).integers(0, 3, (7, 7))
    points = np.full((2, 3, 7, 7), 0.1)
    assert (label_separability(points, labels) == 0).all()
    assert (shuffled_separability(points, labels, 5, seed=0) == 0).all()


def test_the_null_of_noise_holds_its_expectation() -> None:
    points = np.random.default_rng(1).normal(size=(4, 2, 8, 8))
    labels = np.arange(64).reshape(8, 8) % 4
    null = shuffled_separability(points, labels, 400, seed=0)
    assert null.shape == (400, 4)
    np.testing.assert_allclose(null.mean(0), 3 / 63, rtol=0.05)
    np.testing.assert_array_equal(null, shuffled_separability(points, labels, 400, seed=0))


def test_clusters_of_colours() -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    image[:, 8:, 0], image[8:, 16:, 2] = 200, 100
    colours = patch_colours(image, (2, 3))
    np.testing.assert_allclose(colours[1, 2], [200 / 255, 0, 100 / 255])
    found = clusters(colours, 3)
    assert len(np.unique(found)) == 3
    assert len({*found[:, 0]}) == 1
    assert found[0, 1] == found[0, 2] == found[1, 1] != found[1, 2]
    assert (clusters(np.zeros((2, 2, 3)), 5) == 0).all()
