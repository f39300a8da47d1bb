from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests import synthetic
from tests.store.replay import save
from workbench import schema, store
from workbench.analysis import head_sums
from workbench.schema import InputError


@pytest.fixture(params=["memory", "disk"])
def run(request: pytest.FixtureRequest, home: Path) -> xr.Dataset:
    made = synthetic.dataset(heads=3, missing=[(0, 500.0, 2)], grid=(9, 20))
    if request.param == "disk":
        save(made, home)
        return store.open("run", home)
    names = [name for space in ("output", "cross") for name in (space, schema.total(space))]
    declared: dict[str, Any] = {name: (made[name].dims, str(made[name].dtype)) for name in names}
    with store.in_memory(made.drop_vars(names), declared) as writer:
        for piece in writer.remaining:
            at = piece._asdict()
            writer.write(at, {name: made[name].isel(at).values for name in names})
    return writer.dataset()


def test_sums_follow_what_was_computed_from_the_heads(run: xr.Dataset) -> None:
    """Zeroing a head by hand is choosing the others; the sums that were captured know nothing of it."""
    others = run.wb.heatmap(heads=[0, 2])
    for one in (run, run.chunk()):
        zeroed = one.assign(output=one["output"].where(one["head"] != 1, 0))
        np.testing.assert_allclose(zeroed.wb.heatmap(), others, atol=1e-6)
        np.testing.assert_array_equal(zeroed.wb.heatmap(space="cross"), run.wb.heatmap(space="cross"))


def test_sums_that_were_computed_stay(run: xr.Dataset) -> None:
    moved = run.assign(output_total=run["output_total"] * 2)
    assert float(abs(moved.wb.heatmap() - run.wb.heatmap()).max()) > 0.01


def test_whatever_leaves_both_alone_leaves_the_sums(run: xr.Dataset) -> None:
    expected = run.wb.heatmap()
    for same in (run.load(), run.chunk(), run.transpose("head", ...), run.copy(deep=True), run.isel(layer=slice(None))):
        np.testing.assert_array_equal(same.wb.heatmap(), expected)
    parts = [run.isel(layer=[0, 1]), run.isel(layer=[2, 3, 4])]
    joined = xr.concat(parts, "layer", data_vars="minimal", coords="minimal", compat="override", join="outer")
    np.testing.assert_array_equal(joined.wb.heatmap(), expected)


def test_scores_that_were_changed_in_place_are_refused_until_one_is_dropped(run: xr.Dataset) -> None:
    others = run.wb.heatmap(heads=[0, 2])
    changed = run.copy(deep=True)
    changed["output"].loc[{"head": 1, "layer": 2}] = 0
    changed["output"].loc[{"head": 1, "layer": 1}] = 0
    with pytest.raises(InputError, match=r"'output_total' is not the sum .* ds\.drop_vars\('output_total'\) sums"):
        changed.wb.heatmap(space="cross")
    np.testing.assert_allclose(changed.drop_vars("output_total").wb.heatmap(), others, atol=1e-6)
    np.testing.assert_array_equal(changed.drop_vars("output").wb.heatmap(), run.wb.heatmap())


def without_records(**options: Any) -> xr.Dataset:
    """In memory, with nothing that says how it was cut into chunks, as netCDF files come."""
    return synthetic.dataset(heads=3, missing=[(0, 500.0, 2)], **options)


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.assign(output=ds["output"] * 0),
        lambda ds: ds.assign(output=ds["output"].where(ds["head"] != 1, 0)),
        lambda ds: ds.assign(output_total=ds["output_total"] * 2),
        lambda ds: ds.clip(min=0, keep_attrs=True),
        lambda ds: ds.map(abs, keep_attrs=True),
    ],
)
def test_sums_that_no_longer_are_of_their_heads_are_refused_whatever_file_they_came_from(change: Any) -> None:
    with pytest.raises(InputError, match=r"is not the sum .* ds\.drop_vars\('output_total'\) sums the heads anew"):
        change(without_records()).wb.heatmap()


def test_scores_of_netcdf_that_were_computed_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    without_records().wb.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc") as read:
        np.testing.assert_array_equal(read.wb.heatmap(), without_records().wb.heatmap())
        with pytest.raises(InputError, match="is not the sum"):
            read.assign(output=read["output"] * 0).wb.heatmap()


SAME: dict[str, Any] = {
    "as it is": lambda ds: ds,
    "float32": lambda ds: ds.assign(output=ds["output"].astype("f4")),
    "totals in float16": lambda ds: ds.assign(output_total=ds["output_total"].astype("f2")),
    "times one": lambda ds: ds.assign({name: ds[name] * 1 for name in ds.data_vars}),
    "where": lambda ds: ds.where(ds["x"] < 1e9),
    "load": lambda ds: ds.load(),
    "chunk": lambda ds: ds.chunk(),
    "pickle": lambda ds: pickle.loads(pickle.dumps(ds)),
    "concat": lambda ds: xr.concat(
        [ds.isel(layer=[0, 1]), ds.isel(layer=[2, 3, 4])], "layer", data_vars="minimal", compat="override", coords=[]
    ),
    "reindex": lambda ds: ds.reindex(head=[2, 0, 1]),
    "sortby": lambda ds: ds.sortby("y", ascending=False),
    "roll": lambda ds: ds.roll(head=1, roll_coords=True),
    "transpose": lambda ds: ds.transpose("x", "head", ...),
    "merge": lambda ds: xr.merge([ds[["output"]], ds.drop_vars("output")], combine_attrs="override"),
    "combine_first": lambda ds: ds.isel(layer=[0, 1]).combine_first(ds),
    "stack": lambda ds: ds.stack(patch=("y", "x")).unstack("patch"),
    "map": lambda ds: ds.map(lambda one: one, keep_attrs=True),
}


@pytest.mark.parametrize("name", SAME)
def test_what_keeps_sums_is_accepted_whatever_file_it_came_from(name: str) -> None:
    ds = without_records()
    found = SAME[name](ds)
    np.testing.assert_allclose(found.assign_attrs(ds.attrs).wb.heatmap(), ds.wb.heatmap(), atol=2e-3)


def test_what_is_linear_and_what_leaves_heads_out_is_accepted() -> None:
    ds = without_records()
    for changed in (ds.fillna(0).assign_attrs(missing=[]), ds.isel(head=[0, 2]), ds.coarsen(x=2).mean(keep_attrs=True)):
        assert np.isfinite(changed.wb.heatmap()).all()


@pytest.mark.parametrize("grid", [(16, 16), (64, 64), (64, 80)])
@pytest.mark.parametrize("compared", [2**21, 0])
def test_bands_and_blocks_that_were_changed_in_place_are_seen(
    grid: tuple[int, int], compared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_sums, "_COMPARED", compared or 2**10)
    ds = synthetic.dataset(timesteps=[500.0], dual=1, single=0, default_layers=[0], grid=grid, patch=1)
    half = min(grid) // 2 + 1
    spots: list[Any] = [np.s_[..., 1, :], np.s_[..., 1:7, :], np.s_[..., 3], np.s_[..., 2 : 2 + half, 5 : 5 + half]]
    for spot in [*spots, np.s_[..., 3, 3], np.s_[..., 0, 1, 3, 5]] if compared else spots:
        changed = ds.copy(deep=True)
        changed["output"].values[spot] = 50.0
        with pytest.raises(InputError, match="is not the sum"):
            changed.wb.heatmap()
    ds.wb.heatmap()


def test_sums_are_compared_once_however_many_maps_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def count(*given: xr.Variable) -> bool:
        compared.append(given)
        return sums(*given)

    sums = head_sums._sums
    monkeypatch.setattr(head_sums, "_sums", count)
    ds = without_records(truth=True)
    for call in (ds.wb.heatmap, ds.wb.overview):
        compared.clear()
        call()
        assert len(compared) == 2  # output and cross
    ds["output"].values[..., 1, 1] = 50.0  # what was right a moment ago is looked at again
    with pytest.raises(InputError, match="is not the sum"):
        ds.wb.overview()
