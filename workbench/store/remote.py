"""Runs at an fsspec URL, such as ``s3://bucket/runs``.

There are no locks. A run is made in a folder of this machine, exactly as a local one, and uploaded when it is complete,
under a prefix of its own: ``<url>/runs/<key>/<random>.zarr``. The object ``<url>/runs/<key>.json``, created only where
there is none yet, then says which prefix is the run. Of two writers the first to create it wins; the other deletes what
it uploaded, and its caller reads the winner's run, which holds the same. Where objects cannot be created like this,
which is tried out first, no run is written.
"""

from __future__ import annotations

import hashlib
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from workbench.schema import ROLE, StoreError
from workbench.store.contents import Contents, Folder
from workbench.store.locations import CLAIMED, MANIFEST, check_key, is_key, local_home
from workbench.store.manifest import FORMAT, read_manifest, sealed, unsealed

if TYPE_CHECKING:
    from zarr.abc.store import Store

_OPTIONS: Final = {"use_listings_cache": False}
_OURS: Final = {"workbench", "zarr", "xarray", "numpy"}
"""Whose errors tell of a mistake, beside those of the standard library."""
_GROUP: Final = re.compile(r"[0-9a-f]{32}\.zarr")


class RemoteRun(Contents):
    """A run at a URL."""

    def __init__(self, key: str, url: str, pointer: bytes, claimed: bool | None = None) -> None:
        """Take the text of ``<key>.json``, which need not be sound, and whether it is claimed, where that is known."""
        self.key = key
        self._claimed = claimed
        self.problem: Exception | None = None
        self.record: dict[str, Any] = {}
        self.size = 0
        self.location: str = f"{url}/runs/{key}.json"
        self._claim = f"{url}/runs/{key}{CLAIMED}"
        try:
            content = unsealed(pointer, f"{key}.json")
            if not _GROUP.fullmatch(str(content["group"])):
                raise ValueError(f"{key}.json: names {content['group']!r}, which is no prefix of a run")
            self.record, self.size = dict(content["record"]), int(content["size"])
            self.location = f"{url}/runs/{key}/{content['group']}"
        except (KeyError, TypeError) as error:
            self.problem = ValueError(f"{key}.json: is not laid out like one ({error})")
        except (ValueError, StoreError) as error:
            self.problem = error

    def sizes(self) -> dict[str, int]:
        fs, root = filesystem(self.location)
        with _remote_errors(self.location):
            infos = fs.find(root, detail=True)
        found = {path.removeprefix(root).lstrip("/"): int(info["size"]) for path, info in infos.items()}
        found.pop(MANIFEST, None)
        return found

    def read(self, name: str) -> bytes:
        if self.problem is not None:
            raise self.problem
        fs, root = filesystem(self.location)
        with _remote_errors(self.location, found=True):
            return bytes(fs.cat_file(f"{root}/{name}"))

    def zarr(self) -> Store:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(self.location, storage_options=dict(_OPTIONS), read_only=True)

    def claimed(self) -> bool:
        if self._claimed is not None or not self.record.get(ROLE):  # which saves a request
            return bool(self._claimed)
        fs, path = filesystem(self._claim)
        with _remote_errors(self._claim):
            try:
                fs.info(path)  # fs.exists() takes every error for an answer
            except FileNotFoundError:
                return False
        return True

    def claim(self) -> None:
        """Make it the user's own."""
        fs, path = filesystem(self._claim)
        with _remote_errors(self._claim):
            fs.pipe_file(path, b"")
        self._claimed = True


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises
    ------
    StoreError
        When the libraries for it are not installed, or there is no such file system.
    """
    install = "pip install 'concept-workbench[cloud]', then call again"
    if find_spec("fsspec") is None:
        raise StoreError(f"the URL {url} needs the library fsspec, which is not installed: {install}")
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(url, **_OPTIONS)
    except ImportError as error:
        raise StoreError(f"the URL {url} needs a library that is not installed ({error}): {install}") from error
    except ValueError as error:
        raise StoreError(f"the URL {url} cannot be used: {error}; expected one such as s3://bucket/runs") from error
    return fs, path.rstrip("/")


def is_fault(error: BaseException) -> bool:
    """Whether an error is one of the network or the service behind a URL, and not a mistake in a program.

    Such errors are the system's own, or of a class that a library brings along: those behind fsspec have no common one.
    """
    if isinstance(error, OSError | HTTPException):
        return True
    origin = type(error).__module__.partition(".")[0]
    return isinstance(error, Exception) and origin not in sys.stdlib_module_names | _OURS


@contextmanager
def _remote_errors(url: str, *, found: bool = False) -> Iterator[None]:
    """Faults of the network and of any service behind a URL as an error that names the URL; others as they are.

    Parameters
    ----------
    url
        What is used.
    found
        Leave it as it is that something is not there.
    """
    try:
        yield
    except Exception as error:
        if not is_fault(error) or (found and isinstance(error, FileNotFoundError)):
            raise
        raise StoreError(
            f"cannot use {url}: {type(error).__name__}: {error}; expected a place that exists, that this machine "
            "reaches and that your credentials open: try again, pass home= to name another, or pass store=False to "
            "keep the run in memory"
        ) from error


def find(key: str, url: str) -> RemoteRun | None:
    """The run of a key, or None."""
    fs, root = filesystem(url)
    with _remote_errors(url):
        try:
            return RemoteRun(key, url, fs.cat_file(f"{root}/runs/{key}.json"))
        except FileNotFoundError:
            return None


def at(location: str) -> RemoteRun:
    """The run at a URL that :func:`find` gave.

    Raises
    ------
    StoreError
        When it is none.
    """
    if not (parts := re.fullmatch(r"(.+)/runs/([^/]+)/[0-9a-f]{32}\.zarr", location.rstrip("/"))):
        raise StoreError(f"{location} is no run; expected a URL as workbench.runs(home) lists, or a key and home=")
    run = find(check_key(parts[2]), parts[1])
    if run is None or run.location != location.rstrip("/"):
        raise StoreError(f"there is no run at {location}; workbench.runs({parts[1]!r}) lists those that exist")
    return run


def all_runs(url: str) -> list[RemoteRun]:
    """Every run, by key."""
    fs, root = filesystem(url)
    with _remote_errors(url):
        try:
            listed = fs.ls(f"{root}/runs", detail=False)
        except FileNotFoundError:
            return []
        paths = [path for path in listed if path.endswith(".json")]
        texts = fs.cat(paths, on_error="return") if paths else {}
        for text in texts.values():
            # Another process may have removed it meanwhile. Whatever else it is, the run must not be taken for a rest.
            if isinstance(text, BaseException) and not isinstance(text, FileNotFoundError):
                raise text
    found = {path.rpartition("/")[2].removesuffix(".json"): text for path, text in sorted(texts.items())}
    claimed = {path.rpartition("/")[2].removesuffix(CLAIMED) for path in listed if path.endswith(CLAIMED)}
    return [
        RemoteRun(key, url, text, key in claimed)
        for key, text in found.items()
        if isinstance(text, bytes) and is_key(key)
    ]


def check_writable(url: str) -> None:
    """Make sure that objects can be written there, and that one that exists is not written over when it is created.

    Raises
    ------
    StoreError
        When they cannot, or a library is missing.
    """
    fs, root = filesystem(url)
    trial = f"{root}/runs/.writable-{uuid.uuid4().hex}"
    with _remote_errors(url):
        try:
            exclusive = _created(fs, trial, b"first")
        except (NotImplementedError, TypeError, ValueError) as error:
            if "mode" not in str(error):
                raise
            raise _not_exclusive(url, f"{type(error).__name__}: {error}") from error
        try:
            exclusive = exclusive and not _created(fs, trial, b"second") and fs.cat_file(trial) == b"first"
        finally:
            fs.rm_file(trial)
    if not exclusive:
        raise _not_exclusive(url, "it wrote over an object that exists")


def _not_exclusive(url: str, what: str) -> StoreError:
    return StoreError(
        f"{url} cannot create an object only where there is none ({what}), so two machines could write the same run at "
        "once; pass home= to name a place that can, such as s3://bucket/runs or a folder, or store=False to keep the "
        "run in memory"
    )


def staging(url: str) -> Path:
    """The home, on this machine, in which the runs of a URL are made."""
    return local_home() / "cloud" / hashlib.sha256(url.encode()).hexdigest()[:20]


def publish(run: Path, key: str, url: str) -> None:
    """Upload a finished run, and make it the one of its key unless there is one already.

    Raises
    ------
    StoreError
        When the upload fails; the run stays where it is, and the same call uploads it again.
    """
    fs, root = filesystem(url)
    manifest = read_manifest(Folder(run))
    group = f"{uuid.uuid4().hex}.zarr"
    prefix, pointer = f"{root}/runs/{key}/{group}", f"{root}/runs/{key}.json"
    names = [*sorted(manifest.files), MANIFEST]
    text = sealed({"format": FORMAT, "group": group, "record": manifest.record, "size": manifest.size})
    with _remote_errors(url):
        try:
            fs.put([str(run / name) for name in names], [f"{prefix}/{name}" for name in names])
        except BaseException:
            with suppress(Exception):
                fs.rm(prefix, recursive=True)
            raise
        if not _created(fs, pointer, text):
            fs.rm(prefix, recursive=True)


def _created(fs: Any, path: str, text: bytes) -> bool:
    """Write an object unless it exists; whether this call wrote it."""
    try:
        fs.pipe_file(path, text, mode="create")
    except Exception as error:  # each backend has its own for an object that exists
        if not is_fault(error):
            raise
        try:
            return bytes(fs.cat_file(path)) == text  # it may be this call's, and only the answer was lost
        except FileNotFoundError:
            raise error from None
    return True


def remove(run: RemoteRun) -> None:
    """Delete a run: first what makes it visible, then its files."""
    url = run.location.rpartition("/runs/")[0]
    fs, root = filesystem(url)
    with _remote_errors(url):
        fs.rm_file(f"{root}/runs/{run.key}.json")
        with suppress(FileNotFoundError):
            fs.rm_file(f"{root}/runs/{run.key}{CLAIMED}")
        if run.problem is None:
            fs.rm(f"{root}/runs/{run.key}/{run.location.rpartition('/')[2]}", recursive=True)


class Leftover(NamedTuple):
    """An upload that no run points to."""

    key: str
    path: str
    size: int
    modified: datetime


def leftovers(url: str) -> list[Leftover]:
    """Uploads that were cut short, or are still on their way."""
    fs, root = filesystem(url)
    with _remote_errors(url):
        try:
            files = fs.find(f"{root}/runs", detail=True)
        except FileNotFoundError:
            return []
        named = {filesystem(run.location)[1] for run in all_runs(url)}
        groups: dict[str, list[str]] = {}
        for path in files:
            parts = path.removeprefix(root).lstrip("/").split("/")
            if len(parts) > 3 and _GROUP.fullmatch(parts[2]):
                groups.setdefault("/".join([root, *parts[:3]]), []).append(path)
        return [
            Leftover(
                prefix.split("/")[-2],
                prefix,
                sum(int(files[path]["size"]) for path in paths),
                max(fs.modified(path) for path in paths),
            )
            for prefix, paths in sorted(groups.items())
            if prefix not in named
        ]


def delete(url: str, path: str) -> None:
    """Delete everything under a path that :func:`leftovers` gave."""
    fs, _ = filesystem(url)
    with _remote_errors(url):
        fs.rm(path, recursive=True)
