from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench.analysis.heatmaps import segment
from workbench.analysis.metrics import score
from workbench.numerics.masks import iou, pixel_accuracy
from workbench.schema import InputError


def _by_hand(labels: np.ndarray, truth: np.ndarray) -> tuple[list[float], float]:
    predicted = labels == np.arange(len(truth))[:, None, None]
    names = list(map(str, range(len(truth))))
    found = iou([(dict(zip(names, predicted, strict=True)), dict(zip(names, truth, strict=True)))])
    return list(found.values()), pixel_accuracy(predicted, truth)


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return dataset(truth=True, signal=2.0, grid=(8, 12), seed=3)


def test_what_is_scored_is_as_without_a_null(ds: xr.Dataset) -> None:
    plain = score(ds, timesteps=500)
    for null in ("patches", "concepts"):
        found = score(ds, timesteps=500, null=null, repeats=7)
        xr.testing.assert_identical(found[["iou", "mean_iou", "accuracy"]].drop_attrs(), plain.drop_attrs())
        assert found.attrs.items() > plain.attrs.items()


def test_each_region_under_another_concepts_name(ds: xr.Dataset) -> None:
    found = score(ds, null="concepts")
    labels, truth = segment(ds, upsample="nearest").values, ds["truth"].values
    expected = [_by_hand(np.take(order, labels), truth) for order in ((1, 2, 0), (2, 0, 1))]
    np.testing.assert_allclose(found["iou_null"], [one for one, _ in expected])
    np.testing.assert_allclose(found["accuracy_null"], [one for _, one in expected])
    np.testing.assert_allclose(found["mean_iou_null"], found["iou_null"].mean("concept"))
    assert "each under another concept" in found.attrs["null"]


def test_orders_are_drawn_where_there_are_too_many() -> None:
    many = dataset(concepts=[f"c{i}" for i in range(8)], truth=True, signal=30.0, grid=(4, 8))
    found = score(many, null="concepts", repeats=20)
    assert found.sizes["repeat"] == 20
    assert float(found["mean_iou"]) == 1
    assert float(found["iou_null"].max()) == 0, "no concept keeps its region"
    again, other = (score(many, null="concepts", repeats=20, seed=seed) for seed in (0, 1))
    xr.testing.assert_identical(found, again)
    assert other.attrs["null_seed"] == 1


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
def test_shuffled_patches_keep_how_much_each_concept_takes(ds: xr.Dataset, upsample: str) -> None:
    found = score(ds, null="patches", repeats=40, upsample=upsample)
    assert found["iou_null"].dims == ("repeat", "concept")
    assert float(found["mean_iou_null"].max()) < float(found["mean_iou"])
    if upsample == "nearest":
        # Every repeat has the areas of the segmentation: what is right there is hypergeometric.
        taken = np.bincount(segment(ds).values.ravel(), minlength=3) / 96
        shown = ds["truth"].mean(["pixel_y", "pixel_x"]).values
        assert float(found["accuracy_null"].mean()) == pytest.approx(float((taken * shown).sum()), abs=0.03)


def test_maps_of_other_datasets(ds: xr.Dataset) -> None:
    others = [dataset(seed=seed, signal=0, grid=(8, 12)) for seed in (7, 8)]
    found = score(ds, null=others, layers=[1])
    for repeat, other in enumerate(others):
        expected = score(other.assign(truth=ds["truth"]), layers=[1])
        np.testing.assert_allclose(found["iou_null"][repeat], expected["iou"])
        assert float(found["accuracy_null"][repeat]) == pytest.approx(float(expected["accuracy"]))
    turned = others[0].isel(concept=[2, 0, 1])
    np.testing.assert_allclose(score(ds, null=turned, layers=[1])["iou_null"][0], found["iou_null"][0])


def test_void_pixels_count_in_no_draw() -> None:
    plain = dataset(truth=True, signal=2.0, seed=4)
    masks = {str(name): plain["truth"].sel(concept=name).values for name in plain.concept.values}
    void = np.zeros((32, 48), bool)
    void[:, 32:] = True
    found = plain.wb.with_truth(masks | {"void": void}, ignore="void").wb.score(null="concepts")
    labels = segment(plain, upsample="nearest").values[:, :32]
    expected = [_by_hand(np.take(o, labels), plain["truth"].values[:, :, :32]) for o in ((1, 2, 0), (2, 0, 1))]
    np.testing.assert_allclose(found["iou_null"], [one for one, _ in expected])


def test_nulls_that_do_not_fit_are_refused(ds: xr.Dataset) -> None:
    with pytest.raises(InputError, match="null is 'noise'; expected 'patches', 'concepts', or datasets"):
        score(ds, null="noise")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"null is \[\]"):
        score(ds, null=[])
    with pytest.raises(InputError, match="repeats is 0"):
        score(ds, null="patches", repeats=0)
    with pytest.raises(InputError, match="has no concept 'dog', 'sky'; it has cat, grass"):
        score(ds, null=dataset(concepts=("cat", "grass"), grid=(8, 12)))
    with pytest.raises(InputError, match=r"has \(32, 48\) pixels down and across"):
        score(ds, null=dataset())
    with pytest.raises(InputError, match="there is one only"):
        score(ds, concepts="dog", null="concepts")


def test_there_is_one_region_in_another_place_for_every_order_of_three() -> None:
    orders = [o for o in itertools.permutations(range(3)) if all(a != b for a, b in enumerate(o))]
    assert orders == [(1, 2, 0), (2, 0, 1)], "what the tests above count on"
