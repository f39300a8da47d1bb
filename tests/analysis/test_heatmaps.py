from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from safetensors import safe_open

from tests.synthetic import dataset
from workbench.analysis.heatmaps import heatmap, mask, scores, segment
from workbench.schema import InputError, SchemaError, SelectionError, WorkbenchWarning

GOLDEN = Path(__file__).parents[1] / "golden"


def reference(ds: xr.Dataset, pieces: list[tuple[int, int, int]], reduce: str, heads: list[int] | None) -> np.ndarray:
    """(concept, y, x) in float64, one piece and one patch at a time."""
    concepts, height, width = ds.sizes["concept"], ds.sizes["y"], ds.sizes["x"]
    result = np.zeros((concepts, height, width))

    def piece(sample: int, timestep: int, layer: int) -> np.ndarray:
        at = {"sample": sample, "timestep": timestep, "layer": layer}
        if heads is None:
            return ds["output_total"].isel(at).values.astype(np.float64)
        return sum(ds["output"].isel(at).sel(head=head).values.astype(np.float64) for head in heads)

    def soft(values: np.ndarray) -> np.ndarray:
        powers = np.exp(values)
        return powers / powers.sum(0)

    for row in range(height):
        for column in range(width):
            columns = [piece(*index)[:, row, column] for index in pieces]
            if reduce == "softmax_mean":
                result[:, row, column] = sum(soft(values) for values in columns) / len(columns)
            else:
                mean = sum(columns) / len(columns)
                result[:, row, column] = soft(mean) if reduce == "mean_softmax" else mean
    return result


@pytest.mark.parametrize("reduce", ["softmax_mean", "mean_softmax", "mean"])
@pytest.mark.parametrize("heads", [None, [1], [0, 1]])
@pytest.mark.parametrize("grid", [(3, 3), (2, 4)])
def test_equals_the_definition(reduce: Any, heads: list[int] | None, grid: tuple[int, int]) -> None:
    ds = dataset(samples=2, grid=grid)
    result = heatmap(ds, layers=[1, 4], timesteps=slice(250, 500), heads=heads, reduce=reduce)
    pieces = [(sample, timestep, layer) for sample in (0, 1) for timestep in (1, 2) for layer in (1, 4)]
    assert result.dims == ("concept", "y", "x")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference(ds, pieces, reduce, heads), rtol=1e-5, atol=1e-6)
    if reduce != "mean":
        np.testing.assert_allclose(result.sum("concept"), 1, rtol=1e-6)


@pytest.mark.parametrize("case", ["A", "B"])
def test_equals_the_official_code(case: str) -> None:
    about = json.loads((GOLDEN / f"case{case}.json").read_text())
    with safe_open(GOLDEN / f"case{case}.safetensors", framework="np") as file:
        run = file.get_tensor("run.concept_scores")
        sigmas = file.get_tensor("run.sigmas")
        expected = {name: file.get_tensor(name) for name in file.keys() if name.startswith("heat.")}  # noqa: SIM118
    height, width = about["case"]["grid"]
    steps, layers, batch, concepts, _ = run.shape
    names = [f"concept {index}" for index in range(concepts)]
    ds = dataset(
        concepts=names,
        samples=batch,
        timesteps=[float(sigma) * 1000 for sigma in sigmas[:steps]],
        dual=layers,
        single=0,
        grid=(height, width),
        spaces=("output",),
    )
    total = run.transpose(2, 0, 1, 3, 4).reshape(batch, steps, layers, concepts, height, width)
    ds = ds.drop_vars("output").assign(output_total=ds["output_total"].copy(data=total))

    assert about["selections"]
    for name, (chosen_layers, chosen_steps) in about["selections"].items():
        choice: dict[str, Any] = {
            "layers": chosen_layers,
            "timesteps": ds["timestep"].values[chosen_steps].tolist(),
        }
        for reduce, key in (("softmax_mean", "output.softmax"), ("mean", "output.raw")):
            result = heatmap(ds, keep=["sample"], reduce=reduce, **choice)  # type: ignore[arg-type]
            wanted = expected[f"heat.{name}.{key}"]
            np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
        first = heatmap(ds, samples=0, reduce="mean_softmax", **choice)
        wanted = expected[f"heat.{name}.dicts.softmax"]
        np.testing.assert_allclose(first, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_default_layers() -> None:
    ds = dataset(default_layers=(1, 2, 9))
    assert heatmap(ds).attrs["layers"] == [1, 2]
    xr.testing.assert_identical(heatmap(ds), heatmap(ds, layers=[1, 2]))


def test_default_layers_that_were_not_captured() -> None:
    ds = dataset(layers=[0, 3], default_layers=(1, 2))
    with pytest.warns(WorkbenchWarning, match=r"default layers \(1, 2\) was captured; all captured layers \(0, 3\)"):
        result = heatmap(ds)
    xr.testing.assert_identical(result, heatmap(ds, layers=[0, 3]))


def test_choosing_concepts_does_not_change_their_maps() -> None:
    ds = dataset()
    everything = heatmap(ds)
    xr.testing.assert_equal(heatmap(ds, concepts=["sky", "dog"]), everything.sel(concept=["sky", "dog"]))
    assert heatmap(ds, concepts="sky").attrs["softmax_over"] == ["dog", "grass", "sky"]


def test_attributes_record_the_choice() -> None:
    ds = dataset(samples=2)
    attrs = heatmap(ds, space="cross", layers=3, timesteps=510, heads=[1], samples=1, reduce="mean").attrs
    assert attrs == {
        "space": "cross",
        "reduce": "mean",
        "softmax_over": [],
        "samples": [1],
        "timesteps": [500.0],
        "timesteps_asked": [510.0],
        "layers": [3],
        "heads": [1],
    }
    json.dumps(attrs)


@pytest.mark.parametrize("keep", [["sample"], ["timestep", "layer"], ("layer", "sample", "timestep")])
def test_kept_dimensions(keep: Any) -> None:
    ds = dataset(samples=2)
    result = heatmap(ds, layers=slice(None), keep=keep)
    assert set(result.dims) == {*keep, "concept", "y", "x"}
    index = dict.fromkeys(keep, 1)
    label = {f"{dim}s": ds[dim].values[1].item() for dim in keep}
    expected = heatmap(ds, **{"layers": slice(None), **label})
    np.testing.assert_allclose(result.isel(index), expected, rtol=1e-6)
    assert all(name in result.coords for dim, name in (("sample", "seed"), ("timestep", "sigma")) if dim in keep)


def test_missing_pieces_are_left_out() -> None:
    ds = dataset(missing=[(0, 500.0, 2)])
    result = heatmap(ds, layers=[1, 2])
    pieces = [(0, timestep, layer) for timestep in range(3) for layer in (1, 2) if (timestep, layer) != (1, 2)]
    np.testing.assert_allclose(result, reference(ds, pieces, "softmax_mean", None), rtol=1e-5)


def test_where_nothing_is_left_the_map_is_nan() -> None:
    ds = dataset(missing=[(0, 500.0, 2), (0, 750.0, 2), (0, 250.0, 2)])
    result = heatmap(ds, layers=[1, 2], keep=["layer"])
    assert result.sel(layer=2).isnull().all()
    assert result.sel(layer=1).notnull().all()
    labels = segment(ds, layers=[1, 2], keep=["layer"])
    assert (labels.sel(layer=2) == -1).all()
    assert (labels.sel(layer=1) >= 0).all()
    for rule in ("argmax", "mean", 0.0):
        assert not mask(ds, "dog", rule, layers=[1, 2], keep=["layer"]).sel(layer=2).any()
    with pytest.raises(SelectionError, match="every chosen piece is missing"):
        heatmap(ds, layers=2)


def test_nan_that_is_not_listed_is_damage() -> None:
    ds = dataset(missing=[(0, 500.0, 2)]).assign_attrs(missing=[])
    with pytest.raises(SchemaError, match=r"sample 0, timestep 500, layer 2, and attrs\['missing'\] does not list it"):
        heatmap(ds)
    heatmap(ds, layers=1)
    ds.output_total[0, 0, 2, 1, 3, 3] = np.nan
    with pytest.raises(SchemaError, match=r"although attrs\['missing'\] does not list them"):
        heatmap(ds, timesteps=750)


def test_one_concept_warns_of_its_softmax() -> None:
    ds = dataset(concepts=["dog"])
    with pytest.warns(WorkbenchWarning, match="reduce='mean'"):
        assert (heatmap(ds) == 1).all()
    assert float(heatmap(ds, reduce="mean").std()) > 0


def test_averaging_different_pictures_warns() -> None:
    ds = dataset(kind="generate", samples=3)
    with pytest.warns(WorkbenchWarning, match="3 different pictures"):
        heatmap(ds)
    heatmap(ds, samples=1)
    heatmap(ds, keep=["sample"])


def test_tokens_of_the_prompt() -> None:
    ds = dataset(spaces=("output", "prompt"))
    result = heatmap(ds, space="prompt")
    assert result.dims == ("token", "y", "x")
    assert heatmap(ds, space="prompt", concepts="a").sizes["token"] == 2
    labels = segment(ds, space="prompt")
    assert labels.attrs["flag_meanings"] == ["a", "dog", "on", "a", "hill"]
    shared = mask(ds, "a", "argmax", space="prompt")
    assert np.array_equal(shared, labels.isin([0, 3]))


@pytest.mark.parametrize(("grid", "patch"), [((3, 5), 8), ((4, 2), 5), ((1, 3), 4)])
def test_nearest_repeats_each_patch(grid: tuple[int, int], patch: int) -> None:
    ds = dataset(grid=grid, patch=patch)
    coarse, fine = heatmap(ds), heatmap(ds, upsample="nearest")
    assert fine.dims == ("concept", "pixel_y", "pixel_x")
    assert np.array_equal(fine, np.kron(coarse, np.ones((1, patch, patch), np.float32)))
    assert fine["pixel_y"].equals(ds["pixel_y"])
    assert fine["pixel_x"].equals(ds["pixel_x"])
    assert fine.attrs["upsample"] == "nearest"


@pytest.mark.parametrize(("grid", "patch"), [((3, 5), 8), ((4, 2), 5), ((1, 3), 4)])
def test_bilinear_interpolates_between_centres(grid: tuple[int, int], patch: int) -> None:
    ds = dataset(grid=grid, patch=patch)
    coarse, fine = heatmap(ds), heatmap(ds, upsample="bilinear")
    expected = np.empty(fine.shape)
    for concept in range(ds.sizes["concept"]):
        rows = np.stack([np.interp(ds.pixel_x, ds.x, row) for row in coarse.values[concept]])
        expected[concept] = np.stack([np.interp(ds.pixel_y, ds.y, column) for column in rows.T], -1)
    np.testing.assert_allclose(fine, expected, rtol=1e-5, atol=1e-6)


def test_upsampling_part_of_a_picture_covers_that_part() -> None:
    ds = dataset(grid=(4, 6))
    part = ds.isel(y=slice(1, 3), x=slice(2, 6))
    fine = heatmap(part, upsample="nearest")
    assert (fine.pixel_y.values[[0, -1]].tolist(), fine.pixel_x.values[[0, -1]].tolist()) == ([8, 23], [16, 47])
    xr.testing.assert_allclose(fine, heatmap(ds, upsample="nearest").isel(pixel_y=slice(8, 24), pixel_x=slice(16, 48)))


def test_segment_is_the_strongest_concept() -> None:
    ds = dataset(truth=True, signal=8.0)
    labels = segment(ds)
    assert labels.dims == ("y", "x")
    assert labels.dtype == np.int16
    assert labels.attrs["flag_meanings"] == ["dog", "grass", "sky"]
    assert np.array_equal(labels, heatmap(ds).argmax("concept"))
    pixels = segment(ds, upsample="nearest")
    assert np.array_equal(pixels, ds["truth"].argmax("concept"))
    two = segment(ds, concepts=["sky", "dog"])
    assert two.attrs["flag_meanings"] == ["sky", "dog"]
    assert (two == 0).sum() + (two == 1).sum() == two.size


def test_masks() -> None:
    ds = dataset(signal=1.0)
    maps = heatmap(ds)
    dog = maps.sel(concept="dog", drop=True)
    assert mask(ds, "dog").dtype == bool
    assert np.array_equal(mask(ds, "dog"), dog.values > dog.values.astype(np.float64).mean())
    assert np.array_equal(mask(ds, "dog", 0.4), dog > 0.4)
    split = xr.concat([mask(ds, name, "argmax") for name in ("dog", "grass", "sky")], "concept")
    assert (split.sum("concept") == 1).all()
    assert np.array_equal(split.argmax("concept"), segment(ds))


def test_mean_of_a_constant_map_has_no_inside() -> None:
    ds = dataset()
    ds = ds.drop_vars("output").assign(output_total=xr.full_like(ds["output_total"], 0.7))
    assert not mask(ds, "dog").any()


@pytest.mark.parametrize("rule", ["median", True, None, float("nan"), [0.5]])
def test_unknown_rules_are_refused(rule: Any) -> None:
    with pytest.raises(InputError, match="expected 'mean', 'argmax' or a number"):
        mask(dataset(), "dog", rule)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduce": "max"}, "softmax_mean, mean_softmax, mean"),
        ({"upsample": "cubic"}, "None, 'nearest' or 'bilinear'"),
        ({"keep": "layer"}, "expected a list of dimensions from sample, timestep, layer"),
        ({"keep": ["head"]}, "expected a list of dimensions from sample, timestep, layer"),
        ({"space": "value"}, "not captured"),
        ({"concepts": "cat"}, "concept 'cat' was not captured"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmap(dataset(), **options)
    with pytest.raises(InputError, match="once for each"):
        mask(dataset(), "dog", concepts=["dog"])
    with pytest.raises(SelectionError, match="dog, grass, sky"):
        mask(dataset(), 1)  # type: ignore[arg-type]


def test_scores_sum_the_chosen_heads() -> None:
    ds = dataset(samples=2, heads=3)
    assert scores(ds, "cross").identical(ds["cross_total"].assign_attrs(space="cross"))
    some = scores(ds, "cross", heads=[0, 2], layers=1, concepts="sky")
    expected = ds["cross"].sel(head=[0, 2], layer=[1], concept=["sky"]).astype(np.float32).sum("head")
    assert some.dtype == np.float32
    assert some.dims == ds["cross_total"].dims
    np.testing.assert_allclose(some, expected, rtol=1e-6, atol=1e-7)
    assert (some.attrs["heads"], some.attrs["space"]) == ([0, 2], "cross")


def test_heads_without_per_head_scores_are_refused() -> None:
    with pytest.raises(SelectionError, match="only the sums over heads of 'output'"):
        scores(dataset().drop_vars("output"), heads=0)


Reads = list[tuple[str, ...]]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> tuple[xr.Dataset, Reads]:
    """A dataset behind zarr, and the chunks of scores read from it so far: (variable, sample, timestep, layer)."""
    ds = dataset(samples=2)
    for name in ("output", "output_total", "cross", "cross_total"):
        ds[name].encoding["chunks"] = (1, 1, 1, *ds[name].shape[3:])
    for name in ("concept", "block", "module", "channel"):
        ds[name] = ds[name].astype(object)
    store = zarr.storage.MemoryStore()
    ds.to_zarr(store, zarr_format=3, consolidated=False)
    reads: Reads = []
    get = zarr.storage.MemoryStore.get

    async def watched(self: zarr.storage.MemoryStore, key: str, *args: Any, **kwargs: Any) -> Any:
        name, _, chunk = key.partition("/c/")
        if chunk and name.startswith(("output", "cross")):
            reads.append((name, *chunk.split("/")[:3]))
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(zarr.storage.MemoryStore, "get", watched)
    return xr.open_zarr(store, chunks=None, consolidated=False), reads


def test_only_the_chosen_totals_are_read(stored: tuple[xr.Dataset, Reads]) -> None:
    ds, reads = stored
    assert scores(ds, layers=[1, 4], timesteps=500).sizes["layer"] == 2
    assert reads == []
    result = heatmap(ds, layers=[1, 4], timesteps=500)
    assert sorted(reads) == [("output_total", sample, "1", layer) for sample in "01" for layer in "14"]
    np.testing.assert_array_equal(result, heatmap(dataset(samples=2), layers=[1, 4], timesteps=500))


def test_chosen_heads_are_read_per_head(stored: tuple[xr.Dataset, Reads]) -> None:
    ds, reads = stored
    heatmap(ds, layers=4, samples=1, heads=0)
    assert sorted(reads) == [("output", "1", timestep, "4") for timestep in "012"]
