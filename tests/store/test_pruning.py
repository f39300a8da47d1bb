from __future__ import annotations

import gc
import os
import shutil
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests import synthetic
from tests.store import processes
from tests.store.replay import overflowing, parts, place, read_slowly, replay, save
from tests.store.test_earlier_versions import FOLDER
from workbench import store
from workbench.schema import CAPTURE_VERSION, InputError, StoreError
from workbench.store.pruning import Pruned

NOW = datetime.now(UTC)


def _made(home: Path, **ages: float) -> int:
    """Store runs of that many days; the size of one."""
    for key, days in ages.items():
        created = (NOW - timedelta(days=days)).isoformat(timespec="seconds")
        ds = synthetic.dataset(timesteps=(500.0,), dual=1, single=0, default_layers=(0,)).assign_attrs(created=created)
        place(ds, home, key)
    return store.runs(home)[0].size


def _many(home: Path, key: str, items: list[str], days: float) -> None:
    """Store a run of many images of that age."""
    created = (NOW - timedelta(days=days)).isoformat(timespec="seconds")
    record = {"model": "m", "prompt": "", "concepts": ["dog"], "created": created, "schema_version": 1}
    register = store.register(key, record | {"capture_version": CAPTURE_VERSION}, home)
    register.enter([store.Item(item, place, item) for place, item in enumerate(items)])


def _item(home: Path, key: str, parent: str, days: float) -> None:
    created = (NOW - timedelta(days=days)).isoformat(timespec="seconds")
    ds = synthetic.dataset(timesteps=(500.0,), dual=1, single=0, default_layers=(0,))
    place(ds.assign_attrs(created=created, role="item", parent=parent), home, key)


def _gone(done: list[Pruned], what: str = "run") -> list[str]:
    return [item.key for item in done if item.what == what and not item.kept]


def _keys(home: Path) -> list[str]:
    return [run.key for run in store.runs(home)]


@pytest.mark.slow
def test_by_age(home: Path) -> None:
    size = _made(home, today=0, week=8, month=31)
    done = store.prune(home, older_than="30d")
    assert _gone(done) == ["month"]
    assert (done[0].size, done[0].reason) == (pytest.approx(size, rel=0.05), "older than 30 days")
    assert _keys(home) == ["today", "week"]
    assert _gone(store.prune(home, older_than=timedelta(days=1))) == ["week"]
    assert _gone(store.prune(home, older_than="12h")) == []


@pytest.mark.slow
def test_by_number(home: Path) -> None:
    _made(home, a=0, b=1, c=2, d=3)
    assert _gone(store.prune(home, keep=2)) == ["c", "d"]
    assert _keys(home) == ["a", "b"]


@pytest.mark.slow
def test_by_size(home: Path) -> None:
    size = _made(home, a=0, b=1, c=2, d=3)
    assert _gone(store.prune(home, max_size=int(size * 2.5))) == ["c", "d"]
    assert _gone(store.prune(home, max_size="1.5KB")) == ["a", "b"]
    assert _keys(home) == []


@pytest.mark.slow
def test_the_newest_stay_whatever_else_is_said(home: Path) -> None:
    _made(home, a=40, b=50, c=60)
    assert _gone(store.prune(home, older_than="30d", max_size=0, keep=2)) == ["c"]


def test_a_trial_removes_nothing(home: Path) -> None:
    _made(home, a=40, b=50)
    before = sorted(home.rglob("*"))
    assert _gone(store.prune(home, older_than="30d", dry_run=True)) == ["a", "b"]
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({}, "no limit is given"),
        ({"older_than": "soon"}, r"older_than is 'soon'; expected an age such as 45m"),
        ({"older_than": timedelta(-1)}, "older_than is"),
        ({"older_than": "9" * 20 + "w"}, "older_than is"),
        ({"max_size": "20 parsecs"}, "max_size is '20 parsecs'"),
        ({"max_size": -1}, "max_size is -1"),
        ({"keep": -1}, "keep is -1"),
        ({"keep": True}, "keep is True"),
    ],
)
def test_limits_that_say_nothing_are_refused(limits: dict[str, object], says: str, home: Path) -> None:
    _made(home, a=40)
    with pytest.raises(InputError, match=says):
        store.prune(home, **limits)
    assert _keys(home) == ["a"]


def test_nothing_stored_is_nothing_to_remove(home: Path) -> None:
    assert store.prune(home, keep=0) == []
    assert not home.exists()


def test_a_run_that_is_being_read_stays(home: Path) -> None:
    _made(home, a=40, b=50)
    ds = store.open("a", home)
    done = store.prune(home, keep=0)
    assert [(item.key, item.kept) for item in done if item.what == "run"] == [("a", "being read"), ("b", "")]
    assert np.isfinite(ds["output"]).all()
    del ds
    gc.collect()
    assert _gone(store.prune(home, keep=0)) == ["a"]


def test_a_run_that_another_process_reads_stays_whole(home: Path, tmp_path: Path) -> None:
    expected = save(overflowing(), home)["output"].values
    gc.collect()
    reads, go_on = processes.event(), processes.event()
    reader = processes.start(read_slowly, home / "runs" / "run.zarr", reads, go_on, tmp_path / "result.npy")
    assert reads.wait(60)
    done = store.prune(home, keep=0, max_size=0)
    assert [(item.what, item.kept) for item in done if item.what != "lock"] == [("run", "being read")]
    go_on.set()
    reader.join()
    np.testing.assert_array_equal(np.load(tmp_path / "result.npy"), expected)
    assert _gone(store.prune(home, keep=0)) == ["run"]


def test_a_run_that_is_being_written_stays(home: Path) -> None:
    ds = synthetic.dataset()
    template, variables = parts(ds)
    with store.writer("run", template, variables, home=home) as run:
        replay(run, ds, run.remaining[:5])
        done = store.prune(home, older_than="0m")
        assert [(item.what, item.kept) for item in done] == [("unfinished run", "being written")]
        replay(run, ds)
    store.verify("run", home)


def _interrupted(home: Path) -> None:
    ds = synthetic.dataset()
    template, variables = parts(ds)
    with pytest.raises(KeyboardInterrupt), store.writer("run", template, variables, home=home) as run:
        replay(run, ds, run.remaining[:5])
        raise KeyboardInterrupt


def test_an_unfinished_run_goes_when_it_is_old(home: Path) -> None:
    _interrupted(home)
    assert store.prune(home, keep=0) == []
    long_ago = time.time() - 8 * 24 * 3600
    for path in [home / "partial" / "run", *(home / "partial" / "run").rglob("*")]:
        os.utime(path, (long_ago, long_ago))
    done = store.prune(home, keep=0)
    assert [(item.what, item.key, item.size > 1_000) for item in done[:-1]] == [("unfinished run", "run", True)]
    assert done[-1].what == "lock"
    assert not list((home / "partial").iterdir())


def test_what_a_killed_removal_left_goes(home: Path) -> None:
    _made(home, a=40)
    store.catalogue.hide(home / "runs" / "a.zarr", home)
    assert _keys(home) == []
    assert _gone(store.prune(home, keep=9), "unfinished run") == ["a"]
    assert not list((home / "partial").iterdir())


@pytest.mark.slow
def test_locks_that_nobody_holds_go(home: Path) -> None:
    _made(home, a=0, b=0)
    _interrupted(home)
    assert sorted(_gone(store.prune(home, keep=9), "lock")) == ["a", "b"]
    assert sorted(path.name for path in (home / "locks").iterdir()) == ["readers", "run.lock"]


def test_where_readers_cannot_be_seen_nothing_is_removed_unless_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    _made(home, a=40)
    monkeypatch.setattr(store.reader_locks.fcntl, "lockf", none)
    with pytest.raises(StoreError, match="force=True"):
        store.prune(home, keep=0)
    assert _keys(home) == ["a"]
    assert _gone(store.prune(home, keep=0, force=True)) == ["a"]


def _with_experiments(home: Path, mine: dict[str, float], made: dict[str, tuple[str, float]]) -> int:
    """Store the user's own runs of that many days, and runs of experiments with a parent and an age."""
    size = _made(home, **mine)
    for key, (parent, days) in made.items():
        created = (NOW - timedelta(days=days)).isoformat(timespec="seconds")
        ds = synthetic.dataset(timesteps=(500.0,), dual=1, single=0, default_layers=(0,))
        place(ds.assign_attrs(created=created, role="control", parent=parent), home, key)
    return size


@pytest.mark.slow
def test_a_number_is_that_of_the_users_own_runs(home: Path) -> None:
    _with_experiments(home, {"a": 3, "b": 4}, {f"x{index}": ("a", 0) for index in range(5)})
    done = store.prune(home, keep=2)
    assert sorted(_gone(done)) == [f"x{index}" for index in range(5)]
    assert {item.reason for item in done if item.what == "run"} == {"made for an experiment"}
    assert _keys(home) == ["a", "b"]


@pytest.mark.slow
def test_runs_of_experiments_go_before_any_of_the_users(home: Path) -> None:
    size = _with_experiments(home, {"a": 50, "b": 60}, {"x": ("a", 0), "y": ("b", 1)})
    assert _gone(store.prune(home, keep=1, dry_run=True)) == ["x", "y", "b"]
    assert _gone(store.prune(home, max_size=int(size * 3.5))) == ["y"]
    assert _gone(store.prune(home, max_size=int(size * 1.5))) == ["x", "b"]
    assert _keys(home) == ["a"]


@pytest.mark.slow
def test_runs_of_experiments_go_with_the_run_that_they_belong_to(home: Path) -> None:
    _with_experiments(home, {"a": 3, "b": 40}, {"x": ("a", 0), "y": ("b", 1), "z": ("gone", 50)})
    done = store.prune(home, older_than="30d")
    assert [(item.key, item.reason) for item in done if item.what == "run"] == [
        ("z", "older than 30 days"),
        ("b", "older than 30 days"),
        ("y", "made for b, which goes"),
    ]
    assert _keys(home) == ["a", "x"]


def test_runs_of_experiments_stay_with_a_run_that_is_being_read(home: Path) -> None:
    _with_experiments(home, {"a": 3, "b": 40}, {"y": ("b", 1)})
    ds = store.open("b", home)
    assert _gone(store.prune(home, older_than="30d")) == []
    assert _keys(home) == ["a", "b", "y"]
    del ds


def test_a_run_that_the_user_claims_meanwhile_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_experiments(home, {"a": 0}, {"x": ("a", 1)})
    listed = store.runs(home)
    store.claim("x", home)
    monkeypatch.setattr("workbench.store.pruning.runs", lambda place: listed)
    (done,) = [item for item in store.prune(home, keep=1) if item.what == "run"]
    assert (done.key, done.kept) == ("x", "asked for meanwhile")
    assert store.runs(home)[1].own


def test_a_claim_without_a_run_goes(home: Path) -> None:
    _made(home, a=0)
    _interrupted(home)
    for key in ("a", "gone", "run"):
        (home / "runs" / f"{key}.own").touch()
    store.prune(home, keep=9)
    assert sorted(path.name for path in (home / "runs").glob("*.own")) == ["a.own", "run.own"]


def _of_versions(home: Path, monkeypatch: pytest.MonkeyPatch, **versions: int) -> None:
    """Store runs as versions of the capture code made them, of which the third is the present one."""
    monkeypatch.setattr("workbench.store.reading.CAPTURE_VERSION", 3)
    for key, version in versions.items():
        ds = synthetic.dataset(timesteps=(500.0,), dual=1, single=0, default_layers=(0,))
        made = {"role": "control", "parent": "first"} if key.startswith("made") else {}
        place(ds.assign_attrs(capture_version=version, **made), home, key)


@pytest.mark.slow
def test_superseded_runs_are_marked_and_only_they_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"first": 1, "second": 2, "third": 3, "newer": 4, "made1": 1, "made3": 3}
    _of_versions(home, monkeypatch, **versions)
    shutil.copytree(FOLDER, home / "runs" / FOLDER.name)  # its manifest does not say which version made it
    old = {"first", "second", "made1", FOLDER.stem}
    assert {run.key for run in store.runs(home) if run.superseded} == old
    assert repr(store.runs(home)).count("(superseded)") == 3, "those of experiments are counted"
    assert set(_gone(store.prune(home, superseded=True, dry_run=True))) == old
    assert set(_keys(home)) == old | set(versions)
    done = store.prune(home, superseded=True)
    assert set(_gone(done)) == old
    assert {item.reason for item in done if item.what == "run"} == {"superseded: no call finds it any more"}
    assert set(_keys(home)) == {"third", "newer", "made3"}
    assert _gone(store.prune(home, superseded=True)) == []


@pytest.mark.slow
def test_superseded_runs_that_are_read_or_kept_stay(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _of_versions(home, monkeypatch, first=1, third=3)
    ds = store.open("first", home)
    (done,) = [item for item in store.prune(home, superseded=True) if item.what == "run"]
    assert (done.key, done.kept) == ("first", "being read")
    del ds
    gc.collect()
    assert _gone(store.prune(home, superseded=True, keep=2)) == []
    size = store.info("third", home).size
    assert _gone(store.prune(home, superseded=True, max_size=size)) == ["first"], (
        "the others have the room to themselves"
    )


def test_superseded_runs_at_a_url_go(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    monkeypatch.setattr("workbench.store.reading.CAPTURE_VERSION", 2)
    for key, version in (("first", 1), ("second", 2)):
        save(synthetic.dataset(timesteps=(500.0,)).assign_attrs(capture_version=version), url, key)
    assert _gone(store.prune(url, superseded=True, force=True)) == ["first"]
    assert [run.key for run in store.runs(url)] == ["second"]


@pytest.mark.slow
def test_items_go_with_all_runs_of_many_images_that_name_them(home: Path) -> None:
    for key, parent, days in (("i1", "old", 40), ("i2", "old", 40), ("i3", "new", 1)):
        _item(home, key, parent, days)
    _made(home, mine=40)
    _many(home, "old", ["i1", "i2", "mine"], 40)
    _many(home, "new", ["i2", "i3"], 1)
    assert str(store.runs(home)).count("items") == 2 - 1, "one has two items that it made first, and one has one"
    assert "  + 1 item, " in str(store.runs(home))
    done = store.prune(home, older_than="30d")
    assert _gone(done) == ["mine", "old", "i1"]
    assert done[2].reason == "an item of old, which goes"
    assert {run.key for run in store.runs(home)} == {"new", "i2", "i3"}
    assert sorted(_gone(store.prune(home, older_than="1h"))) == ["i2", "i3", "new"]
    assert not list((home / "many").iterdir())


@pytest.mark.slow
def test_a_run_of_many_images_stays_whole_and_counts_with_its_items(home: Path) -> None:
    size = _made(home, newer=1)
    for key in ("i1", "i2"):
        _item(home, key, "many", 9)
    _many(home, "many", ["i1", "i2"], 2)
    assert _gone(store.prune(home, keep=2)) == []
    assert _gone(store.prune(home, max_size=4 * size)) == []
    assert _gone(store.prune(home, max_size=2 * size, dry_run=True)) == ["many", "i1", "i2"]
    held = store.open("many", home)
    done = store.prune(home, keep=1)
    assert [(item.key, item.kept) for item in done if item.what == "run"] == [("many", "being read")]
    assert held.sizes["item"] == 2
    del held
    gc.collect()
    assert _gone(store.prune(home, keep=1)) == ["many", "i1", "i2"]


def test_items_of_a_run_that_is_gone_are_like_those_of_an_experiment(home: Path) -> None:
    _item(home, "i1", "gone", 9)
    _made(home, mine=1)
    assert _gone(store.prune(home, keep=1)) == ["i1"]
