from __future__ import annotations

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
    assert rank_heads(ds).attrs["metric"] == "calinski_harabasz"


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
