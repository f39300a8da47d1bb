from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import workbench as wb
from tests import synthetic
from workbench import schema
from workbench.accessor import WorkbenchAccessor
from workbench.analysis.gauges import gauge_report
from workbench.analysis.many_images import items_of, over_items
from workbench.analysis.sweeps import sweep
from workbench.schema import InputError, SchemaError, SelectionError, WorkbenchWarning

WORDS = {"a": ("dog", "grass", "sky"), "b": ("sky", "dog", "sun"), "c": ("grass", "sky", "dog")}
"""Concepts of each item: other ones, and the same in another order."""


def _single(name: str, words: tuple[str, ...], **more: Any) -> xr.Dataset:
    ds = synthetic.dataset(
        concepts=words, samples=2, seed=ord(name), signal=2.0, truth=True, spaces=("output", "cross"), **more
    )
    rng = np.random.default_rng(ord(name))
    shape = [ds.sizes[dim] for dim in schema.LSE_DIMS]
    lse = {each: (schema.LSE_DIMS, rng.normal(size=shape).astype(np.float32)) for each in schema.LSE}
    mass = rng.random([*(ds.sizes[dim] for dim in schema.MASS_DIMS[:-1]), 16]).astype(np.float32) / 32
    coords = {"text": np.arange(16), "padding": ("text", np.arange(16) > 6)}
    ds = ds.assign({**lse, "text_mass": (schema.MASS_DIMS, mass)}).assign_coords(coords)
    return ds.assign_attrs(key=f"run-of-{name}", image_hash=f"hash-of-{name}")  # as its item in a run of many images


@pytest.fixture(params=["common", "of each"])
def singles(request: pytest.FixtureRequest) -> dict[str, xr.Dataset]:
    common = request.param == "common"
    return {name: _single(name, WORDS["a"] if common else words) for name, words in WORDS.items()}


METHODS: dict[str, Callable[[xr.Dataset], Any]] = {
    "scores": lambda ds: ds.wb.scores(layers=[1, 2]),
    "scores of heads": lambda ds: ds.wb.scores("cross", heads=[1]),
    "heatmap": lambda ds: ds.wb.heatmap(),
    "heatmap of heads, kept": lambda ds: ds.wb.heatmap(heads=[0], keep=["layer"], space="cross", upsample="bilinear"),
    "heatmap of concepts": lambda ds: ds.wb.heatmap(concepts=["sky", "dog"], center="patch"),
    "segment": lambda ds: ds.wb.segment(),
    "segment of concepts": lambda ds: ds.wb.segment(concepts=["sky", "dog"], upsample="nearest"),
    "mask": lambda ds: ds.wb.mask("sky", "argmax"),
    "score": lambda ds: ds.wb.score(),
    "score beside a null": lambda ds: ds.wb.score(null="concepts"),
    "overview": lambda ds: ds.wb.overview(),
    "overview with truth": lambda ds: ds.wb.overview("iou", space="cross", samples=0),
    "rank_heads": lambda ds: ds.wb.rank_heads(),
    "leakage": lambda ds: ds.wb.leakage(),
    "settling": lambda ds: ds.wb.settling(),
    "sinks": lambda ds: ds.wb.sinks(2),
    "text_sinks": lambda ds: ds.wb.text_sinks(),
    "concept_share": lambda ds: ds.wb.concept_share(),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_item_has_the_numbers_of_its_image_alone(method: str, singles: dict[str, xr.Dataset]) -> None:
    ds = synthetic.many(singles)
    found = METHODS[method](ds)
    assert found.dims[0] == "item" if isinstance(found, xr.DataArray) else "item" in found.dims
    assert found["name"].values.tolist() == list(singles)
    for place, (name, single) in enumerate(singles.items()):
        alone, one = METHODS[method](single), found.isel(item=place)
        variables = {"": (alone, one)} if isinstance(alone, xr.DataArray) else {n: (alone[n], one[n]) for n in alone}
        for variable, (own, held) in variables.items():
            at = {dim: own[dim] for dim in ("concept", "other") if dim in own.dims}
            if method.startswith("segment"):
                own = own.copy(data=np.array(own.attrs["flag_meanings"])[own.to_numpy()])
                held = held.copy(data=np.array(held.attrs["flag_meanings"])[held.to_numpy()])
            assert set(held.dims) == set(own.dims)
            np.testing.assert_array_equal(
                held.sel(at).transpose(*own.dims).to_numpy(), own.to_numpy(), f"{variable} of {name}"
            )
            if "concept" in held.dims:
                lacking = ~held.concept.isin(own.concept)
                assert held.sel(concept=lacking).isnull().all()


def test_every_public_method_is_known_here() -> None:
    public = {name for name, _ in inspect.getmembers(WorkbenchAccessor, inspect.isfunction) if not name.startswith("_")}
    elsewhere = {"sweep", "with_truth", "to_netcdf", "validate", "item", "self_attention"}
    assert public == elsewhere | {name.partition(" ")[0] for name in METHODS}


@pytest.mark.slow
def test_a_sweep_takes_items_as_observations(singles: dict[str, xr.Dataset]) -> None:
    ds = synthetic.many(singles)
    found = ds.wb.sweep("layer", metric="iou", seed=3)
    xr.testing.assert_identical(found, sweep(items_of(ds), "layer", metric="iou", seed=3))
    xr.testing.assert_equal(found, sweep(list(singles.values()), "layer", metric="iou", seed=3))
    assert (found.attrs["observation"], found.attrs["observations"]) == ("image", 3)
    xr.testing.assert_equal(ds.isel(item=[1]).wb.sweep("head"), singles["b"].wb.sweep("head"))
    xr.testing.assert_equal(gauge_report(ds), gauge_report(list(singles.values())))


def test_one_item_is_the_dataset_of_its_image(singles: dict[str, xr.Dataset]) -> None:
    ds = synthetic.many(singles)
    expected = singles["b"].assign_attrs(key="run-of-b", image_hash="hash-of-b")
    for one in (ds.wb.item("b"), ds.wb.item(1), items_of(ds)[1]):
        xr.testing.assert_identical(one, expected.assign_attrs(one.attrs))
        assert (one.attrs["key"], one.attrs["image_hash"]) == ("run-of-b", "hash-of-b")
    for chosen in (ds.isel(item=1), ds.isel(item=[1]), ds.sel(item=1), ds.swap_dims(item="name").sel(name="b")):
        maps = chosen.wb.heatmap().sel(concept=expected.concept)
        np.testing.assert_array_equal(maps.squeeze("item") if "item" in maps.dims else maps, expected.wb.heatmap())
    with pytest.raises(SelectionError, match=r"no items are called 'x' \(names: a, b, c\)"):
        ds.wb.item("x")
    with pytest.raises(SelectionError, match="2 items are called 'a'"):
        ds.assign_coords(name=("item", ["a", "a", "b"])).wb.item("a")
    with pytest.raises(InputError, match="of one image already"):
        expected.wb.item("b")


def test_what_differs_from_item_to_item_stays_available(tmp_path: Path) -> None:
    singles = {name: _single(name, words) for name, words in WORDS.items()}
    singles["c"].attrs["prompt"] = "a dog"
    ds = synthetic.many(singles)
    maps = ds.wb.heatmap(concepts=["sky", "dog"])
    assert "softmax_over" not in maps.attrs
    assert [tuple(json.loads(words)) for words in maps["softmax_over"].values] == list(WORDS.values())
    assert maps["softmax_over"].dims == ("item",)
    assert set(maps.coords) - set(singles["a"].wb.heatmap().coords) == {
        "item", "name", "run", "image_hash", "prompt", "softmax_over"
    }  # fmt: skip
    assert synthetic.many({"a": singles["a"], "d": singles["a"]}).wb.heatmap().attrs["softmax_over"] == list(WORDS["a"])
    scored = ds.wb.score()
    for place, (name, single) in enumerate(singles.items()):
        assert scored["origin"].values[place] == single.wb.score().attrs["origin"], name
    settled = ds.wb.settling()
    comments = [single.wb.settling()["settled"].attrs["comment"] for single in singles.values()]
    assert settled["settled_comment"].values.tolist() == comments
    settled.to_netcdf(tmp_path / "settled.nc")
    xr.testing.assert_equal(xr.load_dataset(tmp_path / "settled.nc").drop_attrs(), settled.drop_attrs())


@pytest.mark.parametrize(
    ("values", "held"),
    [
        ([1, 2.5], [1, 2.5]),
        ([True, False], [True, False]),
        (["a", "b"], ["a", "b"]),
        ([True, 2], ["true", "2"]),
        ([None, 2], ["null", "2"]),
        ([np.arange(2), [1]], ["[0, 1]", "[1]"]),
    ],
)
def test_attributes_of_items_become_labels(values: list[Any], held: list[Any]) -> None:
    ds = synthetic.many({name: _single(name, WORDS["a"]) for name in "ab"})
    given = iter(values)
    found = over_items(ds, lambda one: xr.DataArray(1.0, attrs={**one.attrs, "layer": next(given)}))
    assert found["layer"].values.tolist() == held
    assert found.attrs == {name: value for name, value in ds.attrs.items() if name not in ("key", "image_hash")}


def test_scores_stay_unread(singles: dict[str, xr.Dataset]) -> None:
    chunked = synthetic.many(singles).chunk({"item": 1})
    assert chunked.wb.scores(layers=[1], concepts=["sky"]).chunks is not None
    with pytest.raises(SelectionError, match="layer 9"):
        chunked.wb.scores(layers=[9])


def test_masks_are_added_to_each_item(singles: dict[str, xr.Dataset]) -> None:
    ds = synthetic.many(singles).drop_vars("truth")
    masks = {
        name: {str(word): one.truth.sel(concept=word).to_numpy() for word in one.concept.values}
        for name, one in singles.items()
    }
    void = {name: {**found, "ring": np.zeros_like(found["dog"])} for name, found in masks.items()}
    void["b"]["ring"][:4] = True
    for given in (masks, list(masks.values()), lambda name: masks[name]):
        xr.testing.assert_identical(ds.wb.with_truth(given).truth, synthetic.many(singles).truth)
    ringed = ds.wb.with_truth(void, ignore="ring")
    alone = singles["b"].wb.with_truth(void["b"], ignore="ring").wb.score()
    np.testing.assert_array_equal(ringed.wb.score().accuracy[1], alone.accuracy)
    with pytest.raises(InputError, match="there are none for 'c'"):
        ds.wb.with_truth({"a": masks["a"], "b": masks["b"]})
    with pytest.raises(InputError, match="for 1 images, and there are 3"):
        ds.wb.with_truth([masks["a"]])
    with pytest.raises(InputError, match=r"the item 'b': .*size|the item 'b': "):
        ds.wb.with_truth({**masks, "b": {"dog": np.zeros((3, 3), bool)}})
    with pytest.raises(InputError, match=r"give each of several datasets its own"):
        ds.wb.sweep("layer", truth=masks)


def test_a_concept_that_some_items_were_not_asked_is_refused_with_what_to_do() -> None:
    ds = synthetic.many({name: _single(name, words) for name, words in WORDS.items()})
    with pytest.raises(SelectionError, match=r"the item 'a': concept 'sun' was not captured.*ds\.asked\.sel"):
        ds.wb.mask("sun")
    assert ds.isel(item=ds.asked.sel(concept="sun", drop=True)).wb.mask("sun").sizes["item"] == 1
    with pytest.raises(InputError, match="the item 'a' was asked none of sun"):
        ds.sel(concept=["sun"]).wb.heatmap(reduce="mean")
    with pytest.raises(InputError, match="holds no items"):
        ds.isel(item=[]).wb.heatmap()


@pytest.mark.parametrize("show", [wb.figures.concept_grid, lambda ds: wb.explore(ds).error])
def test_views_and_figures_ask_for_one_item(show: Callable[[xr.Dataset], Any]) -> None:
    ds = synthetic.many({name: _single(name, WORDS["a"]) for name in "ab"})
    try:
        said = show(ds)
    except InputError as error:
        said = str(error)
    assert "holds 2 items: choose one, ds.isel(item=0)" in said
    show(ds.isel(item=[1]))
    show(ds.isel(item=1))


def test_warnings_are_given_once_for_all_items() -> None:
    ds = synthetic.many({name: _single(name, ("dog",)) for name in "abc"})
    with pytest.warns(WorkbenchWarning) as caught:
        ds.wb.heatmap()
    assert len(caught) == 1


def test_the_contract_of_many_images_is_checked(singles: dict[str, xr.Dataset]) -> None:
    ds = synthetic.many(singles)
    ds.wb.validate(values=True)
    for wrong, message in (
        (ds.drop_vars("name"), "coordinate 'name' is not there"),
        (ds.transpose("sample", ...), "expected 'item' first"),
        (ds.isel(item=[]), "length 0"),
        (ds.assign_coords(item=[0, 0, 1]), "coordinate 'item'"),
        (ds.assign_attrs(patch=0), "the item 'a': attribute 'patch'"),
        (ds.assign_attrs(failed="b"), "attribute 'failed'"),
        (ds.assign_coords(prompt=("item", [1, 2, 3])), "coordinate 'prompt'"),
        (ds.assign_coords(prompt="a dog"), "coordinate 'prompt' lies along"),
    ):
        with pytest.raises(SchemaError, match=message):
            wrong.wb.validate()
    spoilt = ds.copy(deep=True)
    spoilt.output_total[2, 0, 0, 0, 0, 0, 0] = np.nan
    spoilt.wb.validate()
    with pytest.raises(SchemaError, match="the item 'c': variable 'output_total'"):
        spoilt.wb.validate(values=True)
    if "asked" in ds.coords:
        with pytest.raises(SchemaError, match="without the other"):
            ds.drop_vars("order").wb.validate()
        with pytest.raises(SchemaError, match="to be true where"):
            ds.assign_coords(asked=~ds.asked).wb.validate()


@pytest.mark.slow
def test_many_images_go_through_netcdf(singles: dict[str, xr.Dataset], tmp_path: Path) -> None:
    ds = synthetic.many(singles).assign_attrs(failed=[{"name": "x", "error": "truncated"}])
    ds.wb.to_netcdf(tmp_path / "many.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "many.nc", engine="h5netcdf") as back:
        back.wb.validate(values=True)
        xr.testing.assert_equal(back.wb.heatmap(), ds.wb.heatmap())
        xr.testing.assert_equal(back.wb.segment(), ds.wb.segment())
        assert schema.read_attributes(back.attrs)["failed"] == ds.attrs["failed"]


def test_the_summary_counts_items(singles: dict[str, xr.Dataset]) -> None:
    ds = synthetic.many(singles).assign_attrs(failed=[{"name": "x", "error": "truncated"}])
    assert "3 items (a, b, c)" in repr(ds.wb)
    assert "1 image failed" in repr(ds.wb)
    assert "3 items" in ds.wb._repr_html_()
