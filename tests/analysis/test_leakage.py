from __future__ import annotations

import numpy as np
import pytest

from tests.synthetic import dataset
from workbench.analysis.heatmaps import heatmap, segment
from workbench.analysis.leakage import leakage
from workbench.schema import InputError, SelectionError


@pytest.mark.parametrize("truth", [True, False])
def test_shares_concept_by_concept(truth: bool) -> None:
    ds = dataset(truth=True, signal=1)
    found = leakage(ds, truth=truth, layers=[0, 1])
    assert found["share"].dims == found["segment_share"].dims == ("concept", "other")
    enlarged = np.kron(heatmap(ds, layers=[0, 1]).values, np.ones((8, 8)))
    labels = np.kron(segment(ds, layers=[0, 1]).values, np.ones((8, 8)))
    regions = ds["truth"].values.astype(float) if truth else enlarged
    for concept, other in np.ndindex(3, 3):
        region = regions[concept] / regions[concept].sum()
        assert float(found["share"][concept, other]) == pytest.approx((region * enlarged[other]).sum(), rel=1e-5)
        assert float(found["segment_share"][concept, other]) == pytest.approx(region[labels == other].sum(), abs=1e-6)
    np.testing.assert_allclose(found["share"].sum("other"), 1, rtol=1e-5)
    np.testing.assert_allclose(found["segment_share"].sum("other"), 1, rtol=1e-5)
    assert found.attrs["region"] == ("truth" if truth else "map")
    assert found.attrs["layers"] == [0, 1]


def test_clear_maps_do_not_leak() -> None:
    found = leakage(dataset(truth=True, signal=50, grid=(6, 6)))
    np.testing.assert_allclose(found["share"], np.eye(3), atol=1e-3)
    assert leakage(dataset(signal=50, grid=(6, 6))).attrs["region"] == "map"


def test_twins_leak_into_each_other() -> None:
    ds = dataset(signal=50, grid=(6, 6)).drop_vars("output")
    ds["output_total"][:, :, :, :2] = ds["output_total"][:, :, :, :2].max("concept")
    share = leakage(ds)["share"]
    np.testing.assert_allclose(share.values[:2, :2], 0.5, atol=1e-2)
    assert float(share.sel(concept="sky", other="dog")) < 0.5


def test_a_concept_that_is_nowhere_has_no_region() -> None:
    ds = dataset(truth=True)
    ds["truth"].loc[{"concept": "sky"}] = False
    found = leakage(ds)
    assert np.isnan(found["share"].sel(concept="sky")).all()
    assert found["share"].sel(concept="dog").notnull().all()


def test_some_concepts() -> None:
    found = leakage(dataset(truth=True), concepts=["sky", "dog"])
    assert found["concept"].values.tolist() == found["other"].values.tolist() == ["sky", "dog"]
    assert (found["share"].sum("other") < 1).all()
    np.testing.assert_allclose(found["segment_share"].sum("other"), 1)


def test_what_has_no_meaning_is_refused() -> None:
    ds = dataset()
    with pytest.raises(InputError, match="no truth to compare with"):
        leakage(ds, truth=True)
    with pytest.raises(InputError, match="leave out keep"):
        leakage(ds, keep=["layer"])
    with pytest.raises(InputError, match="reduce='mean' takes no softmax"):
        leakage(ds, reduce="mean")
    with pytest.raises(SelectionError, match="layer 9"):
        leakage(ds, layers=9)
