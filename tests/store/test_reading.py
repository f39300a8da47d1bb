from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import xarray as xr

import workbench as wb
from tests import synthetic
from tests.store.replay import place, save
from workbench import store
from workbench.schema import SCHEMA_VERSION, StoreError, WorkbenchWarning
from workbench.store.manifest import write_manifest


def _small(**attrs: object) -> xr.Dataset:
    return synthetic.dataset(timesteps=(500.0,), dual=1, single=0, default_layers=(0,)).assign_attrs(attrs)


@pytest.fixture
def three(home: Path) -> Path:
    place(_small(created="2025-01-02T00:00:00+00:00", model="second"), home, "abc1")
    place(_small(created="2025-01-03T00:00:00+00:00", model="third"), home, "abc2")
    place(_small(created="2025-01-01T00:00:00+00:00", model="first"), home, "b0")
    return home


def test_runs_are_listed_newest_first(three: Path) -> None:
    listed = store.runs(three)
    assert [run.key for run in listed] == ["abc2", "abc1", "b0"]
    newest = listed[0]
    assert (newest.model, newest.kind, newest.concepts) == ("third", "capture", ("dog", "grass", "sky"))
    assert newest.size == sum(file.stat().st_size for file in newest.path.rglob("*") if file.is_file())
    xr.testing.assert_identical(newest.open(verify=True), store.open("abc2", three))


def test_the_list_prints_as_a_table(three: Path) -> None:
    lines = repr(store.runs(three)).splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["key", "kind", "model", "concepts", "created", "size"]
    assert lines[1].startswith("abc2  capture  third   dog, grass, sky  2025-01-03 00:00:00")
    assert store.runs(three)._repr_html_().count("<tr>") == 4


def test_the_table_escapes_what_a_dataset_says(home: Path) -> None:
    save(_small(model="<script>"), home)
    assert "<script>" not in store.runs(home)._repr_html_()


def test_nothing_stored_is_an_empty_list(home: Path) -> None:
    assert store.runs(home) == []
    assert repr(store.runs(home)) == "no stored runs"
    with pytest.raises(StoreError, match="nothing is stored there"):
        store.open("abc", home)


def test_a_run_opens_by_key_beginning_or_path(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.open("abc1", three).attrs["model"] == "second"
    assert store.open("b", three).attrs["model"] == "first"
    elsewhere = tmp_path / "copied"
    shutil.copytree(three / "runs" / "abc2.zarr", elsewhere)
    assert store.open(elsewhere).attrs["model"] == "third"
    assert store.open(str(elsewhere)).attrs["model"] == "third"
    monkeypatch.chdir(tmp_path)
    assert store.open("copied", three).attrs["model"] == "third"
    assert store.open("./copied", three).attrs["model"] == "third"
    monkeypatch.setenv("WORKBENCH_HOME", str(three))
    assert wb.open("b0").attrs["model"] == "first"
    assert len(wb.runs()) == 3


def test_a_run_opens_with_plain_xarray(three: Path) -> None:
    ds = xr.open_zarr(three / "runs" / "b0.zarr")
    assert ds["concept"].values.tolist() == ["dog", "grass", "sky"]


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("abc", "2 runs begin with 'abc': abc1, abc2"),
        ("nope", "no run 'nope' in .*; stored there: abc1, abc2, b0"),
        ("../abc1", "no finished run"),
        ("/nowhere", "no finished run"),
    ],
)
def test_what_cannot_be_opened_is_named_with_what_can(key: str, named: str, three: Path) -> None:
    with pytest.raises(StoreError, match=named):
        store.open(key, three)


def test_damage_is_found_when_asked_for(three: Path) -> None:
    chunk = next((three / "runs" / "abc1.zarr" / "output").glob("c.*"))
    chunk.write_bytes(chunk.read_bytes()[::-1])
    store.open("abc1", three)
    with pytest.raises(StoreError, match=r"output/c\.0\.0\.0.*: changed"):
        store.open("abc1", three, verify=True)


def test_damaged_metadata_point_to_the_check(three: Path) -> None:
    (three / "runs" / "abc1.zarr" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"cannot be read .*verify=True"):
        store.open("abc1", three)


def test_a_damaged_manifest_is_left_out_with_a_warning(three: Path) -> None:
    (three / "runs" / "abc1.zarr" / "manifest.json").write_text("{}")
    with pytest.warns(WorkbenchWarning, match=r"abc1\.zarr is damaged"):
        assert [run.key for run in store.runs(three)] == ["abc2", "b0"]


def test_a_newer_schema_is_listed_marked_and_refused(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.store.reading.SCHEMA_VERSION", SCHEMA_VERSION - 1)
    listed = store.runs(three)
    assert {run.note for run in listed} == {"made by a newer version"}
    assert repr(listed).count("made by a newer version") == 3
    with pytest.raises(StoreError, match=r"schema version 1; this version .* up to 0: upgrade concept-workbench"):
        store.open("b0", three)
    assert store.damage("b0", three) == []


@pytest.mark.parametrize(
    "record",
    [{}, {"key": "../../x", "concepts": 5, "prompt": {}, "created": [], "model": None}, {"schema_version": "new"}],
)
def test_a_record_may_say_anything(record: dict[str, object], three: Path) -> None:
    write_manifest(three / "runs" / "b0.zarr", record)
    (run,) = [run for run in store.runs(three) if run.key == "b0"]
    assert run.path == three / "runs" / "b0.zarr"
    assert repr(store.runs(three))


@pytest.mark.parametrize("key", ["../abc1", "..", "/etc/passwd", "abc1/../../x", "abc1\0"])
def test_no_key_leaves_the_store(key: str, three: Path) -> None:
    (three / "abc1").mkdir()
    with pytest.raises(StoreError, match="no finished run"):
        store.open(key, three)
    with pytest.raises(StoreError, match="no finished run"):
        store.info(key, three)


def test_folders_of_other_names_are_no_runs(three: Path) -> None:
    shutil.copytree(three / "runs" / "b0.zarr", three / "runs" / "My copy.zarr")
    assert len(store.runs(three)) == 3
    assert store.open(three / "runs" / "My copy.zarr").attrs["model"] == "first"


def test_what_is_said_about_one_run(three: Path) -> None:
    assert store.info("abc2", three) == store.runs(three)[0]
    assert store.info(three / "runs" / "abc2.zarr") == store.runs(three)[0]


@pytest.mark.slow
def test_an_opened_run_goes_to_other_formats_and_chunks(three: Path, tmp_path: Path) -> None:
    place(synthetic.dataset(), three, "several")
    run = store.open("several", three)
    assert all(set(variable.encoding) <= {"preferred_chunks"} for variable in run.variables.values())
    files = run["output"].encoding["preferred_chunks"]
    assert run.sizes["layer"] > 1
    assert run.chunk(files)["output"].chunksizes["layer"] == (1,) * run.sizes["layer"]
    for number, ds in enumerate((run, run.chunk({"layer": 2, "y": 3}), run.chunk(files).isel(timestep=slice(0, 1)))):
        ds.to_zarr(tmp_path / f"{number}.zarr", zarr_format=2)
        with xr.open_zarr(tmp_path / f"{number}.zarr", chunks=None) as back:
            xr.testing.assert_equal(back, ds)
            xr.testing.assert_equal(back.wb.heatmap(), ds.wb.heatmap())


def test_a_run_of_an_early_version_says_how_many_heads_it_has(home: Path) -> None:
    early = _small()
    del early.attrs["head_count"]
    save(early, home, "abc1")
    run = store.open("abc1", home)
    assert run.attrs["head_count"] == run.sizes["head"]
    run.wb.validate()
