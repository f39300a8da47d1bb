from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests import synthetic
from tests.store.replay import place
from workbench import store
from workbench.schema import CAPTURE_VERSION, StoreError

RECORD = {
    "model": "made-up",
    "prompt": "",
    "concepts": ["dog", "grass", "sky"],
    "created": "2026-01-01T00:00:00+00:00",
    "schema_version": 1,
    "capture_version": CAPTURE_VERSION,
}
GRID = {"timesteps": (500.0,), "dual": 2, "single": 0, "default_layers": (0, 1), "grid": (4, 6)}
_opened: list[str] | None = None


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event == "open" and "runs of a test" in str(arguments[0]):  # the fixture's home
        _opened.append(str(arguments[0]))


sys.addaudithook(_listen)


def _files_opened(action: object) -> int:
    global _opened
    _opened = []
    try:
        action()  # type: ignore[operator]
        return len(_opened)
    finally:
        _opened = None


def _many(home: Path, runs: list[str], words: dict[str, tuple[str, ...]] | None = None) -> None:
    register = store.register("many", RECORD, home)
    concepts = words or {}
    register.enter(
        store.Item(f"p{number}", number, run, f"hash {run}", concepts.get(run, ("dog", "grass", "sky")), (32, 48))
        for number, run in enumerate(runs)
    )


def test_two_thousand_items_are_opened_as_fast_as_two(home: Path) -> None:
    singles = {key: synthetic.dataset(seed=seed, **GRID) for seed, key in enumerate("ab")}
    for key, ds in singles.items():
        place(ds, home, key)
    store.check_writable(home)
    _many(home, ["a", "b"] * 1000)
    few = _files_opened(lambda: store.open("a", home))
    assert _files_opened(lambda: store.open("many", home)) <= few + 10
    ds = store.open("many", home)
    assert ds.sizes["item"] == 2000
    assert _files_opened(lambda: ds.wb.item("p1001").wb.heatmap()) < 15
    np.testing.assert_array_equal(ds.wb.item("p1001").wb.heatmap(), singles["b"].wb.heatmap())


@pytest.mark.slow
def test_reading_many_items_keeps_few_of_them(home: Path) -> None:
    for seed, key in enumerate(f"r{number}" for number in range(30)):
        place(synthetic.dataset(seed=seed, **{**GRID, "grid": (40, 60)}), home, key)
    store.check_writable(home)
    _many(home, [f"r{number}" for number in range(30)])
    whole = store.open("many", home)
    one = whole.isel(item=0).output.nbytes
    peaks = []
    whole.isel(item=slice(0, 2)).output.mean().compute()
    for count in (10, 30):
        ds = store.open("many", home)
        tracemalloc.start()
        for place_ in range(count):
            ds.output[place_].mean().compute()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 20 * one / 4, "twenty more items leave nothing near their size"


def test_an_item_whose_scores_overflow_is_read_beside_others(home: Path) -> None:
    wide = synthetic.dataset(seed=1, **GRID)
    wide = wide.assign({name: wide[name].astype(np.float32) for name in ("output", "cross")})
    wide["output"][{"layer": 0, "head": 0, "concept": 0, "y": 0, "x": 0}] = 1e6
    place(synthetic.dataset(seed=0, **GRID), home, "a")
    place(wide, home, "b")
    store.check_writable(home)
    _many(home, ["a", "b"])
    ds = store.open("many", home)
    for number, key in enumerate("ab"):
        single = store.open(key, home)
        np.testing.assert_array_equal(ds.output[number].to_numpy(), single.output.to_numpy())
        assert np.isfinite(ds.output[number].to_numpy()).all()


def test_what_is_no_run_of_many_images_says_so(home: Path) -> None:
    place(synthetic.dataset(seed=0, **GRID), home, "a")
    store.check_writable(home)
    with pytest.raises(StoreError, match=r"is a run of one image: open it with workbench.open\('a'\)"):
        store.open_many("a", home)
    store.register("many", RECORD, home)
    with pytest.raises(StoreError, match="holds no items yet"):
        store.open_many("many", home)
    _many(home, ["gone"])
    with pytest.raises(StoreError, match="the runs of its 1 items were removed"):
        store.open("many", home)
    (home / "many" / "many" / "manifest.json").write_bytes(b"{}")
    with pytest.raises(StoreError, match="is damaged"):
        store.open("many", home)
    assert isinstance(store.open("a", home), xr.Dataset)
