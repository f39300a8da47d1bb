from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import synthetic
from tests.store.replay import parts, place, replay, save
from workbench import store
from workbench.schema import InputError, StoreError
from workbench.store import manifest


def _small() -> xr.Dataset:
    return synthetic.dataset(timesteps=(500.0,), dual=1, single=1, default_layers=(0,), kind="generate")


@pytest.fixture
def run(home: Path) -> Path:
    place(_small(), home)
    return home / "runs" / "run.zarr"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("shared")
    save(_small(), home)
    return home / "runs" / "run.zarr"


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_of_any_file_is_found_and_named(data: st.DataObject, shared: Path) -> None:
    files = sorted(path for path in shared.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    intact = path.read_bytes()
    at, mask = data.draw(st.integers(0, len(intact) - 1)), data.draw(st.integers(1, 255))
    flipped = bytearray(intact)
    flipped[at] ^= mask
    path.write_bytes(flipped)
    try:
        problems = store.damage(shared)
        with pytest.raises(StoreError, match="damaged") as caught:
            store.open(shared, verify=True)
    finally:
        path.write_bytes(intact)
    name = path.relative_to(shared).as_posix()
    assert [problem.partition(":")[0] for problem in problems] == [name]
    assert name in str(caught.value)
    assert store.damage(shared) == []


def test_a_damaged_run_is_removed_and_computed_again(run: Path, home: Path) -> None:
    (run / "output" / "zarr.json").write_text("{}")
    assert store.damage("run", home) == [f"output/zarr.json: 2 bytes, expected {_size(run)}"]
    store.discard("run", home)
    assert store.find("run", home) is None
    assert not list((home / "partial").iterdir())
    template, variables = parts(_small())
    with store.writer("run", template, variables, home=home) as writer:
        assert replay(writer, _small())
    assert store.damage("run", home) == []


def _size(run: Path) -> int:
    return manifest.parse_manifest((run / "manifest.json").read_bytes()).files["output/zarr.json"].size


def test_a_run_with_a_damaged_manifest_can_be_removed(run: Path, home: Path) -> None:
    (run / "manifest.json").write_text("{}")
    assert store.damage("run", home) == ["manifest.json: cannot be read"]
    store.discard("run", home)
    assert store.find("run", home) is None


def test_who_reads_a_run_that_was_removed_is_told(run: Path, home: Path) -> None:
    ds = store.open("run", home)
    store.discard("run", home)
    with pytest.raises(StoreError, match="removed or damaged while it was open"):
        ds["output"].load()


def test_removing_what_is_not_there_is_no_error(home: Path) -> None:
    store.discard("run", home)
    with pytest.raises(InputError, match="the key is"):
        store.discard("../run", home)


def test_every_stored_run_is_checked(run: Path, home: Path) -> None:
    save(_small(), home, "other")
    (run / "extra").write_text("x")
    found = list(store.check(home=home))
    assert [(each.key, each.problems, each.stored) for each in found] == [
        ("other", [], True),
        ("run", ["extra: not in the manifest"], True),
    ]
    assert [each.key for each in store.check(["oth"], home)] == ["other"]
    (elsewhere,) = store.check([run], home / "another home")
    assert (elsewhere.problems, elsewhere.stored) == (["extra: not in the manifest"], False)
    with pytest.raises(StoreError, match="no run 'nope'"):
        list(store.check(["nope"], home))


def test_a_link_is_no_file_of_a_run(run: Path, home: Path) -> None:
    chunk = run / "image" / "zarr.json"
    chunk.rename(home / "elsewhere")
    chunk.symlink_to(home / "elsewhere")
    (run / "folder").symlink_to(home)
    assert store.damage("run", home) == ["folder: not in the manifest", "image/zarr.json: no file"]


def test_what_systems_leave_in_folders_is_no_damage(run: Path, home: Path, tmp_path: Path) -> None:
    for name in (".DS_Store", "image/Thumbs.db", "image/._zarr.json", "output/.nfs000001", "desktop.ini"):
        (run / name).write_bytes(b"of the system")
    assert store.damage("run", home) == []
    store.import_runs(store.export_runs("run", tmp_path / "run.zarr.zip", home), tmp_path / "other")
    (run / "image" / "Thumbs").write_bytes(b"of nobody")
    assert store.damage("run", home) == ["image/Thumbs: not in the manifest"]


def test_a_run_that_a_link_points_to_is_removed_and_made_again(run: Path, home: Path) -> None:
    """As of someone who moved it to another disk: the link goes, what it points to is his."""
    elsewhere = home / "elsewhere.zarr"
    run.rename(elsewhere)
    run.symlink_to(elsewhere)
    assert store.damage("run", home) == []
    store.discard("run", home)
    assert not run.is_symlink()
    assert (elsewhere / "manifest.json").exists()
    assert not list((home / "partial").iterdir())
    run.symlink_to(elsewhere)
    assert [item.key for item in store.prune(home, keep=0) if item.what == "run"] == ["run"]
    assert not list((home / "partial").iterdir())
    run.symlink_to(home / "nothing")
    save(_small(), home)
    assert not run.is_symlink()
    assert store.damage("run", home) == []


def test_what_a_newer_version_wrote_is_not_called_damaged(run: Path, home: Path) -> None:
    content = {"format": manifest.FORMAT + 1, "everything": "else"}
    (run / "manifest.json").write_bytes(manifest.sealed(content))
    (checked,) = store.check(home=home)
    assert (checked.problems, "upgrade concept-workbench" in checked.note) == ([], True)
    with pytest.raises(StoreError, match=r"manifest format 2.*upgrade concept-workbench"):
        store.open("run", home)
    (listed,) = store.runs(home)
    assert (listed.key, listed.note) == ("run", "made by a newer version")
    assert "made by a newer version" in repr(store.runs(home))
