"""Former names still work, and say what they are called now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_random import flux_pipeline
from workbench import store
from workbench.recording.capturing import capture
from workbench.schema import WorkbenchWarning


def test_one_run_is_exported_and_imported_under_the_former_names(home: Path, tmp_path: Path) -> None:
    options = {"model": flux_pipeline(), "size": (32, 32), "home": home, "progress": False}
    ds = capture(np.zeros((32, 32, 3), np.uint8), ["dog"], **options)
    with pytest.warns(WorkbenchWarning, match="export_run is called export_runs now") as said:
        file = store.export_run(ds.attrs["key"], tmp_path / "run.zarr.zip", home)
    assert said[0].filename == __file__
    with pytest.warns(WorkbenchWarning, match="import_run is called import_runs now") as said:
        run = store.import_run(file, tmp_path / "other")
    assert said[0].filename == __file__
    assert run.key == ds.attrs["key"]
