"""One run in one file: for another machine, a colleague, or the supplement of a paper."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from workbench.schema import InputError, StoreError
from workbench.store import durability, remote
from workbench.store.catalogue import check_writable, find_contents, hide
from workbench.store.contents import ARCHIVE_SUFFIX, Archive
from workbench.store.files import UNFINISHED, disk_errors, write_file
from workbench.store.locations import MANIFEST, check_key, partial_path, run_path
from workbench.store.locks import exclusively
from workbench.store.manifest import Manifest, damage_of, damaged, parse_manifest, read_manifest
from workbench.store.reading import Run, listed, locate, open_contents
from workbench.store.run_store import RunStore

_EPOCH = (1980, 1, 1, 0, 0, 0)


def export_run(
    key_or_path: str | os.PathLike[str],
    file: str | os.PathLike[str],
    home: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a run into one file, which :func:`workbench.open`, :func:`import_run` and plain xarray read.

    Parameters
    ----------
    key_or_path
        A run, as :func:`workbench.open` takes it. It is verified on the way.
    file
        A name that ends in ``.zarr.zip``, of a file that does not exist yet. What is in it is not compressed again.
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.

    Returns
    -------
    pathlib.Path
        The file. Exporting the same run again gives the same bytes.

    Raises
    ------
    InputError
        When the name of the file will not do.
    StoreError
        When there is no such run, it is damaged, or the file cannot be written.

    Examples
    --------
    >>> workbench.store.export_run("3f2a", "figure-2.zarr.zip")  # doctest: +SKIP
    >>> xarray.open_zarr(zarr.storage.ZipStore("figure-2.zarr.zip"))  # doctest: +SKIP
    """
    target = Path(file)
    if not target.name.endswith(ARCHIVE_SUFFIX) or target.name == ARCHIVE_SUFFIX:
        raise InputError(f"the file is {os.fspath(file)!r}; expected a name that ends in {ARCHIVE_SUFFIX}")
    if target.exists():
        raise InputError(f"the file {target} exists already; expected a new name, or remove it first")
    contents = locate(key_or_path, home)
    reading = RunStore(contents)  # nobody removes the run meanwhile
    manifest = read_manifest(contents)
    if problems := damage_of(contents):
        raise damaged(contents, problems)
    unfinished = target.with_name(target.name + UNFINISHED)
    try:
        with disk_errors(target.parent, lambda: manifest.size, "Nothing was written: make room and call again."):
            with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for name in [*sorted(manifest.files), MANIFEST]:
                    member = zipfile.ZipInfo(name, _EPOCH)
                    member.external_attr = 0o644 << 16
                    archive.writestr(member, contents.read(name))
            durability.sync_file(unfinished)
            unfinished.replace(target)
            durability.sync_folder(target.parent)
    finally:
        unfinished.unlink(missing_ok=True)
        del reading
    return target


def import_run(file: str | os.PathLike[str], home: str | os.PathLike[str] | None = None) -> Run:
    """Take an exported run into the store, under the key it had.

    The file is checked before the run becomes visible: it holds what its manifest lists and nothing else, every
    checksum is right, and it opens. The key is taken on trust: whoever made the file decides what a later call with
    that key opens.

    Parameters
    ----------
    file
        What :func:`export_run` wrote.
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.

    Returns
    -------
    Run
        The stored run. A run of that key that is there already stays as it is.

    Raises
    ------
    StoreError
        When the file is no exported run, or is damaged, or the folder cannot be written.
    """
    source = Path(file)
    if not source.is_file():
        raise StoreError(f"there is no file {source}; expected what `workbench export` wrote")
    with _refusals(source):
        manifest, members = _checked(source)
        key = check_key(manifest.record.get("key", ""))
    place = check_writable(home)
    folder = place if isinstance(place, Path) else remote.staging(place)
    check_writable(folder)
    with exclusively(key, folder):
        if not find_contents(key, place):
            run = run_path(key, folder)
            if not find_contents(key, folder):
                _unpack(source, manifest, members, key, folder)
            if isinstance(place, str):
                remote.publish(run, key, place)
                shutil.rmtree(hide(run, folder))
    found = find_contents(key, place)
    assert found is not None
    return listed(found)


@contextmanager
def _refusals(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise StoreError(
            f"{source} is not imported: {error}; expected a file as `workbench export` writes it, copied whole"
        ) from error


def _checked(source: Path) -> tuple[Manifest, dict[str, zipfile.ZipInfo]]:
    """The manifest in a file, and its members: those that the manifest lists, as it lists them, and no others."""
    with zipfile.ZipFile(source) as archive:
        infos = archive.infolist()
        members = {info.filename: info for info in infos}
        if len(members) != len(infos):
            raise ValueError("it holds two members of one name")
        for info in infos:
            # What is not compressed cannot grow beyond the file's own size when it is unpacked.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"its member {info.filename!r} is compressed")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.is_dir():
                raise ValueError(f"its member {info.filename!r} is no plain file")
        if sum(info.file_size for info in infos) > source.stat().st_size:
            raise ValueError("its members are larger than the file")
        if MANIFEST not in members:
            raise ValueError(f"it holds no {MANIFEST}")
        manifest = parse_manifest(archive.read(MANIFEST))
    del members[MANIFEST]
    if different := members.keys() ^ manifest.files.keys():
        raise ValueError(f"{min(different)!r} is in the file or in its manifest, but not in both")
    for name, info in members.items():
        if info.file_size != manifest.files[name].size:
            raise ValueError(f"{name} has {info.file_size:,} bytes, and {manifest.files[name].size:,} in the manifest")
    return manifest, members


def _unpack(source: Path, manifest: Manifest, members: dict[str, zipfile.ZipInfo], key: str, folder: Path) -> None:
    """Unpack into the folder of the partial runs, check what is there, and move it into place."""
    partial = partial_path(key, folder).with_suffix(".imported")
    shutil.rmtree(partial, ignore_errors=True)
    run = partial / "run.zarr"
    kept = "Nothing was imported: make room and call again."
    try:
        with disk_errors(folder, lambda: manifest.size, kept), zipfile.ZipFile(source) as archive:
            for name, info in sorted(members.items()):
                with _refusals(source):
                    data = archive.read(info)
                    if sha256(data).hexdigest() != manifest.files[name].sha256:
                        raise ValueError(f"{name} differs from its checksum in the manifest")
                path = run / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_file(path, data)
            with _refusals(source):
                open_contents(Archive(source))
                text = archive.read(MANIFEST)
            durability.sync_tree(run)
            write_file(run / MANIFEST, text, sync=True)
            durability.make_visible(run, run_path(key, folder))
        shutil.rmtree(partial_path(key, folder), ignore_errors=True)  # an unfinished run that is not needed now
    finally:
        shutil.rmtree(partial, ignore_errors=True)
