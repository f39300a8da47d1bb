"""Writing files so that a reader, or a process killed on the way, never leaves or meets half of one."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from workbench.schema import StoreError
from workbench.store import durability

UNFINISHED = ".partial"
"""Suffix of a file that is being written; zarr uses the same."""


class Digest(NamedTuple):
    """What a manifest says about a file."""

    size: int
    sha256: str


def digest(path: Path) -> Digest:
    """Size and checksum of a file."""
    with path.open("rb") as file:
        return Digest(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())


def write_file(path: Path, data: Any, *, sync: bool = False) -> Digest:
    """Write a file under another name, and rename it into place.

    Parameters
    ----------
    path
        In a folder that exists. A file that is there is replaced.
    data
        Bytes, or any other buffer.
    sync
        Wait until the disk has the data, so that the file is whole or absent after a power cut as well.

    Returns
    -------
    Digest
        Size and checksum of the data.
    """
    view = memoryview(data).cast("B")
    # Two processes may write the same file, without a lock where both write the same.
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.write(view)
            if sync:
                file.flush()
                durability.flush(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    return Digest(len(view), hashlib.sha256(view).hexdigest())


def append(path: Path, data: bytes) -> None:
    """Append to a file, or leave it as it was when the disk is full."""
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:
            file.truncate(before)
            raise


@contextmanager
def disk_errors(folder: Path, needed: Callable[[], int], kept: str) -> Iterator[None]:
    """Turn an error of the disk into one that says where, how much is needed, and how much is free.

    Parameters
    ----------
    folder
        What was being written to.
    needed
        Gives the bytes that are still to be written; it is asked after the error.
    kept
        What becomes of the work done so far, and what to do next.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}; about {needed():,} bytes are still needed and "
            f"{shutil.disk_usage(folder).free:,} are free there. {kept}"
        ) from error
