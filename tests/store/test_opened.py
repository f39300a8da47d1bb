from __future__ import annotations

import gc
from pathlib import Path

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
    held = len(opened._opened)
    del made, ds
    gc.collect()
    assert len(opened._opened) == held - 2
