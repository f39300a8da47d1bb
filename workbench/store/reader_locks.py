"""Reader locks: while a dataset that was opened from the store is alive, its run is not removed.

Every home has one file, ``locks/readers``, of which each run has one byte. A process that reads a run holds a shared
lock on that byte, and removing a run takes an exclusive one. So a process needs one open file however many datasets it
holds, and a process that is killed holds nothing. Reading works where the file cannot be made, on a read-only disk for
example, and where there are no locks; it is then not protected. (``filelock.ReadWriteLock`` survives killed processes
as well, but it needs a disk that can be written, two open files for each run, and to be released by the thread that
took it, which is not the one in which the garbage collector ends a dataset.)
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from workbench.schema import StoreError

try:
    import fcntl
except ImportError:  # Windows, where removing a file that is open fails by itself
    fcntl = None  # type: ignore[assignment]

_READERS: Final = "readers"
_REMOVER: Final = -1
# Reentrant, because the garbage collector may end a reader lock while the same thread begins one. For the same reason a
# token is entered before the file is opened: the file of a home without tokens is closed.
_lock = threading.RLock()
_files: dict[Path, int] = {}
_held: defaultdict[Path, dict[int, set[int]]] = defaultdict(dict)


def hold(holder: object, run: Path) -> None:
    """Keep a run of a home from being removed for as long as an object is alive."""
    if fcntl is None:
        return
    home, at, token = _home(run), _byte(run), id(holder)
    with _lock:
        _held[home].setdefault(at, set()).add(token)
        try:
            if (file := _open(home)) is not None:
                fcntl.lockf(file, fcntl.LOCK_SH, 1, at)
        except OSError:
            pass  # no locks on this file system
    weakref.finalize(holder, _release, home, at, token, os.getpid())


def _release(home: Path, at: int, token: int, owner: int) -> None:
    if fcntl is None or os.getpid() != owner:  # locks are not inherited by a fork
        return
    with _lock:
        tokens = _held[home].get(at, set())
        tokens.discard(token)
        if not tokens:
            _held[home].pop(at, None)
            if home in _files:
                with suppress(OSError):
                    fcntl.lockf(_files[home], fcntl.LOCK_UN, 1, at)
        _close_idle(home)


@contextmanager
def unread(run: Path, force: bool = False) -> Iterator[bool]:
    """Whether nobody reads a run of a home; nobody begins to inside the block.

    Parameters
    ----------
    run
        Folder of the run.
    force
        Take it that nobody does where nobody can tell.

    Raises
    ------
    StoreError
        Where the file system has no locks, so that nobody can tell.
    """
    home, at = _home(run), _byte(run)
    with _lock:
        if fcntl is None or _held[home].get(at):
            yield fcntl is None
            return
        _held[home][_REMOVER] = {0}
        file = _open(home)
        try:
            if file is None:
                raise OSError(errno.ENOENT, f"no file locks/{_READERS}")
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
            free = True
        except (BlockingIOError, PermissionError):
            free = False
        except OSError as error:
            if not force:
                raise StoreError(
                    f"the file system of {home} has no locks ({error.strerror}), so nobody can tell whether {run.name} "
                    "is being read; make sure that it is not, and say so with force=True (--force)"
                ) from error
            free = True
        try:
            yield free
        finally:
            if file is not None:
                with suppress(OSError):
                    fcntl.lockf(file, fcntl.LOCK_UN, 1, at)
            _held[home].pop(_REMOVER, None)
            _close_idle(home)


def _home(run: Path) -> Path:
    """The home of a run, by one name however it was reached: locks of a process are its own whatever file they are on.

    A process that opened the same file by two names would see none of its own locks, and lose all by closing one.
    """
    return run.parent.parent.resolve()


def _byte(run: Path) -> int:
    """The run's place in the file; two runs of one place would only keep each other from being removed."""
    return int.from_bytes(hashlib.sha256(run.name.encode()).digest()[:7], "big")


def _open(home: Path) -> int | None:
    path = home / "locks" / _READERS
    if (file := _files.get(home)) is not None:
        with suppress(OSError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        # The home was deleted or moved, and perhaps made again: what was held before is not there any more.
        os.close(_files.pop(home))
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with suppress(OSError):
            _files[home] = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
            return _files[home]
    return None


def _close_idle(home: Path) -> None:
    """Close the file once it is not needed, so that a disk that nobody reads can be unmounted."""
    if not _held[home]:
        del _held[home]
        if home in _files:
            os.close(_files.pop(home))
