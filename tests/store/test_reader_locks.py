from __future__ import annotations

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests import synthetic
from tests.store import processes
from tests.store.replay import exit_with_whether_it_is_free, place, read_slowly, save
from workbench import store
from workbench.schema import StoreError
from workbench.store import reader_locks


@pytest.fixture
def run(home: Path) -> Path:
    place(synthetic.dataset(timesteps=(500.0,)), home)
    return home / "runs" / "run.zarr"


def _unread(run: Path) -> bool:
    gc.collect()
    with reader_locks.unread(run) as free:
        return free


@pytest.mark.slow
def test_a_dataset_and_what_comes_of_it_hold_the_run(run: Path) -> None:
    assert _unread(run)
    ds = store.open(run)
    assert not _unread(run)
    part = ds["output"].sel(layer=2).isel(head=0)
    del ds
    assert not _unread(run), "a part of the dataset still reads from the run"
    part.load()
    del part
    assert _unread(run)


def test_two_datasets_hold_until_both_are_gone(run: Path) -> None:
    first, second = store.open(run), store.open("run", run.parent.parent)
    del first
    assert not _unread(run)
    del second
    assert _unread(run)


def test_a_dataset_that_was_pickled_holds_the_run_again(run: Path) -> None:
    data = pickle.dumps(store.open(run))
    assert _unread(run)
    again = pickle.loads(data)
    assert not _unread(run)
    assert np.isfinite(again["output"]).all()


def test_another_run_is_not_held(run: Path) -> None:
    ds = store.open(run)
    assert _unread(run.with_name("other.zarr"))
    assert not _unread(run)
    del ds


def test_a_home_that_was_made_anew_is_held_anew(run: Path, home: Path) -> None:
    old = store.open(run)
    home.rename(home.with_name("moved"))
    save(synthetic.dataset(timesteps=(500.0,)), home)
    new = store.open(run)
    assert _held_elsewhere(run)
    del old, new
    assert _unread(run)


def test_a_home_of_two_names_is_one(run: Path, home: Path) -> None:
    """Another name of the file of locks would see none of this process's, and closing it would drop them all."""
    link = home.with_name("link")
    link.symlink_to(home)
    through = link / "runs" / run.name
    for opened, asked in ((through, run), (run, through)):
        ds = store.open(opened)
        assert not _unread(asked)
        with reader_locks.unread(asked.with_name("other.zarr")):
            pass
        assert _held_elsewhere(run)
        del ds
        assert _unread(run)


def _held_elsewhere(run: Path) -> bool:
    """Whether another process finds the run held."""
    process = processes.start(exit_with_whether_it_is_free, run)
    process.join()
    assert process.exitcode in (0, 1)
    return process.exitcode == 0


def test_the_file_is_open_only_while_it_is_needed(run: Path) -> None:
    ds = store.open(run)
    assert reader_locks._files
    assert _held_elsewhere(run)
    del ds
    gc.collect()
    assert not _held_elsewhere(run)
    assert not reader_locks._files


def test_another_process_holds_the_run_until_it_ends(run: Path, tmp_path: Path) -> None:
    reads, go_on = processes.event(), processes.event()
    reader = processes.start(read_slowly, run, reads, go_on, tmp_path / "result")
    assert reads.wait(60)
    assert not _unread(run)
    reader.kill()
    reader.join()
    assert _unread(run)


def test_where_there_are_no_locks_runs_are_read_but_not_removed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(reader_locks.fcntl, "lockf", none)
    ds = store.open(run)
    assert np.isfinite(ds["output"]).all()
    assert not _unread(run), "this process knows of its own datasets"
    del ds
    gc.collect()
    says = r"has no locks \(No locks available\).*force=True"
    with pytest.raises(StoreError, match=says), reader_locks.unread(run):
        pass
    with reader_locks.unread(run, force=True) as free:
        assert free
