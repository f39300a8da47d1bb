from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from tests.store.replay import save
from tests.synthetic import dataset
from workbench import store
from workbench.store import opened


def test_a_dataset_is_known_as_long_as_it_is_alive_and_as_it_was_opened(home: Path) -> None:
    made = save(dataset(), home, "a" * 32)
    ds = store.open("a" * 32, home)
    assert opened.opened_from(made) == opened.opened_from(ds) == home / "runs" / f"{'a' * 32}.zarr"
    assert opened.opened_from(ds.isel(sample=[0])) is None
    assert opened.opened_from("a text") is None
    numbers = {id(made), id(ds)}
    assert numbers <= set(opened._opened)
    del made, ds
    gc.collect()
    assert not numbers & set(opened._opened)


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.update({"output": ds.output * 2}),
        lambda ds: ds.update({"output": ds.output.copy()}),
        lambda ds: ds.update({"more": ds.output}),
        lambda ds: ds.coords.update({"concept": ["a", "b", "c"]}),
        lambda ds: ds.__delitem__("output"),
        lambda ds: ds.attrs.update(default_layers=[0]),
        lambda ds: ds.attrs.pop("model"),
    ],
)
def test_a_dataset_that_was_given_other_variables_is_no_stored_run(
    change: Callable[[xr.Dataset], Any], home: Path
) -> None:
    save(dataset(), home, "a" * 32)
    ds = store.open("a" * 32, home)
    assert opened.opened_from(ds) is not None
    change(ds)
    assert opened.opened_from(ds) is None


def test_what_is_assigned_twice_is_not_taken_for_what_was_there(home: Path) -> None:
    """The second may have the address of the first."""
    save(dataset(), home, "a" * 32)
    ds = store.open("a" * 32, home)
    for _ in range(20):
        ds["output"] = ds.output * 2
        assert opened.opened_from(ds) is None


def test_a_dataset_that_was_read_into_memory_is_the_run_still(home: Path) -> None:
    save(dataset(), home, "a" * 32)
    ds = store.open("a" * 32, home)
    ds.load()
    ds["output"].load()
    ds.wb.heatmap()
    assert opened.opened_from(ds) == home / "runs" / f"{'a' * 32}.zarr"


def test_values_that_were_replaced_do_not_live_on(home: Path) -> None:
    save(dataset(), home, "a" * 32)
    ds = store.open("a" * 32, home).load()
    values = weakref.ref(ds.output.variable._data)
    ds["output"] = ds.output * 2
    gc.collect()
    assert values() is None
