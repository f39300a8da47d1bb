from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import workbench as wb
from tests.synthetic import dataset
from tests.tiny_random import flux_pipeline
from workbench import store
from workbench.experiments.running import is_prompt
from workbench.recording.provenance import asked_from
from workbench.recording.traced_passes import Trace
from workbench.schema import CancelledError, InputError, WorkbenchWarning, read_attributes
from workbench.store.listing import families

PICTURE = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
WORDS = ["dog", "sky", "grass"]
PIPE = flux_pipeline()


def intervene(plan: Any, subject: Any = PICTURE, **options: Any) -> xr.Dataset:
    return wb.intervene(
        subject,
        WORDS,
        plan,
        **{
            "model": PIPE,
            "size": (16, 24),
            "layers": [1, 2, 3],
            "repeats": 3,
            "store": False,
            "progress": False,
        }
        | options,
    )


def heatmap(layers: list[int], *edits: Any, recorded: Iterable[int] = (1, 2, 3)) -> xr.DataArray:
    ds = wb.capture(
        PICTURE,
        WORDS,
        model=PIPE,
        size=(16, 24),
        layers=recorded,
        spaces="output",
        store=False,
        progress=False,
        interventions=edits,
    )
    return ds.wb.heatmap(layers=layers)


def distance(layers: list[int], *edits: Any, **options: Any) -> float:
    return float(abs(heatmap(layers, *edits, **options) - heatmap(layers, **options)).mean())


@pytest.mark.slow
def test_effects_are_those_of_the_runs_at_a_read_out_that_all_reach() -> None:
    plan = [wb.SkipBlock(2), wb.ScaleHeads(0, 1)]
    result = intervene(plan)
    assert result.intervention.values.tolist() == ["SkipBlock(2)", "ScaleHeads(0, heads=1)"]
    assert result.attrs["readout"] == "[3]", "no default layer lies behind layer 2"
    expected = [distance([3], edit) for edit in plan]
    np.testing.assert_allclose(result.mean_map_distance, expected, rtol=1e-4)
    np.testing.assert_allclose(result.map_distance.mean("concept"), expected, rtol=1e-4)
    np.testing.assert_allclose(result.total_variation_distance, np.array(expected) * len(WORDS) / 2, rtol=1e-4)
    assert intervene([wb.ScaleHeads(0, 1)]).attrs["readout"] == "[1, 2]", "the default layers behind layer 0"


def test_the_matrix_holds_the_effect_on_each_recorded_layer() -> None:
    with pytest.warns(WorkbenchWarning, match="no effect to read"):
        result = intervene([wb.SkipBlock(2), wb.ScaleHeads(1, 1), wb.SkipBlock(4)], layers=range(5))
    kinds = [
        ["unreachable", "unreachable", "skipped", "downstream", "downstream"],
        ["unreachable", "own", "downstream", "downstream", "downstream"],
        ["unreachable"] * 4 + ["skipped"],
    ]
    assert result.reach.values.tolist() == kinds
    matrix = result.mean_map_distance_by_layer
    np.testing.assert_array_equal(matrix.isnull(), result.reach.isin(["unreachable", "skipped"]))
    for place, edit in enumerate((wb.SkipBlock(2), wb.ScaleHeads(1, 1))):
        for layer in (3, 4):
            expected = distance([layer], edit, recorded=range(5))
            assert matrix[place].sel(read_layer=layer).item() == pytest.approx(expected, rel=1e-4)
    own = distance([1], wb.ScaleHeads(1, 1), recorded=range(5))
    assert result.mean_map_distance_own.values == pytest.approx([np.nan, own, np.nan], rel=1e-4, nan_ok=True)
    behind = [distance([3, 4], wb.SkipBlock(2), recorded=range(5))]
    behind += [distance([2, 3, 4], wb.ScaleHeads(1, 1), recorded=range(5)), np.nan]
    assert result.mean_map_distance_downstream.values == pytest.approx(behind, rel=1e-4, nan_ok=True)


@pytest.mark.slow
def test_what_the_read_out_cannot_show_is_nan_and_says_why() -> None:
    with pytest.warns(WorkbenchWarning, match=r"SkipBlock\(3\) leaves out layer 3, and the read-out is layer 3"):
        result = intervene([wb.SkipBlock(1), wb.SkipBlock(3)])
    assert result.mean_map_distance.isnull().values.tolist() == [False, True]
    assert result.mean_map_distance_rank.isnull().values.tolist() == [False, True]
    assert result.note.values[0] == ""
    assert "no effect to read" in result.note.values[1]
    assert result.readout_reach.values.tolist() == ["downstream", "skipped"]
    early = intervene(wb.SkipBlock.each(range(3)), readout=[1, 2], control=None)
    assert early.mean_map_distance.isnull().values.tolist() == [False, True, True]
    assert early.note.values[1:].tolist() == [
        "SkipBlock(1) leaves out layer 1, and the read-out is layers 1, 2: it has no effect to read there.",
        "SkipBlock(2) cannot reach layer 1 and leaves out layer 2, and the read-out is layers 1, 2: "
        "it has no effect to read there.",
    ]


def test_a_downstream_mean_is_read_by_name() -> None:
    result = intervene([wb.SkipBlock(0), wb.SkipBlock(2)], readout="downstream", control=None)
    assert read_attributes(result.attrs)["readout"] == "downstream"
    expected = [distance([1, 2, 3], wb.SkipBlock(0)), distance([3], wb.SkipBlock(2))]
    np.testing.assert_allclose(result.mean_map_distance, expected, rtol=1e-4)
    xr.testing.assert_equal(result.mean_map_distance, result.mean_map_distance_downstream.rename("mean_map_distance"))


def test_in_other_spaces_an_edit_inside_a_block_acts_behind_it() -> None:
    result = intervene([wb.ScaleHeads(1), wb.MaskText(2)], space="cross", prompt="a dog", control=None)
    assert result.reach.values.tolist() == [
        ["unreachable", "downstream", "downstream"],
        ["unreachable"] * 2 + ["downstream"],
    ]
    assert result.mean_map_distance_own.isnull().all()
    assert (result.mean_map_distance > 0).all()


def test_only_timesteps_that_an_edit_reaches_are_read() -> None:
    edit = wb.SkipBlock(1, timesteps=(700, 1000))
    both, one = (intervene([edit], timesteps=timesteps, readout=3, control=None) for timesteps in ([800, 200], [800]))
    np.testing.assert_allclose(both.map_distance, one.map_distance, rtol=1e-5)


def test_later_passes_of_a_generation_are_reached_in_every_layer() -> None:
    result = intervene([wb.SkipBlock(2), wb.AttendMode("image", 2)], "a dog", steps=2, control=None, layers=range(5))
    assert result.reach.values.tolist() == [
        ["later", "later", "skipped", "downstream", "downstream"],
        ["unreachable", "unreachable", "own", "downstream", "downstream"],
    ]
    assert (result.mean_map_distance_by_layer[0] > 0).values.tolist() == [True, True, False, True, True]


@pytest.mark.slow
def test_controls_are_read_where_their_interventions_are() -> None:
    result = intervene([wb.SkipBlock(1)], readout=[2, 3])
    assert result.control.item() == "direction"
    assert result.control_edit.values[0].tolist() == [
        f"RandomDirection(SkipBlock(1){seed})" for seed in ("", ", seed=1", ", seed=2")
    ]
    expected = [distance([2, 3], wb.RandomDirection(wb.SkipBlock(1), seed)) for seed in range(3)]
    np.testing.assert_allclose(result.mean_map_distance_control[0], expected, rtol=1e-4)
    by_layer = result.mean_map_distance_by_layer_control.transpose("intervention", "repeat", "read_layer")
    assert by_layer[0, 1, 2].item() == pytest.approx(distance([3], wb.RandomDirection(wb.SkipBlock(1), 1)), rel=1e-4)
    share = float((np.array(expected) < result.mean_map_distance.item()).mean())
    assert result.mean_map_distance_rank.item() == share
    assert np.isinf(result.draws_available.item())


@pytest.mark.slow
def test_an_exhaustive_plan_is_compared_with_random_directions() -> None:
    result = intervene(wb.SkipBlock.each())
    assert result.intervention.values.tolist() == [f"SkipBlock({layer})" for layer in range(4)]
    assert set(result.control.values) == {"direction"}
    assert result.control_edit.values[1, 2] == "RandomDirection(SkipBlock(1), seed=2)"
    expected = distance([3], wb.RandomDirection(wb.SkipBlock(2), seed=1))
    assert result.mean_map_distance_control[2, 1].item() == pytest.approx(expected, rel=1e-4)
    assert result.sizes["repeat"] == 3
    assert not result.attrs["shared_draws"]
    shared = intervene(wb.SkipBlock(2), control="direction", repeats=1, shared_draws=True)
    assert shared.attrs["shared_draws"]
    assert shared.control_edit.item() == "RandomDirection(SkipBlock(2), shared=True)"
    with pytest.raises(InputError, match="shared_draws"):
        intervene(wb.SkipBlock(2), shared_draws="yes")


@pytest.mark.slow
def test_activations_of_other_images_are_a_control(tmp_path: Path) -> None:
    paths = []
    for seed in (1, 2):
        picture = np.random.default_rng(seed).integers(0, 255, (16, 24, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(picture).save(paths[-1])
    result = intervene([wb.ScaleHeads(1, 0)], control="resample", references=paths)
    other = wb.Patch(1, 0, wb.Source(image=str(paths[1])))
    assert result.control_edit.values[0, 1] == str(other)
    assert (result.sizes["repeat"], result.draws_available.item(), result.control.item()) == (2, 2, "resample")
    assert result.mean_map_distance_control[0, 1].item() == pytest.approx(distance([2], other), rel=1e-4)
    Image.fromarray(PICTURE).save(tmp_path / "itself.png")
    for references, message in (
        ((), "takes a list of other images"),
        ([paths[0], tmp_path / "itself.png"], "hold the subject itself"),
        ([wb.Source(seed=4)], "hold the subject itself"),
    ):
        with pytest.raises(InputError, match=message):
            intervene([wb.ScaleHeads(1, 0)], control="resample", references=references)
    with pytest.raises(InputError, match="leave them out"):
        intervene([wb.ScaleHeads(1, 0)], references=paths)
    made = intervene([wb.SkipBlock(1)], "a dog", steps=1, control="resample", references=["a cat"])
    assert made.control_edit.item() == "Patch(1, source=Source(prompt='a cat'))"


@pytest.mark.slow
def test_a_p_value_is_given_when_asked_for_and_only_where_it_can_be_reached() -> None:
    plan = [wb.MaskText(1, tokens="dog"), wb.ScaleHeads(0, 1)]
    with pytest.warns(
        WorkbenchWarning, match="A p of 0.2 takes 4 distinct controls, and MaskText.* has 3: it has none"
    ):
        result = intervene(plan, prompt="a dog on grass", repeats=4, level=0.2)
    assert result.control.values.tolist() == ["units", "direction"]
    assert result.draws_available.values.tolist() == [3, np.inf]
    assert result.mean_map_distance_p.isnull().values.tolist() == [True, False]
    beyond = int((result.mean_map_distance_control[1] >= result.mean_map_distance[1]).sum())
    assert result.mean_map_distance_p[1].item() == pytest.approx((beyond + 1) / 5)
    assert "mean_map_distance_p" not in intervene([wb.ScaleHeads(0, 1)], repeats=4)


@pytest.mark.slow
def test_the_record_repeats_the_experiment() -> None:
    result = intervene([wb.MaskText(1), (wb.SkipBlock(2), wb.ScaleHeads(1, 0))], prompt="a dog", control_seed=5)
    attrs = json.loads(json.dumps(result.attrs))
    again = intervene(attrs["plan"], prompt="a dog", control_seed=attrs["control_seed"])
    assert again.identical(result)
    controls = read_attributes(attrs)["controls"]
    assert [[str(one) for one in wb.interventions.read(draw)] for draw in controls[0]] == [
        [label] for label in result.control_edit.values[0] if label
    ]


def test_words_of_the_prompt_are_exchanged_for_other_words() -> None:
    result = intervene([wb.MaskText(2, tokens="dog")], prompt="a dog on grass", repeats=9)
    labels = result.control_edit.values[0].tolist()
    assert labels == [f"MaskText(layers=2, tokens={place})" for place in (0, 2, 3)]


@pytest.mark.slow
def test_a_picture_that_is_made_is_compared_too() -> None:
    result = intervene(wb.ScaleHeads.each(layer=1), "a dog", steps=2)
    pictures = [
        wb.generate(
            "a dog", WORDS, model=PIPE, steps=2, size=(16, 24), layers=[1], store=False, progress=False, interventions=e
        )["image"].astype(float)
        for e in ((), wb.ScaleHeads(1, 0))
    ]
    error = float(((pictures[0] - pictures[1]) ** 2).mean())
    assert result.psnr[0].item() == pytest.approx(10 * np.log10(255**2 / error))
    assert result.psnr_control.dims == ("intervention", "repeat")
    assert set(result.psnr_rank.dims) == {"intervention"}
    assert "psnr_paired" not in result
    assert result.attrs["prompt"] == "a dog"


@pytest.mark.slow
def test_edits_of_the_concepts_leave_all_maps_to_compare() -> None:
    result = intervene([wb.AttendMode("image"), wb.DropConcept("sky")])
    assert result.control.values.tolist() == ["direction", "units"]
    assert result.mean_map_distance[0].item() == pytest.approx(distance([3], wb.AttendMode("image")), rel=1e-4)
    dropped = result.map_distance.sel(intervention="DropConcept('sky')")
    assert dropped.isnull().values.tolist() == [False, True, False]
    # A control drops one of the two others; one concept alone has no map.
    assert result.map_distance_control.sel(intervention="DropConcept('sky')").isnull().all()
    assert result.mean_map_distance_rank.isnull().values.tolist() == [False, True]


def test_an_edit_that_changes_nothing_has_no_effect_and_an_average_rank() -> None:
    result = intervene([wb.ScaleHeads(1, 0, factor=1)])
    assert not result.map_distance.any()
    assert result.mean_map_distance_rank.item() == 0.5


def test_what_acts_everywhere_is_read_in_the_last_layer() -> None:
    result = intervene([wb.BlurAttention()], prompt="a dog", control=None)
    assert result.attrs["readout"] == "[3]"
    assert result.readout_reach.item() == "own"
    assert result.mean_map_distance.item() > 0
    assert "repeat" not in result.sizes


def test_truth_is_what_the_iou_is_with() -> None:
    masks = {word: np.zeros((16, 24), bool) for word in WORDS}
    masks["dog"][:8] = masks["sky"][8:] = True
    masks["grass"][4:12] = True
    result = intervene([wb.SkipBlock(0)], truth=masks, control=None)
    runs = [
        wb.capture(
            PICTURE, WORDS, model=PIPE, size=(16, 24), layers=[1, 2, 3], store=False, progress=False,
            interventions=edits, truth=masks,
        ).wb.score(layers=[1, 2])["iou"]
        for edits in ((), wb.SkipBlock(0))
    ]  # fmt: skip
    np.testing.assert_allclose(result.iou_shift[0], (runs[1] - runs[0]).values)
    assert result.attrs["iou_of"] == "truth"
    assert result.attrs["truth_hash"]
    assert json.loads(result.attrs["origin"])["concepts"] == WORDS


@pytest.mark.slow
def test_runs_are_kept_and_a_cancelled_experiment_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel, told = Event(), []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        if done == 3:
            cancel.set()

    plan = wb.SkipBlock.each(range(3))
    options = {"store": True, "home": home, "timesteps": [800]}
    with pytest.raises(CancelledError, match="goes on"):
        intervene(plan, progress=tell, cancel=cancel, **options)
    assert told == [(0, 13), (1, 13), (2, 13), (3, 13)]
    assert len(wb.runs(home)) == 3
    passes = []
    run = Trace.run
    monkeypatch.setattr(Trace, "run", lambda self, **inputs: (passes.append(1), run(self, **inputs)))
    result = intervene(plan, **options)
    assert len(passes) == 10
    assert intervene(plan, **options).identical(result)
    assert len(passes) == 10
    assert set(read_attributes(result.attrs)["keys"].values()) == {run.key for run in wb.runs(home)}
    assert intervene(plan, timesteps=[800]).drop_attrs().identical(result.drop_attrs())


def test_a_run_under_way_is_cancelled_behind_its_pass(home: Path) -> None:
    cancel = Event()
    cancel.set()
    with pytest.raises(CancelledError):
        intervene([wb.SkipBlock(1)], "a dog", cancel=cancel, store=True, home=home, steps=2)
    assert wb.runs(home) == []


def test_words_prompts_and_pictures_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    encode = PIPE.vae.encode
    monkeypatch.setattr(PIPE.vae, "encode", lambda pixels: (calls.append("image"), encode(pixels))[1])
    intervene([wb.SkipBlock(1)])
    assert calls == ["image"]


@pytest.mark.slow
def test_vital_layers_come_first() -> None:
    found = wb.vital_layers(
        PICTURE, WORDS, model=PIPE, size=(16, 24), layers=[1, 2, 3], repeats=2, store=False, progress=False
    )
    effect = found.mean_map_distance.values
    assert (effect[:-2] >= effect[1:-1]).all()
    assert np.isnan(effect[-1])
    assert found.layer[-1] == 3, "nothing that is recorded lies behind the last layer"
    assert [f"SkipBlock({layer})" for layer in found.layer.values] == found.intervention.values.tolist()
    assert [edits[0]["layers"][0] for edits in read_attributes(found.attrs)["plan"]] == found.layer.values.tolist()
    assert [json.loads(str(edits))[0]["layers"][0] for edits in found.edits.values] == found.layer.values.tolist()
    assert found.attrs["sorted_by"] == "mean_map_distance"
    pictures = wb.vital_layers(
        "a dog", WORDS, model=PIPE, size=(16, 24), steps=2, control=None, by="ssim", store=False, progress=False
    )
    assert (np.diff(pictures.ssim) >= 0).all()
    assert sorted(pictures.layer.values) == list(range(5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control": "random"}, "control is 'random'"),
        (
            {"control": "units"},
            "control is 'units', but the layers of SkipBlock.* 'direction', 'matched' or 'resample'",
        ),
        ({"plan": [wb.AttendMode("image", 1)], "control": "matched"}, "too few for a covariance. Expected 'direction'"),
        ({"plan": [wb.NullText(1)], "control": "resample", "references": ["x.png"]}, "no image file|heads or blocks"),
        ({"readout": [1, 4]}, "readout is .*recorded layers, 1, 2, 3"),
        ({"readout": "upstream"}, "readout is 'upstream'"),
        ({"readout": slice(1, None)}, "both ends of a slice"),
        ({"level": 0.05}, "a p of 0.05 takes at least 19 controls.* repeats is 3"),
        ({"level": 2}, "level is 2"),
        ({"level": 0.5, "control": None}, "control is None"),
        ({"repeats": 0}, "repeats is 0"),
        ({"space": "prompt"}, "space is 'prompt'"),
        ({"interventions": ()}, "The plan says"),
        ({"subject": "a dog", "truth": {"dog": np.ones((16, 24), bool)}}, "truth belongs to a picture"),
        ({"plan": [wb.SkipBlock(5)]}, "layers 0 to 4"),
        ({"plan": []}, "holds no intervention"),
        ({"layers": [9]}, "layers"),
        ({"plan": wb.SkipBlock}, r"the plan is SkipBlock itself; expected .* SkipBlock.each\(\)"),
        ({"plan": wb.SkipBlock.each}, "with parentheses"),
        ({"step": 3}, "takes no step.* of capture: prompt, timesteps"),
        ({"subject": "a dog", "timesteps": 3}, "takes no timesteps.* of generate: steps"),
        ({"subject": dataset()}, "the subject is a dataset"),
        ({"progress": 3}, "progress is 3"),
        ({"cancel": True}, "threading.Event"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_is_wrong_is_refused_before_anything_runs(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PIPE.transformer, "forward", lambda *args, **kwargs: pytest.fail("the model ran"))
    with pytest.raises(InputError, match=message):
        intervene(**{"plan": [wb.SkipBlock(1)]} | options)


@pytest.mark.parametrize("by", ["lpips", "iou_shift", "psnr"])
def test_what_cannot_rank_is_refused_before_anything_runs(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIPE.transformer, "forward", lambda *args, **kwargs: pytest.fail("the model ran"))
    with pytest.raises(
        InputError, match="expected one of mean_map_distance, total_variation_distance, mean_iou_shift, which"
    ):
        wb.vital_layers(PICTURE, WORDS, model=PIPE, by=by)


def test_a_prompt_is_told_from_the_path_of_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "a dog"
    path.touch()
    assert is_prompt("a dog on grass")
    assert is_prompt("a dog " * 200)
    assert not is_prompt(str(path))
    assert not is_prompt("nowhere.png")
    assert not is_prompt(path)
    assert not is_prompt(PICTURE)


@pytest.mark.slow
def test_the_runs_of_an_experiment_say_what_they_are_of(home: Path) -> None:
    result = intervene([wb.SkipBlock(2)], store=True, home=home)
    keys = read_attributes(result.attrs)["keys"]
    runs = {run.key: run for run in store.runs(home)}
    assert not any(run.own for run in runs.values())
    baseline = runs[keys["baseline"]]
    assert (baseline.role, baseline.parent, baseline.edit) == ("baseline", "", "")
    for label, role in (("SkipBlock(2)", "edit"), ("RandomDirection(SkipBlock(2))", "control")):
        run = runs[keys[label]]
        assert (run.role, run.parent, run.edit) == (role, baseline.key, label)
    (family,) = families(list(runs.values()))
    assert family.head == baseline


@pytest.mark.slow
def test_an_experiment_from_the_users_own_run_lies_below_it(home: Path) -> None:
    asked = {"model": PIPE, "size": (16, 24), "layers": [1, 2, 3], "spaces": "output", "home": home, "progress": False}
    mine = wb.capture(PICTURE, WORDS, **asked)
    edited = wb.capture(PICTURE, WORDS, interventions=wb.SkipBlock(2), **asked)
    result = intervene([wb.SkipBlock(2)], store=True, home=home)
    assert read_attributes(result.attrs)["keys"]["baseline"] == mine.attrs["key"]
    assert read_attributes(result.attrs)["keys"]["SkipBlock(2)"] == edited.attrs["key"]
    found = {family.head.key: [run.role for run in family.derived] for family in families(store.runs(home))}
    assert found == {mine.attrs["key"]: ["control"] * 3, edited.attrs["key"]: []}


@pytest.mark.slow
def test_an_experiment_belongs_to_the_run_it_is_asked_from_where_that_is_stored(home: Path) -> None:
    mine = wb.capture(PICTURE, WORDS, model=PIPE, size=(16, 24), home=home, progress=False)
    for place, parent in ((home, mine.attrs["key"]), (home.with_name("other"), None)):
        with asked_from(mine.attrs["key"]):
            result = intervene([wb.SkipBlock(2)], control=None, store=True, home=place)
        keys, runs = read_attributes(result.attrs)["keys"], {run.key: run for run in store.runs(place)}
        assert runs[keys["SkipBlock(2)"]].parent == (parent or keys["baseline"])
        assert runs[keys["baseline"]].parent == (parent or "")


@pytest.mark.slow
def test_the_result_comes_back_from_netcdf_as_it_was(tmp_path: Path) -> None:
    result = intervene([wb.MaskText(1), wb.SkipBlock(2)], prompt="a dog", repeats=2)
    result.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "result.nc", engine="h5netcdf") as back:
        xr.testing.assert_equal(back, result)
        assert read_attributes(back.attrs) == read_attributes(result.attrs)
        assert wb.figures.effects(back)._repr_png_() == wb.figures.effects(result)._repr_png_()
