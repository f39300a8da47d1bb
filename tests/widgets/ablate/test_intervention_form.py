from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import xarray as xr

import workbench as wb
from tests.synthetic import dataset
from workbench.experiments.planning import Network, arms_of
from workbench.schema import InputError
from workbench.widgets.ablate.edit_form import EDITS
from workbench.widgets.ablate.intervention_form import EditForm, Interventions, effect_plots
from workbench.widgets.ablate.plots import best
from workbench.widgets.ablate.results import INTERVENTION, table
from workbench.widgets.ablate.tasks import side_by_side

FACTS: dict[str, Any] = {
    "layers": [0, 1, 2],
    "heads": [0, 1],
    "timesteps": [500.0, 250.0],
    "names": ["dog", "grass", "sky"],
    "words": ["a", "red", "heart"],
    "attend": "both",
    "prompted": False,
    "truth": True,
}
NETWORK = Network(
    blocks=("dual", "dual", "single"),
    reach=2,
    depth=3,
    heads=2,
    concepts=("dog", "grass", "sky"),
    words=(),
    text_length=4,
)


class Laboratory:
    """Stands for a network: every effect is the place of its intervention in the plan."""

    def __init__(self, ds: xr.Dataset | None = None, facts: Mapping[str, Any] = FACTS) -> None:
        self.ds, self.facts = ds, facts
        self.given: dict[str, Any] = {}

    def intervene(
        self, plan: Any, *, progress: Callable[[int, int], None], cancel: threading.Event, **options: Any
    ) -> xr.Dataset:
        self.given = options
        arms = arms_of(plan, NETWORK)
        for done in range(len(arms)):
            if cancel.is_set():
                raise InputError("cancelled.")
            progress(done, len(arms))
        return made([arm.label for arm in arms], draws=options.get("repeats", 0))

    def call(self, plan: str, options: str) -> str:
        return f"plan = {plan}\nfound = dict(plan=plan{options})"

    def prompts(self) -> list[str]:
        return ["a blue house"]

    def pair(self, found: xr.Dataset, at: int) -> Any:
        maps = [np.zeros((3, 4, 6)), np.full((3, 4, 6), at)]
        return side_by_side(["without an edit", str(found.intervention.to_numpy()[at])], maps, [], FACTS["names"])


def made(labels: list[str], draws: int) -> xr.Dataset:
    """A result of the shape of :func:`workbench.intervene`."""
    count = len(labels)
    distance = np.arange(count)[:, None] + np.array([0.0, 0.1, 0.2])
    found = xr.Dataset(
        {"map_distance": (("intervention", "concept"), distance)},
        coords={
            "intervention": labels,
            "concept": FACTS["names"],
            "control": ("intervention", ["direction" if draws else "none"] * count),
        },
        attrs={"iou_of": "baseline"},
    )
    found["mean_map_distance"] = found.map_distance.mean("concept")
    found["iou_shift"], found["mean_iou_shift"] = -found.map_distance, -found.mean_map_distance
    if draws:
        drawn = xr.DataArray(np.linspace(0, 1, draws), dims="draw")
        for name in ("map_distance", "mean_map_distance", "iou_shift", "mean_iou_shift"):
            found[f"{name}_control"] = (found[name] * 0 + drawn).transpose("intervention", "draw", ...)
            found[f"{name}_rank"] = (abs(found[name]) > drawn).mean("draw")
    return found


def test_a_task_hands_over_what_was_chosen_and_its_code_says_it() -> None:
    ds = dataset(truth=True)
    lab = Laboratory(ds)
    task = Interventions(lab).task({"repeats": 3, "control": "direction", "truth": "own"})
    told: list[Any] = []
    found = task.work(lambda *args: told.append(args), threading.Event())
    assert told == [(0, 3), (1, 3), (2, 3)]
    assert lab.given.pop("truth").identical(ds.truth)
    result = task.finish(found, 1, 2.0)
    made: dict[str, Any] = {"wb": wb, "ds": ds}
    exec(result.code, made)
    assert made["found"].pop("truth").identical(ds.truth)
    made["found"].pop("plan")
    assert made["found"] == lab.given == {"control": "direction", "repeats": 3}
    assert result.mode == INTERVENTION
    assert result.row()["best"] == "layer 2"
    values, buffers = result.shown.pair([1])
    assert values["titles"] == ["without an edit", "SkipBlock(1)"]
    assert np.frombuffer(buffers[1], np.float32).max() == 1
    result.shown.free()
    with pytest.raises(InputError, match="closed"):
        result.shown.pair([1])


def test_drawn_truth_is_handed_over_in_pixels() -> None:
    lab = Laboratory(dataset())
    task = Interventions(lab).task({"truth": "drawn", "drawn": {"dog": [[1, 1]]}})
    result = task.finish(task.work(lambda *_: None, threading.Event()), 1, 0.0)
    made: dict[str, Any] = {"wb": wb}
    exec(result.code, made)
    for name, mask in lab.given["truth"].items():
        assert mask.shape == (32, 48)
        np.testing.assert_array_equal(made["masks"][name], mask)
    assert [line["name"] for line in result.plots["iou_shift"]["lines"]] == ["dog"]


def test_effects_are_drawn_with_the_range_of_their_controls() -> None:
    form = EditForm(edit="ScaleHeads", over=("layer", "head"), layers=(0, 1))
    labels = form.labels(FACTS)
    found = made([str(i) for i in range(4)], draws=5)
    plots = json.loads(json.dumps(effect_plots(form, labels, found), allow_nan=False))
    assert list(plots) == ["map_distance", "iou_shift"]
    line = plots["map_distance"]["lines"][0]
    np.testing.assert_allclose(line["values"], found.mean_map_distance.to_numpy().reshape(2, 2))
    assert line["control_low"] == [[0, 0], [0, 0]]
    assert line["control_middle"] == [[0.5, 0.5], [0.5, 0.5]]
    np.testing.assert_allclose(line["rank"], found.mean_map_distance_rank.to_numpy().reshape(2, 2))
    assert "range of 5 control draws: random direction" in plots["map_distance"]["control"]
    at, value = best(plots["iou_shift"]) or ([], 0.0)
    assert (at, value) == ([1, 1], pytest.approx(-3.1))


def test_without_controls_there_is_no_band_and_nothing_measured_is_none() -> None:
    found = made(["0", "1", "2"], draws=0)
    found["psnr"] = ("intervention", [20.0, np.inf, 10.0])
    found["map_distance"] = found.map_distance.where(found.intervention != "1")
    plots = effect_plots(EditForm(control="none"), [[0, 1, 2]], found)
    assert "rank" not in plots["psnr"]["lines"][0]
    assert plots["psnr"]["lines"][0]["values"] == [20.0, None, 10.0]
    assert best(plots["psnr"]) == ([2], 10.0)
    assert plots["map_distance"]["lines"][1]["values"][1] is None
    found["mean_map_distance"] = found.mean_map_distance * np.nan
    assert list(effect_plots(EditForm(control="none"), [[0, 1, 2]], found))[-1] == "map_distance"


def test_the_table_of_interventions_holds_their_controls() -> None:
    lab = Laboratory()
    task = Interventions(lab).task({"repeats": 2})
    result = task.finish(task.work(lambda *_: None, threading.Event()), 1, 0.0)
    rows = list(csv.DictReader(io.StringIO(table([result]))))
    assert (rows[1]["point"], rows[1]["concept"]) == ("layer 1", "mean of the concepts")
    assert float(rows[1]["value"]) == pytest.approx(1.1)
    assert [rows[1][f"control_{end}"] for end in ("low", "middle", "high")] == ["0.0", "0.5", "1.0"]
    assert rows[1]["rank"] == "1.0"


def test_only_what_can_be_edited_is_offered() -> None:
    facts = {**FACTS, "heads": [], "timesteps": [], "names": ["dog", "sky"]}
    known = Interventions(Laboratory(facts=facts)).describe()
    over = {edit["name"]: edit["over"] for edit in known["edits"]}
    assert set(over) == set(EDITS) - {"DropConcept"}
    assert not {dim for ways in over.values() for way in ways for dim in way} & {"head", "timestep"}
    assert over["SkipBlock"] == [["layer"], ["intervention"]]
    assert json.loads(json.dumps(known)) == known


@pytest.mark.parametrize(
    "values",
    [
        3,
        {"edits": "SkipBlock"},
        {"edit": "Skip"},
        {"over": ["head"]},
        {"factor": float("nan")},
        {"repeats": 0},
        {"control": "most"},
        {"layers": [0, 7]},
        {"truth": "drawn"},
        {"edit": "ScaleHeads", "heads": "0, 2"},
        {"heads": "some"},
        {"heads": "4-2"},
        {"timesteps": [0, 2000]},
        {"edit": "BlurAttention", "width": -1},
        {"mode": "all"},
        {"streams": "left"},
    ],
)
def test_what_cannot_be_meant_is_refused(values: Any) -> None:
    with pytest.raises(InputError, match=r"expected|form|goes over|is drawn"):
        EditForm.from_json(values, FACTS, None)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"edit": "Patch"}, "give the prompt, the seed or the picture"),
        ({"edit": "Patch", "seed": -1}, "seed of a source"),
        ({"edit": "MaskText", "over": ["token"]}, "type them: words of the prompt"),
        ({"over": ["layer", "timestep"], "timesteps": [0, 100]}, "choose a wider range"),
    ],
)
def test_what_makes_no_plan_is_refused_before_anything_runs(values: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Interventions(Laboratory(facts={**FACTS, "words": []})).task(values)


def test_one_edit_of_all_that_is_chosen_is_one_point() -> None:
    lab = Laboratory()
    task = Interventions(lab).task({"over": ["intervention"], "layers": [0, 1], "repeats": 1})
    result = task.finish(task.work(lambda *_: None, threading.Event()), 1, 0.0)
    assert result.found.intervention.values.tolist() == ["SkipBlock([0, 1])"]
    assert result.plots["map_distance"]["labels"] == [["all that is chosen"]]
    assert result.what == "skip blocks (layers 0 to 1), all at once"
    assert result.shown.pair([0])[0]["titles"][1] == "SkipBlock([0, 1])"
    assert next(iter(csv.DictReader(io.StringIO(table([result])))))["point"] == "all that is chosen"
