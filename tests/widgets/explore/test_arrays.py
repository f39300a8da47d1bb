from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import average_precision_score

from tests.synthetic import dataset, video
from workbench.schema import SchemaError, SelectionError
from workbench.widgets.explore import arrays
from workbench.widgets.explore.state import State


def state_of(ds: xr.Dataset, **values: object) -> State:
    return State.from_json(values, ds)


def test_a_frame_is_that_frame_alone() -> None:
    ds = video()
    assert State.default(ds).frame == 0
    state = state_of(ds, frame=4, pin=[1, 2])
    alone = dataset(seed=2)
    np.testing.assert_array_equal(arrays.maps(state, ds), alone.wb.heatmap().to_numpy())
    np.testing.assert_array_equal(arrays.segmentation(state, ds), alone.wb.segment().to_numpy())
    ran = {"ds": ds}
    exec(state.call(ds), ran)
    np.testing.assert_array_equal(ran["maps"].transpose("concept", "y", "x"), arrays.maps(state, ds))
    plain = state_of(alone, pin=[1, 2])
    np.testing.assert_allclose(arrays.overview(state, ds), arrays.overview(plain, alone), rtol=1e-6)
    np.testing.assert_allclose(arrays.runs(state, ds).layers, arrays.runs(plain, alone).layers, rtol=1e-5)
    np.testing.assert_array_equal(arrays.head_maps(state, ds), arrays.head_maps(plain, alone))


@pytest.mark.parametrize("reduce", ["softmax_mean", "mean_softmax", "mean"])
@pytest.mark.parametrize("heads", [None, [1]])
def test_runs_are_the_maps_of_each_layer_and_timestep(reduce: str, heads: list[int] | None) -> None:
    ds = dataset(samples=2, missing=[(0, 500.0, 1), (1, 500.0, 1)])
    state = state_of(ds, pin=[2, 3], layers=[0, 2], timesteps=[750, 500], reduce=reduce, heads=heads)
    found = arrays.runs(state, ds)
    for index, layer in enumerate(ds.layer.values.tolist()):
        inside = heads is None or layer <= 2
        expected = ds.wb.heatmap(layers=layer, timesteps=[750, 500], reduce=reduce, heads=heads)[:, 2, 3]
        np.testing.assert_allclose(found.layers[index], expected if inside else np.nan, rtol=1e-5)
    for index, timestep in enumerate(ds.timestep.values.tolist()):
        inside = heads is None or timestep >= 500
        expected = ds.wb.heatmap(layers=[0, 1, 2], timesteps=timestep, reduce=reduce, heads=heads)[:, 2, 3]
        np.testing.assert_allclose(found.timesteps[index], expected if inside else np.nan, rtol=1e-5)
    with pytest.raises(SelectionError, match="no patch is pinned"):
        arrays.runs(state_of(ds), ds)


def test_a_missing_layer_has_no_run() -> None:
    ds = dataset(missing=[(0, timestep, 2) for timestep in (750.0, 500.0, 250.0)])
    found = arrays.runs(state_of(ds, pin=[0, 0]), ds)
    assert np.isnan(found.layers[2]).all()
    assert np.isfinite(np.delete(found.layers, 2, 0)).all()


@pytest.mark.parametrize("reduce", ["softmax_mean", "mean"])
def test_head_maps_are_the_maps_of_single_heads(reduce: str) -> None:
    ds = dataset(heads=3, samples=2)
    state = state_of(ds, focus=2, timesteps=[500, 250], layers=[0, 1], sample=1, reduce=reduce, head_layer=3)
    found = arrays.head_maps(state, ds)
    for head in range(3):
        expected = ds.wb.heatmap(layers=3, timesteps=[500, 250], heads=head, samples=1, reduce=reduce)[2]
        np.testing.assert_array_equal(found[head], expected)
    assert state_of(ds, layers=[0, 1]).strip_layer == 1
    with pytest.raises(SelectionError, match="no head to show"):
        arrays.head_maps(state, ds.drop_vars("output"))


def test_the_overview_compares_with_the_truth_as_score_does() -> None:
    ds = dataset(truth=True, signal=2.0, grid=(5, 4), patch=6)
    found = arrays.overview(state_of(ds, statistic="iou"), ds)
    precision = arrays.overview(state_of(ds, statistic="ap"), ds)
    for t, timestep in enumerate(ds.timestep.values.tolist()):
        for at, layer in enumerate(ds.layer.values.tolist()):
            choice = {"timesteps": timestep, "layers": layer}
            assert found[t, at] == pytest.approx(float(ds.wb.score(**choice).mean_iou), rel=1e-5)
            maps = ds.wb.heatmap(**choice, upsample="nearest")
            expected = [average_precision_score(ds.truth[c].values.ravel(), maps[c].values.ravel()) for c in range(3)]
            assert precision[t, at] == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_overview_needs_no_truth_for_the_rest() -> None:
    ds = dataset(signal=3.0, samples=2, missing=[(0, 500.0, 1), (1, 500.0, 1)])
    for statistic in ("patch_agreement", "entropy", "separability"):
        found = arrays.overview(state_of(ds, statistic=statistic), ds)
        assert found.shape == (3, 5)
        assert np.isnan(found[1, 1])
        known = found[~np.isnan(found)]
        assert known.size == 14
        assert ((known > 0) & (known <= 1)).all()
    whole = ds.wb.segment(samples=1).to_numpy()
    found = arrays.overview(state_of(ds, sample=1), ds)
    one = ds.wb.segment(samples=1, timesteps=250, layers=4).to_numpy()
    assert found[2, 4] == pytest.approx((one == whole).mean())


def test_a_timestep_that_is_missing_altogether_is_blank() -> None:
    ds = dataset(missing=[(0, 500.0, layer) for layer in range(5)])
    found = arrays.overview(state_of(ds), ds)
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


def test_the_overview_says_what_it_cannot_show() -> None:
    ds = dataset(spaces=("output", "prompt"), truth=True)
    with pytest.raises(SelectionError, match="space has tokens"):
        arrays.overview(state_of(ds, space="prompt", statistic="iou"), ds)
    with pytest.raises(SelectionError, match="with_truth"):
        arrays.overview(state_of(ds, statistic="ap"), ds.drop_vars("truth"))
    one = dataset(concepts=["dog"])
    with pytest.raises(SelectionError, match="capture a second"):
        arrays.overview(State.default(one), one)


def test_truth_is_counted_by_patch() -> None:
    ds = dataset(truth=True, grid=(2, 3), patch=4)
    counts = arrays.truth_counts(ds, State.default(ds))
    blocks = ds.truth.values.reshape(3, 2, 4, 3, 4).sum((2, 4))
    np.testing.assert_array_equal(counts.true, blocks)
    np.testing.assert_array_equal(counts.area, np.full((2, 3), 16))
    cut = ds.isel(y=[1], x=[0, 1])
    np.testing.assert_array_equal(arrays.truth_counts(cut, State.default(cut)).true, blocks[:, 1:, :2])


def test_damage_and_absence_are_said() -> None:
    ds = dataset(missing=[(0, 500.0, 1)])
    with pytest.raises(SelectionError, match="missing from this run"):
        arrays.maps(state_of(ds, layers=[1, 1], timesteps=[500, 500]), ds)
    ds.output_total[0, 0, 2] = np.nan
    with pytest.raises(SchemaError, match="damaged"):
        arrays.maps(state_of(ds), ds)


def test_void_pixels_are_not_counted() -> None:
    ds = dataset(truth=True, grid=(2, 3), patch=4)
    masks = {str(name): ds["truth"].sel(concept=name).values for name in ds.concept.values}
    void = np.zeros((8, 12), bool)
    void[:5, :4] = True
    known = ds.wb.with_truth(masks | {"void": void}, ignore="void")
    counts = arrays.truth_counts(known, State.default(known))
    np.testing.assert_array_equal(counts.area, [[0, 16, 16], [12, 16, 16]])
    np.testing.assert_array_equal(counts.true, (ds.truth.values & ~void).reshape(3, 2, 4, 3, 4).sum((2, 4)))
