"""What float16 takes from large scores is kept beside them, and they are put together when they are read."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests import synthetic
from workbench import schema, store
from workbench.analysis.normalising import normalised
from workbench.numerics.scores import softmax
from workbench.schema import InputError, StoreError
from workbench.store.pieces import Writer
from workbench.store.residuals import FINEST, join, split

SPACES = ("output", "cross")


@given(arrays(np.float32, 16, elements=st.floats(-65500, 65500, width=32)))
def test_half_a_step_is_lost_and_of_ties_one(scores: npt.NDArray[np.float32]) -> None:
    rounded, counts = split(scores, np)
    assert (rounded.dtype, counts.dtype) == (np.float16, np.int8)
    np.testing.assert_array_equal(rounded, scores.astype(np.float16))
    step = np.maximum(FINEST, np.spacing(np.abs(rounded.astype(np.float32))).astype(np.float64) * 2**13 / 256)
    lost = np.abs(join(rounded, counts).astype(np.float64) - scores)
    assert (lost <= np.where(counts == 127, step, step / 2)).all()
    assert not counts[np.abs(scores) < 1].any(), "small scores leave nothing"
    for ours, torchs in zip((rounded, counts), split(torch.from_numpy(scores), torch), strict=True):
        np.testing.assert_array_equal(ours, torchs.numpy())


def _large() -> npt.NDArray[np.float32]:
    """(head, concept, patch): scores near 180 that differ by about one between concepts."""
    rng = np.random.default_rng(0)
    scores: npt.NDArray[np.float32] = 180 + rng.normal(size=(4, 3, 500)).astype(np.float32)
    return scores


def _map_error(found: npt.NDArray[Any], exact: npt.NDArray[np.float32]) -> float:
    """The largest of single heads, of their sum, and of pairs of concepts."""
    errors = [np.abs(softmax(found.sum(0), 0) - softmax(exact.sum(0), 0)).max()]
    some = ([0, 1, 2], [0, 1], [0, 2], [1, 2])
    errors += [np.abs(softmax(found[:, chosen], 1) - softmax(exact[:, chosen], 1)).max() for chosen in some]
    return float(max(errors))


def test_one_number_stays_one() -> None:
    rounded, counts = split(np.array(3.14159, np.float32), np)
    assert join(rounded, counts).shape == ()
    assert abs(float(join(rounded, counts)) - 3.14159) <= FINEST


def test_maps_of_large_scores() -> None:
    exact = _large()
    assert _map_error(exact.astype(np.float16).astype(np.float32), exact) > 0.02
    assert _map_error(join(*split(exact, np)), exact) < 0.002


@pytest.fixture
def ds() -> xr.Dataset:
    """Scores up to 500; one layer does not exist, and in another a score does not fit into float16."""
    made = synthetic.dataset(missing=[(0, 500.0, 3)])
    rng = np.random.default_rng(1)
    for space in SPACES:
        exact = made[space].astype(np.float32) * 100 + rng.normal(size=made[space].shape).astype(np.float32)
        made[space] = exact.transpose(*made[space].dims).astype(np.float32)
    made["output"][0, 0, 1, 0, 0, 0, 0] = 1e5
    return made


def _written(ds: xr.Dataset, home: Path | None) -> xr.Dataset:
    """Through the writer on disk, or the one in memory, as recording does it."""
    declared: dict[str, Any] = {}
    for space in SPACES:
        declared[space] = (schema.score_dims(space), "float16")
        declared[schema.residual(space)] = (schema.score_dims(space), "int8")
        declared[schema.total(space)] = (schema.total_dims(space), "float32")
    template = ds.drop_vars([*SPACES, *map(schema.total, SPACES)])
    with store.in_memory(template, declared) if home is None else store.writer("run", template, declared, home) as run:
        for piece in run.remaining:
            at = piece._asdict()
            values = {name: ds[name].isel(at).values for name in map(schema.total, SPACES)}
            for space in SPACES:
                scores = ds[space].isel(at).values
                fits = np.abs(scores).max() < 65520
                values |= dict(
                    zip(
                        (space, schema.residual(space)),
                        split(scores, np) if fits else (scores, np.zeros(scores.shape, np.int8)),
                        strict=True,
                    )
                )
            run.write(at, values)
        assert (shown := run.so_far()) is None or not set(shown.data_vars) & {*SPACES, *map(schema.residual, SPACES)}
    return run.dataset()


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_run_shows_its_scores(ds: xr.Dataset, home: Path, on_disk: bool) -> None:
    found = _written(ds, home if on_disk else None)
    assert found["output"].variable._in_memory is not on_disk
    schema.validate(found, values=True)
    assert set(found.variables) == set(ds.variables)
    for space in SPACES:
        assert (found[space].dims, found[space].dtype) == (ds[space].dims, np.float32)
        np.testing.assert_allclose(found[space], ds[space], rtol=0, atol=FINEST)
    assert found["output"][0, 0, 1, 0, 0, 0, 0] == 1e5
    heads = found.wb.heatmap(heads=[0], layers=[2], timesteps=250)
    np.testing.assert_allclose(heads, ds.wb.heatmap(heads=[0], layers=[2], timesteps=250), atol=0.002)


def test_disk_and_memory_give_the_same_bits(ds: xr.Dataset, home: Path) -> None:
    xr.testing.assert_identical(_written(ds, home).load(), _written(ds, None))


def test_parts_are_read_alone(ds: xr.Dataset, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _written(ds, None)["cross"]
    found = _written(ds, home)["cross"]
    read = []
    monkeypatch.setattr("workbench.store.residuals.join", lambda *parts: read.append(parts[0].shape) or join(*parts))
    for at in (
        {"layer": 2},
        {"head": [1], "layer": [3, 0], "x": slice(None, None, -2)},
        {"sample": 0, "timestep": [2, 0], "y": slice(1, 3)},
    ):
        np.testing.assert_array_equal(found.isel(at), whole.isel(at))
    assert read == [(1, 3, 2, 3, 4, 6), (1, 3, 2, 1, 3, 4, 3), (2, 5, 2, 3, 2, 6)]


@pytest.mark.slow
def test_xarray_does_with_it_what_it_does_with_others(ds: xr.Dataset, home: Path, tmp_path: Path) -> None:
    found, whole = _written(ds, home), _written(ds, None)
    assert found["output"].encoding["preferred_chunks"]["layer"] == 1
    points = {dim: xr.DataArray(np.arange(4), dims="point") for dim in ("y", "x")}
    np.testing.assert_array_equal(found["cross"].isel(points), whole["cross"].isel(points))
    np.testing.assert_array_equal(found["cross"].where(found["head"] == 1, drop=True), whole["cross"].isel(head=[1]))
    chunked = found.chunk({"layer": 1})
    assert chunked["output"].chunksizes["layer"] == (1,) * 5
    np.testing.assert_array_equal(chunked["output"], whole["output"])
    np.testing.assert_array_equal(chunked.wb.heatmap(heads=0), whole.wb.heatmap(heads=0))
    xr.testing.assert_identical(pickle.loads(pickle.dumps(found)).load(), whole)
    xr.testing.assert_identical(found.copy(deep=True).load(), whole)
    changed = found.copy(deep=True)
    changed["output"][0, 0, 0, 0, 0, 0, 0] = 7
    assert changed["output"][0, 0, 0, 0, 0, 0, 0] == 7
    found.wb.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as exported:
        np.testing.assert_array_equal(exported["output"], whole["output"])
        np.testing.assert_array_equal(exported.wb.heatmap(heads=1), whole.wb.heatmap(heads=1))


def test_a_copy_an_export_and_plain_xarray(ds: xr.Dataset, home: Path, tmp_path: Path) -> None:
    run = home / "runs" / "run.zarr"
    whole = _written(ds, home).load()
    shutil.copytree(run, tmp_path / "copy.zarr")
    xr.testing.assert_identical(store.open(tmp_path / "copy.zarr", verify=True).load(), whole)
    plain = xr.open_zarr(run, chunks=None, consolidated=True)
    np.testing.assert_array_equal(join(plain["cross"].values, plain["cross_residual"].values), whole["cross"])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(plain["cross"], ds["cross"].astype(np.float16), "as ever")


@pytest.mark.parametrize("chunks", [None, {}])
def test_analyses_of_what_plain_xarray_opened_see_the_scores(ds: xr.Dataset, home: Path, chunks: Any) -> None:
    """Its float16 and the rest are put together, whatever was chosen and turned of both, and refused if they part."""
    whole = _written(ds, home)
    plain = xr.open_zarr(home / "runs" / "run.zarr", chunks=chunks, consolidated=True)
    alone = {"heads": [1], "layers": [2, 4], "timesteps": 250}
    expected = whole.wb.heatmap(**alone)
    for opened in (plain, plain.transpose(*reversed(list(plain.dims))), plain.isel(sample=0), plain.isel(layer=[4, 2])):
        np.testing.assert_array_equal(opened.wb.heatmap(**alone), expected)
        found = normalised(opened)
        assert not set(found.data_vars) & set(map(schema.residual, SPACES))
        assert (found["output"].chunks is None) is (chunks is None)
    np.testing.assert_array_equal(
        plain.wb.rank_heads("entropy", layers=[2, 4]).entropy, whole.wb.rank_heads("entropy", layers=[2, 4]).entropy
    )
    for parted in (plain.coarsen(y=2).mean(), plain.assign(cross_residual=plain["cross_residual"].isel(head=[0]))):
        with pytest.raises(InputError, match=r"no longer belong together .* open it with wb\.open"):
            parted.wb.heatmap()


def test_a_damaged_residual_is_noticed(ds: xr.Dataset, home: Path) -> None:
    _written(ds, home)
    opened = store.open("run", home)
    first = home / "runs" / "run.zarr" / "cross_residual" / "c.0.0.0.0.0.0.0"
    first.unlink()
    assert store.damage("run", home) == ["cross_residual/c.0.0.0.0.0.0.0: missing"]
    with pytest.raises(StoreError, match="removed or damaged"):
        opened["cross"].isel(layer=0).load()


def test_an_interrupted_run_goes_on_with_its_residuals(
    ds: xr.Dataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Writer.write

    def until_the_third(run: Writer, at: Any, values: Any) -> None:
        if at["timestep"] == 1:
            run.commit()
            raise KeyboardInterrupt
        written(run, at, values)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Writer, "write", until_the_third)
        _written(ds, home)
    written_again = []
    monkeypatch.setattr(Writer, "write", lambda run, at, values: written_again.append(at) or written(run, at, values))
    found = _written(ds, home)
    assert {at["timestep"] for at in written_again} == {1, 2}
    xr.testing.assert_identical(found.load(), _written(ds, None))


@pytest.mark.parametrize("wrong", ["dtype", "shape"])
def test_what_is_no_residual_is_refused(ds: xr.Dataset, home: Path, wrong: str) -> None:
    dims = schema.score_dims("cross")
    declared: dict[str, Any] = {"cross": (dims, "float16"), "cross_residual": (dims, "float32")}
    if wrong == "shape":
        declared["cross_residual"] = (dims[:3], "int8")
    template = ds.drop_vars(list(SPACES))
    with store.writer("run", template, declared, home) as run:
        for piece in run.remaining:
            run.write(
                piece._asdict(),
                {name: np.zeros([ds.sizes[dim] for dim in dims[3:]]) for name, (dims, _) in declared.items()},
            )
    with pytest.raises(StoreError, match=r"cannot be read \(a residual is"):
        store.open("run", home)
