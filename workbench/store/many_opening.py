"""Runs of many images as lazy datasets: nothing of an item is opened before its scores are asked for."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from workbench.schema import (
    ASKED,
    CONCEPT,
    FAILED,
    IMAGE_HASH,
    ITEM,
    NAME,
    ORDER,
    PARENT,
    PROMPT,
    ROLE,
    RUN,
    SCHEMA_VERSION,
    StoreError,
    residual,
)
from workbench.store import reader_locks
from workbench.store.catalogue import find_contents
from workbench.store.locations import run_path
from workbench.store.manifest import read_manifest
from workbench.store.many import Item, Register, keep
from workbench.store.metadata import ROOT, check_metadata
from workbench.store.reading import locate, open_contents
from workbench.store.residuals import join
from workbench.store.run_store import RunStore

_OPEN: Final = 8
"""Items that stay open, to be read further."""

_Read: TypeAlias = Callable[[str, tuple[Any, ...]], NDArray[Any]]
"""Reads part of a variable of an item, by its name and positions along its dimensions."""
Groups: TypeAlias = dict[str, xr.Dataset]
"""Datasets by the size of their images, ``"<height>x<width>"``."""


def open_many(
    key_or_path: str | os.PathLike[str], home: str | os.PathLike[str] | None = None
) -> xr.Dataset | xr.DataTree:
    """Open what a run of many images holds by now: also while it is being made, by this process or by others.

    Parameters
    ----------
    key_or_path
        As :func:`workbench.open` takes it.
    home
        The folder of the runs; see :func:`workbench.store.home`.

    Returns
    -------
    xarray.Dataset or xarray.DataTree
        As :func:`workbench.capture_many` returns it, with the items that are complete, in the order of their places in
        the calls that asked for them; a tree where their images have several sizes.

    Raises
    ------
    StoreError
        When there is no such run, it is of one image, or no item of it is complete.
    """
    contents = locate(key_or_path, home)
    if not isinstance(contents, Register):
        open_contents(contents)  # says what it is if it is no run at all
        raise StoreError(f"{contents.location} is a run of one image: open it with workbench.open({contents.key!r})")
    return one_or_tree(open_items(contents))


def one_or_tree(groups: Groups) -> xr.Dataset | xr.DataTree:
    """The only dataset, or all of them as the branches of a tree."""
    return next(iter(groups.values())) if len(groups) == 1 else xr.DataTree.from_dict(groups)


def open_uniform(register: Register) -> xr.Dataset:
    """The items of a run of many images that are complete by now, where all their images have one size.

    Raises
    ------
    StoreError
        When there are none, or they have several sizes.
    """
    groups = open_items(register)
    if len(groups) > 1:
        raise StoreError(
            f"the run {register.key} holds images of {len(groups)} sizes ({', '.join(groups)}), which no one dataset "
            f"holds: workbench.open_many({register.key!r}) gives a tree with a dataset for each."
        )
    return next(iter(groups.values()))


def open_items(register: Register) -> Groups:
    """All items of a run of many images that are complete by now.

    Raises
    ------
    StoreError
        When there are none yet.
    """
    read_manifest(register)
    return grouped(register, *register.present())


def grouped(register: Register, items: Sequence[Item], failed: Sequence[Item] = ()) -> Groups:
    """Lazy datasets of items whose runs are stored, those of one size together.

    Parameters
    ----------
    register
        Of the run of many images.
    items
        In the order that the dimension ``item`` is to have.
    failed
        Images to list in ``attrs["failed"]``.
    """
    reader = _Reader(register, [item.run for item in items])
    words = list(dict.fromkeys(word for item in items for word in item.concepts))
    sizes: dict[tuple[int, int], list[int]] = {}
    for number, item in enumerate(items):
        sizes.setdefault(item.size, []).append(number)
    told = [{"name": item.name, "error": item.error} for item in failed]
    return {
        f"{height}x{width}": _dataset(reader, register, items, numbers, words, told)
        for (height, width), numbers in sorted(sizes.items())
    }


class _Reader:
    """Opens the runs of items, and keeps those that were read last. No run is removed while it is in use."""

    def __init__(self, register: Register, runs: Sequence[str]) -> None:
        self._register = register
        self._runs = tuple(runs)
        self._open: OrderedDict[int, _Read] = OrderedDict()
        self._lock = threading.Lock()
        keep(self, register)
        for run in dict.fromkeys(self._runs):
            reader_locks.hold(self, run_path(run, register.home).absolute())

    def __reduce__(self) -> tuple[Any, ...]:
        return _Reader, (self._register, self._runs)

    def dataset(self, number: int) -> xr.Dataset:
        """The dataset of one item."""
        contents = find_contents(self._runs[number], self._register.home)
        if contents is None:
            raise self._gone(number)
        return open_contents(contents)

    def read(self, number: int, name: str, key: tuple[Any, ...]) -> NDArray[Any]:
        """Part of a variable of one item, by positions along each dimension."""
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
            else:
                self._open[number] = self._opened(number)
                if len(self._open) > _OPEN:
                    self._open.popitem(last=False)
            opened = self._open[number]
        return opened(name, key)

    def _opened(self, number: int) -> _Read:
        contents = find_contents(self._runs[number], self._register.home)
        if contents is None:
            raise self._gone(number)
        store = RunStore(contents)
        store.expect(read_manifest(contents))
        try:
            check_metadata(contents.read(ROOT), contents.location)
            group = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"the run {contents.location} of an item cannot be read ({error}): workbench verify {contents.key} "
                "says which files are damaged"
            ) from error
        if group.attrs.get("schema_version") == SCHEMA_VERSION:
            return _Arrays(group).read
        variables = open_contents(contents).variables  # as the present version has them
        return lambda name, key: np.asarray(variables[name][key].to_numpy())

    def _gone(self, number: int) -> StoreError:
        return StoreError(
            f"the run {self._runs[number]} of an item of {self._register.key} was removed while it was open; make the "
            "same call of capture_many again to compute it anew"
        )


class _Arrays:
    """The arrays of a group, each opened once."""

    def __init__(self, group: zarr.Group) -> None:
        self._arrays = dict(group.arrays())

    def read(self, name: str, key: tuple[Any, ...]) -> NDArray[Any]:
        """Part of an array, with what its rounding took away where that was kept."""
        values = np.asarray(self._arrays[name].oindex[key])
        if residual(name) not in self._arrays:
            return values
        return join(values, np.asarray(self._arrays[residual(name)].oindex[key])).reshape(values.shape)


class _ItemArray(BackendArray):
    """A variable of all items, as an array (item, …) that xarray reads in parts.

    Parameters
    ----------
    reader
        Opens items.
    name
        Of the variable.
    numbers
        Of the items, in the order of the first axis.
    shape, dtype
        Of the array.
    words
        Where the concepts of each item are among those of all, and the axis of concepts; None where all have the same.
    """

    def __init__(
        self,
        reader: _Reader,
        name: str,
        numbers: Sequence[int],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        words: tuple[int, list[list[int]]] | None,
    ) -> None:
        self._reader, self._name, self._numbers, self._words = reader, name, list(numbers), words
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        first, *inner = key
        places = np.atleast_1d(np.arange(len(self._numbers))[first])
        shape = [
            len(np.arange(size)[at])
            for at, size in zip(inner, self.shape[1:], strict=True)
            if not isinstance(at, int | np.integer)
        ]
        found = np.empty((len(places), *shape), self.dtype)
        for at, place in enumerate(places.tolist()):
            self._fill(found[at, ...], place, list(inner))
        return found[0] if isinstance(first, int | np.integer) else found

    def _fill(self, into: NDArray[Any], place: int, key: list[Any]) -> None:
        if self._words is None:
            into[...] = self._part(place, key)
            return
        axis, held = self._words
        own = {word: at for at, word in enumerate(held[place])}
        wanted = np.arange(self.shape[1 + axis])[key[axis]]
        into[...] = np.nan if self.dtype.kind == "f" else 0
        if wanted.ndim == 0:
            if int(wanted) in own:
                into[...] = self._part(place, [*key[:axis], own[int(wanted)], *key[axis + 1 :]])
            return
        there = [at for at, word in enumerate(wanted.tolist()) if word in own]
        if there:
            chosen = np.array([own[int(wanted[at])] for at in there])
            lead = sum(not isinstance(at, int | np.integer) for at in key[:axis])
            # zarr reads positions in rising order alone.
            order = np.argsort(chosen)
            part = self._part(place, [*key[:axis], chosen[order], *key[axis + 1 :]])
            into[(slice(None),) * lead + (np.array(there)[order],)] = part

    def _part(self, place: int, key: list[Any]) -> NDArray[Any]:
        return self._reader.read(self._numbers[place], self._name, tuple(key))


def _dataset(
    reader: _Reader,
    register: Register,
    items: Sequence[Item],
    numbers: Sequence[int],
    words: Sequence[str],
    failed: list[dict[str, str]],
) -> xr.Dataset:
    """The dataset of items of one size, laid out as the first of them is."""
    first = reader.dataset(numbers[0])
    chosen = [items[number] for number in numbers]
    alike = len({item.concepts for item in items}) == 1
    own = [[words.index(word) for word in item.concepts] for item in chosen]
    sizes = {**first.sizes, CONCEPT: len(words)}
    variables: dict[str, xr.Variable] = {}
    for name, variable in first.data_vars.items():
        dims = tuple(map(str, variable.dims))
        mapped = None if alike or CONCEPT not in dims else (dims.index(CONCEPT), own)
        shape = (len(chosen), *(sizes[dim] for dim in dims))
        # Another item may hold what float16 cannot.
        dtype = np.dtype(np.float32) if variable.dtype == np.float16 else variable.dtype
        array = _ItemArray(reader, str(name), numbers, shape, dtype, mapped)
        chunks = {ITEM: 1, **variable.encoding.get("preferred_chunks", {})}
        whole = xr.Variable((ITEM, *dims), indexing.LazilyIndexedArray(array), variable.attrs)
        whole.encoding = {"preferred_chunks": {dim: min(size, whole.sizes[dim]) for dim, size in chunks.items()}}
        if CONCEPT in chunks:
            whole.encoding["preferred_chunks"][CONCEPT] = len(words)
        variables[str(name)] = whole
    coords: dict[str, Any] = {str(name): coord.variable for name, coord in first.coords.items() if name != CONCEPT}
    coords |= {
        CONCEPT: list(words),
        ITEM: np.array(numbers),
        NAME: (ITEM, [item.name for item in chosen]),
        RUN: (ITEM, [item.run for item in chosen]),
        IMAGE_HASH: (ITEM, [item.image_hash for item in chosen]),
    }
    if not alike:
        order = np.full((len(chosen), len(words)), -1)
        for place, held in enumerate(own):
            order[place, held] = np.arange(len(held))
        coords[ASKED] = ((ITEM, CONCEPT), order >= 0)
        coords[ORDER] = ((ITEM, CONCEPT), order)
    attrs = {name: value for name, value in first.attrs.items() if name not in (ROLE, PARENT)}
    attrs |= {"key": register.key, "created": read_manifest(register).record["created"], IMAGE_HASH: ""}
    if len({item.prompt for item in items}) > 1:
        coords[PROMPT] = (ITEM, [item.prompt or "" for item in chosen])
        attrs[PROMPT] = ""
    if failed:
        attrs[FAILED] = failed
    return xr.Dataset(variables, coords=coords, attrs=attrs)
