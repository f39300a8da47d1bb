"""What a power cut leaves behind, and disks that cannot take what was written."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import xarray as xr

from tests.store import power, processes
from tests.store.replay import parts, replay, save
from workbench import store
from workbench.schema import StoreError
from workbench.store import durability

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files are told by their descriptors")
slow = partial(pytest.param, marks=pytest.mark.slow)
RESUMED = 6
"""States without a run from which the run is computed, of each kind of work."""


def _states(work: Callable[..., Any], tmp_path: Path, careless: str = "") -> list[power.State]:
    (tmp_path / "beside").mkdir()
    result = tmp_path / "states"
    process = processes.start(power.states, work, tmp_path / "disk", tmp_path / "beside", careless, result)
    process.join()
    assert process.exitcode == 0
    found: list[power.State] = pickle.loads(result.read_bytes())
    return found


def _visible(state: power.State) -> bool:
    return "runs/run.zarr/manifest.json" in state


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    "work", [power.compute, power.prune, *(slow(work) for work in (power.take_in, power.discard, power.upload))]
)
def test_a_run_is_whole_or_absent_after_a_power_cut_at_any_time(work: Callable[..., Any], tmp_path: Path) -> None:
    states = _states(work, tmp_path)
    expected = save(power.small(), tmp_path / "expected").load()
    disk = tmp_path / "after"
    visible = [state for state in states if _visible(state)]
    others = [state for state in states if not _visible(state)]
    assert visible
    assert others
    for state in visible:
        power.materialise(state, disk)
        store.verify("run", disk)
        xr.testing.assert_identical(store.open("run", disk).load(), expected)
    for state in random.Random(0).sample(others, min(RESUMED, len(others))):
        power.materialise(state, disk)
        assert store.runs(disk) == []
        xr.testing.assert_identical(save(power.small(), disk).load(), expected)
        store.verify("run", disk)
        assert not list((disk / "partial").glob("run"))


@needs_proc
@pytest.mark.parametrize(
    ("work", "careless"),
    [slow(power.compute, "sync_tree"), (power.take_in, "sync_tree"), (power.discard, "sync_folder")],
)
def test_without_the_barrier_a_power_cut_leaves_damage(work: Callable[..., Any], careless: str, tmp_path: Path) -> None:
    """The states above are hard enough: they show what the barrier is for."""
    disk = tmp_path / "after"
    damaged = 0
    for state in filter(_visible, _states(work, tmp_path, careless)):
        power.materialise(state, disk)
        damaged += bool(store.damage("run", disk))
    assert damaged


def _interrupted(home: Path) -> Path:
    """An unfinished run, one piece of which is committed; its folder."""
    template, declared = parts(power.small())
    with pytest.raises(KeyboardInterrupt), store.writer("run", template, declared, home=home) as run:
        replay(run, power.small(), run.remaining[:1])
        raise KeyboardInterrupt
    return home / "partial" / "run"


def _resumed(home: Path, done: int) -> None:
    """Finish that run, of which so many pieces must have been taken up, and compare it with one in memory."""
    template, declared = parts(power.small())
    with store.writer("run", template, declared, home=home) as run:
        assert len(run.done) == done
        replay(run, power.small())
    with store.in_memory(template, declared) as expected:
        replay(expected, power.small())
    store.verify("run", home)
    xr.testing.assert_identical(run.dataset().load(), expected.dataset())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "done"),
    [
        ("run.zarr/zarr.json", 1),
        ("run.zarr/output/zarr.json", 1),
        ("run.zarr/concept/c/0", 1),
        ("run.zarr/layer/zarr.json", 1),
        ("run.zarr/output_total/c.0.0.0.0.0.0", 0),
        ("journal", 0),
        ("plan.json", 0),
    ],
)
@pytest.mark.parametrize("spoil", [lambda data: b"", lambda data: bytes(len(data)), lambda data: b"\xff" + data[:-1]])
def test_what_an_unfinished_run_lost_is_written_again(
    lost: str, done: int, spoil: Callable[[bytes], bytes], home: Path
) -> None:
    path = _interrupted(home) / lost
    path.write_bytes(spoil(path.read_bytes()))
    _resumed(home, done)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["wide", "run.zarr/seed", "run.zarr/output_total"])
def test_a_folder_that_an_unfinished_run_lost_is_made_again(folder: str, home: Path) -> None:
    shutil.rmtree(_interrupted(home) / folder)
    _resumed(home, int(folder != "run.zarr/output_total"))


def test_an_unfinished_run_that_lost_its_folder_while_it_was_widened_goes_on(home: Path) -> None:
    partial = _interrupted(home)
    (partial / "run.zarr" / "output").replace(partial / "output.narrow")
    shutil.rmtree(partial / "run.zarr")
    _resumed(home, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        b"\0" * 50,
        b"\xff\xfe",
        b"[]",
        b"3",
        b'[[0,0,9],{"output":[1,"x"],"output_total":[1,"x"]},[]]',
        b'[[0,0],{"output":[1,"x"],"output_total":[1,"x"]},[]]',
        b'[[0],{"nothing":[1,"x"]},[]]',
        b'[[0,0,0],{"output":[1,"x"]},[]]',
        b'[[0],{"image":[1]},[]]',
        b"[[0],{},[]]",
    ],
)
def test_a_line_of_the_journal_that_is_spoilt_is_passed_over(line: bytes, home: Path) -> None:
    journal = _interrupted(home) / "journal"
    journal.write_bytes(line + b"\n" + journal.read_bytes())
    _resumed(home, 1)


def test_a_file_that_is_no_part_of_the_run_does_not_become_one(home: Path) -> None:
    (_interrupted(home) / "run.zarr" / "lost+found").write_bytes(b"something")
    _resumed(home, 1)
    assert "lost+found" not in json.loads((home / "runs" / "run.zarr" / "manifest.json").read_bytes())["files"]


@needs_proc
def test_a_file_that_the_disk_cannot_take_is_computed_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may still be read from memory, and a second sync of it succeeds."""

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().match("output_total/c.*"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match=rf"cannot write to .*{os.strerror(errno.EIO)}.*make the same call again"):
        save(power.small(), home)
    monkeypatch.undo()
    assert store.runs(home) == []
    left = len(list((home / "partial" / "run" / "run.zarr" / "output_total").glob("c.*")))
    assert left < 2
    _resumed(home, left)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_syncing_is_written_all_the_same(
    number: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    save(power.small(), home)
    store.verify("run", home)


def test_where_syncing_leaves_data_in_the_disks_own_cache_that_is_flushed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    macos = SimpleNamespace(F_FULLFSYNC=51, fcntl=lambda descriptor, what: flushed.append(what))
    monkeypatch.setattr(durability, "fcntl", macos)
    durability.sync_folder(tmp_path)
    assert flushed == [51]


@needs_proc
def test_an_exported_file_is_whole_or_absent(tmp_path: Path) -> None:
    states = _states(power.export, tmp_path)
    exported = [state["run.zarr.zip"] for state in states if "run.zarr.zip" in state]
    assert 0 < len(exported) < len(states)
    for data in exported:
        assert data is not None
        (tmp_path / "run.zarr.zip").write_bytes(data)
        store.verify(tmp_path / "run.zarr.zip")
