"""The writer of a run on disk: pieces stream in, an interrupted run resumes, a complete one becomes visible at once."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from workbench.schema import CAPTURE_VERSION, CONCEPT, EDIT, PARENT, PIECE_DIMS, ROLE, StoreError
from workbench.store import durability, remote
from workbench.store.catalogue import check_writable, find, hide
from workbench.store.files import disk_errors
from workbench.store.locations import canonical_json, partial_path, plain, run_path
from workbench.store.locks import exclusively
from workbench.store.manifest import write_manifest
from workbench.store.partial import LAYOUT, Partial
from workbench.store.pieces import Array, Part, Piece, Variable, Writer
from workbench.store.reading import open as open_run

log = logging.getLogger(__name__)


@contextmanager
def writer(
    key: str,
    template: xr.Dataset,
    variables: Mapping[str, tuple[tuple[str, ...], str]],
    home: str | os.PathLike[str] | None = None,
) -> Iterator[Writer]:
    """Write a run, piece by piece, and make it visible when the block ends with every piece in place.

    Whatever ends the block early (an exception, a killed process), the pieces committed so far stay and the run stays
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
        The folder of the runs, or a URL; see :func:`home`. A run for a URL is made in the user's cache folder, and
        uploaded when it is complete.

    Yields
    ------
    Writer
        Its ``dataset()`` opens the run, after the block.

    Raises
    ------
    StoreError
        When the folder cannot be written, or, at the end of the block, when pieces are missing.
    """
    place = check_writable(home)
    folder = place if isinstance(place, Path) else remote.staging(place)
    if isinstance(place, str):
        check_writable(folder)
    with exclusively(key, folder):
        declared = {name: Variable(*given) for name, given in variables.items()}
        run = _DiskWriter(key, template, declared, folder, place)
        yield run
        run.finish()


class _DiskWriter(Writer):
    def __init__(
        self, key: str, template: xr.Dataset, variables: Mapping[str, Variable], folder: Path, place: Path | str
    ) -> None:
        super().__init__(template, variables)
        self._key = key
        self._folder = folder
        self._place = place
        shapes = {name: self._shape(variable) for name, variable in self._variables.items()}
        self._partial = Partial(partial_path(key, folder), shapes, self._variables)
        if isinstance(place, str) and find(key, folder):  # it was finished here, but its upload was cut short
            self._upload(place)
        if find(key, place):
            self.complete = True
            self.done = set(self.remaining)
            self._put_done = {part for name in self._variables for part in self._parts(name)}
            if self._partial.folder.exists():  # a kill came between the last two steps of finishing
                shutil.rmtree(self._partial.folder)
            return
        with self._disk_errors():
            plan = self._plan()
            template = self._template.assign_attrs(self.attrs)
            resumed = self._partial.resume(template, plan)
            if resumed is None:
                self._partial.prepare(template, plan)
                return
        self.done, self._put_done, self._wide = resumed
        log.info("run %s was interrupted; going on with %d pieces in place", key, len(self.done))

    def dataset(self) -> xr.Dataset:
        return open_run(self._key, self._place)

    def reject(self) -> None:
        if not self.complete:
            super().reject()
            shutil.rmtree(self._partial.folder, ignore_errors=True)

    def finish(self) -> None:
        """Make the run visible, or raise when something is still missing."""
        if self.complete:
            return
        wide = self._settle()
        with self._disk_errors():
            for name in wide:
                self._partial.widen(name, self.done)
            run = self._partial.run
            self._partial.consolidate(plain(self.attrs))
            durability.sync_tree(run)
            write_manifest(run, self._record(), self._partial.chunks())
            durability.make_visible(run, run_path(self._key, self._folder))
            shutil.rmtree(self._partial.folder)
        if isinstance(self._place, str):
            self._upload(self._place)

    def _upload(self, url: str) -> None:
        run = run_path(self._key, self._folder)
        if not find(self._key, url):
            remote.publish(run, self._key, url)
        shutil.rmtree(hide(run, self._folder))

    def _record(self) -> dict[str, Any]:
        names = ("kind", "model", "prompt", "created", "schema_version", EDIT)
        concepts = self._template[CONCEPT].values.tolist() if CONCEPT in self._template.coords else []
        told: dict[str, Any] = {name: self.attrs[name] for name in (PARENT, ROLE) if name in self.attrs}
        told["capture_version"] = self.attrs.get("capture_version", CAPTURE_VERSION)
        return {"key": self._key, "concepts": concepts, **{name: self.attrs.get(name, "") for name in names}, **told}

    def _write_piece(self, piece: Piece, arrays: Mapping[str, Array]) -> None:
        self._check_open()
        with self._disk_errors():
            for name, array in arrays.items():
                self._partial.write(name, piece, array)

    def _write_part(self, part: Part, array: Array) -> None:
        self._check_open()
        with self._disk_errors():
            self._partial.write(part.name, () if part.sample is None else (part.sample,), array)

    def _read(self, name: str, at: list[list[int]]) -> Array:
        return self._partial.read(name, at)

    def _commit(self, pieces: list[Piece], parts: list[Part]) -> None:
        with self._disk_errors():
            self._partial.commit(pieces, parts, self._wide)

    def _erase(self, piece: Piece) -> None:
        self._partial.erase(piece)

    def _check_open(self) -> None:
        if self.complete:
            raise StoreError(f"run {self._key} is complete and will not be changed; open it instead of writing to it")

    def _disk_errors(self) -> AbstractContextManager[None]:
        kept = (
            "The pieces committed so far are kept: fix the cause and make the same call again, and the run goes on "
            "from there."
        )
        return disk_errors(self._folder, self._needed, kept)

    def _needed(self) -> int:
        """Bytes that are still to be written, by the size of the pieces so far, or uncompressed when there are none."""
        needed = 0.0
        for name, variable in self._variables.items():
            shape = self._shape(variable)
            # A copy: other threads may be writing.
            sizes = [at.size for (other, _), at in list(self._partial.digests.items()) if other == name]
            raw = math.prod(shape) * np.dtype(variable.dtype).itemsize
            if variable.in_pieces:
                chunks, absent = math.prod(shape[: len(PIECE_DIMS)]), len(self.remaining)
            else:
                chunks, absent = len(self._parts(name)), len(self.absent(name))
            each = sum(sizes) / len(sizes) if sizes else raw / chunks
            needed += each * absent
            if self._wide.get(name):  # the variable is written once more, in float32
                needed += 2 * each * chunks
        return math.ceil(needed)

    def _plan(self) -> str:
        """What the folder is laid out for; pieces of another plan do not fit."""
        coords = {
            str(name): [coord.dims, coord.dtype.kind, coord.values] for name, coord in self._template.coords.items()
        }
        known = {
            str(name): [variable.dims, variable.dtype.str, hashlib.sha256(variable.values.tobytes()).hexdigest()]
            for name, variable in self._template.data_vars.items()
        }
        return canonical_json({"layout": LAYOUT, "variables": self._variables, "coords": coords, "known": known})
