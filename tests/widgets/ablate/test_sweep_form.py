from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench.schema import InputError, WorkbenchWarning
from workbench.widgets.ablate.sweep_form import SweepForm, Variants

FORMS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "head, dropped": {"over": ["head"], "how": "drop"},
    "range": {"layers": [3, 1], "timesteps": [750.0, 500.0], "how": "prefix"},
    "one": {"over": ["timestep"], "layers": [2, 2], "space": "cross", "metric": "entropy"},
    "window": {"over": ["layer"], "how": "window", "window": 2},
    "pair": {"over": ["layer", "head"], "how": "suffix", "metric": "full_map_iou"},
    "spaces": {"over": ["space", "layer"]},
    "samples": {"over": ["sample"], "how": "drop"},
    "greedy": {"over": ["timestep"], "how": "greedy", "metric": "accuracy"},
    "drawn": {"truth": "drawn", "drawn": {"dog": [[1, 1], [2, 1]]}, "metric": "ap"},
}


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return dataset(samples=2, truth=True, signal=2.0, missing=[(0, 500.0, 4)])


@pytest.mark.parametrize("name", FORMS)
def test_the_code_gives_the_numbers_of_the_form(ds: xr.Dataset, name: str) -> None:
    form = SweepForm.from_json(FORMS[name], ds)
    assert SweepForm.from_json(json.loads(json.dumps(form.to_json())), ds) == form
    made: dict[str, Any] = {"ds": ds}
    exec(form.call(ds), made)
    xr.testing.assert_identical(made["found"], form.run(ds))


@pytest.mark.parametrize(
    ("values", "index", "one", "words"),
    [
        ({}, [3], {"layers": 3}, "layer 3 alone"),
        ({"how": "drop"}, [0], {"layers": [1, 2, 3, 4]}, "all but layer 0"),
        ({"how": "prefix", "layers": [1, 4]}, [1], {"layers": [1, 2]}, "up to layer 2"),
        ({"over": ["timestep"], "how": "suffix"}, [1], {"timesteps": [500.0, 250.0]}, "from timestep 500 on"),
        ({"how": "window", "window": 2}, [1], {"layers": [1, 2]}, "layer 1 to 2"),
        ({"over": ["layer", "head"]}, [2, 1], {"layers": 2, "heads": 1}, "layer 2 and head 1 alone"),
        ({"over": ["head", "layer"]}, [1, 2], {"layers": 2, "heads": 1}, "head 1 and layer 2 alone"),
        ({"over": ["head"], "space": "cross"}, [0], {"space": "cross", "heads": 0}, "head 0 alone"),
        ({"over": ["space"]}, [1], {"space": "cross"}, "space cross alone"),
        ({"over": ["sample"]}, [1], {"samples": 1}, "sample 1 alone"),
    ],
)
def test_a_point_shows_the_heat_map_of_its_choice(
    ds: xr.Dataset, values: dict[str, Any], index: list[int], one: dict[str, Any], words: str
) -> None:
    form = SweepForm.from_json(values, ds)
    variants = Variants(ds, form, form.run(ds))
    chosen, full, _ = variants.at(index)
    np.testing.assert_allclose(chosen, ds.wb.heatmap(**one).transpose("concept", "y", "x"), atol=1e-6)
    assert full.shape == chosen.shape
    assert variants.words(index) == words


def test_the_first_of_a_greedy_sweep_are_taken_together(ds: xr.Dataset) -> None:
    form = SweepForm.from_json({"how": "greedy"}, ds)
    found = form.run(ds)
    variants = Variants(ds, form, found)
    chosen, full, _ = variants.at([1])
    first = sorted(found["layer"].to_numpy()[:2].tolist())
    np.testing.assert_allclose(chosen, ds.wb.heatmap(layers=first).transpose("concept", "y", "x"), atol=1e-6)
    np.testing.assert_allclose(full, ds.wb.heatmap(layers=slice(0, 4)).transpose("concept", "y", "x"), atol=1e-6)
    assert variants.words([1]).startswith("layer ")


def test_different_pictures_are_not_averaged() -> None:
    ds = dataset(kind="generate", samples=3)
    form = SweepForm.from_json({}, ds)
    chosen, _, sample = Variants(ds, form, form.run(ds)).at([2])
    np.testing.assert_allclose(chosen, ds.wb.heatmap(layers=2, samples=0).transpose("concept", "y", "x"), atol=1e-6)
    assert sample == 0
    form = SweepForm.from_json({"over": ["sample"]}, ds)
    assert Variants(ds, form, form.run(ds)).at([2])[2] == 2


def test_with_one_concept_raw_scores_are_compared() -> None:
    ds = dataset(concepts=("dog",))
    form = SweepForm.from_json({"metric": "total_variation"}, ds)
    assert "reduce='mean'" in form.call(ds)
    assert np.isfinite(form.run(ds).total_variation).all()


@pytest.mark.parametrize(
    "values",
    [
        3,
        {"ober": ["layer"]},
        {"how": "best"},
        {"metric": "iuo"},
        {"space": "prompt"},
        {"layers": [0, 9]},
        {"timesteps": [750.0]},
        {"truth": "mine"},
        {"drawn": {"cat": [[0, 0]]}},
        {"drawn": {"dog": 3}},
        {"over": 3},
        {"over": ["depth"]},
        {"window": "x"},
        {"layers": 3},
    ],
)
def test_what_cannot_be_meant_is_refused(ds: xr.Dataset, values: Any) -> None:
    with pytest.raises(InputError, match=r"expected|form|among"):
        SweepForm.from_json(values, ds)


def test_a_metric_that_needs_truth_asks_for_it() -> None:
    ds = dataset()
    with pytest.raises(InputError, match="holds no truth: draw it"):
        SweepForm.from_json({"metric": "iou", "truth": "own"}, ds).run(ds)
    with pytest.raises(InputError, match="no truth is drawn yet"):
        SweepForm.from_json({"metric": "iou"}, ds).run(ds)


def test_a_metrics_former_name_is_taken_with_a_warning(ds: xr.Dataset) -> None:
    with pytest.warns(WorkbenchWarning, match="metric='agreement' is called 'full_map_iou' now"):
        form = SweepForm.from_json({"metric": "agreement"}, ds)
    assert form == SweepForm.from_json({"metric": "full_map_iou"}, ds)
