"""Opening and listing the runs that are complete."""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import xarray as xr

from workbench.schema import SCHEMA_VERSION, InputError, StoreError, WorkbenchWarning
from workbench.store.locations import MANIFEST, check_key, find
from workbench.store.locations import home as home_of
from workbench.store.manifest import read_manifest, verify
from workbench.store.pieces import string_type


@dataclass(frozen=True)
class Run:
    """One stored run, as :func:`runs` lists it.

    Attributes
    ----------
    key : str
        What :func:`open` takes.
    kind : str
        ``"capture"`` or ``"generate"``.
    model : str
        Name of the model.
    concepts : tuple of str
        The concepts.
    prompt : str or list of str
        The prompt.
    created : str
        Time of the run, ISO 8601.
    size : int
        Bytes on disk.
    path : pathlib.Path
        Folder of the zarr group.
    """

    key: str
    kind: str
    model: str
    concepts: tuple[str, ...]
    prompt: str | list[str]
    created: str
    size: int
    path: Path

    def open(self, *, verify: bool = False) -> xr.Dataset:
        """Open the run; see :func:`workbench.open`."""
        return open(self.path, verify=verify)


class Runs(list[Run]):
    """A list of runs that prints as a table."""

    _COLUMNS = ("key", "kind", "model", "concepts", "created", "size")

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for run in self:
            size = f"{run.size / 1e6:.1f} MB"
            yield (run.key, run.kind, run.model, ", ".join(run.concepts), run.created[:19].replace("T", " "), size)

    def __repr__(self) -> str:
        if not self:
            return "no stored runs"
        rows = [self._COLUMNS, *self._rows()]
        widths = [min(max(map(len, column)), 40) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell[:width].ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        return f"<table>{line(self._COLUMNS, 'th')}{''.join(line(row, 'td') for row in self._rows())}</table>"


def runs(home: str | os.PathLike[str] | None = None) -> Runs:
    """The stored runs, newest first.

    Parameters
    ----------
    home
        The folder of the runs; without it the environment variable ``WORKBENCH_HOME``, or the user's cache folder.

    Returns
    -------
    list of Run
        Prints as a table. Empty when nothing is stored. A run whose manifest is damaged is left out, with a warning.
    """
    found = []
    for manifest in sorted((home_of(home) / "runs").glob(f"*.zarr/{MANIFEST}")):
        try:
            found.append(_record(manifest.parent))
        except StoreError as error:
            warnings.warn(str(error), WorkbenchWarning, stacklevel=2)
    return Runs(sorted(found, key=lambda run: run.created, reverse=True))


def _record(path: Path) -> Run:
    manifest = read_manifest(path)
    record: dict[str, Any] = {field.name: manifest["record"].get(field.name, "") for field in fields(Run)}
    size = sum(file["size"] for file in manifest["files"].values()) + (path / MANIFEST).stat().st_size
    return Run(**{**record, "concepts": tuple(record["concepts"]), "size": size, "path": path})


def open(
    key_or_path: str | os.PathLike[str], home: str | os.PathLike[str] | None = None, *, verify: bool = False
) -> xr.Dataset:
    """Open a stored run. Scores are read from disk when they are used.

    Parameters
    ----------
    key_or_path
        A key that :func:`runs` lists, or the beginning of one when no other begins so; or the folder of a run, for
        example one copied from another machine.
    home
        The folder of the runs; without it the environment variable ``WORKBENCH_HOME``, or the user's cache folder.
    verify
        Also read every file and compare it with the checksums in the run's manifest.

    Returns
    -------
    xarray.Dataset
        Coordinates in memory, variables lazy, without dask.

    Raises
    ------
    StoreError
        When there is no such run, several begin so, it is damaged, or a newer version of the package wrote it.
    """
    path = _locate(key_or_path, home)
    if verify:
        _verify(path)
    else:
        read_manifest(path)
    try:
        ds = xr.open_zarr(path, chunks=None, consolidated=True)
        ds = string_type(ds, str)
        for coord in ds.coords.values():
            coord.variable.load()
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"the run {path} cannot be read ({error}); open it with verify=True to see which files are damaged"
        ) from error
    version = ds.attrs.get("schema_version", SCHEMA_VERSION)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the run {path} has schema version {version}; this version of the package reads up to {SCHEMA_VERSION}: "
            "upgrade concept-workbench"
        )
    return ds


def _locate(key_or_path: str | os.PathLike[str], home: str | os.PathLike[str] | None) -> Path:
    folder = home_of(home)
    if not isinstance(key_or_path, str) or Path(key_or_path).is_absolute():
        return Path(key_or_path)
    try:
        key = check_key(key_or_path)
    except InputError:
        return Path(key_or_path)  # read_manifest says so when it is no run
    if path := find(key, folder):
        return path
    matches = sorted(manifest.parent for manifest in (folder / "runs").glob(f"{key}*.zarr/{MANIFEST}"))
    if len(matches) == 1:
        return matches[0]
    if Path(key_or_path).is_dir():
        return Path(key_or_path)
    if matches:
        raise StoreError(f"{len(matches)} runs begin with {key!r}: {_named(matches)}; give more of the key")
    stored = sorted(manifest.parent for manifest in (folder / "runs").glob(f"*.zarr/{MANIFEST}"))
    known = f"stored there: {_named(stored)}" if stored else "nothing is stored there"
    raise StoreError(
        f"no run {key_or_path!r} in {folder}; {known}. workbench.runs() lists the runs; a folder works as well"
    )


def _named(paths: list[Path]) -> str:
    names = ", ".join(path.stem for path in paths[:5])
    return names + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


_verify = verify
