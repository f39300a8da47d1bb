"""What a run holds before its pieces come: coordinates, known variables, and the metadata of everything.

xarray and zarr write it, which takes them longer than a small model takes for the run. Runs that follow one another
mostly differ in their known variables and their attributes alone, so the other files of the layouts that were written
last are kept, and written again as they are.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec

from workbench.store.locations import canonical_json, plain
from workbench.store.metadata import ROOT
from workbench.store.pieces import string_type

LEVEL: Final = 3
"""Of zstd. Twice the writing speed of the blosc variants, and reads as fast, for 5 to 12 % more bytes."""
_KEPT: Final = 8
"""Layouts whose files are kept, some ten kB each."""
_EXACT: Final = "biu"
"""Kinds of values that xarray and zarr store as they are; others go through xarray's own encoding."""

_kept: OrderedDict[str, dict[str, bytes]] = OrderedDict()
_lock = threading.Lock()


class Declared(NamedTuple):
    """A variable whose values are still to come.

    Attributes
    ----------
    dims, shape, dtype
        Of the variable.
    lead
        Dimensions, the first ones, along which one chunk has one position.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    lead: int


def lay_out(run: Path, template: xr.Dataset, declared: Mapping[str, Declared]) -> None:
    """Write everything of a run but the chunks that are still to come.

    Parameters
    ----------
    run
        Folder of the zarr group, which does not exist yet.
    template
        Coordinates, attributes, and the variables whose values are known.
    declared
        The variables whose values are still to come, by name.
    """
    same = _same(template, declared)
    with _lock:
        files = _kept.get(same) if same else None
        if files is not None:
            _kept.move_to_end(same)
    if files is None:
        texts = string_type(template, np.dtypes.StringDType()).drop_encoding()
        texts.to_zarr(run, mode="w-", zarr_format=3, consolidated=False)
        for name, variable in declared.items():
            create(run / name, variable)
        if same:
            _keep(same, run, texts)
        return
    for name, data in files.items():
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    group = json.loads(files[ROOT])
    group["attributes"] |= plain(template.attrs)
    (run / ROOT).write_text(json.dumps(group, indent=2), encoding="utf-8")
    for known, values in template.data_vars.items():
        array = zarr.open_array(run / str(known), mode="r+", zarr_format=3)
        array[...] = values.to_numpy().astype(array.dtype)


def create(path: Path, variable: Declared) -> None:
    """Write the metadata of an array whose chunks are still to come."""
    dtype = np.dtype(variable.dtype)
    zarr.create_array(
        path,
        shape=variable.shape,
        chunks=(1,) * variable.lead + variable.shape[variable.lead :],
        dtype=dtype,
        fill_value=np.nan if dtype.kind == "f" else 0,
        compressors=ZstdCodec(level=LEVEL, checksum=True),  # damage is noticed when a chunk is read
        dimension_names=variable.dims,
        chunk_key_encoding={"name": "default", "separator": "."},  # one folder for all chunks, not one each
        zarr_format=3,
    )


def _same(template: xr.Dataset, declared: Mapping[str, Declared]) -> str:
    """What two runs have in common whose files differ in known values and attributes alone; empty for no such run."""
    if any(variable.dtype.kind not in _EXACT or not variable.ndim for variable in template.data_vars.values()):
        return ""
    coords = {
        str(name): [coord.dims, coord.dtype.str, coord.attrs, coord.values] for name, coord in template.coords.items()
    }
    known = {
        str(name): [variable.dims, variable.shape, variable.dtype.str, variable.attrs]
        for name, variable in template.data_vars.items()
    }
    # The order of the variables is that of xarray's own attribute "coordinates".
    told = [coords, list(coords), known, list(known), declared]
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()


def _keep(same: str, run: Path, texts: xr.Dataset) -> None:
    values = tuple(f"{name}/c" for name in texts.data_vars)
    files = {
        name: path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and not (name := path.relative_to(run).as_posix()).startswith(values)
    }
    group = json.loads(files[ROOT])
    own = group["attributes"]
    group["attributes"] = {name: own[name] for name in own if name not in texts.attrs}  # xarray's alone
    with _lock:
        _kept[same] = files | {ROOT: json.dumps(group).encode()}
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
