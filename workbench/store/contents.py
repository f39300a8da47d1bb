"""The files of a finished run, in a folder or in one zip file."""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.store.locations import CLAIMED, MANIFEST

if TYPE_CHECKING:
    from zarr.abc.store import Store

ARCHIVE_SUFFIX = ".zarr.zip"
"""What the name of an exported run ends in."""
MANY_FOLDER = "many/"
"""Folder of further runs of many images in such a file, one in ``<key>/`` each."""
OTHERS = {"runs/": True, "derived/": False, MANY_FOLDER: True}
"""Folders of further runs in such a file, one in ``<key>.zarr/`` each, and whether those are the user's own."""


class Contents(ABC):
    """Where the files of one finished run are; their names are those of its manifest.

    Attributes
    ----------
    key : str
        The run's key, as its place says it.
    location : pathlib.Path or str
        The place itself; a string for a URL.
    """

    key: str
    location: Path | str

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Bytes of every file but the manifest. What is no plain file has -1."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """What a file holds.

        Raises
        ------
        FileNotFoundError
            When there is none of that name.
        """

    @abstractmethod
    def zarr(self) -> Store:
        """A zarr store that reads them."""

    @abstractmethod
    def claimed(self) -> bool:
        """Whether the user asked for the run himself, whatever it was made for."""


class Folder(Contents):
    """A run in a folder."""

    def __init__(self, path: Path) -> None:
        self.location: Path = path
        self.key = path.name.removesuffix(".zarr")

    def sizes(self) -> dict[str, int]:
        found = {}
        for folder, folders, files in os.walk(self.location):
            for name in [*files, *(each for each in folders if Path(folder, each).is_symlink())]:
                path = Path(folder, name)
                plain = path.is_file() and not path.is_symlink()
                found[path.relative_to(self.location).as_posix()] = path.stat().st_size if plain else -1
        found.pop(MANIFEST, None)
        return found

    def read(self, name: str) -> bytes:
        return (self.location / name).read_bytes()

    def zarr(self) -> Store:
        from zarr.storage import LocalStore

        return LocalStore(self.location, read_only=True)

    def claimed(self) -> bool:
        return self.location.with_suffix(CLAIMED).is_file()


class Archive(Contents):
    """The run at the root of a zip file; others may lie in the folders :data:`OTHERS`."""

    def __init__(self, path: Path) -> None:
        self.location: Path = path
        self.key = path.name.removesuffix(".zip").removesuffix(".zarr")

    def sizes(self) -> dict[str, int]:
        with self._opened() as archive:
            members = {
                member.filename: member.file_size
                for member in archive.infolist()
                if not member.is_dir() and not member.filename.startswith(tuple(OTHERS))
            }
        members.pop(MANIFEST, None)
        return members

    def read(self, name: str) -> bytes:
        with self._opened() as archive:
            try:
                return archive.read(name)
            except KeyError:
                raise FileNotFoundError(name) from None

    def zarr(self) -> Store:
        from zarr.storage import ZipStore

        return ZipStore(self.location, mode="r", read_only=True)

    def claimed(self) -> bool:
        return True  # it was exported by its name

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.location) as archive:
                yield archive
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise OSError(f"no sound zip file: {error}") from error
