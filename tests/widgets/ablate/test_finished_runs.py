from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench.widgets.ablate.finished_runs import Result, figure, netcdf, table
from workbench.widgets.ablate.tasks import Sweeps


def _result(values: dict[str, Any], number: int = 1) -> Result:
    facts = {"key": "abc123", "image_hash": "f00", "interventions": [{}], "edit": "X(1)"}
    ds = dataset(samples=5, truth=True, signal=2.0).assign_attrs(facts)
    task = Sweeps(ds).task(values)
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
    path.write_bytes(netcdf(result))
    with xr.open_dataset(path, engine="scipy") as kept:
        for name in result.found.data_vars:
            np.testing.assert_array_equal(kept[name], result.found[name])
        assert kept["concept"].to_numpy().tolist() == ["dog", "grass", "sky"]
        assert kept.attrs["over"] == '["layer", "head"]'
        assert (kept.attrs["truth"], len(kept.attrs["truth_hash"])) == ("the dataset’s own", 20)
        assert json.loads(kept.attrs["origin"])["image_hash"] == "f00"


def test_results_with_other_truth_tell_so_in_their_row_and_in_every_line_of_the_table() -> None:
    drawn = {"truth": "drawn", "drawn": {"dog": [[0, 0], [0, 1]], "sky": [[3, 3]]}}
    results = [_result({}), _result(drawn, 2), _result({"metric": "entropy"}, 3)]
    told = ["the dataset’s own", "drawn: dog 2, sky 1 patches", ""]
    assert [result.row()["truth"] for result in results] == told
    rows = list(csv.DictReader(io.StringIO(table(results))))
    assert {(row["run"], row["truth"]) for row in rows} == set(zip("123", told, strict=True))
    assert len({row["truth_hash"] for row in rows}) == 3
    assert {(row["key"], row["edit"], row["model"]) for row in rows} == {("abc123", "X(1)", "made-up")}


def test_a_figure_is_a_pdf() -> None:
    assert figure(_result({"how": "drop"})).startswith(b"%PDF")


def test_the_row_of_the_table_names_the_best_point() -> None:
    result = _result({})
    row = result.row()
    assert row["best"] == f"layer {int(result.found.mean_iou.to_numpy().argmax())}"
    assert row["value"] == pytest.approx(float(result.found.mean_iou.max()))
    assert (row["number"], row["points"], row["seconds"]) == (1, 5, 0.5)
