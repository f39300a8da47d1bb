from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from tests.synthetic import dataset
from workbench.analysis.heads import rank_heads
from workbench.analysis.metrics import score
from workbench.analysis.sweeps import sweep
from workbench.schema import InputError, SelectionError, WorkbenchWarning


def test_ranking_with_masks_is_by_score() -> None:
    ds = dataset(truth=True, heads=3, signal=2)
    found = rank_heads(ds, timesteps=500)
    assert found["iou"].dims == ("layer", "head")
    for layer, head in np.ndindex(5, 3):
        expected = float(score(ds, layers=layer, heads=head, timesteps=500)["mean_iou"])
        assert float(found["iou"].sel(layer=layer, head=head)) == pytest.approx(expected)
        better = int((found["iou"] > expected + 1e-9).sum())
        assert int(found["rank"].sel(layer=layer, head=head)) == better + 1
    assert (found.attrs["metric"], found.attrs["timesteps"]) == ("iou", [500.0])


@pytest.mark.parametrize("metric", ["calinski_harabasz", "entropy", "total_variation"])
def test_ranking_without_masks(metric: str) -> None:
    ds = dataset(heads=3, grid=(6, 6))
    found = rank_heads(ds, metric, layers=[0, 2])
    alone = sweep(ds, ("layer", "head"), metric=metric, layers=[0, 2])
    expected = alone["mean_total_variation"] if metric == "total_variation" else alone[metric]
    np.testing.assert_allclose(found[metric], expected)
    best = expected.max() if metric == "calinski_harabasz" else expected.min()
    assert float(found[metric].where(found["rank"] == 1).max()) == pytest.approx(float(best))
    assert "rank_correlation" not in found
    assert "same maps" in rank_heads(ds, "calinski_harabasz").attrs["presumes"]
    assert rank_heads(ds).attrs["metric"] == "full_map_iou"
    assert "presumes" not in rank_heads(dataset(truth=True)).attrs


def test_stability_over_noise_samples() -> None:
    ds = dataset(samples=3, heads=4, truth=True)
    found = rank_heads(ds)
    single = [rank_heads(ds.isel(sample=[sample]))["iou"].values.ravel() for sample in range(3)]
    expected = spearmanr(np.stack(single), axis=1).statistic
    np.testing.assert_allclose(found["rank_correlation"], expected, atol=1e-12)
    assert float(found["stability"]) == pytest.approx(expected[np.triu_indices(3, 1)].mean())
    same = xr.concat([ds.isel(sample=[0])] * 2, "sample", data_vars="minimal").assign_coords(sample=[0, 1])
    assert float(rank_heads(same)["stability"]) == pytest.approx(1)


def test_missing_layers_have_no_rank() -> None:
    ds = dataset(missing=[(0, time, 2) for time in (750.0, 500.0, 250.0)])
    found = rank_heads(ds)
    assert np.isnan(found["rank"].sel(layer=2)).all()
    assert sorted(found["rank"].sel(layer=[0, 1, 3, 4]).values.ravel()) == list(range(1, 9))


def _with_a_loud_head(noise: float) -> xr.Dataset:
    """Heads that show the strips, but for one of white noise, as loud as asked for."""
    ds = dataset(samples=2, heads=3, grid=(8, 12), signal=3, dual=2, single=0, default_layers=(0, 1))
    scores = ds["output"].astype(np.float32)
    rng = np.random.default_rng(1)
    scores[{"layer": 1, "head": 2}] = noise * rng.normal(size=scores[{"layer": 1, "head": 2}].shape)
    return ds.assign(output=scores, output_total=scores.sum("head"))


@pytest.mark.parametrize("criterion", [{"elsewhere": "samples"}, {"elsewhere": "colours"}, {"elsewhere": "strips"}])
def test_loud_noise_does_not_rank_high_by_labels_from_elsewhere(criterion: dict[str, Any]) -> None:
    ds = _with_a_loud_head(60)
    strips = np.broadcast_to(np.arange(12) // 4, (8, 12))
    ds["image"] = ds["image"].copy(data=np.repeat(80 * strips.repeat(8, 0).repeat(8, 1)[..., None], 3, -1).astype("u1"))
    where = {"elsewhere": strips} if criterion["elsewhere"] == "strips" else criterion
    found = rank_heads(ds, "label_separability", **where)
    assert int(found["rank"].sel(layer=1, head=2)) == 6
    low, high = found["label_separability_null"].sel(layer=1, head=2)
    assert low < found["label_separability"].sel(layer=1, head=2) < 2 * high, "noise is where the null is"
    others = found["label_separability"].where(found["rank"] < 6)
    assert float(others.min()) > 3 * float(found["label_separability_null"].max())
    own = rank_heads(ds, "calinski_harabasz", timesteps=500)
    assert int(own["rank"].sel(layer=1, head=2)) < 6, "as found: its labels come from the same map"


def test_separability_does_not_depend_on_scale_or_origin() -> None:
    ds = _with_a_loud_head(1)
    found = rank_heads(ds, "label_separability")
    ds = ds.drop_vars("output_total")
    moved = ds["output"] * xr.DataArray([40.0, 1e-3], dims="layer")
    moved = moved + xr.DataArray([5.0, -2.0, 0.0], dims="concept") + xr.DataArray(np.arange(8.0), dims="y")
    again = rank_heads(ds.assign(output=moved.transpose(*ds["output"].dims)), "label_separability", elsewhere="samples")
    strips = np.broadcast_to(np.arange(12) // 4, (8, 12))
    one, other = (rank_heads(some, "label_separability", elsewhere=strips) for some in (ds, ds.assign(output=moved)))
    np.testing.assert_allclose(one["label_separability"], other["label_separability"], rtol=1e-4)
    assert found["label_separability"].dims == again["label_separability"].dims == ("layer", "head")


def test_separability_is_the_share_of_variance_between_labels() -> None:
    ds = dataset(heads=2, dual=1, single=0, default_layers=(0,), timesteps=(500.0,))
    labels = np.arange(24).reshape(4, 6) % 3
    found = rank_heads(ds, "label_separability", elsewhere=labels)
    for head in range(2):
        points = ds["output"].values[0, 0, 0, head].reshape(3, -1).astype(float)
        points -= points.mean(0)
        points -= points.mean(1, keepdims=True)
        groups = [points[:, labels.ravel() == label] for label in range(3)]
        between = sum(group.shape[1] * (group.mean(1) ** 2).sum() for group in groups)
        assert float(found["label_separability"][0, head]) == pytest.approx(between / (points**2).sum(), rel=1e-3)


def test_a_head_that_disagrees_with_a_bad_full_map_ranks_low_and_the_attributes_say_why() -> None:
    ds = dataset(heads=2, dual=1, single=0, default_layers=(0,), truth=True, signal=8, timesteps=(500.0,))
    scores = ds["output"].astype(np.float32)
    scores[{"head": 1}] = -3 * scores[{"head": 0}]
    wrong = ds.assign(output=scores, output_total=scores.sum("head"))
    assert rank_heads(wrong)["rank"].values.tolist() == [[1, 2]]
    blind = rank_heads(wrong.drop_vars("truth"))
    assert blind["rank"].values.tolist() == [[2, 1]]
    assert "good: heads that agree with it rank high, right or wrong" in blind.attrs["presumes"]


def test_bad_labels_are_refused() -> None:
    with pytest.raises(InputError, match="elsewhere='samples' takes labels from other noise samples"):
        rank_heads(dataset(), "label_separability")
    with pytest.raises(InputError, match=r"elsewhere is int64 of shape \(3, 3\); expected .* shape \(4, 6\)"):
        rank_heads(dataset(), "label_separability", elsewhere=np.zeros((3, 3), int))
    with pytest.raises(InputError, match="elsewhere is 'o_x'"):
        rank_heads(dataset(), "label_separability", elsewhere="o_x")
    with pytest.raises(InputError, match="needs the variable 'image'"):
        rank_heads(dataset().drop_vars("image"), "label_separability", elsewhere="colours")
    with pytest.raises(InputError, match="2 different ones"):
        rank_heads(dataset(kind="generate", samples=2), "label_separability", elsewhere=np.zeros((4, 6), int))
    with pytest.raises(InputError, match="shuffles is 0"):
        rank_heads(dataset(samples=2), "label_separability", shuffles=0)


def test_bad_rankings_are_refused() -> None:
    with pytest.raises(InputError, match="metric is 'best'; expected one of iou"):
        rank_heads(dataset(), "best")
    with pytest.raises(InputError, match="no truth to compare with"):
        rank_heads(dataset(), "ap")
    with pytest.raises(SelectionError, match="space 'value' was not captured"):
        rank_heads(dataset(), space="value")
    with pytest.raises(SelectionError, match="head 7"):
        rank_heads(dataset(), heads=[0, 7])


def test_a_metrics_former_name_is_taken_with_a_warning() -> None:
    with pytest.warns(WorkbenchWarning, match="metric='agreement' is called 'full_map_iou' now"):
        found = rank_heads(dataset(), "agreement")
    xr.testing.assert_identical(found, rank_heads(dataset(), "full_map_iou"))
