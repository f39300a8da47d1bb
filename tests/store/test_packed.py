from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import workbench as wb
from tests import synthetic
from tests.store.replay import place
from workbench import store
from workbench.schema import CAPTURE_VERSION, OF_MANY, PARENT, ROLE, InputError, StoreError
from workbench.store.manifest import sealed, unsealed

GRID = {"timesteps": (500.0,), "dual": 2, "single": 0, "default_layers": (0, 1), "grid": (2, 3)}
RECORD = {
    "model": "made-up",
    "prompt": "",
    "concepts": ["dog", "grass", "sky"],
    "created": "2026-01-01T00:00:00+00:00",
    "schema_version": 1,
    "capture_version": CAPTURE_VERSION,
}


def many(home: Path, key: str, runs: str, *, failed: str = "") -> None:
    """A run of many images whose items are the runs of these letters; the first is also the user's own."""
    for run in runs:
        ds = synthetic.dataset(seed=ord(run), **GRID)
        place(ds if run == "a" else ds.assign_attrs({ROLE: OF_MANY, PARENT: key}), home, run)
    store.check_writable(home)
    register = store.register(key, RECORD, home)
    register.enter(
        store.Item(f"image {run}", at, run, f"hash {run}", ("dog", "grass", "sky"), (32, 48))
        for at, run in enumerate(runs)
    )
    register.enter(store.Item(f"image {name}", 9, error="no image") for name in failed)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("packed")
    many(home, "many1", "abc", failed="x")
    return store.export_runs("many1", home / "many.zarr.zip", home)


def anew(source: Path, target: Path, changed: dict[str, bytes | None]) -> Path:
    """A copy of a file with other members; None leaves one out."""
    with zipfile.ZipFile(source) as held, zipfile.ZipFile(target, "w") as made:
        members = {name: held.read(name) for name in held.namelist()} | changed
        for name, data in members.items():
            if data is not None:
                made.writestr(name, data)
    return target


def test_a_run_of_many_images_travels_in_one_file(exported: Path, home: Path) -> None:
    found = store.import_runs(exported, home)
    assert [(run.key, run.kind, run.own) for run in found] == [
        ("many1", "many", True),
        ("a", "capture", True),
        ("b", "capture", False),
        ("c", "capture", False),
    ]
    ds = wb.open("many1", home, verify=True)
    assert ds["name"].values.tolist() == ["image a", "image b", "image c"]
    assert ds.attrs["failed"] == [{"name": "image x", "error": "no image"}]
    for run in "abc":
        alone = synthetic.dataset(seed=ord(run), **GRID)
        np.testing.assert_array_equal(ds.wb.item(f"image {run}").output, alone.output)
    alone = synthetic.dataset(seed=ord("b"), **GRID)
    with zarr.storage.ZipStore(exported, mode="r") as zipped:
        np.testing.assert_array_equal(zarr.open_array(zipped, path="derived/b.zarr/cross", mode="r"), alone.cross)
    plain = xr.open_zarr(f"zip://derived/b.zarr::{exported}", chunks=None)
    xr.testing.assert_equal(plain["output_total"].load(), alone["output_total"])
    assert not list((home / "partial").iterdir())
    assert store.export_runs("many1", home / "again.zarr.zip", home).read_bytes() == exported.read_bytes()


def test_importing_adds_what_a_run_lacks(exported: Path, home: Path) -> None:
    many(home, "many1", "d")
    for _ in range(2):
        store.import_runs(exported, home)
        lines = (home / "many" / "many1" / "items").read_bytes().splitlines()
        assert len(lines) == 5
        assert sorted(wb.open("many1", home)["name"].values) == [f"image {run}" for run in "abcd"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        pytest.param({"items": b"{}\n"}, "items has 3 bytes", id="another register"),
        pytest.param(
            {"derived/c.zarr/manifest.json": None}, "holds no derived/c.zarr/manifest.json", id="half an item"
        ),
        pytest.param({"derived/b.zarr/output_total/c.0.0.0.0.0.0": b""}, "has 0 bytes", id="a chunk"),
        pytest.param({"many/b.zarr/manifest.json": b"{}"}, "manifest.json", id="a run too many"),
    ],
)
def test_a_damaged_file_is_refused_whole(
    changed: dict[str, bytes | None], says: str, exported: Path, home: Path, tmp_path: Path
) -> None:
    damaged = anew(exported, tmp_path / "damaged.zarr.zip", changed)
    with pytest.raises(StoreError, match=f"is not imported: .*{says}"):
        store.import_runs(damaged, home)
    assert not wb.runs(home)


@pytest.mark.parametrize("what", ["a changed line", "a line less", "a run less"])
def test_a_file_whose_register_is_not_its_own_is_refused(what: str, exported: Path, home: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported) as held:
        lines, names = held.read("items"), held.namelist()
    changed: dict[str, bytes | None] = {"items": lines}
    if what == "a changed line":
        changed["items"] = lines.replace(b"image b", b"image B")
    elif what == "a line less":
        changed["items"] = lines[lines.index(b"\n") + 1 :]
    else:
        changed |= dict.fromkeys(name for name in names if name.startswith("derived/c.zarr/"))
    expected = "lacks the run c of the item 'image c'" if what == "a run less" else "items"
    with pytest.raises(StoreError, match=expected):
        store.import_runs(anew(exported, tmp_path / "other.zarr.zip", changed), home)
    assert not wb.runs(home)
    assert not (home / "many").exists()


def test_a_register_that_lists_other_files_is_refused(exported: Path, home: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported) as held:
        told = unsealed(held.read("manifest.json"), "manifest.json")
    told["files"]["../x"] = told["files"]["items"]
    changed = {"manifest.json": sealed(told), "../x": b""}
    with pytest.raises(StoreError, match="no file inside the run"):
        store.import_runs(anew(exported, tmp_path / "other.zarr.zip", changed), home)
    told["files"] = dict.fromkeys(("x", "zarr.json"), told["files"]["items"])
    changed = {"manifest.json": sealed(told), "items": None} | dict.fromkeys(told["files"], anew_items(exported))
    with pytest.raises(StoreError, match="lists other files than items"):
        store.import_runs(anew(exported, tmp_path / "another.zarr.zip", changed), home)


def anew_items(source: Path) -> bytes:
    with zipfile.ZipFile(source) as held:
        return held.read("items")


def test_what_is_damaged_or_gone_is_not_exported(home: Path) -> None:
    many(home, "many1", "abc")
    store.discard("c", home)
    store.export_runs("many1", home / "two.zarr.zip", home)
    with zipfile.ZipFile(home / "two.zarr.zip") as held:
        assert not [name for name in held.namelist() if "c.zarr" in name]
        assert held.read("items").count(b"\n") == 2
    chunk = next((home / "runs" / "b.zarr" / "output").glob("c.*"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"b.zarr is damaged"):
        store.export_runs("many1", home / "one.zarr.zip", home)
    with (home / "many" / "many1" / "items").open("ab") as lines:
        lines.write(b"spoilt\n")
    with pytest.raises(StoreError, match=r"1 of 4 lines cannot be read"):
        store.export_runs("many1", home / "one.zarr.zip", home)
    for run in "ab":
        store.discard(run, home)
    assert not (home / "one.zarr.zip").exists()


def test_an_item_is_exported_by_its_own_key(home: Path, tmp_path: Path) -> None:
    many(home, "many1", "abc")
    store.export_runs("b", home / "b.zarr.zip", home)
    assert [run.key for run in store.import_runs(home / "b.zarr.zip", tmp_path / "other")] == ["b"]
    store.export_runs(["b", "many1"], home / "both.zarr.zip", home)
    found = store.import_runs(home / "both.zarr.zip", tmp_path / "both")
    assert [run.key for run in found if run.own] == ["b", "many1", "a"]
    assert wb.open("many1", tmp_path / "both").sizes["item"] == 3


def test_a_file_of_many_images_says_what_to_do_with_it(exported: Path, tmp_path: Path) -> None:
    for open_ in (wb.open, wb.open_many):
        with pytest.raises(StoreError, match=r"workbench import .*, and open 'many1'"):
            open_(exported)
    with pytest.raises(StoreError, match="is a URL, where lines cannot be appended"):
        store.import_runs(exported, "memory://elsewhere")
    assert store.damage(exported) == []
    other = {"derived/c.zarr/output_total/c.0.0.0.0.0.0": b"", "derived/b.zarr/zarr.json": None}
    problems = store.damage(anew(exported, tmp_path / "damaged.zarr.zip", other))
    assert [problem.partition("zarr/")[0] for problem in problems] == ["derived/b.", "derived/c."]
    assert "has 0 bytes" in problems[1]


def test_nothing_to_export_is_said(home: Path) -> None:
    store.check_writable(home)
    store.register("many1", RECORD, home)
    with pytest.raises(StoreError, match="holds no items yet"):
        store.export_runs("many1", home / "none.zarr.zip", home)
    with pytest.raises(InputError, match=r"ends in \.zarr\.zip"):
        store.export_runs("many1", home / "none.zip", home)
