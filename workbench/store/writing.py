"""The writer of a run on disk: pieces stream in, an interrupted run resumes, a complete one becomes visible at once."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
import zarr
from filelock import FileLock, Timeout
from zarr.codecs import ZstdCodec

from workbench.schema import CONCEPT, PIECE_DIMS, StoreError
from workbench.store.locations import canonical_json, check_writable, find, lock_path, partial_path, plain, run_path
from workbench.store.manifest import write_manifest
from workbench.store.pieces import Array, Piece, Variable, Writer, string_type
from workbench.store.reading import open as open_run

log = logging.getLogger(__name__)

_ZSTD_LEVEL: Final = 3
"""Twice the writing speed of the blosc variants, and reads as fast, for 5 to 12 % more bytes."""
_PLAN: Final = "plan.json"
_JOURNAL: Final = "journal"


@contextmanager
def writer(
    key: str,
    template: xr.Dataset,
    variables: Mapping[str, tuple[tuple[str, ...], str]],
    home: str | os.PathLike[str] | None = None,
) -> Iterator[Writer]:
    """Write a run, piece by piece, and make it visible when the block ends with every piece in place.

    Whatever ends the block early (an exception, a killed process), the pieces written so far stay and the run stays
    invisible; the next writer of the same key finds them in :attr:`Writer.done`. While another process writes the
    run, this one waits; the run it then finds is ``complete``.

    Parameters
    ----------
    key
        From :func:`content_key`.
    template
        Coordinates, attributes, and the variables whose values are known before the run.
    variables
        The variables still to be written: name -> (dimensions, dtype). Those that begin with ``sample``, ``timestep``,
        ``layer`` come in pieces; each piece is one chunk.
    home
        The folder of the runs; see :func:`home`.

    Yields
    ------
    Writer
        Its ``dataset()`` opens the run, after the block.

    Raises
    ------
    StoreError
        When the folder cannot be written, or, at the end of the block, when pieces are missing.
    """
    folder = check_writable(home)
    lock = FileLock(lock_path(key, folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is computing run %s; waiting for it", key)
        lock.acquire()
    try:
        run = _DiskWriter(key, template, {name: Variable(*declared) for name, declared in variables.items()}, folder)
        try:
            yield run
            run.finish()
        finally:
            run.close()
    finally:
        lock.release()


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(folder).free
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error} ({free:,} bytes are free there); the pieces written "
            "so far are kept: mend the cause and make the same call again, and the run goes on from there"
        ) from error


class _DiskWriter(Writer):
    def __init__(self, key: str, template: xr.Dataset, variables: Mapping[str, Variable], folder: Path) -> None:
        super().__init__(template, variables)
        self._key = key
        self._folder = folder
        self._partial = partial_path(key, folder)
        self._run = self._partial / "run.zarr"
        self._arrays: dict[str, zarr.Array[Any]] = {}
        if find(key, folder):
            self.complete = True
            self.done = set(self.remaining)
            return
        with _disk_errors(folder):
            if not self._resume():
                self._prepare()
            self._arrays = {name: self._open_array(name) for name in variables}
            self._journal = (self._partial / _JOURNAL).open("a", encoding="ascii")

    def dataset(self) -> xr.Dataset:
        return open_run(run_path(self._key, self._folder))

    def close(self) -> None:
        if not self.complete:
            self._journal.close()

    def finish(self) -> None:
        """Make the run visible, or raise when something is still missing."""
        if self.complete:
            return
        self._check_complete()
        with _disk_errors(self._folder):
            group = zarr.open_group(self._run, mode="r+", use_consolidated=False)
            group.attrs.update(plain(self.attrs))
            with warnings.catch_warnings():
                # zarr warns that version 3 of the format does not describe consolidated metadata yet; readers that do
                # not know it ignore it.
                warnings.simplefilter("ignore")
                zarr.consolidate_metadata(group.store)
            write_manifest(self._run, self._record())
            target = run_path(self._key, self._folder)
            if target.exists():  # a folder without a manifest: no run
                shutil.rmtree(target)
            self._run.replace(target)
            shutil.rmtree(self._partial)

    def _record(self) -> dict[str, Any]:
        names = ("kind", "model", "prompt", "created")
        concepts = self._template[CONCEPT].values.tolist() if CONCEPT in self._template.coords else []
        return {"key": self._key, "concepts": concepts, **{name: self.attrs.get(name, "") for name in names}}

    def _write_piece(self, piece: Piece, arrays: Mapping[str, Array]) -> None:
        self._check_open()
        with _disk_errors(self._folder):
            for name, array in arrays.items():
                if array.dtype.itemsize > self._arrays[name].dtype.itemsize:
                    self._promote(name, array.dtype)
                self._arrays[name][piece] = array
            self._journal.write(" ".join(map(str, piece)) + "\n")
            self._journal.flush()

    def _write_whole(self, name: str, array: Array) -> None:
        self._check_open()
        with _disk_errors(self._folder):
            self._arrays[name][...] = array

    def _check_open(self) -> None:
        if self.complete:
            raise StoreError(f"run {self._key} is complete and will not be changed; open it instead of writing to it")

    # --- what lies on disk while the run grows ----------------------------------------------------------------
    def _plan(self) -> str:
        """What the folder was laid out for; pieces of another plan do not fit."""
        coords = {
            str(name): [coord.dims, coord.dtype.kind, coord.values] for name, coord in self._template.coords.items()
        }
        known = {
            str(name): [variable.dims, variable.dtype.str, hashlib.sha256(variable.values.tobytes()).hexdigest()]
            for name, variable in self._template.data_vars.items()
        }
        return canonical_json({"variables": self._variables, "coords": coords, "known": known})

    def _prepare(self) -> None:
        if self._partial.exists():
            shutil.rmtree(self._partial)
        self._partial.mkdir()
        template = string_type(self._template, np.dtypes.StringDType()).drop_encoding().assign_attrs(self.attrs)
        template.to_zarr(self._run, mode="w-", zarr_format=3, consolidated=False)
        for name, variable in self._variables.items():
            self._create_array(self._run / name, variable, np.dtype(variable.dtype))
        plan = self._partial / f"{_PLAN}.tmp"
        plan.write_text(self._plan(), encoding="ascii")
        plan.replace(self._partial / _PLAN)

    def _resume(self) -> bool:
        """Take up an interrupted run: whether there is one, laid out for the same plan."""
        plan, journal = self._partial / _PLAN, self._partial / _JOURNAL
        if not plan.exists() or plan.read_text(encoding="ascii") != self._plan():
            return False
        for name in self._variables:  # a promotion was interrupted between its two renames
            if not (self._run / name).exists():
                self._promoted(name).replace(self._run / name)
        for rest in [*self._partial.glob("*.promoted"), *self._partial.glob("*.replaced")]:
            shutil.rmtree(rest)
        for rest in self._run.rglob("*.partial"):  # zarr writes a chunk under such a name first
            rest.unlink()
        if journal.exists():
            # A line that a kill cut short has no end; its piece is written again.
            complete, end, _ = journal.read_text(encoding="ascii").rpartition("\n")
            journal.write_text(complete + end, encoding="ascii")
            self.done = {Piece(*map(int, line.split())) for line in complete.splitlines()}
        log.info("run %s was interrupted; going on with %d pieces in place", self._key, len(self.done))
        return True

    def _create_array(self, path: Path, variable: Variable, dtype: np.dtype[Any]) -> zarr.Array[Any]:
        shape = self._shape(variable)
        lead = len(PIECE_DIMS) if variable.in_pieces else 0
        return zarr.create_array(
            path,
            shape=shape,
            chunks=(1,) * lead + shape[lead:],
            dtype=dtype,
            fill_value=np.nan if dtype.kind == "f" else 0,
            compressors=ZstdCodec(level=_ZSTD_LEVEL),
            dimension_names=variable.dims,
            chunk_key_encoding={"name": "default", "separator": "."},  # one folder for all chunks, not one each
            zarr_format=3,
        )

    def _open_array(self, name: str) -> zarr.Array[Any]:
        return zarr.open_array(self._run / name, mode="r+", zarr_format=3)

    def _promoted(self, name: str) -> Path:
        return self._partial / f"{name}.promoted"

    def _promote(self, name: str, dtype: np.dtype[Any]) -> None:
        """Give a variable a wider type, keeping its pieces, so that a kill at any moment loses none of them."""
        wider, replaced = self._promoted(name), self._partial / f"{name}.replaced"
        array = self._create_array(wider, self._variables[name], dtype)
        for piece in self.done:
            array[piece] = self._arrays[name][piece]
        (self._run / name).replace(replaced)
        wider.replace(self._run / name)
        shutil.rmtree(replaced)
        self._arrays[name] = self._open_array(name)
