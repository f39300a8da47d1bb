"""Who reads a run: while a dataset that was opened from the store is alive, its run is not removed.

Every home has one file, ``locks/readers``, of which each run has one byte. A process that reads a run holds a shared
lock on that byte, and removing a run takes an exclusive one. So a process needs one open file however many datasets it
holds, and a process that is killed holds nothing. Reading works where the file cannot be made, on a read-only disk for
example, and where there are no locks; it is then not protected.
"""

from __future__ import annotations

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
# Reentrant, because the garbage collector may end a lease while the same thread begins one.
_lock = threading.RLock()
_files: dict[Path, int] = {}
_held: defaultdict[tuple[Path, int], set[int]] = defaultdict(set)


def hold(holder: object, run: Path) -> None:
    """Keep a run of a home from being removed for as long as an object is alive."""
    home = run.parent.parent
    with _lock:
        file = _open(home)
        if file is None or fcntl is None:
            return
        at, token = _byte(run), id(holder)
        _held[home, at].add(token)
        try:
            fcntl.lockf(file, fcntl.LOCK_SH, 1, at)
        except OSError:  # no locks on this file system
            _held[home, at].discard(token)
            return
    weakref.finalize(holder, _release, home, at, token, os.getpid())


def _release(home: Path, at: int, token: int, owner: int) -> None:
    if fcntl is None or os.getpid() != owner:  # locks are not inherited by a fork
        return
    with _lock:
        _held[home, at].discard(token)
        if not _held[home, at] and home in _files:
            fcntl.lockf(_files[home], fcntl.LOCK_UN, 1, at)


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
    home, at = run.parent.parent, _byte(run)
    with _lock:
        file = _open(home)
        if fcntl is None or file is None:
            yield True
            return
        if _held[home, at]:
            yield False
            return
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except (BlockingIOError, PermissionError):
            yield False
            return
        except OSError as error:
            if force:
                yield True
                return
            raise StoreError(
                f"the file system of {home} has no locks ({error.strerror}), so nobody can tell whether {run.name} is "
                "being read; make sure that it is not, and say so with force=True (--force)"
            ) from error
        try:
            yield True
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, at)


def _byte(run: Path) -> int:
    """The run's place in the file; two runs of one place would only keep each other from being removed."""
    return int.from_bytes(hashlib.sha256(run.name.encode()).digest()[:7], "big")


def _open(home: Path) -> int | None:
    path = home / "locks" / _READERS
    if (file := _files.get(home)) is not None:
        with suppress(OSError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        # The home was deleted or moved, and perhaps made again: what was held is not there any more.
        os.close(_files.pop(home))
        for place in [place for place in _held if place[0] == home]:
            _held[place].clear()
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with suppress(OSError):
            _files[home] = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
            return _files[home]
    return None
