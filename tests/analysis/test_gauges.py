from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import workbench as wb
from tests.analysis.test_centring import moved
from tests.synthetic import dataset
from workbench.analysis.metrics import score
from workbench.analysis.sweeps import sweep
from workbench.schema import InputError


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return dataset(truth=True, signal=2.0, seed=2)


@pytest.mark.slow
def test_a_planted_origin_moves_findings_and_centring_brings_them_back(ds: xr.Dataset) -> None:
    plain, shifted = wb.gauge_report(ds), wb.gauge_report(moved(ds, 6.0))
    assert plain.attrs["metric"] == "iou"
    assert "spaces by mean iou" in shifted.attrs["moves"], "output is worse than cross by its origin alone"
    for name in ("score", "by_layer", "by_timestep", "area"):
        both = [one[name].sel(gauge="patch", space="output") for one in (plain, shifted)]
        np.testing.assert_allclose(*both, atol=1e-2)
        assert not np.allclose(shifted[name].sel(space="output", gauge="as stored"), both[1], atol=0.05)
    assert shifted["said"].sel(gauge="patch").values.tolist() == plain["said"].sel(gauge="patch").values.tolist()
    assert float(shifted["changed"].sel(space="output")) > 0.2
    assert not shifted["holds"].all()
    assert shifted["holds"].sel(finding=shifted.attrs["moves"]).sum() == 0


def test_its_numbers_are_those_of_scores_and_sweeps(ds: xr.Dataset) -> None:
    found = wb.gauge_report(ds, timesteps=[750, 500], layers=[0, 2])
    for gauge, center in (("as stored", None), ("patch", "patch")):
        for space in ("output", "cross"):
            alone = score(ds, space=space, timesteps=[750, 500], layers=[0, 2], center=center)
            at = {"gauge": gauge, "space": space}
            assert float(found["score"].sel(at)) == pytest.approx(float(alone["mean_iou"]))
            by_layer = sweep(ds, "layer", space=space, timesteps=[750, 500], layers=[0, 2], center=center)
            np.testing.assert_allclose(found["by_layer"].sel(at), by_layer["mean_iou"])
            named = found["said"].sel(gauge=gauge, finding=f"best layer of {space}").item()
            assert named == f"{int(by_layer['mean_iou'].idxmax('layer'))}"
    assert found["area"].sum("concept").values == pytest.approx(1)
    assert found.attrs["layers"] == [0, 2]


def test_without_truth_full_maps_are_not_compared(ds: xr.Dataset) -> None:
    found = wb.gauge_report(ds.drop_vars("truth"))
    assert "score" not in found
    assert found.attrs["metric"] == "full_map_iou"
    assert "best layer of output" in found["finding"].values
    assert {"area", "changed", "head_correlation"} <= set(found.data_vars)


@pytest.mark.slow
def test_of_several_images_and_of_one_layer(ds: xr.Dataset) -> None:
    other = dataset(concepts=("cat", "sky"), truth=True, signal=2.0, seed=5)
    found = wb.gauge_report([ds, other], spaces=["output"])
    assert found["area"]["concept"].values.tolist() == ["dog", "grass", "sky", "cat"]
    assert found["area"].notnull().all()
    pooled = sweep([ds, other], "space", space=["output"], center="patch")
    assert float(found["score"].sel(gauge="patch", space="output")) == pytest.approx(float(pooled["mean_iou"][0]))
    one = wb.gauge_report(ds.isel(layer=[1], timestep=[0]).drop_vars(["output", "cross"]))
    assert not {"by_layer", "by_timestep", "head_correlation"} & set(one.data_vars)


def test_it_needs_a_dataset() -> None:
    with pytest.raises(InputError, match="got no dataset"):
        wb.gauge_report([])
