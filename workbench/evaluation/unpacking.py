"""Unpacking archives of data sets, whoever made them: nothing leaves the folder, nothing is half unpacked."""

from __future__ import annotations

import hashlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Final, NamedTuple

from workbench.schema import InputError
from workbench.store.files import disk_errors

SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
MOST_FILES: Final = 500_000
"""No data set that is read here has more."""
LARGEST_FILE: Final = 1 << 30
LARGEST: Final = 1 << 36
"""In bytes: a file, and all of them; what claims more is no data set of images."""
_BLOCK: Final = 1 << 20
_DAMAGED: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)


class _Member(NamedTuple):
    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive."""
    return path.name.lower().endswith(SUFFIXES)


def md5(path: Path) -> str:
    """Checksum of a file, as data sets publish it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def unpack(archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool], expects: str) -> Path:
    """Unpack plain files of an archive into a folder of their own; once, however often it is asked for.

    Links, devices, absolute names and names with ``..`` are refused, wherever they would lead. What is unpacked counts
    only when all of it is there: until then it is in a folder beside it.

    Parameters
    ----------
    archive
        A tar or zip file.
    folder
        Where it goes; its parent is made. When it exists, it was unpacked before.
    wanted
        Which members are unpacked; the others are only looked at.
    expects
        What the archive should be, for messages.

    Returns
    -------
    ``folder``.

    Raises
    ------
    InputError
        If it is no archive, truncated, hostile, or holds nothing that is wanted.
    StoreError
        If the disk cannot take it.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    left = archive.stat().st_size
    try:
        with disk_errors(folder.parent, lambda: left, "Nothing was unpacked: make room and call again."):
            count = total = 0
            with _refusals(archive, expects):
                for member in _members(archive):
                    if not wanted(member.path):
                        continue
                    count, total = count + 1, total + member.size
                    if count > MOST_FILES or member.size > LARGEST_FILE or total > LARGEST:
                        raise InputError(
                            f"{archive} holds more than {MOST_FILES:,} files, {LARGEST_FILE:,} bytes in one, or "
                            f"{LARGEST:,} in all: it is not unpacked; expected {expects}."
                        )
                    _write(member, aside, archive)
            if not count:
                raise InputError(f"{archive} holds nothing of what is needed; expected {expects}.")
            try:
                aside.rename(folder)
            except OSError:
                if not folder.is_dir():  # another process was faster
                    raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


@contextmanager
def _refusals(archive: Path, expects: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"{archive} cannot be unpacked ({error}); expected {expects}. The file may be truncated or another one: "
            "download it again and compare its size or checksum."
        ) from error


def _members(archive: Path) -> Iterator[_Member]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as held:
            for info in held.infolist():
                if info.is_dir():
                    continue
                if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise InputError(f"{archive} holds {info.filename!r}, which is no plain file: it is not unpacked.")
                yield _Member(_inside(info.filename, archive), info.file_size, partial(held.open, info))
        return
    with tarfile.open(archive) as packed:
        for entry in packed:
            if entry.isdir():
                _inside(entry.name, archive)
                continue
            if not entry.isreg():
                raise InputError(f"{archive} holds {entry.name!r}, which is no plain file: it is not unpacked.")
            yield _Member(_inside(entry.name, archive), entry.size, partial(_opened, packed, entry))


def _opened(packed: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    found = packed.extractfile(entry)
    assert found is not None  # of plain files it never is
    return found


def _inside(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or drive or not path.parts:
        raise InputError(
            f"{archive} holds the name {name[:120]!r}, which leads out of the folder it is unpacked to: it is not "
            "unpacked. Get it from its makers."
        )
    return path


def _write(member: _Member, folder: Path, archive: Path) -> None:
    target = folder.joinpath(*member.path.parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(exist_ok=False)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"{archive} holds {member.path} twice, or as a file and a folder: it is not unpacked."
        ) from error
    written = 0
    with member.open() as source, target.open("wb") as file:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > member.size:
                raise InputError(f"{archive} holds more of {member.path} than it says: it is not unpacked.")
            file.write(block)
    if written != member.size:
        raise InputError(
            f"{archive} ends inside {member.path} ({written:,} of {member.size:,} bytes): it is truncated, download it "
            "again."
        )
