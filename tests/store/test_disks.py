"""Disks that are full, cannot be written, or have no locks."""

from __future__ import annotations

import errno
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xarray as xr

from tests import synthetic
from tests.store import processes
from tests.store.replay import fill_up, overflowing, parts, replay, save
from workbench import store
from workbench.schema import StoreError

needs_fcntl = pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
Mount = Callable[[str], Path]


@pytest.fixture
def mounted() -> Iterator[Mount]:
    """Mounts a small disk with the given options, where that is allowed.

    Not in a folder of pytest's, which could not be removed if a killed run left the disk there.
    """
    target = Path(tempfile.mkdtemp(prefix="workbench-disk-"))

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "workbench-test", str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        return target

    yield mount
    gc.collect()
    if os.path.ismount(target):
        subprocess.run(["umount", "--lazy", str(target)], check=True)
    target.rmdir()


def _sizes(error: BaseException) -> tuple[int, int]:
    """Bytes needed and bytes free, as the error says."""
    found = re.search(r"about ([\d,]+) bytes are still needed and ([\d,]+) are free", str(error))
    assert found, error
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


@pytest.mark.slow
def test_a_disk_that_fills_up(mounted: Mount, tmp_path: Path) -> None:
    disk = mounted("size=1m")
    ds = synthetic.dataset(samples=2, grid=(16, 16), patch=2)
    template, variables = parts(ds)
    with (
        pytest.raises(StoreError, match=rf"cannot write to {disk}: No space left on device") as caught,
        store.writer("run", template, variables, home=disk) as run,
    ):
        replay(run, ds, run.remaining[:10])
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 20_000))
        replay(run, ds)
    committed = len(run.done)
    assert 10 <= committed < 30
    needed, free = _sizes(caught.value)
    assert free < 20_000 < needed
    assert store.runs(disk) == []
    (disk / "ballast").unlink()
    with store.writer("run", template, variables, home=disk) as run:
        assert len(run.done) == committed
        before = shutil.disk_usage(disk).free
        replay(run, ds)
    assert needed == pytest.approx(before - shutil.disk_usage(disk).free, rel=0.5), "the estimate was a good one"
    xr.testing.assert_identical(store.open("run", disk, verify=True), save(ds, tmp_path / "other"))


def test_a_disk_without_room_from_the_start(mounted: Mount) -> None:
    disk = mounted("size=64k")
    ds = synthetic.dataset(samples=2, grid=(16, 16), patch=2)
    raw = sum(ds[name].nbytes for name in parts(ds)[1])
    with pytest.raises(StoreError, match=r"cannot write to .*No space left") as caught:
        save(ds, disk)
    needed, free = _sizes(caught.value)
    assert needed == raw
    assert free < 64 << 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "share", [pytest.param(step / 8, marks=pytest.mark.slow if step % 4 else ()) for step in range(8)]
)
def test_no_space_at_any_write(share: float, tmp_path: Path) -> None:
    """The disk is full from some write on, of any file and by any library, and for the rest of that process."""
    process = processes.start(fill_up, tmp_path / "straight", tmp_path / "writes", None)
    process.join()
    writes = int((tmp_path / "writes").read_text())
    process = processes.start(fill_up, tmp_path / "full", tmp_path / "said", int(share * writes))
    process.join()
    said = (tmp_path / "said").read_text()
    assert re.search(rf"^StoreError: cannot write to {tmp_path / 'full'}.*No space left on device.* free", said)
    done = int(said.splitlines()[-1])
    assert store.runs(tmp_path / "full") == []
    ds = overflowing()
    template, variables = parts(ds)
    with store.writer("run", template, variables, home=tmp_path / "full") as run:
        assert len(run.done) == done, "nothing that was committed is lost"
        replay(run, ds)
    straight, resumed = (store.open("run", tmp_path / name, verify=True) for name in ("straight", "full"))
    xr.testing.assert_identical(straight, resumed)


def test_a_failed_commit_can_be_done_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ds = overflowing()
    with store.writer("run", *parts(ds), home=home) as run:
        monkeypatch.setattr("workbench.store.partial.append", full)
        with pytest.raises(StoreError, match="No space left"):
            replay(run, ds)
        assert run.done == set()
        monkeypatch.undo()
        run.commit()
        assert len(run.done) == 5
        replay(run, ds)
    store.verify("run", home)


@pytest.mark.slow
def test_a_read_only_disk_is_read_and_says_why_it_is_not_written(mounted: Mount) -> None:
    disk = mounted("size=2m")
    ds = overflowing()
    save(ds, disk)
    gc.collect()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert [run.key for run in store.runs(disk)] == ["run"]
    assert store.find("run", disk) == disk / "runs" / "run.zarr"
    opened = store.open("run", disk, verify=True).load()
    assert store.damage("run", disk) == []
    says = r"cannot write to .*Read-only file system.*WORKBENCH_HOME.*store=False"
    for call in (
        lambda: store.check_writable(disk),
        lambda: save(ds, disk, "other"),
        lambda: store.discard("run", disk),
        lambda: store.prune(disk, keep=0),
    ):
        with pytest.raises(StoreError, match=says):
            call()
    assert store.damage("run", disk) == []
    assert opened["cross"].max() == 1e6


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the super-user may write anywhere")
def test_a_folder_without_permission_is_read_and_says_why_it_is_not_written(home: Path) -> None:
    save(overflowing(), home)
    for folder in [home, *(path for path in home.rglob("*") if path.is_dir())]:
        folder.chmod(0o555)
    try:
        store.open("run", home, verify=True)
        with pytest.raises(StoreError, match=r"cannot write to .*Permission denied.*WORKBENCH_HOME"):
            store.check_writable(home)
    finally:
        for folder in [home, *(path for path in home.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)


@pytest.mark.slow
@needs_fcntl
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_locks_says_so_and_is_still_read(
    number: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    save(overflowing(), home)

    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(fcntl, "lockf", none)
    says = rf"file system of {home} has no locks \({os.strerror(number)}\).*local disk.*s3://.*store=False"
    with pytest.raises(StoreError, match=says):
        store.check_writable(home)
    with pytest.raises(StoreError, match=says):
        save(overflowing(), home, "other")
    with pytest.raises(StoreError, match=says):
        store.discard("run", home)
    store.open("run", home, verify=True)
    assert store.find("other", home) is None
