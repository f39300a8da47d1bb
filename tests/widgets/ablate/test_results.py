from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench.widgets.ablate.results import Result, figure, netcdf, table
from workbench.widgets.ablate.tasks import Sweeps


def _result(values: dict[str, Any], number: int = 1) -> Result:
    task = Sweeps(dataset(samples=5, truth=True, signal=2.0)).task(values)
    return task.finish(task.work(lambda *_: None, None), number, 0.5)  # type: ignore[arg-type]


def test_the_table_has_a_row_for_every_point_of_every_run() -> None:
    results = [_result({}), _result({"over": ["layer", "head"], "metric": "silhouette"}, 2)]
    rows = list(csv.DictReader(io.StringIO(table(results))))
    assert len(rows) == 5 * 4 + 5 * 2
    row = next(row for row in rows if row["point"] == "layer 3" and row["concept"] == "sky")
    assert float(row["value"]) == float(results[0].found.iou.sel(layer=3, concept="sky"))
    assert float(row["low"]) == float(results[0].found.iou_interval.sel(layer=3, concept="sky", bound="low"))
    assert row["rank"] == ""
    row = next(row for row in rows if row["point"] == "layer 2, head 1")
    assert row["run"] == "2"
    assert float(row["value"]) == float(results[1].found.silhouette.sel(layer=2, head=1))


def test_a_dataset_is_read_back_with_its_numbers_and_its_record(tmp_path: Path) -> None:
    result = _result({"over": ["layer", "head"]})
    path = tmp_path / "sweep.nc"
    path.write_bytes(netcdf(result.found))
    with xr.open_dataset(path, engine="scipy") as kept:
        for name in result.found.data_vars:
            np.testing.assert_array_equal(kept[name], result.found[name])
        assert kept["concept"].to_numpy().tolist() == ["dog", "grass", "sky"]
        assert kept.attrs["over"] == '["layer", "head"]'


def test_a_figure_is_a_pdf() -> None:
    assert figure(_result({"how": "drop"})).startswith(b"%PDF")


def test_the_row_of_the_table_names_the_best_point() -> None:
    result = _result({})
    row = result.row()
    assert row["best"] == f"layer {int(result.found.mean_iou.to_numpy().argmax())}"
    assert row["value"] == pytest.approx(float(result.found.mean_iou.max()))
    assert (row["number"], row["points"], row["seconds"]) == (1, 5, 0.5)
