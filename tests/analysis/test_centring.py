"""``center="patch"``: maps that do not depend on the origin of the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench.analysis.heatmaps import heatmap, scores, segment
from workbench.analysis.metrics import score
from workbench.analysis.sweeps import sweep
from workbench.schema import InputError


def moved(ds: xr.Dataset, size: float = 3.0) -> xr.Dataset:
    """What another origin of the values makes of output scores: an offset of each concept, and one of each patch."""
    rng = np.random.default_rng(5)
    by_concept = xr.DataArray(rng.normal(size=(5, 2, 3)), dims=("layer", "head", "concept"))
    by_patch = xr.DataArray(rng.normal(size=(5, 2, 4, 6)), dims=("layer", "head", "y", "x"))
    by_patch = by_patch.assign_coords(y=ds.y, x=ds.x)
    output = (ds["output"].astype(np.float32) + size * (by_concept + by_patch)).transpose(*ds["output"].dims)
    return ds.assign(output=output, output_total=output.sum("head"))


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    found = dataset(truth=True, signal=1.0)
    wide = found["output"].astype(np.float32)
    return found.assign(output=wide, output_total=wide.sum("head"))


@pytest.mark.parametrize(
    "options",
    [{}, {"reduce": "mean_softmax"}, {"heads": [1]}, {"heads": 0, "layers": [2, 4]}, {"keep": ["layer"]}],
    ids=str,
)
def test_heat_maps_do_not_move_with_the_origin(ds: xr.Dataset, options: dict[str, Any]) -> None:
    one, other = (heatmap(some, center="patch", **options) for some in (ds, moved(ds)))
    np.testing.assert_allclose(one, other, atol=2e-5)
    assert one.attrs["center"] == "patch"
    as_stored = [heatmap(some, **options) for some in (ds, moved(ds))]
    assert float(abs(as_stored[0] - as_stored[1]).max()) > 0.2, "as found"
    assert "center" not in as_stored[0].attrs


def test_segmentations_without_a_softmax_do_not_move_either(ds: xr.Dataset) -> None:
    one, other = (segment(some, center="patch", reduce="mean") for some in (ds, moved(ds)))
    np.testing.assert_array_equal(one, other)


def test_a_centred_map_is_the_softmax_of_scores_less_their_mean_over_patches(ds: xr.Dataset) -> None:
    raw = scores(ds, layers=2, timesteps=500).isel(sample=0, timestep=0, layer=0)
    powers = np.exp(raw - raw.mean(["y", "x"]))
    expected = powers / powers.sum("concept")
    np.testing.assert_allclose(heatmap(ds, layers=2, timesteps=500, center="patch"), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("over", "how"), [("layer", "only"), ("head", "drop"), ("layer", "greedy"), ("head", "greedy")]
)
def test_sweeps_do_not_move_with_the_origin(ds: xr.Dataset, over: Any, how: Any) -> None:
    one, other = (sweep(some, over, how, center="patch") for some in (ds, moved(ds)))
    xr.testing.assert_allclose(one, other)
    assert one.attrs["center"] == "patch"
    assert not sweep(ds, over, how)["mean_iou"].equals(sweep(moved(ds), over, how)["mean_iou"])


def test_a_sweep_and_a_score_agree_about_centred_maps(ds: xr.Dataset) -> None:
    by_layer = sweep(ds, "layer", center="patch", timesteps=500)
    for layer in range(5):
        alone = score(ds, layers=layer, timesteps=500, center="patch")
        assert float(by_layer["mean_iou"].sel(layer=layer)) == pytest.approx(float(alone["mean_iou"]))


def test_other_centres_are_refused(ds: xr.Dataset) -> None:
    with pytest.raises(InputError, match="center is 'concept'; expected None, or 'patch'"):
        heatmap(ds, center="concept")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="center is True"):
        sweep(ds, "layer", center=True)  # type: ignore[arg-type]


def test_branches_of_guidance_are_centred_apart(ds: xr.Dataset) -> None:
    other = moved(ds, 1.0)
    scored = ["output", "output_total", "cross", "cross_total"]
    joined = xr.concat([ds[scored], other[scored]], "branch").assign_coords(branch=["conditional", "unconditional"])
    joined = joined.transpose("sample", "timestep", "layer", "branch", ...)
    both = ds.drop_vars(scored).assign(joined.data_vars).assign_coords(joined.coords).assign_attrs(branch="both")
    found = heatmap(both, center="patch")
    for branch, one in (("conditional", ds), ("unconditional", other)):
        np.testing.assert_allclose(found.sel(branch=branch), heatmap(one, center="patch"), rtol=1e-5)
