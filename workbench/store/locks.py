"""The lock that keeps two processes from writing the same run."""

from __future__ import annotations

import errno
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from workbench.schema import StoreError
from workbench.store.locations import lock_path

log = logging.getLogger(__name__)

_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def check_locks(folder: Path) -> None:
    """Make sure that the file system has locks.

    Raises
    ------
    StoreError
        When it has none.
    """
    with tempfile.TemporaryDirectory(dir=folder / "locks") as trial:
        lock = FileLock(Path(trial) / "lock", fallback_to_soft=False)
        _acquired(lock, folder, timeout=0)
        lock.release()


@contextmanager
def exclusively(key: str, folder: Path) -> Iterator[None]:
    """Wait for the right to write a run, and hold it.

    Raises
    ------
    StoreError
        Where the file system has no locks.
    """
    lock = _lock(key, folder)
    if not _acquired(lock, folder, timeout=0):
        log.info("another process is computing run %s; waiting for it", key)
        _acquired(lock, folder, timeout=-1)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def unwritten(key: str, folder: Path) -> Iterator[bool]:
    """Whether nobody writes a run; nobody begins to inside the block. It leaves no file of its own."""
    lock, path = _lock(key, folder), lock_path(key, folder)
    existed = path.exists()
    free = _acquired(lock, folder, timeout=0)
    try:
        yield free
    finally:
        if free and not existed:
            path.unlink(missing_ok=True)
        lock.release()


def _lock(key: str, folder: Path) -> FileLock:
    # A lock that only exists as a file would outlive a killed process.
    return FileLock(lock_path(key, folder), fallback_to_soft=False)


def _acquired(lock: FileLock, folder: Path, timeout: float) -> bool:
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise StoreError(
            f"the file system of {folder} has no locks ({error.strerror}), so two processes could write the same run "
            "at once; set WORKBENCH_HOME or pass home= to name a folder on a local disk or an fsspec URL such as "
            "s3://bucket/runs, or pass store=False to keep the run in memory"
        ) from error
    return True
