"""Runs in one file: for another machine, a colleague, or the supplement of a paper."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from workbench.schema import MANY, InputError, StoreError
from workbench.store import durability, remote
from workbench.store.catalogue import check_writable, find_contents, hide
from workbench.store.contents import ARCHIVE_SUFFIX, MANY_FOLDER, OTHERS, Contents, Folder
from workbench.store.files import UNFINISHED, disk_errors, write_file
from workbench.store.listing import Runs, families
from workbench.store.locations import MANIFEST, check_key, partial_path, run_path
from workbench.store.locations import home as home_of
from workbench.store.locks import exclusively
from workbench.store.manifest import damage_of, damaged, read_manifest, without_system_files
from workbench.store.many import Register, check_folder, register
from workbench.store.ownership import claim, is_derived
from workbench.store.packed import Packed, RegisterCopy, checked, read_member
from workbench.store.reading import listed, locate, open_contents, summary
from workbench.store.reading import runs as list_runs
from workbench.store.run_store import RunStore

Named: TypeAlias = str | os.PathLike[str]
"""A run as :func:`workbench.open` takes it."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def export_runs(
    runs: Named | Sequence[Named],
    file: str | os.PathLike[str],
    home: str | os.PathLike[str] | None = None,
    *,
    derived: bool = False,
) -> Path:
    """Write runs into one file, which :func:`import_runs` reads.

    The first one is at the root of the file, so that :func:`workbench.open` and plain xarray open it there; the latter
    shows per-head scores in float16, with the rest beside them (:mod:`workbench.store.residuals`). If the first one is
    of many images, its root holds no arrays, and plain xarray opens its items. Of a run that was made for an experiment
    the runs that it belongs to come along, where they are stored; of a run of many images those of its items that are
    complete by now. Xarray opens one of them as ``zip://derived/<key>.zarr::<file>``, or as
    ``zip://runs/<key>.zarr::<file>`` if it is also the user's own run or is named in ``runs``.

    Parameters
    ----------
    runs
        One run or several, each as :func:`workbench.open` takes it. They are verified on the way.
    file
        A name that ends in ``.zarr.zip``, of a file that does not exist yet. What is in it is not compressed again.
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.
    derived
        Also take the runs that were made for experiments with these.

    Returns
    -------
    pathlib.Path
        The file. Exporting the same runs again gives the same bytes.

    Raises
    ------
    InputError
        When the name of the file will not do, no run is given, or one's manifest says a key that could lead out of the
        store.
    StoreError
        When there is no such run, one is damaged, or the file cannot be written.

    Examples
    --------
    >>> workbench.store.export_runs("3f2a", "figure-2.zarr.zip", derived=True)  # doctest: +SKIP
    >>> xarray.open_zarr(zarr.storage.ZipStore("figure-2.zarr.zip"))  # doctest: +SKIP
    """
    target = Path(file)
    if not target.name.endswith(ARCHIVE_SUFFIX) or target.name == ARCHIVE_SUFFIX:
        raise InputError(f"the file is {os.fspath(file)!r}; expected a name that ends in {ARCHIVE_SUFFIX}")
    if target.exists():
        raise InputError(f"the file {target} exists already; expected a new name, or remove it first")
    chosen = _chosen([runs] if isinstance(runs, str | os.PathLike) else list(runs), home, derived)
    # Nobody removes the runs meanwhile.
    reading = [RunStore(contents) for contents in chosen.values() if not isinstance(contents, RegisterCopy)]
    manifests = {prefix: read_manifest(contents) for prefix, contents in chosen.items()}
    for contents in chosen.values():
        if problems := damage_of(contents):
            raise damaged(contents, problems)
    size = sum(manifest.size for manifest in manifests.values())
    unfinished = target.with_name(target.name + UNFINISHED)
    try:
        with disk_errors(target.parent, lambda: size, "Nothing was written: make room and call again."):
            with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for prefix, contents in chosen.items():
                    for name in [*sorted(manifests[prefix].files), MANIFEST]:
                        member = zipfile.ZipInfo(prefix + name, _EPOCH)
                        member.external_attr = 0o644 << 16
                        data = contents.read(name)
                        archive.writestr(member, data if name != MANIFEST else without_system_files(data))
            durability.sync_file(unfinished)
            unfinished.replace(target)
            durability.sync_folder(target.parent)
    finally:
        unfinished.unlink(missing_ok=True)
        del reading
    return target


def _chosen(named: list[Named], home: str | os.PathLike[str] | None, derived: bool) -> dict[str, Contents]:
    """What is exported, by the folder in the file; the first run is at its root."""
    if not named:
        raise InputError("no run is given; expected one or more keys, as workbench.runs() lists them")
    given = {key: contents for run in named for key, contents in [_with_key(locate(run, home))]}
    stored = {run.key: run for run in list_runs(home)} if derived or any(map(is_derived, given.values())) else {}
    others: dict[str, bool] = {}
    for key in given:
        seen = {key}
        while (run := stored.get(key)) is not None and run.parent in stored and run.parent not in seen:
            key = run.parent
            if stored[key].kind == MANY:  # an item is a run by itself
                break
            seen.add(key)
            others[key] = stored[key].own
    if derived:
        wanted = given.keys() | others.keys()
        for family in families(list(stored.values())):
            if family.head.key in wanted:
                others |= {run.key: False for run in family.derived}
    found = {
        _folder(key, contents, not place): _copied(contents) for place, (key, contents) in enumerate(given.items())
    }
    for copy in found.values():
        if isinstance(copy, RegisterCopy):
            others |= {key: not is_derived(run) for key, run in copy.runs.items()}
    for key, own in others.items():
        if key not in given and (other := find_contents(key, home)) is not None:
            found[_folder(key, other, own=own)] = _copied(other)
    return found


def _folder(key: str, contents: Contents, first: bool = False, *, own: bool = True) -> str:
    """The folder of a run in the file."""
    if first:
        return ""
    of_own, of_experiments = (name for name in OTHERS if name != MANY_FOLDER)
    return (
        f"{MANY_FOLDER}{key}/" if isinstance(contents, Register) else f"{of_own if own else of_experiments}{key}.zarr/"
    )


def _copied(contents: Contents) -> Contents:
    return RegisterCopy(contents) if isinstance(contents, Register) else contents


def _with_key(contents: Contents) -> tuple[str, Contents]:
    """A run beside its key, which a copy under another name keeps in its manifest, and which names its folder."""
    return check_key(str(summary(contents)[0].get("key") or contents.key)), contents


def import_runs(file: str | os.PathLike[str], home: str | os.PathLike[str] | None = None) -> Runs:
    """Take exported runs into the store, under the keys they had.

    The file is checked before a run becomes visible: it holds what its manifests list and nothing else, every
    checksum is right, and each run opens. The keys are taken on trust: whoever made the file decides what a later call
    with such a key opens.

    Parameters
    ----------
    file
        What :func:`export_runs` wrote.
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.

    Returns
    -------
    list of Run
        The stored runs, first those that were exported by name, which are the user's own from now on. A run that is
        there already stays as it is otherwise.

    Raises
    ------
    StoreError
        When the file holds no exported run, or is damaged, or the folder cannot be written.
    """
    source = Path(file)
    if not source.is_file():
        raise StoreError(f"there is no file {source}; expected what `workbench export` wrote")
    with _refusals(source):
        packed = checked(source)
    many = [run for run in packed if run.is_many]
    if many:
        check_folder(home_of(home))
    place = check_writable(home)
    folder = place if isinstance(place, Path) else remote.staging(place)
    check_writable(folder)
    for run in packed:
        if run.is_many:
            continue
        with exclusively(run.key, folder):
            if not find_contents(run.key, place):
                path = run_path(run.key, folder)
                if not find_contents(run.key, folder):
                    _unpack(source, run, folder)
                if isinstance(place, str):
                    remote.publish(path, run.key, place)
                    shutil.rmtree(hide(path, folder))
        if run.own:
            claim(run.key, place)
    for run in many:
        _enter(source, run, folder)
    found = [find_contents(run.key, place) for run in packed]
    return Runs(listed(contents) for contents in found if contents is not None)


@contextmanager
def _refusals(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise StoreError(
            f"{source} is not imported: {error}; expected a file as `workbench export` writes it, copied whole"
        ) from error


def _enter(source: Path, packed: Packed, folder: Path) -> None:
    """Add the items of a run of many images to its register, which is begun where there is none."""
    with _refusals(source), zipfile.ZipFile(source) as archive:
        items = packed.items(archive)
    found = register(packed.key, packed.manifest.record, folder)
    captured, failed = found.items()
    known = {(item.name, item.run) for item in captured}
    known_failures = {item.name for item in [*captured, *failed]}
    new = [
        item
        for item in items
        if (item.name not in known_failures if item.error else (item.name, item.run) not in known)
    ]
    if new:
        found.enter(new)


def _unpack(source: Path, packed: Packed, folder: Path) -> None:
    """Unpack into the folder of the partial runs, check what is there, and move it into place."""
    partial = partial_path(packed.key, folder).with_suffix(".imported")
    shutil.rmtree(partial, ignore_errors=True)
    run = partial / "run.zarr"
    kept = "Nothing was imported: make room and call again."
    try:
        with disk_errors(folder, lambda: packed.manifest.size, kept), zipfile.ZipFile(source) as archive:
            for name in sorted(packed.manifest.files):
                with _refusals(source):
                    data = read_member(archive, packed, name)
                path = run / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_file(path, data)
            durability.sync_tree(run)
            with _refusals(source):
                text = read_member(archive, packed, MANIFEST)
            write_file(run / MANIFEST, text, sync=True)
            with _refusals(source):
                open_contents(Folder(run))
            durability.make_visible(run, run_path(packed.key, folder))
        shutil.rmtree(partial_path(packed.key, folder), ignore_errors=True)  # an unfinished run, not needed now
    finally:
        shutil.rmtree(partial, ignore_errors=True)
