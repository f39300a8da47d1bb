"""The benchmark of rounding, on scores made up."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.rounding import WAYS, map_errors, measure


def _scores(size: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (size + rng.normal(size=(3, 4, 200))).astype(np.float32)


def test_every_way_is_measured_on_large_scores() -> None:
    figures = {figure.name: figure for figure in measure([_scores(180), _scores(1)])}
    assert len(figures) == 4 * len(WAYS)
    for what in ("of one head", "of one head, two concepts", "of all heads together"):
        alone, beside, kept = (figures[f"largest error of a map {what}, {way}"] for way in WAYS)
        assert alone.value > 10 > beside.value
        assert kept.reached
    assert figures["bytes of per-head scores on disk, float16 / float16"].value == 1
    assert 1 < figures["bytes of per-head scores on disk, float16 with residuals / float16"].value < 2


def test_one_concept_has_no_error() -> None:
    exact = _scores(180)[:, :1]
    assert map_errors(exact + 1, exact) == (0, 0, 0)
