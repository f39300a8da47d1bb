from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import xarray as xr

import workbench as wb
from tests import synthetic
from tests.store.replay import save
from workbench.schema import InputError
from workbench.widgets.explore.compare import aligned, compare
from workbench.widgets.explore.difference import minus, titles
from workbench.widgets.explore.page import save_html
from workbench.widgets.explore.state import State


@pytest.fixture
def ds() -> xr.Dataset:
    """Layers 0 to 4, timesteps 750, 500, 250, a 4 x 6 grid."""
    return synthetic.dataset(concepts=("dog", "grass", "sky"))


def test_a_run_of_one_concept_shows_raw_scores_beside_shares(ds: xr.Dataset) -> None:
    one = synthetic.dataset(concepts=("dog",))
    shown = aligned(State.from_json({"limits": [0.0, 1.0]}, ds), ds, one)
    assert (shown.reduce, shown.limits) == ("mean", None)
    assert aligned(State.default(one), one, ds).reduce == "mean"


@pytest.fixture
def deep() -> xr.Dataset:
    """Another model: layers 0 to 16, other timesteps, another order of concepts, a finer grid."""
    other = synthetic.dataset(
        concepts=("sky", "cat", "dog"),
        dual=9,
        single=8,
        timesteps=(900.0, 700.0, 450.0, 260.0, 100.0),
        grid=(8, 12),
        heads=4,
    )
    return other.assign_attrs(model="another")


def test_layers_correspond_by_relative_depth(ds: xr.Dataset, deep: xr.Dataset) -> None:
    state = replace(State.default(ds), layers=(1, 3))
    assert aligned(state, ds, deep).layers == (4, 12)
    assert aligned(replace(State.default(deep), layers=(8, 16)), deep, ds).layers == (2, 4)


def test_layers_of_one_model_correspond_by_index(ds: xr.Dataset) -> None:
    part = ds.isel(layer=[2, 3, 4])
    assert aligned(replace(State.default(ds), layers=(0, 3)), ds, part).layers == (2, 3)


def test_timesteps_correspond_by_the_nearest_sigma(ds: xr.Dataset, deep: xr.Dataset) -> None:
    state = replace(State.default(ds), timesteps=(500.0, 250.0))
    assert aligned(state, ds, deep).timesteps == (450.0, 260.0)


def test_concepts_correspond_by_name(ds: xr.Dataset, deep: xr.Dataset) -> None:
    state = replace(State.default(ds), concepts=(0, 1), difference=(0, 2), focus=2)
    other = aligned(state, ds, deep)
    assert other.concepts == (2,)
    assert other.difference == (2, 0)
    assert other.focus == 0
    unknown = aligned(replace(state, concepts=(1,), difference=(0, 1), focus=1), ds, deep)
    assert (unknown.concepts, unknown.difference, unknown.focus) == (None, None, None)


def test_the_pinned_patch_keeps_its_relative_place(ds: xr.Dataset, deep: xr.Dataset) -> None:
    pinned = aligned(replace(State.default(ds), pin=(3, 0)), ds, deep).pin
    assert pinned == (7, 1)
    assert aligned(replace(State.default(deep), pin=(7, 1)), deep, ds).pin == (3, 0)


def test_what_the_other_does_not_have_falls_back(ds: xr.Dataset, deep: xr.Dataset) -> None:
    state = replace(State.default(ds, "cross"), heads=(1,), statistic="iou", reduce="mean", opacity=0.2)
    other = aligned(state, ds, deep.drop_vars(["cross", "cross_total"]))
    assert (other.space, other.heads, other.statistic) == ("output", None, "patch_agreement")
    assert (other.reduce, other.opacity) == ("mean", 0.2)
    State.from_json(other.to_json(), deep)
    assert aligned(state, ds, ds.isel(timestep=[0])).heads == (1,)


def test_the_second_view_follows_the_first(ds: xr.Dataset, deep: xr.Dataset) -> None:
    first, second = compare(ds, deep, state={"layers": [1, 1]}).views
    assert second.state["layers"] == [4, 4]
    first.state = {**first.state, "layers": [3, 3], "timesteps": [250.0, 250.0], "pin": [0, 0]}
    assert second.state["layers"] == [12, 12]
    assert second.state["timesteps"] == [260.0, 260.0]
    assert second.state["pin"] == [1, 1]
    assert first.state["pin"] == [0, 0]
    assert first.state["limits"] == second.state["limits"] == [0.0, 1.0]


def test_a_click_in_the_second_view_moves_only_the_pin_of_the_first(ds: xr.Dataset, deep: xr.Dataset) -> None:
    first, second = compare(ds, deep).views
    before = first.state
    second.state = {**second.state, "pin": [7, 11], "focus": 0}
    assert first.state == {**before, "pin": [3, 5], "focus": 2}
    assert second.state["pin"] == [7, 11]


def test_a_key_in_the_second_view_moves_the_first_and_stays_exact(ds: xr.Dataset, deep: xr.Dataset) -> None:
    first, second = compare(ds, deep).views
    second.state = {**second.state, "layers": [7, 7], "pin": [6, 10]}
    assert first.state["layers"] == [2, 2]
    assert first.state["pin"] == [3, 5]
    assert second.state["layers"] == [7, 7]
    assert second.state["pin"] == [6, 10]
    first.state = {**first.state, "layers": [3, 3]}
    assert second.state["layers"] == [12, 12]


def test_a_wrong_object_leaves_the_other_view_as_it_is(ds: xr.Dataset) -> None:
    first, second = compare(ds, "not a dataset").views  # type: ignore[arg-type]
    assert second.error
    assert not first.error


def test_two_models_of_one_name_correspond_by_relative_depth(ds: xr.Dataset, deep: xr.Dataset) -> None:
    other = deep.assign_attrs(model=ds.attrs["model"], default_layers=[9, 10])
    assert aligned(State.default(ds), ds, other).layers == aligned(State.default(ds), ds, deep).layers
    alike = deep.assign_attrs(model=ds.attrs["model"], default_layers=ds.attrs["default_layers"])
    assert aligned(State.default(ds), ds, alike).layers == State.default(ds).layers


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.chunk(),
        lambda ds: ds.isel(sample=0, head=0),
        lambda ds: ds.astype("float64").transpose(*sorted(map(str, ds.dims))),
        lambda ds: ds.isel(channel=0),
    ],
)
def test_what_xarray_makes_of_a_run_is_shown_with_its_own_numbers(change: Any, tmp_path: Path) -> None:
    ds = synthetic.dataset(samples=2, truth=True)
    part = change(ds)
    view = wb.compare(part, ds).views[0]
    assert view.error == ""
    shown = view._answers._maps(State.from_json(view.state, view._ds), {})[1][0]
    expected = part.wb.heatmap().transpose("concept", "y", "x")
    np.testing.assert_array_equal(np.frombuffer(shown, np.float32), expected.to_numpy().ravel())
    assert save_html(part, tmp_path / "page.html").stat().st_size > 0
    assert wb.ablate(part).error == ""


def test_titles_say_what_differs(ds: xr.Dataset, home: Path) -> None:
    edited = ds.assign_attrs(interventions=[{}], edit="SkipBlock(3)", seeds=[7])
    first, second = compare(ds, edited).views
    assert first.meta["title"] == "A: not edited; seed 0"
    assert second.meta["title"] == "B: edited: SkipBlock(3); seed 7"
    assert titles([ds, ds]) == ["A: the same run", "B: the same run"]
    save(synthetic.dataset(), home, "a" * 32)
    once, twice = wb.open("a" * 32, home), wb.open("a" * 32, home)
    assert titles([once, twice]) == ["A: opened from one stored run", "B: opened from one stored run"]
    twice["output_total"] = twice.output_total * 2
    assert titles([once, twice]) == [f"{letter}: alike in all that is recorded" for letter in "AB"]
    changed = ds.assign(output_total=ds.output_total * 2)
    assert titles([ds, changed]) == [f"{letter}: alike in all that is recorded" for letter in "AB"]
    assert titles([ds.assign_attrs(key="a1"), ds.assign_attrs(key="b2")]) == ["A: a1", "B: b2"]
    assert titles([ds, ds.isel(timestep=[0])]) == ["A: timesteps 750, 500, 250", "B: timestep 750"]
    inputs = {"image": {"image": "0123456789ab", "size": [4, 4]}, "strength": 0.6, "scales": [0.5, 1]}
    made = titles([ds, ds.assign_attrs(inputs=inputs)])
    assert made == ["A: no further inputs", "B: image 01234567, strength 0.6, scales 0.5, 1"]
    long = titles([ds, ds.assign_attrs(prompt="dog " * 100)])
    assert len(long[1]) < 120


def test_the_first_minus_the_second_is_drawn_where_it_means_something(ds: xr.Dataset, deep: xr.Dataset) -> None:
    other = synthetic.dataset(concepts=("sky", "grass", "dog"), seed=1)
    state = State.default(ds)
    tiles, ramp = minus(ds, state, other, State.default(other))
    assert [tile.title for tile in tiles.tiles] == ["dog: A − B", "grass: A − B", "sky: A − B"]
    values = (ds.wb.heatmap() - other.wb.heatmap().sel(concept=ds.concept)).transpose("concept", "y", "x")
    assert ramp.ends[1] == pytest.approx(float(abs(values).max()))
    drawn = np.asarray(tiles.tiles[0].show(60, 40))[5::10, 5::10]
    scaled = (values.to_numpy()[0] / ramp.ends[1] + 1) / 2
    np.testing.assert_allclose(drawn, matplotlib.colormaps["PuOr_r"](scaled)[..., :3] * 255, atol=4)
    for wrong, reason in (
        (deep, "the grids differ"),
        (other.assign_coords(concept=["a", "b", "c"]), "no concept in common"),
        (other.assign_coords(concept=["a", "b", "dog"]), "their concepts differ"),
    ):
        (sentence,) = minus(ds, state, wrong, State.default(wrong))
        assert reason in sentence.text
    (sentence,) = minus(ds, state, ds, state, letter="C")
    assert sentence.text == "A − C is zero everywhere: these maps are the same."


def test_the_differences_follow_the_views(ds: xr.Dataset) -> None:
    both = compare(ds, synthetic.dataset(seed=1))
    first = both.children[2].value
    both.views[0].state = {**both.views[0].state, "layers": [4, 4]}
    assert both.children[2].value != first
    assert "A − B" in both.still().blocks[1].tiles[0].title
    assert both.still().words.count("A: ") == 1, "the title has the letter already"
    assert compare(ds, 3).children[2].value == b""  # type: ignore[arg-type]


def test_any_number_of_datasets_follow_the_first(ds: xr.Dataset, deep: xr.Dataset) -> None:
    third = synthetic.dataset(seed=2).assign_attrs(interventions=[{}], edit="SkipBlock(3)")
    both = compare(ds, synthetic.dataset(seed=1), third, deep, state={"layers": [1, 1]})
    assert [view.meta["variable"] for view in both.views] == ["ds_a", "ds_b", "ds_c", "ds_d"]
    assert [view.meta["title"][:2] for view in both.views] == ["A:", "B:", "C:", "D:"]
    assert "edited: SkipBlock(3)" in both.views[2].meta["title"]
    assert [view.state["layers"] for view in both.views] == [[1, 1], [1, 1], [1, 1], [4, 4]]
    both.views[3].state = {**both.views[3].state, "layers": [12, 12]}
    assert [view.state["layers"] for view in both.views] == [[3, 3], [3, 3], [3, 3], [12, 12]]
    words = [block.text for block in both.still().blocks if hasattr(block, "text")]
    assert [text[:5] for text in words] == ["A − D"]
    titles = [tile.title for block in both.still().blocks for tile in getattr(block, "tiles", ())]
    assert titles == [f"{name}: A − {letter}" for letter in "BC" for name in ("dog", "grass", "sky")]
    with pytest.raises(InputError, match="9 datasets were given; expected two to 8"):
        compare(*[ds] * 9)


@pytest.mark.slow
def test_copied_code_of_each_stored_run_opens_it(tmp_path: Path) -> None:
    for seed in (0, 1):
        save(synthetic.dataset(seed=seed), tmp_path, f"run{seed}")
    stored = wb.runs(tmp_path)
    for view, run in zip(compare(*stored).views, stored, strict=True):
        exec(view.code, made := {})
        np.testing.assert_array_equal(made["maps"], run.open().wb.heatmap())
    assert "ds_b = wb.open(" in compare(*stored).views[1].code
