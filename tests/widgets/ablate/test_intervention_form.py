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
from workbench.widgets.ablate.finished_runs import INTERVENTION, table
from workbench.widgets.ablate.intervention_form import EditForm, Interventions
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
    depth=3,
    heads=2,
    concepts=("dog", "grass", "sky"),
    words=(),
    text_length=4,
)


class EditBackend:
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

    def pair(self, found: xr.Dataset, at: int, layer: int | None = None) -> Any:
        maps = [np.zeros((3, 4, 6)), np.full((3, 4, 6), at if layer is None else 10 * layer + at)]
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
        attrs={"iou_of": "baseline", "readout": "[2]"},
    )
    last = np.arange(count) == 2
    found = found.assign_coords(
        read_layer=[1, 2],
        reach=(("intervention", "read_layer"), [["own", "downstream"]] * count),
        readout_reach=("intervention", np.where(last, "skipped", "downstream")),
        note=("intervention", np.where(last, "Edit 2 leaves out layer 2.", "")),
    )
    found["mean_map_distance"] = found.map_distance.mean("concept")
    found["iou_shift"], found["mean_iou_shift"] = -found.map_distance, -found.mean_map_distance
    by_layer = xr.DataArray([1.0, 2.0], {"read_layer": [1, 2]})
    for name in ("map_distance", "mean_map_distance"):
        found[f"{name}_by_layer"] = found[name] * by_layer
    if draws:
        drawn = xr.DataArray(np.linspace(0, 1, draws), dims="repeat")
        for name in ("map_distance", "mean_map_distance", "iou_shift", "mean_iou_shift"):
            found[f"{name}_control"] = (found[name] * 0 + drawn).transpose("intervention", "repeat", ...)
            found[f"{name}_rank"] = (abs(found[name]) > drawn).mean("repeat")
    return found


def test_a_task_hands_over_what_was_chosen_and_its_code_says_it() -> None:
    ds = dataset(truth=True)
    lab = EditBackend(ds)
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
    assert made["found"] == lab.given == {"control": "direction", "repeats": 3, "layers": [0, 1, 2]}
    assert result.mode == INTERVENTION
    assert result.row()["best"] == "layer 2"
    values, buffers = result.shown.pair([1])
    assert values["titles"] == ["without an edit", "SkipBlock(1)"]
    assert np.frombuffer(buffers[1], np.float32).max() == 1
    assert np.frombuffer(result.shown.pair([1, 0], by_layer=True)[1][1], np.float32).max() == 11
    result.shown.free()
    with pytest.raises(InputError, match="closed"):
        result.shown.pair([1])


def test_drawn_truth_is_handed_over_in_pixels() -> None:
    lab = EditBackend(dataset())
    task = Interventions(lab).task({"truth": "drawn", "drawn": {"dog": [[1, 1]]}})
    result = task.finish(task.work(lambda *_: None, threading.Event()), 1, 0.0)
    made: dict[str, Any] = {"wb": wb}
    exec(result.code, made)
    for name, mask in lab.given["truth"].items():
        assert mask.shape == (32, 48)
        np.testing.assert_array_equal(made["masks"][name], mask)
    assert [line["name"] for line in result.plots["iou_shift"]["lines"]] == ["dog"]


def test_the_table_of_interventions_holds_their_controls() -> None:
    lab = EditBackend()
    task = Interventions(lab).task({"repeats": 2})
    result = task.finish(task.work(lambda *_: None, threading.Event()), 1, 0.0)
    rows = list(csv.DictReader(io.StringIO(table([result]))))
    assert (rows[1]["point"], rows[1]["concept"]) == ("layer 1", "mean of the concepts")
    assert float(rows[1]["value"]) == pytest.approx(1.1)
    assert [rows[1][f"control_{end}"] for end in ("low", "middle", "high")] == ["0.0", "0.5", "1.0"]
    assert rows[1]["rank"] == "1.0"
    assert (rows[1]["reach"], rows[1]["why"]) == ("downstream", "")
    assert (rows[2]["reach"], rows[2]["why"]) == ("skipped", "Edit 2 leaves out layer 2.")
    (cell,) = [row for row in rows if row["point"] == "layer 1, read layer 1" and row["concept"] == "dog"]
    assert (cell["measure"], float(cell["value"])) == ("mean absolute change of the maps, by layer", 1.0)
    assert (cell["reach"], cell["why"]) == ("own", "inside the edited layer")


def test_what_lies_behind_the_usual_layers_is_read_where_an_edit_asks_for_it() -> None:
    facts = {**FACTS, "layers": [0, 1, 2, 3], "usual": [0, 1]}
    known = Interventions(EditBackend(facts=facts)).describe()
    assert known["layers"] == [0, 1, 2, 3], "all are offered"
    assert known["form"]["layers"] == [0, 1], "and the usual ones chosen"
    for form, read in (
        ({"layers": [0, 1]}, [0, 1]), ({"layers": [0, 2]}, [0, 1, 2, 3]), ({}, [0, 1, 2, 3]),
        ({"layers": [0, 1], "readout": "2"}, [0, 1, 2, 3]),
    ):  # fmt: skip
        assert EditForm.from_json(form, facts, None).options(facts)["layers"] == read
    assert "layers" not in EditForm().options({**facts, "prompted": True})


def test_a_read_out_and_other_images_are_handed_over() -> None:
    form = {"readout": "1, 2", "control": "resample", "references": "one.png; two.png"}
    options = EditForm.from_json(form, FACTS, None).options(FACTS)
    assert (options["readout"], options["references"]) == ([1, 2], ["one.png", "two.png"])
    assert EditForm.from_json({"readout": " downstream "}, FACTS, None).options(FACTS)["readout"] == "downstream"


def test_only_what_can_be_edited_is_offered() -> None:
    facts = {**FACTS, "heads": [], "timesteps": [], "names": ["dog", "sky"]}
    known = Interventions(EditBackend(facts=facts)).describe()
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
        {"readout": "behind"},
        {"control": "resample", "references": " ; "},
        {"over": 3},
        {"layers": 3},
        {"timesteps": [0, True]},
        {"repeats": True},
        {"prompt": 5},
        {"seed": "a"},
        {"readout": [3]},
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
        Interventions(EditBackend(facts={**FACTS, "words": []})).task(values)


def test_one_edit_of_all_that_is_chosen_is_one_point() -> None:
    lab = EditBackend()
    task = Interventions(lab).task({"over": ["intervention"], "layers": [0, 1], "repeats": 1})
    result = task.finish(task.work(lambda *_: None, threading.Event()), 1, 0.0)
    assert result.found.intervention.values.tolist() == ["SkipBlock([0, 1])"]
    assert result.plots["map_distance"]["labels"] == [["all that is chosen"]]
    assert result.what == "skip blocks (layers 0 to 1), all at once"
    assert result.shown.pair([0])[0]["titles"][1] == "SkipBlock([0, 1])"
    assert next(iter(csv.DictReader(io.StringIO(table([result])))))["point"] == "all that is chosen"


def test_streams_are_offered_that_an_edit_has() -> None:
    known = {edit["name"]: edit.get("streams") for edit in Interventions(EditBackend()).describe()["edits"]}
    assert known["MeanHeads"] == known["Patch"] == ["picture and prompt", "picture", "prompt"]
    assert known["ScaleHeads"] == [*known["Patch"], "concepts", "picture and concepts", "picture, prompt and concepts"]
    assert known["SkipBlock"] is None
    form = EditForm.from_json({"edit": "ScaleHeads", "streams": "concepts"}, FACTS, None)
    assert form.plan_code(FACTS).endswith("streams=('concepts',)) for layer in [0, 1, 2]]")
