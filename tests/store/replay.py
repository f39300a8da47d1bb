"""Feed a made-up dataset to a writer, pass by pass, in this process or in one that is killed on the way."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from tests import synthetic
from workbench import schema, store
from workbench.store import reader_locks
from workbench.store.pieces import Piece, Writer

Variables = dict[str, tuple[tuple[str, ...], str]]
MOMENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.truncate")
"""Events of the file system, between which a process can be killed."""


def parts(ds: xr.Dataset) -> tuple[xr.Dataset, Variables]:
    """Template and declared variables; the scores are stored as float16 where they fit, whatever the dataset has."""
    declared: Variables = {}
    for space in ds.attrs["spaces"]:
        for name, dims, dtype in (
            (space, schema.score_dims(space), "float16"),
            (schema.total(space), schema.total_dims(space), "float32"),
        ):
            plane = schema.spatial(ds[name].dims)  # with the frames of a video
            declared[name] = ((*(dim for dim in dims if dim not in plane), *plane), dtype)
    if schema.SAMPLE in ds[schema.IMAGE].dims:
        declared[schema.IMAGE] = (tuple(map(str, ds[schema.IMAGE].dims)), "uint8")
    return ds.drop_vars(list(declared)), declared


def write(run: Writer, ds: xr.Dataset, piece: Piece) -> None:
    """Write one piece, as float32 as a model gives it, without committing it."""
    names = [name for name in parts(ds)[1] if name != schema.IMAGE]
    at = piece._asdict()
    run.write(at, {name: ds[name].isel(at).values.astype(np.float32) for name in names})


def replay(
    run: Writer,
    ds: xr.Dataset,
    pieces: Iterable[Piece] | None = None,
    committed: Callable[[int], None] = lambda count: None,
) -> list[Piece]:
    """Write the given pieces, by default those that remain, and commit each pass; return what was written."""
    if schema.IMAGE in parts(ds)[1]:
        for sample in run.absent(schema.IMAGE):
            run.put(schema.IMAGE, ds[schema.IMAGE].values[sample], sample)
    written = []
    chosen = list(run.remaining if pieces is None else pieces)
    for _, together in itertools.groupby(chosen, key=lambda piece: piece[:2]):
        for piece in together:
            write(run, ds, piece)
            written.append(piece)
        run.commit()
        committed(len(run.done))
    return written


def save(ds: xr.Dataset, home: str | Path, key: str = "run", pieces: Iterable[Piece] | None = None) -> xr.Dataset:
    """Store a dataset whole."""
    template, declared = parts(ds)
    with store.writer(key, template, declared, home=home) as run:
        replay(run, ds, pieces)
    return run.dataset()


def place(ds: xr.Dataset, home: Path, key: str = "run") -> None:
    """Store a dataset as :func:`save` does, for tests of runs that are there: from the second time on, as a copy."""
    content = key, pickle.dumps(ds)
    if content not in _PLACED:
        first = Path(_FOLDER.name) / str(len(_PLACED))
        save(ds, first, key)
        _PLACED[content] = first
    shutil.copytree(_PLACED[content], home, dirs_exist_ok=True, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    if not os.path.lexists(target):  # the files of the locks are the home's, not the run's
        shutil.copy2(source, target)


_FOLDER = tempfile.TemporaryDirectory(prefix="workbench-placed-", ignore_cleanup_errors=True)
_PLACED: dict[tuple[str, bytes], Path] = {}


def overflowing(kind: str = "capture") -> xr.Dataset:
    """A dataset of 30 pieces of which the one in the middle does not fit into float16."""
    ds = synthetic.dataset(samples=2, kind=kind)
    ds = ds.assign({name: ds[name].astype(np.float32) for name in ("output", "cross")})
    ds["cross"][{"sample": 1, "timestep": 0, "layer": 1, "head": 0, "concept": 0, "y": 0, "x": 0}] = 1e6
    return ds


def produce(home: Path, log: Path, kill_at: int | None = None, start: Any = None) -> None:
    """Compute a run as a process of its own would.

    Parameters
    ----------
    home
        The folder of the runs.
    log
        Gets one line for what happens: ``found N``, ``committed N``, ``computed N``, ``moment N``, ``complete``.
    kill_at
        Kill this process when it is about to cause that event of the file system; see :data:`MOMENTS`.
    start
        A barrier to wait at.
    """
    moments = 0
    listening = True

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal moments
        if listening and event in MOMENTS and str(home) in str(arguments[:1]):
            if moments == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            moments += 1

    ds = overflowing("generate")
    template, variables = parts(ds)
    with log.open("a", buffering=1) as lines:
        if start is not None:
            start.wait()
        sys.addaudithook(listen)
        with store.writer("run", template, variables, home=home) as run:
            lines.write(f"found {len(run.done)}\n")
            written = replay(run, ds, committed=lambda count: print("committed", count, file=lines))
            print("computed", len(written), file=lines)
        listening = False
        lines.write(f"moment {moments}\ncomplete\n")


def read_slowly(run: Path, reads: Any, go_on: Any, result: Path) -> None:
    """Open a run and read one layer; read the rest when told to, and write down what it was."""
    ds = store.open(run)
    ds["output"].isel(layer=0).load()
    reads.set()
    go_on.wait()
    np.save(result, ds["output"].values)


def exit_with_whether_it_is_free(run: Path) -> None:
    """End with 1 when nobody else reads the run, with 0 when somebody does."""
    with reader_locks.unread(run) as free:
        sys.exit(int(free))


def fill_up(home: Path, log: Path, full_at: int | None) -> None:
    """Compute a run on a disk that is full from the n-th file on that is opened for writing.

    Without a number the log gets the count of such files; with one, the error, and the pieces that were committed.
    """
    writes = 0
    ds = overflowing()
    template, variables = parts(ds)
    run: Writer | None = None

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal writes
        if event == "open" and str(home) in str(arguments[0]) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            writes += 1
            if full_at is not None and writes > full_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with log.open("a") as lines:
        sys.addaudithook(listen)
        try:
            with store.writer("run", template, variables, home=home) as run:
                replay(run, ds)
        except schema.StoreError as error:
            print(f"StoreError: {error}", file=lines)
            print(0 if run is None else len(run.done), file=lines)
        else:
            print(writes, file=lines)
