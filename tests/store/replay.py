"""Feed a made-up dataset to a writer, piece by piece; as a script, slowly enough to be killed on the way."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from tests import synthetic
from workbench import schema, store
from workbench.store.pieces import Piece, Writer

Variables = dict[str, tuple[tuple[str, ...], str]]


def parts(ds: xr.Dataset) -> tuple[xr.Dataset, Variables]:
    """Template and declared variables; the scores are stored as float16 where they fit, whatever the dataset has."""
    declared: Variables = {}
    for space in ds.attrs["spaces"]:
        declared[space] = (schema.score_dims(space), "float16")
        declared[schema.total(space)] = (schema.total_dims(space), "float32")
    if schema.SAMPLE in ds[schema.IMAGE].dims:
        declared[schema.IMAGE] = (tuple(map(str, ds[schema.IMAGE].dims)), "uint8")
    return ds.drop_vars(list(declared)), declared


def replay(run: Writer, ds: xr.Dataset, pieces: Iterable[Piece] | None = None, pause: float = 0.0) -> list[Piece]:
    """Write the given pieces, by default those that remain; return the ones that were written."""
    _, declared = parts(ds)
    if schema.IMAGE in declared and not run.complete:
        run.put(schema.IMAGE, ds[schema.IMAGE].values)
    in_pieces = [name for name in declared if name != schema.IMAGE]
    written = []
    for piece in list(run.remaining if pieces is None else pieces):
        at = piece._asdict()
        run.write(at, {name: ds[name].isel(at).values.astype(np.float32) for name in in_pieces})
        run.commit()
        written.append(piece)
        print("piece", *piece, flush=True)
        time.sleep(pause)
    return written


def save(ds: xr.Dataset, home: Path, key: str = "run", pieces: Iterable[Piece] | None = None) -> xr.Dataset:
    """Store a dataset whole."""
    template, declared = parts(ds)
    with store.writer(key, template, declared, home=home) as run:
        replay(run, ds, pieces)
    return run.dataset()


def overflowing() -> xr.Dataset:
    """A dataset of 30 pieces of which the one in the middle does not fit into float16."""
    ds = synthetic.dataset(samples=2)
    ds = ds.assign({name: ds[name].astype(np.float32) for name in ("output", "cross")})
    ds["cross"][{"sample": 1, "timestep": 0, "layer": 1, "head": 0, "concept": 0, "y": 0, "x": 0}] = 1e6
    return ds


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    made = overflowing()
    made_template, made_variables = parts(made)
    with store.writer("run", made_template, made_variables, home=options.home) as open_run:
        replay(open_run, made, pause=options.pause)
    print("complete")
