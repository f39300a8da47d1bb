from __future__ import annotations

import errno
import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workbench as wb
from tests import synthetic
from tests.store.replay import place, save
from workbench import store
from workbench.schema import InputError, StoreError
from workbench.store.manifest import sealed

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("archives")
    save(_small(), home, "abc1")
    return store.export_runs("abc1", home / "figure.zarr.zip", home)


def _small() -> xr.Dataset:
    return synthetic.dataset(timesteps=(500.0,), dual=1, single=1, missing=[(0, 500.0, 1)], default_layers=(0,))


def test_an_exported_run_opens_anywhere(exported: Path) -> None:
    xr.testing.assert_identical(wb.open(exported), _small())
    xr.testing.assert_identical(wb.open(str(exported), verify=True), _small())
    with zarr.storage.ZipStore(exported, mode="r") as zipped:
        ds = xr.open_zarr(zipped, chunks=None)
        assert ds["concept"].values.tolist() == ["dog", "grass", "sky"]
        xr.testing.assert_equal(ds["output"].load(), _small()["output"])
    with zipfile.ZipFile(exported) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_an_imported_run_is_the_run(exported: Path, home: Path) -> None:
    run = store.import_runs(exported, home)[0]
    assert (run.key, run.concepts) == ("abc1", ("dog", "grass", "sky"))
    xr.testing.assert_identical(store.open("abc1", home, verify=True), _small())
    assert not list((home / "partial").iterdir())
    again = store.import_runs(exported, home)[0]
    assert again == run, "a run that is there stays as it is"


def test_exporting_again_gives_the_same_bytes(exported: Path, home: Path) -> None:
    store.import_runs(exported, home)
    assert store.export_runs("abc", home / "again.zarr.zip", home).read_bytes() == exported.read_bytes()
    assert store.export_runs(exported, home / "copy.zarr.zip").read_bytes() == exported.read_bytes()


@pytest.mark.parametrize("name", ["maps.zip", "maps", ".zarr.zip"])
def test_the_name_says_what_it_is(name: str, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.zarr\.zip"):
        store.export_runs(exported, tmp_path / name)


def test_nothing_is_written_over(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "a.zarr.zip").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        store.export_runs(exported, tmp_path / "a.zarr.zip")
    assert (tmp_path / "a.zarr.zip").read_text() == "mine"


def test_a_damaged_run_is_not_exported(home: Path) -> None:
    save(_small(), home)
    chunk = home / "runs" / "run.zarr" / "output" / "c.0.0.0.0.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[::-1])
    with pytest.raises(StoreError, match="changed since it was written"):
        store.export_runs("run", home / "a.zarr.zip", home)
    assert not list(home.glob("a.zarr.zip*"))


def test_a_full_disk_leaves_no_half_of_a_file(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    size = f"{wb.store.info(exported).size:,}"
    with pytest.raises(StoreError, match=rf"No space left.*about {size} bytes are still needed"):
        store.export_runs(exported, tmp_path / "a.zarr.zip")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr("workbench.store.archives.write_file", full)
    with pytest.raises(StoreError, match=r"No space left.*Nothing was imported"):
        store.import_runs(exported, tmp_path / "home")
    assert store.runs(tmp_path / "home") == []
    assert not list((tmp_path / "home" / "partial").iterdir())


def _members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _zip(path: Path, members: Members | list[tuple[Any, bytes]], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, data)
    return path


def _with_manifest(members: Members, change: Callable[[dict[str, Any]], object]) -> Members:
    content = json.loads(members["manifest.json"])
    del content["sha256"]
    change(content)
    return members | {"manifest.json": sealed(content)}


def _link(target: str) -> zipfile.ZipInfo:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return link


def _added(members: Members, name: str, data: bytes = b"x") -> Members:
    """With one more file, which the manifest lists."""
    import hashlib

    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return _with_manifest(members, lambda content: content["files"].update({name: entry})) | {name: data}


def _refused(file: Path, says: str, home: Path) -> None:
    outside = sorted(path for path in home.parent.rglob("*") if home not in path.parents and path != home)
    with pytest.raises(StoreError, match=rf"is not imported: .*{says}"):
        store.import_runs(file, home)
    assert store.runs(home) == []
    assert sorted(path for path in home.parent.rglob("*") if home not in path.parents and path != home) == outside
    assert not list(home.glob("runs/*")), "nothing that was refused stays"


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped", "a\\escaped", "c:escaped", "a//b"])
def test_a_member_cannot_leave_the_run(name: str, exported: Path, tmp_path: Path) -> None:
    file = _zip(tmp_path / "evil.zarr.zip", _added(_members(exported), name))
    _refused(file, "names .* no file inside the run", tmp_path / "home")


@pytest.mark.parametrize("key", ["../../escaped", "/tmp/escaped", "", "A", None, 3])
def test_a_key_cannot_leave_the_store(key: object, exported: Path, tmp_path: Path) -> None:
    members = _with_manifest(_members(exported), lambda content: content["record"].update(key=key))
    _refused(_zip(tmp_path / "evil.zarr.zip", members), "the key is", tmp_path / "home")


def test_what_is_not_listed_is_refused(exported: Path, tmp_path: Path) -> None:
    members = _members(exported)
    _refused(_zip(tmp_path / "more.zip", members | {"more": b"x"}), "'more' is in the file or", tmp_path / "home")
    del members["zarr.json"]
    _refused(_zip(tmp_path / "less.zip", members), "'zarr.json' is in the file or", tmp_path / "home")
    _refused(_zip(tmp_path / "none.zip", {"a": b""}), "it holds no manifest", tmp_path / "home")


def test_links_folders_and_twins_are_refused(exported: Path, tmp_path: Path) -> None:
    members = list(_members(exported).items())
    _refused(_zip(tmp_path / "l.zip", [*members, (_link("x"), b"/etc/passwd")]), "no plain file", tmp_path / "home")
    _refused(_zip(tmp_path / "d.zip", [*members, ("folder/", b"")]), "no plain file", tmp_path / "home")
    with pytest.warns(UserWarning, match="Duplicate name"):
        twins = _zip(tmp_path / "t.zip", [*members, members[0]])
    _refused(twins, "two members of one name", tmp_path / "home")


def test_a_bomb_is_refused_before_it_is_unpacked(exported: Path, tmp_path: Path) -> None:
    members = _added(_members(exported), "bomb", bytes(50_000_000))
    file = _zip(tmp_path / "bomb.zip", members, zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 1_000_000
    _refused(file, "is compressed", tmp_path / "home")
    larger = _with_manifest(_members(exported), lambda content: content["files"]["zarr.json"].update(size=10**12))
    _refused(_zip(tmp_path / "larger.zip", larger), "zarr.json has .* bytes, and 1,000,000,000,000", tmp_path / "home")


def test_a_pickle_is_refused(exported: Path, tmp_path: Path) -> None:
    members = _members(exported)
    group = json.loads(members["zarr.json"])
    group["consolidated_metadata"]["metadata"]["y"]["codecs"].insert(0, {"name": "numcodecs.pickle"})
    members = _added(members, "zarr.json", json.dumps(group).encode())
    _refused(_zip(tmp_path / "pickle.zip", members), "its codec is 'numcodecs.pickle'", tmp_path / "home")


@pytest.mark.parametrize("data", [b"", b"no zip file", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_archive_is_called_so(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zarr.zip").write_bytes(data)
    _refused(tmp_path / "a.zarr.zip", "", tmp_path / "home")
    with pytest.raises(StoreError, match=r"no file .*missing"):
        store.import_runs(tmp_path / "missing.zarr.zip", tmp_path / "home")


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_refused_or_makes_no_difference(
    place: float, bit: int, cut: bool, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    data = bytearray(exported.read_bytes())
    at = int(place * len(data))
    data[at] ^= 1 << bit
    (folder / "a.zarr.zip").write_bytes(data[:at] if cut else data)
    try:
        store.import_runs(folder / "a.zarr.zip", folder / "home")
    except StoreError:
        assert store.runs(folder / "home") == []
    else:
        assert not cut
        # What nobody reads of a zip file: dates, permissions and the like.
        xr.testing.assert_identical(store.open("abc1", folder / "home", verify=True), _small())


def test_an_unfinished_run_gives_way_to_an_imported_one(exported: Path, home: Path) -> None:
    (home / "partial" / "abc1").mkdir(parents=True)
    store.import_runs(exported, home)
    assert not list((home / "partial").iterdir())


def _made(parent: str, role: str = "control") -> xr.Dataset:
    return _small().assign_attrs(parent=parent, role=role, edit="SkipBlock(3)")


@pytest.fixture
def several(home: Path) -> Path:
    """The user's own runs ``mine`` and ``other``; experiments with ``mine``, and one by itself."""
    place(_small(), home, "mine")
    place(_small(), home, "other")
    place(_made("mine", "baseline"), home, "base")
    place(_made("mine"), home, "rand")
    place(_made("", "baseline"), home, "alone")
    place(_made("alone", "edit"), home, "skip")
    return home


def _stored(home: Path) -> dict[str, tuple[str, str]]:
    return {run.key: (run.role, run.parent) for run in store.runs(home)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runs", "derived", "expected"),
    [
        (["mine", "other"], False, {"mine": ("", ""), "other": ("", "")}),
        (["mine"], True, {"mine": ("", ""), "base": ("baseline", "mine"), "rand": ("control", "mine")}),
        (["rand"], False, {"rand": ("", ""), "mine": ("", "")}),
        (["skip"], False, {"skip": ("", ""), "alone": ("baseline", "")}),
        (["alone"], True, {"alone": ("", ""), "skip": ("edit", "alone")}),
        (["other", "rand", "mine"], False, {"other": ("", ""), "rand": ("", ""), "mine": ("", "")}),
    ],
)
def test_several_runs_travel_with_what_they_belong_to(
    runs: list[str], derived: bool, expected: dict[str, tuple[str, str]], several: Path, tmp_path: Path
) -> None:
    file = store.export_runs(runs, tmp_path / "several.zarr.zip", several, derived=derived)
    assert store.import_runs(file, tmp_path / "there")[0].key == runs[0]
    assert _stored(tmp_path / "there") == expected
    assert all(not found.problems for found in store.check(home=tmp_path / "there"))
    assert _stored(several)["rand"] == ("control", "mine"), "exporting changes nothing"
    again = store.export_runs(runs, tmp_path / "again.zarr.zip", several, derived=derived)
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_a_file_of_several_runs_opens_as_the_first(several: Path, tmp_path: Path) -> None:
    file = store.export_runs(["other", "mine"], tmp_path / "several.zarr.zip", several)
    xr.testing.assert_identical(wb.open(file, verify=True), _small())
    assert store.damage(file) == []
    with zarr.storage.ZipStore(file, mode="r") as zipped:
        xr.testing.assert_equal(xr.open_zarr(zipped, chunks=None)["output"].load(), _small()["output"])


@pytest.mark.slow
def test_a_run_exported_by_its_name_is_the_users_own(several: Path, tmp_path: Path) -> None:
    file = store.export_runs("alone", tmp_path / "one.zarr.zip", several)
    save(_made("", "baseline"), tmp_path / "there", "alone")
    assert store.import_runs(file, tmp_path / "there")[0].own, "although it was there already"
    assert "role" not in wb.open("alone", tmp_path / "there").attrs
    assert "role" not in wb.open(file).attrs


@pytest.mark.slow
def test_several_runs_travel_to_and_from_a_url(several: Path, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    file = store.export_runs("mine", tmp_path / "a.zarr.zip", several, derived=True)
    store.import_runs(file, url)
    assert _stored(url) == {"mine": ("", ""), "base": ("baseline", "mine"), "rand": ("control", "mine")}
    again = store.export_runs("mine", tmp_path / "b.zarr.zip", url, derived=True)
    assert sorted(_members(again)) == sorted(_members(file))


def test_no_run_is_nothing_to_export(home: Path) -> None:
    with pytest.raises(InputError, match="no run is given"):
        store.export_runs([], home / "a.zarr.zip", home)


def test_of_a_file_with_a_damaged_part_nothing_is_imported(several: Path, tmp_path: Path) -> None:
    file = store.export_runs("mine", tmp_path / "several.zarr.zip", several, derived=True)
    members = _members(file)
    name = next(name for name in members if name.startswith("derived/rand.zarr/output/c."))
    changed = members | {name: members[name][::-1]}
    _refused(_zip(tmp_path / "changed.zip", changed), f"{name} differs from its checksum", tmp_path / "there")
    lacking = {key: data for key, data in members.items() if key != name}
    _refused(_zip(tmp_path / "lacking.zip", lacking), f"'{name}' is in the file or", tmp_path / "there")
    renamed = {key.replace("derived/rand", "derived/mine"): data for key, data in members.items()}
    _refused(_zip(tmp_path / "renamed.zip", renamed), "derived/mine.zarr/ holds the run rand", tmp_path / "there")
    twice = members | {f"runs/rand.zarr/{key}": members[f"derived/rand.zarr/{key}"] for key in _inside(members, "rand")}
    _refused(_zip(tmp_path / "twice.zip", twice), "two runs of one key", tmp_path / "there")
    bare = members | {"derived/x": b"x"}
    _refused(_zip(tmp_path / "bare.zip", bare), "it holds no derived/x/manifest.json", tmp_path / "there")


def _inside(members: Members, key: str) -> list[str]:
    prefix = f"derived/{key}.zarr/"
    return [name.removeprefix(prefix) for name in members if name.startswith(prefix)]


def test_a_pickle_in_any_run_is_refused_before_anything_is_imported(several: Path, tmp_path: Path) -> None:
    import hashlib

    members = _members(store.export_runs("mine", tmp_path / "several.zarr.zip", several, derived=True))
    prefix = "derived/rand.zarr/"
    group = json.loads(members[f"{prefix}zarr.json"])
    group["consolidated_metadata"]["metadata"]["y"]["codecs"].insert(0, {"name": "numcodecs.pickle"})
    data = json.dumps(group).encode()
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    inside = {"manifest.json": members[f"{prefix}manifest.json"]}
    sealed_again = _with_manifest(inside, lambda content: content["files"].update({"zarr.json": entry}))
    members |= {f"{prefix}zarr.json": data, f"{prefix}manifest.json": sealed_again["manifest.json"]}
    _refused(_zip(tmp_path / "pickle.zip", members), "its codec is 'numcodecs.pickle'", tmp_path / "there")


def test_a_key_in_a_manifest_cannot_name_another_folder_of_the_file(several: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.zarr"
    shutil.copytree(several / "runs" / "other.zarr", evil)
    content = json.loads((evil / "manifest.json").read_bytes())
    del content["sha256"]
    content["record"]["key"] = "../x"
    (evil / "manifest.json").write_bytes(sealed(content))
    with pytest.raises(InputError, match=r"the key is '\.\./x'"):
        store.export_runs(["mine", evil], tmp_path / "a.zarr.zip", several)
    assert not (tmp_path / "a.zarr.zip").exists()


@pytest.mark.parametrize("present", [False, True])
def test_files_of_systems_that_an_older_manifest_lists_are_left_out(
    present: bool, exported: Path, home: Path, tmp_path: Path
) -> None:
    clean = _members(exported)
    listed = _added(clean, "image/.DS_Store")
    store.import_runs(exported, home)
    run = home / "runs" / "abc1.zarr"
    (run / "manifest.json").write_bytes(listed["manifest.json"])
    if present:
        (run / "image" / ".DS_Store").write_bytes(b"x")
    assert store.damage("abc1", home) == []
    file = store.export_runs("abc1", tmp_path / "a.zarr.zip", home)
    assert _members(file) == clean
    older = _zip(tmp_path / "older.zarr.zip", listed)
    assert store.damage(older) == []
    assert store.import_runs(older, tmp_path / "there")[0].key == "abc1"
    assert store.damage("abc1", tmp_path / "there") == []
