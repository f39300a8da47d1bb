from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import synthetic
from tests.store.replay import overflowing, parts, replay, save, write
from workbench import schema, store
from workbench.schema import InputError, StoreError
from workbench.store import pieces
from workbench.store.pieces import Piece, Writer


def _files(home: Path) -> dict[str, Any]:
    """Size and checksum of every file of the run."""
    return json.loads((home / "runs" / "run.zarr" / "manifest.json").read_text())["files"]


def _memory(ds: xr.Dataset) -> xr.Dataset:
    with store.in_memory(*parts(ds)) as run:
        replay(run, ds)
    return run.dataset()


Writers = Callable[..., Any]


@pytest.fixture(params=["disk", "memory"])
def open_writer(request: pytest.FixtureRequest, home: Path) -> Writers:
    if request.param == "memory":
        return store.in_memory
    return lambda template, variables: store.writer("run", template, variables, home=home)


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(
    lambda word: word.strip()
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    concepts=st.lists(words, min_size=1, max_size=3, unique=True),
    samples=st.integers(1, 2),
    timesteps=st.lists(st.floats(0.1, 1000), min_size=1, max_size=3, unique=True),
    kind=st.sampled_from(schema.KINDS),
    spaces=st.lists(st.sampled_from(schema.SPACES), min_size=1, max_size=2, unique=True),
    gaps=st.booleans(),
    truth=st.booleans(),
)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    concepts: list[str],
    samples: int,
    timesteps: list[float],
    kind: str,
    spaces: list[str],
    gaps: bool,
    truth: bool,
) -> None:
    timesteps = sorted(timesteps, reverse=True)
    ds = synthetic.dataset(
        concepts=concepts,
        samples=samples,
        timesteps=timesteps,
        kind=kind,
        spaces=spaces,
        dual=2,
        single=1,
        grid=(2, 3),
        truth=truth,
        missing=[(0, timesteps[0], 1)] if gaps else [],
    )
    schema.validate(ds, values=True)
    stored = save(ds, tmp_path_factory.mktemp("home"))
    schema.validate(stored, values=True)
    for result in (stored, _memory(ds)):
        xr.testing.assert_identical(result, ds)
        assert {name: result[name].dtype for name in result.variables} == {
            name: ds[name].dtype for name in ds.variables
        }


def test_scores_are_rounded_to_nearest_and_totals_are_not(home: Path) -> None:
    ds = synthetic.dataset()
    ds = ds.assign(output=ds["output"].astype(np.float32) * np.float32(1.0001), output_total=ds["output_total"] / 3)
    stored = save(ds, home)
    np.testing.assert_array_equal(stored["output"], ds["output"].astype(np.float16))
    np.testing.assert_array_equal(stored["output_total"], ds["output_total"])


def test_each_piece_is_one_chunk(home: Path) -> None:
    ds = synthetic.dataset(samples=2, missing=[(1, 500.0, 3)])
    save(ds, home)
    run = home / "runs" / "run.zarr"
    pieces = 2 * ds.sizes["timestep"] * ds.sizes["layer"]
    for name in ("output", "output_total"):
        assert len(list((run / name).glob("c.*"))) == pieces - 1


def test_scores_are_lazy_and_coordinates_are_not(home: Path) -> None:
    ds = save(synthetic.dataset(), home)
    assert not ds["output"].variable._in_memory
    assert all(coord.variable._in_memory for coord in ds.coords.values())
    assert ds["output"].chunks is None


def test_a_variable_that_overflows_is_promoted_alone_and_keeps_its_pieces(home: Path) -> None:
    ds = overflowing()
    for stored in (save(ds, home), _memory(ds)):
        assert stored["cross"].dtype == np.float32
        assert stored["output"].dtype == np.float16
        assert stored["cross"].max() == 1e6
        one = {"sample": 1, "timestep": 0, "layer": 1}
        np.testing.assert_array_equal(stored["cross"].isel(one), ds["cross"].isel(one))
        others = {"timestep": slice(1, None)}
        np.testing.assert_array_equal(stored["cross"].isel(others), ds["cross"].isel(others).astype(np.float16))


def test_pieces_count_once_they_are_committed(open_writer: Writers) -> None:
    ds = overflowing()
    with open_writer(*parts(ds)) as run:
        first, second, *_ = pieces = run.remaining
        write(run, ds, first)
        write(run, ds, second)
        assert run.done == set()
        assert run.remaining == pieces
        run.commit()
        assert run.done == {first, second}
        for piece in run.remaining:
            write(run, ds, piece)
    assert run.done == set(pieces)
    assert run.remaining == []
    xr.testing.assert_identical(run.dataset(), _memory(ds))


def test_uncommitted_pieces_do_not_survive_an_interruption(home: Path) -> None:
    ds = overflowing()
    template, variables = parts(ds)
    bad = Piece(1, 0, 1)  # the one that overflows
    with pytest.raises(KeyboardInterrupt), store.writer("run", template, variables, home=home) as run:
        replay(run, ds, run.remaining[:3])
        write(run, ds, bad)
        raise KeyboardInterrupt
    with store.writer("run", template, variables, home=home) as run:
        assert len(run.done) == 3
        run.attrs["missing"] = [{"sample": 1, "timestep": 750.0, "layer": 1}]
        replay(run, ds)
    stored = run.dataset()
    assert stored["cross"].dtype == np.float16, "the piece that made it wide does not exist"
    schema.validate(stored, values=True)


def test_a_piece_that_turns_out_missing_leaves_no_trace(open_writer: Writers) -> None:
    ds = overflowing()
    with open_writer(*parts(ds)) as run:
        replay(run, ds)
        run.attrs["missing"] = [{"sample": 1, "timestep": 750.0, "layer": 1}]
    stored = run.dataset()
    assert stored["cross"].dtype == np.float16
    schema.validate(stored, values=True)


def test_the_last_value_of_a_piece_is_stored(open_writer: Writers) -> None:
    ds, other = overflowing(), synthetic.dataset(samples=2, seed=1)
    with open_writer(*parts(ds)) as run:
        replay(run, ds)
        replay(run, other, sorted(run.done))
    xr.testing.assert_identical(run.dataset(), other)


def test_values_may_come_rounded(open_writer: Writers) -> None:
    ds = synthetic.dataset()
    with open_writer(*parts(ds)) as run:
        for piece in run.remaining:
            at = piece._asdict()
            run.write(at, {name: ds[name].isel(at).values for name in parts(ds)[1]})
    xr.testing.assert_identical(run.dataset(), ds)


@given(
    hnp.arrays(np.float32, (3, 5), elements=st.floats(width=32) | st.floats(-66000, 66000, width=32)),
    st.sampled_from(["float16", "float32"]),
)
def test_rounding_keeps_what_fits_widens_what_does_not_and_refuses_what_is_not_finite(
    array: np.ndarray, dtype: str
) -> None:
    rounded = pieces._rounded(array, np.dtype(dtype))
    if not np.isfinite(array).all():
        assert rounded is None
        return
    with np.errstate(over="ignore"):
        fits = np.isfinite(array.astype(dtype)).all()
        np.testing.assert_array_equal(rounded, array.astype(dtype) if fits else array)
    assert rounded.dtype == (dtype if fits else np.float32)


def test_the_result_does_not_depend_on_the_order_of_the_pieces(tmp_path: Path) -> None:
    ds = overflowing()
    save(ds, tmp_path / "a")
    with store.in_memory(*parts(ds)) as run:
        backwards = run.remaining[::-1]
        replay(run, ds)
    save(ds, tmp_path / "b", pieces=backwards)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def _interrupted(ds: xr.Dataset, home: Path, after: int) -> None:
    template, variables = parts(ds)
    with (
        pytest.raises(KeyboardInterrupt),
        store.writer("run", template, variables, home=home) as run,
    ):
        replay(run, ds, run.remaining[:after])
        raise KeyboardInterrupt


@pytest.mark.parametrize("after", [0, 5, 25, 30])
def test_an_interrupted_run_is_invisible_and_resumes_to_the_same_bytes(after: int, tmp_path: Path) -> None:
    ds = overflowing()
    save(ds, tmp_path / "straight")
    home = tmp_path / "interrupted"
    _interrupted(ds, home, after)
    assert store.runs(home) == []
    assert store.find("run", home) is None
    template, variables = parts(ds)
    with store.writer("run", template, variables, home=home) as run:
        assert len(run.done) == after
        assert len(replay(run, ds)) == 30 - after
    assert _files(home) == _files(tmp_path / "straight")
    assert not list((home / "partial").iterdir())


def test_a_finished_run_is_not_written_again(home: Path) -> None:
    ds = synthetic.dataset()
    save(ds, home)
    before = _files(home)
    template, variables = parts(ds)
    with store.writer("run", template, variables, home=home) as run:
        assert run.complete
        assert run.remaining == []
        with pytest.raises(StoreError, match="complete and will not be changed"):
            replay(run, ds, list(run.done)[:1])
    xr.testing.assert_identical(run.dataset(), ds)
    assert _files(home) == before


def test_pieces_of_another_plan_are_not_taken_over(home: Path) -> None:
    _interrupted(synthetic.dataset(samples=2), home, 5)
    other = synthetic.dataset(samples=2, timesteps=(700.0, 500.0, 250.0))
    template, variables = parts(other)
    with store.writer("run", template, variables, home=home) as run:
        assert run.done == set()
        replay(run, other)
    xr.testing.assert_identical(run.dataset(), other)


def test_a_journal_line_cut_short_is_written_again(home: Path) -> None:
    ds = synthetic.dataset()
    _interrupted(ds, home, 7)
    journal = home / "partial" / "run" / "journal"
    journal.write_bytes(journal.read_bytes()[:-2])
    template, variables = parts(ds)
    with store.writer("run", template, variables, home=home) as run:
        assert len(run.done) == 6
        replay(run, ds)
    xr.testing.assert_identical(run.dataset(), ds)


@pytest.mark.slow
@pytest.mark.parametrize("rename", [1, 2])
def test_a_promotion_cut_short_loses_nothing(rename: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = overflowing()
    save(ds, tmp_path / "straight")
    home, replace, seen = tmp_path / "interrupted", Path.replace, []

    def cut_short(self: Path, target: Path) -> Path:
        seen.extend([self] if "promoted" in self.name or "narrow" in target.name else [])
        if len(seen) == rename:
            raise KeyboardInterrupt
        return replace(self, target)

    template, variables = parts(ds)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", cut_short)
        with pytest.raises(KeyboardInterrupt), store.writer("run", template, variables, home=home) as run:
            replay(run, ds)
    assert len(seen) == rename
    with store.writer("run", template, variables, home=home) as run:
        assert len(run.done) == 30
    assert _files(home) == _files(tmp_path / "straight")


def test_a_full_disk_is_reported_and_costs_no_piece(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = synthetic.dataset()
    template, variables = parts(ds)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(
            StoreError,
            match=r"cannot write .*No space left.*bytes are still needed.*are free there.*the same call again",
        ),
        store.writer("run", template, variables, home=home) as run,
    ):
        replay(run, ds, run.remaining[:4])
        with monkeypatch.context() as patched:
            patched.setattr("workbench.store.partial.write_file", full)
            replay(run, ds)
    with store.writer("run", template, variables, home=home) as run:
        assert len(run.done) == 4
        replay(run, ds)
    xr.testing.assert_identical(run.dataset(), ds)


def test_a_run_with_gaps_is_refused_until_they_are_listed(open_writer: Writers) -> None:
    ds = synthetic.dataset()
    template, variables = parts(ds)
    with (
        pytest.raises(StoreError, match=r"1 pieces were never written, the first .*'timestep': 250.0, 'layer': 4"),
        open_writer(template, variables) as run,
    ):
        replay(run, ds, run.remaining[:-1])
    with open_writer(template, variables) as run:
        run.attrs["missing"] = [{"sample": 0, "timestep": 250.0, "layer": 4}]
        replay(run, ds)
    stored = run.dataset()
    assert stored.attrs["missing"] == [{"sample": 0, "timestep": 250.0, "layer": 4}]
    assert np.isnan(stored["output"].sel(timestep=250.0, layer=4)).all()
    schema.validate(stored, values=True)


def test_attributes_become_plain_and_the_template_keeps_its_own(open_writer: Writers) -> None:
    ds = synthetic.dataset(timesteps=(500.0,)).assign_attrs(patch=np.int64(8), size=(32, 48), more={"a": (1, None)})
    template, variables = parts(ds)
    with open_writer(template, variables) as run:
        replay(run, ds, run.remaining[1:])
        run.attrs["missing"].append({"sample": 0, "timestep": 500.0, "layer": 0})
    assert template.attrs["missing"] == []
    attrs = run.dataset().attrs
    assert attrs["missing"] == [{"sample": 0, "timestep": 500.0, "layer": 0}]
    assert (type(attrs["patch"]), attrs["size"], attrs["more"]) == (int, [32, 48], {"a": [1, None]})


def test_attributes_that_json_cannot_hold_are_refused(open_writer: Writers) -> None:
    template, variables = parts(synthetic.dataset().assign_attrs(more=object()))
    with pytest.raises(InputError, match="a value is <object"), open_writer(template, variables):
        pass


def test_a_declared_picture_that_never_came_is_missed(open_writer: Writers) -> None:
    ds = synthetic.dataset(kind="generate", timesteps=(500.0,))
    template, variables = parts(ds)
    with (
        pytest.raises(StoreError, match=r"put\(\) never brought .* \{'image': \[0\]\}"),
        open_writer(template, variables) as run,
    ):
        for piece in run.remaining:
            at = piece._asdict()
            run.write(at, {name: ds[name].isel(at).values for name in variables if name != "image"})


def _piece(ds: xr.Dataset) -> dict[str, Any]:
    at = {"sample": 0, "timestep": 0, "layer": 0}
    return {name: ds[name].isel(at).values.astype(np.float32) for name in parts(ds)[1]}


@pytest.mark.parametrize(
    ("at", "change", "named"),
    [
        ({"layer": 9}, {}, "positions from 0 within"),
        ({"layer": -1}, {}, "positions from 0 within"),
        ({"head": 0}, {}, "positions from 0 within"),
        ({}, {"output": np.zeros((2, 3, 4, 5), "f4")}, r"'output' has shape \(2, 3, 4, 5\); expected \(2, 3, 4, 6\)"),
        ({}, {"output": np.full((2, 3, 4, 6), np.nan, "f4")}, "'output' holds NaN"),
        ({}, {"output": np.full((2, 3, 4, 6), np.inf, "f4")}, "'output' holds NaN or infinity"),
        ({}, {"outptu": np.zeros(1)}, "'outptu'.*expected"),
    ],
)
def test_a_piece_that_does_not_fit_is_refused(
    at: dict[str, int], change: dict[str, Any], named: str, open_writer: Writers
) -> None:
    ds = synthetic.dataset()

    def write(run: Writer) -> None:
        run.write({"sample": 0, "timestep": 0, "layer": 0} | at, _piece(ds) | change)

    with pytest.raises(StoreError, match=named), open_writer(*parts(ds)) as run:
        write(run)
    assert run.done == set()


def test_put_takes_declared_whole_variables_only(open_writer: Writers) -> None:
    ds = synthetic.dataset(kind="generate")
    with (
        pytest.raises(StoreError, match=r"'output' is no declared variable .*\['image'\]"),
        open_writer(*parts(ds)) as run,
    ):
        run.put("output", ds["output"])
    with pytest.raises(StoreError, match="'image' has shape"), open_writer(*parts(ds)) as run:
        run.put("image", np.zeros((3, 3)))


def test_pictures_come_one_by_one_and_survive_an_interruption(home: Path) -> None:
    ds = synthetic.dataset(kind="generate", samples=3)
    template, variables = parts(ds)
    with pytest.raises(KeyboardInterrupt), store.writer("run", template, variables, home=home) as run:
        assert run.absent("image") == [0, 1, 2]
        run.put("image", ds["image"][1], 1)
        assert run.absent("image") == [0, 1, 2]
        run.commit()
        assert run.absent("image") == [0, 2]
        run.put("image", ds["image"][0], 0)
        raise KeyboardInterrupt
    with store.writer("run", template, variables, home=home) as run:
        assert run.absent("image") == [0, 2]
        for sample in run.absent("image"):
            run.put("image", ds["image"][sample], sample)
        for piece in run.remaining:
            at = piece._asdict()
            run.write(at, {name: ds[name].isel(at).values for name in variables if name != "image"})
    xr.testing.assert_identical(run.dataset(), ds)


@pytest.mark.parametrize("sample", [3, -1])
def test_a_picture_of_no_sample_is_refused(sample: int, open_writer: Writers) -> None:
    ds = synthetic.dataset(kind="generate", samples=3)
    with pytest.raises(StoreError, match="a position from 0 below 3"), open_writer(*parts(ds)) as run:
        run.put("image", ds["image"][0], sample)


def test_a_template_must_fit_what_is_declared(home: Path) -> None:
    template, variables = parts(synthetic.dataset())
    with pytest.raises(StoreError, match="no coordinate for"), store.in_memory(template.drop_dims("head"), variables):
        pass
    with pytest.raises(StoreError, match="already holds"), store.in_memory(synthetic.dataset(), variables):
        pass


def test_waiting_and_resuming_are_told(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    ds = synthetic.dataset()
    with caplog.at_level(logging.INFO, "workbench"):
        _interrupted(ds, home, 2)
        save(ds, home)
    assert "run run was interrupted; going on with 2 pieces in place" in caplog.text
