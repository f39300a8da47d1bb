from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset, many, video
from workbench import schema
from workbench.numerics.measures import OVERVIEW
from workbench.schema import InputError, SelectionError


def test_each_cell_is_the_figure_of_its_own_maps() -> None:
    ds = dataset(samples=2, truth=True, signal=1.5, missing=[(0, 500.0, 2), (1, 500.0, 2)])
    found = {name: ds.wb.overview(name) for name in OVERVIEW}
    whole = ds.wb.segment()
    for name, values in found.items():
        assert (values.dims, values.name, values.attrs["statistic"]) == (("timestep", "layer"), name, name)
        assert np.isnan(values.sel(timestep=500.0, layer=2))
        assert values.notnull().sum() == 14
    for timestep, layer in ((750.0, 0), (250.0, 4)):
        at = {"timestep": timestep, "layer": layer}
        choice = {"timesteps": timestep, "layers": layer}
        maps = ds.wb.heatmap(**choice).astype(float)
        entropy = -(maps * np.log(maps)).sum("concept").mean() / np.log(3)
        assert found["entropy"].sel(at) == pytest.approx(float(entropy), rel=1e-5)
        assert found["patch_agreement"].sel(at) == float((ds.wb.segment(**choice) == whole).mean())
        assert found["iou"].sel(at) == pytest.approx(float(ds.wb.score(**choice).mean_iou), rel=1e-6)
        labels = maps.argmax("concept")
        within = sum(
            ((maps.where(labels == n) - maps.where(labels == n).mean(["y", "x"])) ** 2).sum() for n in range(3)
        )
        overall = ((maps - maps.mean(["y", "x"])) ** 2).sum()
        assert found["separability"].sel(at) == pytest.approx(float(1 - within / overall), rel=1e-5)


def test_samples_are_averaged_before_they_are_measured_and_sweeps_measure_each() -> None:
    ds = dataset(samples=3, signal=1.0)
    each = [ds.wb.overview("entropy", samples=sample) for sample in range(3)]
    swept = ds.wb.sweep(("timestep", "layer"), metric="entropy", layers=slice(None, None))
    xr.testing.assert_allclose(sum(each) / 3, swept.entropy, rtol=1e-6, check_dim_order=True)
    assert (ds.wb.overview("entropy") > sum(each) / 3).all()
    assert ds.wb.overview("entropy", samples=[0, 2]).attrs["samples"] == [0, 2]


def test_the_attributes_record_the_choice() -> None:
    ds = dataset(truth=True).assign_attrs(key="abc")
    found = ds.wb.overview(space="cross")
    assert found.attrs["space"] == "cross"
    assert found.attrs["default_map_layers"] == [1, 2]
    assert found.attrs["default_map_timesteps"] == [750.0, 500.0, 250.0]
    assert json.loads(found.attrs["origin"])["key"] == "abc"
    assert ds.wb.overview("entropy").attrs["higher_is_better"] == 0


def test_frames_are_measured_together_or_alone() -> None:
    ds = video()
    both = ds.wb.overview("iou")
    apart = [ds.sel(frame=[frame]).wb.overview("iou") for frame in (0, 4)]
    np.testing.assert_allclose(apart[1], dataset(seed=2, truth=True).wb.overview("iou"), rtol=1e-6)
    assert not np.allclose(both, apart[0])
    agreement = ds.wb.overview("separability")
    assert agreement.shape == (3, 5)


def test_items_of_many_images_are_measured_one_by_one() -> None:
    singles = {"a": dataset(truth=True), "b": dataset(truth=True, seed=3)}
    found = many(singles).wb.overview("ap")
    for at, one in enumerate(singles.values()):
        np.testing.assert_array_equal(found.isel(item=at), one.wb.overview("ap"))


def test_what_has_no_figure_is_refused() -> None:
    ds = dataset(spaces=("output", "prompt"), truth=True)
    with pytest.raises(InputError, match="expected one of patch_agreement, entropy"):
        ds.wb.overview("agreement")
    with pytest.raises(SelectionError, match="space has tokens"):
        ds.wb.overview("iou", space="prompt")
    with pytest.raises(SelectionError, match="with_truth"):
        ds.drop_vars("truth").wb.overview("ap")
    with pytest.raises(SelectionError, match="capture a second one"):
        dataset(concepts=["dog"]).wb.overview()
    with pytest.raises(InputError, match="2 different pictures"):
        dataset(kind="generate", samples=2, truth=True).wb.overview("iou")
    dataset(kind="generate", samples=2, truth=True).wb.overview("iou", samples=1)


@pytest.mark.parametrize("statistic", [["iou"], None, {"iou": 1}])
def test_a_statistic_that_is_no_name_is_refused(statistic: Any) -> None:
    with pytest.raises(InputError, match=r"statistic is .*; expected one of patch_agreement, entropy"):
        dataset(truth=True).wb.overview(statistic)


@pytest.mark.parametrize("statistic", OVERVIEW)
def test_of_two_branches_of_guidance_one_is_asked_for(statistic: str) -> None:
    branches = [dataset(truth=True, seed=seed) for seed in (0, 1)]
    scored = [name for name in branches[0].data_vars if name not in ("image", "truth")]
    joined = xr.concat([one[scored] for one in branches], "branch").assign_coords(branch=list(schema.BRANCHES))
    joined = joined.transpose("sample", "timestep", "layer", "branch", ...)
    both = branches[0].drop_vars(scored).assign(joined.data_vars).assign_coords(joined.coords)
    both = both.assign_attrs(branch=schema.BOTH)
    with pytest.raises(InputError, match="holds both branches of guidance: choose one"):
        both.wb.overview(statistic)
    at = schema.BRANCHES.index(schema.CONDITIONAL)
    one = both.sel(branch=schema.CONDITIONAL).wb.overview(statistic)
    np.testing.assert_array_equal(one, branches[at].wb.overview(statistic))
