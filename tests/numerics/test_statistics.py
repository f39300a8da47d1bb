from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from workbench.numerics import statistics
from workbench.numerics.scores import softmax


def maps(*leading: int, concepts: int = 3, grid: tuple[int, int] = (4, 5), seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(*leading, concepts, *grid)).astype(np.float32)
    return softmax(values, -3)


def test_agreement_counts_patches() -> None:
    found = maps(2)
    labels = found.argmax(-3).astype(np.int16)
    changed = labels[0].copy()
    changed[0, :2] = (changed[0, :2] + 1) % 3
    np.testing.assert_allclose(statistics.agreement(found, changed)[0], 18 / 20)
    assert statistics.agreement(found[0], labels[0]) == 1


def test_entropy_runs_from_decided_to_a_draw() -> None:
    draw = np.full((4, 2, 2), 0.25, dtype=np.float32)
    decided = np.zeros((4, 2, 2), dtype=np.float32)
    decided[1] = 1
    assert statistics.entropy(draw) == pytest.approx(1)
    assert statistics.entropy(decided) == pytest.approx(0, abs=1e-12)
    halves = np.zeros((4, 2, 2), dtype=np.float32)
    halves[:2] = 0.5
    assert statistics.entropy(halves) == pytest.approx(0.5)


def test_separability_is_the_share_of_variance_between_areas() -> None:
    found = maps(3)
    for piece, figure in zip(found, statistics.separability(found), strict=True):
        points = piece.reshape(3, -1).T.astype(np.float64)
        groups = points.argmax(1)
        total = ((points - points.mean(0)) ** 2).sum()
        within = sum(((points[groups == g] - points[groups == g].mean(0)) ** 2).sum() for g in np.unique(groups))
        assert figure == pytest.approx(1 - within / total)
    assert statistics.separability(np.full((3, 2, 2), 1 / 3, dtype=np.float32)) == 0


def test_iou_is_that_of_the_pixels() -> None:
    rng = np.random.default_rng(1)
    found = maps(2)
    pixels = rng.random((3, 8, 15)) > 0.6
    truth = pixels.reshape(3, 4, 2, 5, 3).sum((2, 4))
    area = np.full((4, 5), 6)
    for piece, figure in zip(found, statistics.iou(found, truth, area), strict=True):
        labels = piece.argmax(0).repeat(2, 0).repeat(3, 1)
        each = [((labels == c) & pixels[c]).sum() / ((labels == c) | pixels[c]).sum() for c in range(3)]
        assert figure == pytest.approx(np.mean(each))


def test_iou_leaves_out_what_is_nowhere() -> None:
    found = np.stack([np.ones((2, 2)), np.zeros((2, 2))]).astype(np.float32)
    truth = np.stack([np.full((2, 2), 4), np.zeros((2, 2), dtype=int)])
    assert statistics.iou(found, truth, np.full((2, 2), 4)) == 1


def test_average_precision_is_scikit_learns_on_pixels() -> None:
    rng = np.random.default_rng(2)
    found = np.round(maps(2), 1)  # with draws
    pixels = rng.random((3, 8, 15)) > 0.7
    pixels[2] = False
    truth = pixels.reshape(3, 4, 2, 5, 3).sum((2, 4))
    figures = statistics.average_precision(found, truth, np.full((4, 5), 6))
    for piece, figure in zip(found, figures, strict=True):
        large = piece.repeat(2, 1).repeat(3, 2)
        each = [average_precision_score(pixels[c].ravel(), large[c].ravel()) for c in range(2)]
        assert figure == pytest.approx(np.mean(each))
    assert np.isnan(statistics.average_precision(found, np.zeros_like(truth), np.full((4, 5), 6))).all()
