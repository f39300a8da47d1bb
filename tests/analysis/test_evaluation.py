from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import workbench  # noqa: F401  (registers the accessor)
from tests.synthetic import dataset
from workbench.analysis.evaluation import evaluate, merit, observe, pick, words
from workbench.analysis.sweep_variants import Choice
from workbench.numerics.masks import overlap
from workbench.numerics.measures import MEASURES
from workbench.schema import InputError


def choice(over: tuple[str, ...] = ("layer",), how: str = "only") -> Choice:
    options: dict[str, Any] = dict.fromkeys(("layers", "timesteps", "heads", "samples"))
    return Choice(over, how, window=1, spaces=("output",), reduce="softmax_mean", **options)


def test_what_an_observation_is() -> None:
    one, other = dataset(samples=3), dataset(samples=2, concepts=("dog", "cat"))
    made = dataset(samples=2, kind="generate")
    for datasets, over, groups, unit in (
        ([one], ("layer",), [(0,), (1,), (2,)], "sample"),
        ([one], ("sample",), [(0, 1, 2)], "image"),
        ([one, other], ("layer",), [(0, 1, 2), (0, 1)], "image"),
        ([made], ("layer",), [(0,), (1,)], "image"),
        ([made, one], ("layer",), [(0,), (1,), (0, 1, 2)], "image"),
    ):
        observations, found = observe(datasets, choice(over), None, truth=False)
        assert ([each.samples for each in observations], found) == (groups, unit)
        assert all(each.truth is None for each in observations)
    observations, _ = observe([one, other], choice(), None, truth=False)
    assert words(observations) == ["dog", "grass", "sky", "cat"]


def test_masks_are_counted_patch_by_patch() -> None:
    ds = dataset(truth=True, grid=(5, 7), concepts=("a", "b"))
    (one,), _ = observe([ds], choice(), ["b"], truth=True)
    assert one.truth is not None
    blocks = ds["truth"].sel(concept="b").values.reshape(5, 8, 7, 8).sum((1, 3))
    np.testing.assert_array_equal(one.truth.inside, blocks[None])
    assert (one.truth.area == 64).all()
    assert one.truth.labelled == blocks.sum()


def test_a_part_of_the_picture_has_the_masks_of_that_part() -> None:
    ds = dataset(truth=True, grid=(6, 6))
    (one,), _ = observe([ds.isel(y=slice(1, 4), x=slice(0, 3))], choice(), None, truth=True)
    assert one.truth is not None
    np.testing.assert_array_equal(one.truth.inside, ds["truth"].values[:, 8:32, :24].reshape(3, 3, 8, 3, 8).sum((2, 4)))


def test_measures_add_up_over_observations() -> None:
    ds = dataset(truth=True, samples=3, signal=1)
    observations, _ = observe([ds], choice(), None, truth=True)
    above, below = evaluate(observations, ["iou"])["iou"]
    assert above.shape == below.shape == (3, 5, 3)
    labels = np.kron(ds.wb.segment(layers=2, samples=1), np.ones((8, 8), int)) == np.arange(3)[:, None, None]
    both, either = overlap(labels, ds["truth"].values)
    np.testing.assert_array_equal(above[1, 2], both)
    np.testing.assert_array_equal(below[1, 2], either)


def test_merit_is_higher_for_better() -> None:
    above, below = np.array([[1.0, 3.0], [0.0, 2.0]]), np.array([[2.0, 4.0], [2.0, 4.0]])
    np.testing.assert_allclose(merit(MEASURES["accuracy"], (above, below)), [0.25, 0.625])
    np.testing.assert_allclose(merit(MEASURES["entropy"], (above, below)), [-0.25, -0.625])
    per_concept = above[:, None, :], below[:, None, :]
    np.testing.assert_allclose(merit(MEASURES["iou"], per_concept), [(0.25 + 0.625) / 2])


def test_picking_by_what_cannot_be_measured_is_refused() -> None:
    ds = dataset(truth=True)
    ds["truth"][:] = False
    observations, _ = observe([ds], choice(), None, truth=True)
    with pytest.raises(InputError, match="nothing to choose by: 'ap' has no value for any choice"):
        pick(observations, ["ap"], 5)


def test_different_layers_are_refused() -> None:
    with pytest.raises(InputError, match=r"the datasets differ in layer: \[0, 1, 2, 3\] and \[0, 1, 2, 3, 4\]"):
        observe([dataset(), dataset(dual=2)], choice(), None, truth=False)
