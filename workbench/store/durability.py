"""What outlives a power cut: a run that is visible is whole.

The disk may take what was written in any order, and lose whatever it was not asked to keep. So one barrier, before a
run becomes visible, waits for every file of it; what makes the run visible comes after. Until then nothing is waited
for: an unfinished run that lost something is found out by its checksums when it is taken up again.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_THREADS: Final = 16
"""Files that are waited for at the same time: file systems write the journal once for all of them."""
_UNSUPPORTED: Final = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def flush(descriptor: int) -> None:
    """Wait until the disk has an open file or folder, and on macOS everything else that was synced to that disk.

    Some file systems of networks have nothing to wait for; they are taken as they are.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)  # there, fsync leaves the data in the disk's own cache
    if full is not None:
        with _where_supported():
            fcntl.fcntl(descriptor, full)
    _fsync(descriptor)


def _fsync(descriptor: int) -> None:
    with _where_supported():
        os.fsync(descriptor)


@contextmanager
def _where_supported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def sync_folder(folder: Path, how: Callable[[int], None] = flush) -> None:
    """Wait until the disk has the names in a folder, where the system can."""
    if os.name == "nt":  # folders cannot be opened; NTFS keeps the order of what is done to names
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        how(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Wait until the disk has a file.

    Raises
    ------
    OSError
        When the disk could not take it. The file is then removed: it may still be read from memory, and the next sync
        of it would report success.
    """
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        _fsync(descriptor)
    except OSError:
        os.close(descriptor)
        path.unlink()
        raise
    os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync every file and folder below a folder, and the folder itself; see :func:`sync_file`.

    On macOS all of it may then still be in the disk's own cache, until the next :func:`flush`.
    """
    files, folders = [], []
    for at, _, names in os.walk(folder, onerror=_raise):
        folders.append(Path(at))
        files += [Path(at, name) for name in names]
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(sync_file, files):
            pass
        for _ in pool.map(partial(sync_folder, how=_fsync), folders):
            pass


def _raise(error: OSError) -> None:
    raise error


def delete(folder: Path, *, as_far_as_possible: bool = False) -> None:
    """Delete a folder with all that is in it; of a link to one the link. Nothing to delete is no error.

    Raises
    ------
    OSError
        When it cannot be deleted, unless what can be is enough.
    """
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder, ignore_errors=as_far_as_possible)


def make_visible(run: Path, target: Path) -> None:
    """Move a complete run into place: after a power cut it is there and whole, or not there.

    Parameters
    ----------
    run
        A folder whose files went through :func:`sync_tree`, and whose manifest was synced after them.
    target
        Where runs are. What is there has no manifest, so it is no run.
    """
    sync_folder(run)
    delete(target)
    run.replace(target)
    sync_folder(target.parent)
    sync_folder(target.parent.parent)
