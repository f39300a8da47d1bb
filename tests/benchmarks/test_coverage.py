"""The benchmark of intervals, on scores whose population is known."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.coverage import covered, intervals, measure
from tests.synthetic import dataset
from workbench.analysis.evaluation import evaluate, observe
from workbench.analysis.sweep_variants import Choice
from workbench.analysis.sweeps import sweep


def _counts(images: int, words: int = 4) -> np.ndarray:
    """Scores near 0.7, from images that show some of the words."""
    rng = np.random.default_rng(0)
    shown = rng.random((images, words)) < 0.5
    shown[:, 0] = True
    below = 1000.0 * shown
    return np.stack([below * np.clip(rng.normal(0.7, 0.05, below.shape), 0, 1), below])


def test_intervals_over_few_images_hold_too_little_and_over_many_nearly_what_they_say() -> None:
    counts = _counts(300)
    few, many = (covered(counts, size, 150, 200) for size in (3, 50))
    assert few[0] < 0.6, "a percentile bootstrap over three images"
    assert many[0] > 0.85
    assert 0.88 < few[1] <= 1, "t intervals of normal scores"
    assert many[1] > 0.88


def test_every_size_has_two_figures_that_say_what_a_sweep_gives() -> None:
    figures = measure(_counts(40), sizes=(3, 6, 20), samples=10)
    assert [figure.name for figure in figures[:2]] == [
        "coverage of 95 % percentile bootstrap intervals over 3 images",
        "coverage of 95 % t intervals over 3 images",
    ]
    assert [figure.detail.partition("; ")[2] for figure in figures[::2]] == ["not given by a sweep", "exploratory", ""]
    assert all(0 <= figure.low <= figure.value <= figure.high <= 1 for figure in figures)  # type: ignore[operator]


def test_its_intervals_are_those_of_a_sweep() -> None:
    runs = [dataset(truth=True, signal=1.0, seed=seed, timesteps=(500.0,)) for seed in range(6)]
    choice = Choice(("timestep",), "only", 1, ("output",), "softmax_mean", None, None, None, None)
    above, below = evaluate(observe(runs, choice, None, truth=True)[0], ["iou"])["iou"]
    for ends, interval in zip(intervals(above[:, 0], below[:, 0], 300, 4), ("bootstrap", "t"), strict=True):
        found = sweep(runs, "timestep", interval=interval, resamples=300, seed=4)
        np.testing.assert_allclose(ends, found["mean_iou_interval"][:, 0])
