"""Opening and listing the runs that are complete."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import xarray as xr

from workbench.schema import (
    CAPTURE_VERSION,
    EDIT,
    HEAD,
    HEAD_COUNT,
    MANY,
    PARENT,
    ROLE,
    SCHEMA_VERSION,
    InputError,
    SchemaError,
    StoreError,
    upgraded,
    warn,
)
from workbench.store import remote
from workbench.store.catalogue import all_contents, find_contents
from workbench.store.contents import Archive, Contents, Folder
from workbench.store.listing import Run as Run
from workbench.store.listing import Runs, families
from workbench.store.locations import check_key, is_url
from workbench.store.locations import home as home_of
from workbench.store.manifest import NewerError, damage_of, damaged, read_manifest
from workbench.store.many import Register
from workbench.store.metadata import ROOT, check_metadata
from workbench.store.opened import remember
from workbench.store.pieces import string_type
from workbench.store.remote import RemoteRun
from workbench.store.residuals import joined
from workbench.store.run_store import RunStore

_NEWER: Final = "made by a newer version"


def runs(home: str | os.PathLike[str] | None = None) -> Runs:
    """The stored runs: the user's own, newest first, then those of experiments, by the run that they belong to.

    Parameters
    ----------
    home
        The folder of the runs, or a URL; without it the environment variable ``WORKBENCH_HOME``, or the user's cache
        folder.

    Returns
    -------
    list of Run
        Prints as a table, in which the runs that were made for experiments are counted below the run they belong to.
        Empty when nothing is stored. A run whose manifest is damaged is left out, with a warning; one that a newer
        version of the package wrote is listed and marked, and so is one that an earlier version computed differently:
        it can be opened, but the call that made it now computes another run.
    """
    found = []
    for contents in all_contents(home):
        try:
            found.append(listed(contents))
        except StoreError as error:
            warn(str(error), stacklevel=2)
    groups = families(sorted(found, key=lambda run: run.created, reverse=True))
    return Runs([*(group.head for group in groups if group.head.own), *(run for group in groups for run in group.made)])


def listed(contents: Contents) -> Run:
    """What :func:`runs` says about a run.

    Raises
    ------
    StoreError
        When its manifest is damaged.
    """
    try:
        record, size = summary(contents)
    except NewerError:
        return Run(contents.key, "", "", (), "", "", 0, contents.location, _NEWER)
    texts = {name: str(record.get(name, "")) for name in ("kind", "model", "created")}
    prompt, concepts = record.get("prompt", ""), record.get("concepts", ())
    if record.get(ROLE) and not contents.claimed():
        texts |= {name: str(record.get(name, "")) for name in (ROLE, PARENT)}
    return Run(
        key=contents.key,
        concepts=tuple(map(str, concepts)) if isinstance(concepts, list) else (),
        prompt=prompt if isinstance(prompt, list) else str(prompt),
        size=size,
        path=contents.location,
        note=_NEWER if _is_newer(record) else "",
        edit=_edit_of(record, contents),
        superseded=_capture_version(record) < CAPTURE_VERSION,
        **texts,
    )


def _capture_version(record: Mapping[str, Any]) -> int:
    """The version of the capture code that made a run; the manifests of the first did not say so."""
    version = record.get("capture_version", 1)
    return version if isinstance(version, int) else 1


def _edit_of(record: Mapping[str, Any], contents: Contents) -> str:
    if EDIT in record or isinstance(contents, RemoteRun):
        return str(record.get(EDIT, ""))
    try:  # a run that was stored before edits were recorded in words
        return "edited" if json.loads(contents.read(ROOT))["attributes"].get("interventions") else ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def summary(contents: Contents) -> tuple[dict[str, Any], int]:
    """What a manifest records about a run, and the run's bytes.

    Raises
    ------
    StoreError
        When it is damaged, or a newer version of the package wrote it.
    """
    if isinstance(contents, RemoteRun) and contents.problem is None:
        return contents.record, contents.size
    manifest = read_manifest(contents)
    return manifest.record, manifest.size


def _is_newer(record: Mapping[str, Any]) -> bool:
    version = record.get("schema_version", SCHEMA_VERSION)
    return not isinstance(version, int) or version > SCHEMA_VERSION


def open(
    key_or_path: str | os.PathLike[str], home: str | os.PathLike[str] | None = None, *, verify: bool = False
) -> xr.Dataset:
    """Open a stored run. Scores are read when they are used; the run is not removed while the dataset is alive.

    Parameters
    ----------
    key_or_path
        A key that :func:`runs` lists, or the beginning of one when no other begins so; or the folder of a run, for
        example one copied from another machine; or an exported ``.zarr.zip``; or the URL of a run.
    home
        The folder of the runs, or a URL; without it the environment variable ``WORKBENCH_HOME``, or the user's cache
        folder.
    verify
        Also read every file and compare it with the checksums in the run's manifest.

    Returns
    -------
    xarray.Dataset
        Coordinates in memory, variables lazy, without dask. A run of an earlier schema version is upgraded to the
        present one; what is stored stays as it is. Of a run of many images, the items that are complete by now.

    Raises
    ------
    StoreError
        When there is no such run, several begin so, it is damaged, or a newer version of the package wrote it; or when
        it is of many images of several sizes, which :func:`workbench.open_many` opens.
    """
    contents = locate(key_or_path, home)
    if isinstance(contents, Register):
        from workbench.store.many_opening import open_uniform
        from workbench.store.verifying import verify as verify_run

        if verify:
            verify_run(contents.location)
        return open_uniform(contents)
    return remember(open_contents(contents, verify=verify), contents.location)


def open_contents(contents: Contents, *, verify: bool = False) -> xr.Dataset:
    """Open the run that these files are."""
    source = RunStore(contents)
    manifest = read_manifest(contents)
    source.expect(manifest)
    if _is_newer(manifest.record):
        raise StoreError(
            f"the run {contents.location} has schema version {manifest.record['schema_version']}; this version of the "
            f"package reads up to {SCHEMA_VERSION}: upgrade concept-workbench"
        )
    if manifest.record.get("kind") == MANY:
        raise StoreError(
            f"{contents.location} is an exported run of many images: take it into the store with `workbench import "
            f"{contents.location}`, and open {manifest.record.get('key')!r}"
        )
    if verify and (problems := damage_of(contents)):
        raise damaged(contents, problems)
    try:
        check_metadata(contents.read(ROOT), contents.location)
        ds = xr.open_zarr(source, chunks=None, consolidated=True, zarr_format=3)
        ds = string_type(ds, str)
        for coord in ds.coords.values():
            coord.variable.load()
        if ROLE in ds.attrs and contents.claimed():  # it is what the user asked for himself
            ds.attrs = {name: value for name, value in ds.attrs.items() if name not in (ROLE, PARENT)}
        ds = joined(_unencoded(ds))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"the run {contents.location} cannot be read ({error}); open it with verify=True to see which files are "
            "damaged"
        ) from error
    if HEAD in ds.sizes:
        ds.attrs.setdefault(HEAD_COUNT, ds.sizes[HEAD])  # early runs do not say it, and a stored run has all its heads
    try:
        return upgraded(ds)
    except SchemaError as error:
        raise StoreError(f"the run {contents.location} cannot be opened: {error}") from error


def _unencoded(ds: xr.Dataset) -> xr.Dataset:
    """The dataset without the encoding of its files, which other formats and other chunks cannot be written with.

    How the files are cut stays as ``preferred_chunks``, which no writer reads: ``ds.chunk(that)`` makes a dask array of
    one file a chunk, where ``ds.chunk()`` makes one chunk of everything.
    """
    kept = {name: variable.encoding.get("preferred_chunks") for name, variable in ds.data_vars.items()}
    ds = ds.drop_encoding()
    for name, chunks in kept.items():
        if chunks:
            ds[name].encoding["preferred_chunks"] = chunks
    return ds


def info(key_or_path: str | os.PathLike[str], home: str | os.PathLike[str] | None = None) -> Run:
    """What :func:`runs` lists about one run, given as :func:`open` takes it.

    Raises
    ------
    StoreError
        When there is no such run, several begin so, or its manifest is damaged.
    """
    contents = locate(key_or_path, home)
    read_manifest(contents)
    return listed(contents)


def locate(key_or_path: str | os.PathLike[str], home: str | os.PathLike[str] | None) -> Contents:
    """The files of a run that is given as :func:`open` takes it.

    Raises
    ------
    InputError
        When it is neither a key nor a path.
    StoreError
        When there is no such run, or several begin so.
    """
    if not isinstance(key_or_path, str | os.PathLike) or not os.fspath(key_or_path):
        raise InputError(
            f"the run is {key_or_path!r:.200}; expected its key or its path, such as key or path of one that "
            "workbench.runs() lists."
        )
    if is_url(key_or_path):
        return remote.at(str(key_or_path))
    path = Path(key_or_path)
    if not isinstance(key_or_path, str) or path.is_absolute():
        return _at(path)
    try:
        key = check_key(key_or_path)
    except InputError:
        return _at(path)  # read_manifest says so when it is no run
    if contents := find_contents(key, home):
        return contents
    stored = all_contents(home)
    matches = [contents for contents in stored if contents.key.startswith(key)]
    if len(matches) == 1:
        return matches[0]
    if path.exists():
        return _at(path)
    if matches:
        raise StoreError(f"{len(matches)} runs begin with {key!r}: {_named(matches)}; give more of the key")
    known = f"stored there: {_named(stored)}" if stored else "nothing is stored there"
    raise StoreError(
        f"no run {key_or_path!r} in {home_of(home)}; {known}. workbench.runs() lists the runs; a folder works as well"
    )


def _at(path: Path) -> Contents:
    if "\0" in str(path) or (path.is_file() and not zipfile.is_zipfile(path)):
        raise StoreError(f"{str(path)!r} is no finished run; expected the folder of one, or an exported .zarr.zip")
    if path.is_file():
        return Archive(path)
    return Register(path) if path.parent.name == MANY and not (path / ROOT).exists() else Folder(path)


def _named(stored: list[Contents]) -> str:
    names = ", ".join(contents.key for contents in stored[:5])
    return names + (f" and {len(stored) - 5} more" if len(stored) > 5 else "")
