from __future__ import annotations

import json

import numpy as np
import pytest

from tests.widgets.ablate.test_intervention_form import made
from workbench.widgets.ablate.effect_plots import effect_plots
from workbench.widgets.ablate.plots import best


def test_effects_are_drawn_with_the_range_of_their_controls() -> None:
    over, labels = ("layer", "head"), [[0, 1], [0, 1]]
    found = made([str(i) for i in range(4)], draws=5)
    plots = json.loads(json.dumps(effect_plots(over, labels, found), allow_nan=False))
    assert list(plots) == ["map_distance", "iou_shift", "map_distance_by_layer"]
    line = plots["map_distance"]["lines"][0]
    np.testing.assert_allclose(line["values"], found.mean_map_distance.to_numpy().reshape(2, 2))
    assert line["control_low"] == [[0, 0], [0, 0]]
    assert line["control_middle"] == [[0.5, 0.5], [0.5, 0.5]]
    np.testing.assert_allclose(line["rank"], found.mean_map_distance_rank.to_numpy().reshape(2, 2))
    assert "range of 5 controls: random direction" in plots["map_distance"]["control"]
    at, value = best(plots["iou_shift"]) or ([], 0.0)
    assert (at, value) == ([1, 1], pytest.approx(-3.1))


def test_without_controls_there_is_no_band_and_nothing_measured_is_none() -> None:
    found = made(["0", "1", "2"], draws=0)
    found["psnr"] = ("intervention", [20.0, np.inf, 10.0])
    found["map_distance"] = found.map_distance.where(found.intervention != "1")
    plots = effect_plots(["layer"], [[0, 1, 2]], found)
    assert "rank" not in plots["psnr"]["lines"][0]
    assert plots["psnr"]["lines"][0]["values"] == [20.0, None, 10.0]
    assert best(plots["psnr"]) == ([2], 10.0)
    assert plots["map_distance"]["lines"][1]["values"][1] is None
    found["mean_map_distance"] = found.mean_map_distance * np.nan
    assert list(effect_plots(["layer"], [[0, 1, 2]], found))[-1] == "map_distance"


def test_what_is_out_of_reach_says_so_and_every_layer_is_a_column() -> None:
    found = made(["0", "1", "2"], draws=2)
    for name in ("map_distance", "mean_map_distance"):
        found[name] = found[name].where(found.intervention != "2")
    found["mean_map_distance_by_layer"] = found["mean_map_distance_by_layer"].where(found.read_layer != 1)
    plots = json.loads(json.dumps(effect_plots(["layer"], [[0, 1, 2]], found), allow_nan=False))
    plot = plots["map_distance"]
    assert plot["lines"][0]["values"][2] is None
    assert plot["why"] == ["", "", "Edit 2 leaves out layer 2."]
    assert plot["remark"] == "read in layer 2"
    assert not plot["marked"], "two controls mark nothing"
    matrix = plots["map_distance_by_layer"]
    assert matrix["labels"] == [["0", "1", "2"], ["1", "2"]]
    assert matrix["why"][0] == ["inside the edited layer", ""]
    assert matrix["lines"][0]["values"][1] == [None, pytest.approx(2.2)]
    pairs = effect_plots(["layer", "head"], [[0, 1], [0]], made(["0", "1"], draws=0))["map_distance_by_layer"]
    assert (pairs["dims"], pairs["labels"][0]) == (["layer × head", "read layer"], ["0 × 0", "1 × 0"])
