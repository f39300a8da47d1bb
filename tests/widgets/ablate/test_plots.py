from __future__ import annotations

import json
from typing import Any

import numpy as np

from tests.synthetic import dataset
from workbench.widgets.ablate.plots import best, sweep_plot
from workbench.widgets.ablate.sweep_form import SweepForm


def _plot(values: dict[str, Any], **made: Any) -> tuple[dict[str, Any], Any]:
    ds = dataset(**{"truth": True, "signal": 2.0} | made)
    form = SweepForm.from_json(values, ds)
    found = form.run(ds)
    return json.loads(json.dumps(sweep_plot(form, found), allow_nan=False)), found


def test_a_curve_has_the_mean_and_each_concept_with_their_intervals() -> None:
    plot, found = _plot({}, samples=5)
    assert [line["name"] for line in plot["lines"]] == ["mean of the concepts", "dog", "grass", "sky"]
    assert [line["concept"] for line in plot["lines"]] == [None, 0, 1, 2]
    np.testing.assert_array_equal(plot["lines"][0]["values"], found.mean_iou)
    np.testing.assert_array_equal(plot["lines"][2]["low"], found.iou_interval.sel(bound="low", concept="grass"))
    assert plot["lines"][3]["full"] == float(found.iou_full.sel(concept="sky"))
    assert plot["labels"] == [["0", "1", "2", "3", "4"]]
    assert plot["band"] == "95 % interval over 5 samples, exploratory"
    few, _ = _plot({}, samples=4)
    assert (few["band"], few["lines"][0]["low"]) == ("", None)
    assert plot["axes"] == ["layer (each alone)"]


def test_a_matrix_has_rows_in_the_order_that_was_asked_for() -> None:
    plot, found = _plot({"over": ["head", "layer"], "metric": "silhouette"})
    assert plot["dims"] == ["head", "layer"]
    np.testing.assert_array_equal(plot["lines"][0]["values"], found.silhouette.transpose("head", "layer"))
    assert plot["band"] == ""
    assert plot["lines"][0]["low"] is None


def test_timesteps_are_called_what_they_are() -> None:
    ds = dataset(truth=True, signal=2.0)
    form = SweepForm.from_json({"over": ["timestep"]}, ds)
    for process, expected in (
        (None, "timestep, 1000 × sigma (each alone)"),
        ("flow of shifted time", "timestep (each alone)"),
    ):
        of = ds if process is None else ds.assign_attrs(process=process)
        assert sweep_plot(form, form.run(of))["axes"] == [expected]


def test_of_drawn_truth_only_drawn_concepts_are_shown() -> None:
    plot, _ = _plot({"truth": "drawn", "drawn": {"sky": [[0, 5]]}})
    assert [line["name"] for line in plot["lines"]] == ["sky"]
    everything = {name: [[0, index]] for index, name in enumerate(("dog", "grass", "sky"))}
    assert len(_plot({"truth": "drawn", "drawn": everything})[0]["lines"]) == 4


def test_a_greedy_sweep_is_labelled_with_what_was_added() -> None:
    plot, found = _plot({"how": "greedy"})
    assert plot["labels"] == [[f"+{layer}" for layer in found["layer"].to_numpy()]]


def test_what_was_not_captured_is_none_and_never_the_best() -> None:
    plot, found = _plot({"over": ["layer", "timestep"]}, missing=[(0, 500.0, 2)])
    assert plot["lines"][0]["values"][2][1] is None
    at, value = best(plot) or ([], 0.0)
    assert value == float(found.mean_iou.max())
    assert found.mean_iou[tuple(at)] == found.mean_iou.max()
    lower, found = _plot({"metric": "entropy"})
    assert (best(lower) or ([], 0.0))[1] == float(found.entropy.min())
    assert best({**plot, "lines": [{"values": [None, None]}]}) is None


def test_the_full_map_is_no_reference_for_itself() -> None:
    assert {line["full"] for line in _plot({"metric": "full_map_iou"})[0]["lines"]} == {None}
