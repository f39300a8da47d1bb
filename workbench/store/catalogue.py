"""Which finished runs there are, in a folder or at a URL."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from pathlib import Path

from workbench.schema import StoreError
from workbench.store import durability, remote
from workbench.store.contents import Contents, Folder
from workbench.store.locations import MANIFEST, check_key, is_key, run_path
from workbench.store.locations import home as home_of
from workbench.store.locks import check_locks
from workbench.store.many import find_register, registers

REMOVED = ".removed"
"""What the name of a run ends in that is being removed, in the folder of the partial runs."""


def find(key: str, home: str | os.PathLike[str] | None = None) -> Path | str | None:
    """The folder of a finished run, or its URL, or None when there is none of that key.

    Raises
    ------
    InputError
        When the key is not one.
    """
    contents = find_contents(key, home)
    return None if contents is None else contents.location


def find_contents(key: str, home: str | os.PathLike[str] | None = None) -> Contents | None:
    """The files of a finished run, or None when there is none of that key."""
    check_key(key)
    place = home_of(home)
    if isinstance(place, str):
        return remote.find(key, place)
    path = run_path(key, place)
    return Folder(path) if (path / MANIFEST).is_file() else find_register(key, place)


def all_contents(home: str | os.PathLike[str] | None = None) -> list[Contents]:
    """The files of every finished run, by key, and the registers of those of many images."""
    place = home_of(home)
    if isinstance(place, str):
        return list(remote.all_runs(place))
    found: list[Folder] = [Folder(manifest.parent) for manifest in (place / "runs").glob(f"*.zarr/{MANIFEST}")]
    return sorted([*(each for each in found if is_key(each.key)), *registers(place)], key=lambda each: each.key)


def hide(run: Path, home: Path) -> Path:
    """Take a run out of sight at once, and for good; what is returned is then to be deleted."""
    hidden = home / "partial" / f"{run.name}.{uuid.uuid4().hex}{REMOVED}"
    hidden.parent.mkdir(parents=True, exist_ok=True)
    run.replace(hidden)
    durability.sync_folder(run.parent)  # a power cut must not bring back a run of which files were deleted
    return hidden


def check_writable(home: str | os.PathLike[str] | None = None) -> Path | str:
    """Make the folder of the runs, and make sure that files can be written there.

    Returns
    -------
    pathlib.Path or str
        The folder, or the URL.

    Raises
    ------
    StoreError
        When it cannot be made or written, or has no locks.
    """
    place = home_of(home)
    if isinstance(place, str):
        remote.check_writable(place)
        return place
    try:
        for name in ("runs", "partial", "locks"):
            (place / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place / name):
                pass
        check_locks(place)
    except OSError as error:
        raise StoreError(
            f"cannot write to {place} ({error.strerror or error}{_free(place)}); set WORKBENCH_HOME or pass home= to "
            "name a folder you may write to, or pass store=False to keep the run in memory"
        ) from error
    return place


def _free(folder: Path) -> str:
    try:
        return f"; {shutil.disk_usage(folder).free:,} bytes are free there"
    except OSError:
        return ""
