"""Runs that an earlier version of the package wrote are read as ever; see ``fixtures/README.md``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import workbench as wb
from workbench import schema, store

FIXTURES = Path(__file__).parent / "fixtures"
FOLDER = FIXTURES / "9e60a99dcb7e63f1cf55.zarr"
FILE = FIXTURES / "generate.zarr.zip"
FILE_KEY = "6f0242e332766a1c525a"


@pytest.fixture(scope="module")
def expected() -> Mapping[str, Any]:
    with np.load(FIXTURES / "expected.npz") as numbers:
        return dict(numbers)


def _same(ds: xr.Dataset, kind: str, expected: Mapping[str, Any]) -> None:
    schema.validate(ds, values=True)
    assert ds.attrs["kind"] == kind
    names = {name for name in expected if name.startswith(f"{kind}/") and not name.endswith("/heatmap")}
    assert names == {f"{kind}/{name}" for name in ds.data_vars}
    for name in ds.data_vars:
        np.testing.assert_array_equal(ds[name].values, expected[f"{kind}/{name}"], strict=True)
    maps = ds.wb.heatmap(layers=[0, 1])
    np.testing.assert_allclose(maps.values, expected[f"{kind}/heatmap"], rtol=1e-5)
    assert maps.dims == ("concept", "y", "x")


@pytest.fixture
def stored(home: Path) -> Path:
    """A home with the stored run in it."""
    shutil.copytree(FOLDER, home / "runs" / FOLDER.name)
    return home


def test_a_stored_run(stored: Path, expected: Mapping[str, Any]) -> None:
    (run,) = wb.runs(stored)
    assert (run.key, run.kind, run.model, run.note) == (FOLDER.stem, "capture", "FluxPipeline", "")
    assert run.concepts == ("dog", "sky")
    store.verify(run.key, stored)
    _same(run.open(verify=True), "capture", expected)
    _same(wb.open(FOLDER), "capture", expected)


def test_an_exported_run(home: Path, expected: Mapping[str, Any]) -> None:
    store.verify(FILE)
    _same(wb.open(FILE), "generate", expected)
    (run,) = store.import_runs(FILE, home)
    assert run.key == FILE_KEY
    store.verify(run.key, home)
    _same(wb.open(run.key, home), "generate", expected)


def test_it_is_exported_and_uploaded_as_ever(stored: Path, tmp_path: Path, expected: Mapping[str, Any]) -> None:
    file = store.export_runs(FOLDER.stem, tmp_path / "capture.zarr.zip", stored)
    (uploaded,) = store.import_runs(file, "memory://earlier")
    _same(uploaded.open(verify=True), "capture", expected)
