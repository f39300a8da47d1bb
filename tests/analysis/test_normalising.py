from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr.storage
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synthetic import dataset
from workbench import schema
from workbench.analysis import attention, heads, heatmaps, leakage, metrics, settling, sweeps
from workbench.analysis.normalising import normalised
from workbench.figures import concept_grid
from workbench.schema import InputError, SchemaError, SelectionError, WorkbenchError, WorkbenchWarning, noted
from workbench.widgets.explore.arrays import maps as drawn_maps
from workbench.widgets.explore.state import State
from workbench.widgets.shared.refusals import problem

steady = settings(deadline=None, derandomize=True, max_examples=25)
ignoring_zarr = pytest.mark.filterwarnings("ignore:.*(Zarr V3|Zarr format 3).*")


def with_lse(ds: xr.Dataset) -> xr.Dataset:
    logits = ds["cross"].astype("float32")
    return ds.assign(
        lse_image=np.log(np.exp(logits).sum(["y", "x"], skipna=False)), lse_concept=logits.isel(y=0, x=0, drop=True)
    )


DS = with_lse(dataset(samples=2, dual=2, single=1, heads=3, grid=(3, 2), patch=4, truth=True, seed=3))
CHOSEN = ("sample", "timestep", "layer", "head", "concept")


def by_hand(held: dict[str, list[int]]) -> xr.Dataset:
    """The dataset of some positions along each dimension, put together from plain arrays."""

    def cut(values: np.ndarray, dims: tuple[Any, ...]) -> np.ndarray:
        for axis, dim in enumerate(dims):
            values = np.take(values, held[dim], axis) if dim in held else values
        return values

    variables = {name: (var.dims, cut(var.values, var.dims)) for name, var in DS.variables.items()}
    if len(held["head"]) < DS.sizes["head"]:
        for space in ("output", "cross"):
            dims, values = variables[space]
            summed = values.astype(np.float32).sum(dims.index("head"))
            variables[schema.total(space)] = (variables[schema.total(space)][0], summed)
    attrs = DS.attrs | {"head_count": len(held["head"]), "seeds": [DS.attrs["seeds"][at] for at in held["sample"]]}
    coords = {name: variables.pop(name) for name in DS.coords}
    return xr.Dataset(variables, coords, attrs)


def heatmap_by_hand(held: dict[str, list[int]]) -> np.ndarray:
    """Softmax over the concepts of every piece, then the mean: (concept, y, x)."""
    if len(held["head"]) < DS.sizes["head"]:
        scores = DS["output"].values.astype(float)[:, :, :, held["head"]].sum(3)
    else:
        scores = DS["output_total"].values.astype(float)
    layers = [layer for layer in held["layer"] if layer in DS.attrs["default_layers"]] or held["layer"]
    scores = scores[held["sample"]][:, held["timestep"]][:, :, layers][:, :, :, held["concept"]]
    shares = np.exp(scores) / np.exp(scores).sum(3, keepdims=True)
    return np.asarray(shares.mean((0, 1, 2)))


def concepts_of(ds: xr.Dataset) -> list[str]:
    return [str(name) for name in np.atleast_1d(ds.concept.values)] if "concept" in ds.coords else []


METHODS: dict[str, Callable[[xr.Dataset], Any]] = {
    "heatmap": heatmaps.heatmap,
    "scores": heatmaps.scores,
    "segment": lambda ds: heatmaps.segment(ds, upsample="nearest"),
    "mask": lambda ds: heatmaps.mask(ds, [*concepts_of(ds), "dog"][0], keep=["sample"]),
    "score": metrics.score,
    "sweep": lambda ds: sweeps.sweep(ds, ("layer", "timestep"), metric=["iou", "full_map_iou"], resamples=3),
    "heads": lambda ds: sweeps.sweep(ds, "head", metric="full_map_iou", resamples=3),
    "rank_heads": lambda ds: heads.rank_heads(ds, "total_variation"),
    "leakage": leakage.leakage,
    "settling": lambda ds: settling.settling(ds, 0.5),
    "sinks": lambda ds: attention.sinks(ds, 2, of="all"),
    "concept_share": attention.concept_share,
    "with_truth": lambda ds: ds.wb.with_truth(DS.truth.sel(concept=concepts_of(ds))).truth,
    "view": lambda ds: drawn_maps(State.default(normalised(ds)), normalised(ds)),
}


def in_memory(ds: xr.Dataset, version: Any) -> xr.Dataset:
    store = zarr.storage.MemoryStore()
    ds.drop_encoding().to_zarr(store, zarr_format=version, consolidated=False)
    return xr.open_zarr(store, consolidated=False, zarr_format=version, chunks=None)


def joined(parts: list[xr.Dataset], dim: str, **options: Any) -> xr.Dataset:
    usual = {
        "data_vars": "all",
        "coords": "minimal",
        "compat": "override",
        "join": "outer",
        "combine_attrs": "override",
    }
    return xr.concat(parts, dim, **{**usual, **options})


def changed(ds: xr.Dataset, data: st.DataObject, held: dict[str, list[int]]) -> xr.Dataset:
    """One operation of xarray, kept account of in ``held``."""
    what = data.draw(
        st.sampled_from(
            ["list", "list", "scalar", "squeeze", "transpose", "wide", "chunk", "pickle", "join", "reverse", "zarr 2"]
        )
    )
    if what == "list":
        dim = data.draw(st.sampled_from(CHOSEN))
        if dim not in ds.dims:
            return ds
        places = data.draw(st.lists(st.integers(0, ds.sizes[dim] - 1), min_size=1, unique=True))
        held[dim] = [held[dim][place] for place in places]
        return ds.isel({dim: places})
    if what == "scalar":
        dim = data.draw(st.sampled_from(CHOSEN))
        if dim not in ds.dims:
            return ds
        place = data.draw(st.integers(0, ds.sizes[dim] - 1))
        held[dim] = [held[dim][place]]
        return ds.isel({dim: place})
    if what == "join":
        dim = data.draw(st.sampled_from(CHOSEN))
        if ds.sizes.get(dim, 1) < 2 or ds.chunks:
            return ds
        at = data.draw(st.integers(1, ds.sizes[dim] - 1))
        variables = data.draw(st.sampled_from(["all", "minimal"]))
        parts = [ds.isel({dim: slice(at, None)}), ds.isel({dim: slice(at)})]
        held[dim] = held[dim][at:] + held[dim][:at]
        return joined(parts, dim, data_vars=variables)
    if what == "transpose":
        return ds.transpose(*data.draw(st.permutations(sorted(map(str, ds.dims)))))
    if what == "reverse":
        dim = data.draw(st.sampled_from(["y", "x", "pixel_y"]))
        return ds.isel({dim: slice(None, None, -1)})
    plain: dict[str, Callable[[], xr.Dataset]] = {
        "squeeze": ds.squeeze,
        "wide": lambda: ds.astype("float64"),
        "chunk": lambda: ds.chunk({dim: 1 for dim in ds.dims if dim in ("layer", "y")}),
        "pickle": lambda: pickle.loads(pickle.dumps(ds)),
        "zarr 2": lambda: in_memory(ds, 2),
    }
    return plain[what]()


def canonical(held: dict[str, list[int]]) -> dict[str, list[int]]:
    ordered = ("timestep", "layer", "head")
    return {dim: sorted(places) if dim in ordered else places for dim, places in held.items()}


@pytest.mark.slow
@steady
@given(st.data())
def test_what_xarray_makes_of_a_run_has_the_numbers_of_a_hand_computation(data: st.DataObject) -> None:
    held = {dim: list(range(DS.sizes[dim])) for dim in CHOSEN}
    ds = DS
    for _ in range(data.draw(st.integers(1, 5))):
        ds = changed(ds, data, held)
    held = canonical(held)
    name = data.draw(st.sampled_from(sorted(METHODS)))
    with noted():
        found = heatmaps.heatmap(ds).transpose("concept", "y", "x")
        np.testing.assert_allclose(found, heatmap_by_hand(held), rtol=0, atol=2e-6)
        try:
            expected = METHODS[name](by_hand(held))
        except WorkbenchError as error:
            with pytest.raises(type(error)):
                METHODS[name](ds)
            return
        got = METHODS[name](ds)
    assert problem(ds) is None
    assert "not as it was captured" not in repr(ds.wb)
    if isinstance(expected, np.ndarray):
        np.testing.assert_allclose(got, expected, atol=2e-6)
    else:
        xr.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.slow
@steady
@given(st.data())
def test_what_cannot_be_right_is_refused_in_a_sentence(data: st.DataObject) -> None:
    held = {dim: list(range(DS.sizes[dim])) for dim in CHOSEN}
    ds = DS
    for _ in range(data.draw(st.integers(0, 2))):
        ds = changed(ds, data, held)
    dim = data.draw(st.sampled_from(["sample", "timestep", "layer", "head", "concept", "y"]))
    ways: list[Callable[[xr.Dataset], xr.Dataset]] = [
        lambda ds: ds.drop_vars("truth").mean(dim),
        lambda ds: ds.max(dim),
        lambda ds: ds.isel({dim: 0}, drop=True),
        lambda ds: ds.isel({dim: [0, 0]}),
        lambda ds: ds.isel({dim: []}),
        lambda ds: ds.drop_vars(dim),
        lambda ds: ds.rename({dim: "other"}),
        lambda ds: ds.expand_dims(run=2),
        lambda ds: ds.astype(int),
        lambda ds: ds.astype(str),
        lambda ds: ds.isel(head=[0]).drop_vars(["output", "cross"]),
        lambda ds: ds.isel(head=0).drop_vars(["output", "cross"]),
        lambda ds: ds.stack(place=("y", "x")),
        lambda ds: ds.where(ds.concept != ds.concept[0]),
    ]
    way = data.draw(st.integers(0, len(ways) - 1))
    if dim not in ds.dims or (way >= 10 and not {"head", "concept"} <= set(ds.dims)):
        return
    ds = ways[way](ds)
    name = data.draw(st.sampled_from(sorted(METHODS)))
    # Of concepts without scores, shares by concept are NaN and those of the others right.
    by_concept = way == 13 and name in ("concept_share", "sinks", "scores", "with_truth")
    for method in (heatmaps.heatmap, heatmaps.heatmap if by_concept else METHODS[name]):
        with noted(), pytest.raises(WorkbenchError) as refused:
            method(ds)
        assert str(refused.value).endswith(".")
    sentence = problem(ds)
    assert (sentence is None) == (way == 13)
    assert repr(ds.wb)
    assert ds.wb._repr_html_()
    with contextlib.suppress(SchemaError):
        ds.wb.validate(values=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choose", [lambda ds: ds.isel(head=[0]), lambda ds: ds.isel(head=0), lambda ds: ds.sel(head=0)]
)
@pytest.mark.parametrize("counted", [True, False])
def test_totals_never_answer_for_other_heads(choose: Callable[[xr.Dataset], xr.Dataset], counted: bool) -> None:
    ds = dataset(heads=3, truth=True)
    if not counted:  # as runs of early versions are
        del ds.attrs["head_count"]
    np.testing.assert_array_equal(heatmaps.heatmap(ds), heatmaps.heatmap(dataset(heads=3, truth=True)))
    alone = choose(ds)
    expected = heatmaps.heatmap(ds, heads=0)
    found = heatmaps.heatmap(alone)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.attrs["heads"] == [0]
    assert abs(found - heatmaps.heatmap(ds)).max() > 0.01
    xr.testing.assert_allclose(metrics.score(alone), metrics.score(ds, heads=0))
    assert sweeps.sweep(alone, "layer").attrs["heads"] == [0]
    xr.testing.assert_allclose(sweeps.sweep(alone, "layer"), sweeps.sweep(ds, "layer", heads=0))
    assert concept_grid(alone)._repr_png_() == concept_grid(ds, heads=0)._repr_png_()
    shown = normalised(alone)
    np.testing.assert_allclose(drawn_maps(State.default(shown), shown), expected, atol=1e-6)
    for dropped in (alone.drop_vars(["output", "cross"]), alone[["output_total", "head"]]):
        with pytest.raises(SelectionError, match=r"head"):
            heatmaps.heatmap(dropped)
    np.testing.assert_allclose(heatmaps.heatmap(alone.drop_vars("output_total")), expected, atol=1e-6)


def test_a_reduced_head_dimension_is_refused_while_totals_alone_answer() -> None:
    for ds in (DS.mean("head"), DS.isel(head=0, drop=True)):
        with pytest.raises(InputError, match="'output' has no dimension 'head'"):
            heatmaps.heatmap(ds)
    with noted():
        np.testing.assert_array_equal(heatmaps.heatmap(DS[["output_total"]]), heatmaps.heatmap(DS))
    with pytest.raises(SelectionError, match="does not say how many heads"):
        heatmaps.heatmap(DS[["output_total", "head"]].drop_attrs())


@pytest.mark.parametrize("dim", ["sample", "layer", "head"])
def test_averages_over_several_layers_are_not_taken_for_one(dim: str) -> None:
    """Of three heads the mean has a whole number for a label, and a sum over such means is a third of the total."""
    averaged = DS.drop_vars(["block", "module", "seed"]).coarsen({dim: DS.sizes[dim]}).mean()
    for broken in (averaged, DS.assign_coords({dim: DS[dim] + 0.5})):
        with pytest.raises(InputError, match=f"'{dim}' holds float64, which averages over several {dim}s leave"):
            heatmaps.heatmap(broken)


def test_a_sum_over_heads_is_read_in_parts_and_when_it_is_used() -> None:
    reads: list[tuple[int, ...]] = []
    space = DS["output"].variable

    class Counting(xr.backends.BackendArray):
        shape, dtype = space.shape, space.dtype

        def __getitem__(self, key: Any) -> Any:
            return xr.core.indexing.explicit_indexing_adapter(
                key, self.shape, xr.core.indexing.IndexingSupport.OUTER, self.read
            )

        def read(self, key: tuple[Any, ...]) -> np.ndarray:
            found = space.isel(dict(zip(space.dims, key, strict=True))).to_numpy()
            reads.append(found.shape)
            return found

    lazy = xr.Variable(space.dims, xr.core.indexing.LazilyIndexedArray(Counting()))
    ds = normalised(DS.assign(output=lazy).isel(head=[1, 2]))
    assert reads == []
    total = ds["output_total"].isel(layer=1, timestep=[0, 2], sample=0)
    np.testing.assert_allclose(
        total, DS["output"].isel(layer=1, timestep=[0, 2], sample=0, head=[1, 2]).astype("float32").sum("head")
    )
    assert max(map(np.prod, reads)) == 2 * 3 * 3 * 2, "one timestep of one layer at a time"


def test_runs_that_number_their_samples_alike_are_refused_until_they_are_numbered() -> None:
    one, other = dataset(seed=1), dataset(seed=2)
    both = joined([one, other], "sample")
    with pytest.raises(InputError, match=r"sample 0 is there more than once.*assign_coords\(sample=range"):
        heatmaps.heatmap(both)
    numbered = both.assign_coords(sample=range(2))
    expected = (heatmaps.heatmap(one) + heatmaps.heatmap(other)) / 2
    np.testing.assert_allclose(heatmaps.heatmap(numbered), expected, atol=1e-6)
    np.testing.assert_allclose(heatmaps.heatmap(numbered, samples=1), heatmaps.heatmap(other), atol=1e-6)
    pictures = joined([one, other.assign(image=255 - other.image)], "sample").assign_coords(sample=range(2))
    with pytest.warns(WorkbenchWarning, match="2 different pictures"):
        heatmaps.heatmap(pictures)


def test_joined_runs_that_miss_other_pieces_or_concepts_say_so() -> None:
    whole, skipped = dataset(seed=1), dataset(seed=2, missing=[(0, 500.0, 1)]).assign_coords(sample=[1])
    skipped.attrs["missing"] = [{"sample": 1, "timestep": 500.0, "layer": 1}]
    late = joined([whole, skipped], "sample")
    with pytest.raises(SchemaError, match=r"no scores of sample 1, timestep 500, layer 1.*attrs\['missing'\]"):
        heatmaps.heatmap(late)
    with pytest.raises(SchemaError, match="no scores of sample 1, timestep 500, layer 1"):
        sweeps.sweep(late, "layer")
    listed = late.assign_attrs(missing=skipped.attrs["missing"])
    expected = heatmaps.heatmap(listed, keep=["sample"])
    np.testing.assert_allclose(expected.isel(sample=0), heatmaps.heatmap(whole), atol=1e-6)
    np.testing.assert_allclose(expected.isel(sample=1), heatmaps.heatmap(skipped), atol=1e-6)
    wrong = joined([dataset(missing=[(0, 500.0, 1)]), whole], "sample").isel(sample=[1])
    for method in (heatmaps.heatmap, lambda ds: sweeps.sweep(ds, "layer")):
        with pytest.raises(SchemaError, match=r"attrs\['missing'\] lists sample 0, timestep 500, layer 1, which has"):
            method(wrong)

    cats = dataset(seed=2, concepts=["cat", "grass", "sky"]).assign_coords(sample=[1])
    mixed = joined([whole, cats], "sample")
    with pytest.raises(SchemaError, match=r"no scores of .*concept '(cat|dog)': runs with different concepts"):
        heatmaps.heatmap(mixed)
    shared = mixed.sel(concept=["grass", "sky"])
    np.testing.assert_allclose(
        heatmaps.heatmap(shared, samples=1), heatmaps.heatmap(cats.sel(concept=["grass", "sky"])), atol=1e-6
    )
    with pytest.raises(InputError, match="unknown dimension run"):
        heatmaps.heatmap(joined([whole, cats.assign_coords(concept=whole.concept)], "run"))


def test_joined_truth_answers_where_it_is_one() -> None:
    one, other = dataset(seed=1, truth=True), dataset(seed=2, truth=True).assign_coords(sample=[1])
    same = joined([one, other], "sample")
    assert metrics.score(same).mean_iou > 0
    differing = joined([one, other.assign(truth=~other.truth)], "sample")
    with pytest.raises(InputError, match="different truth along 'sample'"):
        metrics.score(differing)
    heatmaps.heatmap(differing)
    xr.testing.assert_allclose(metrics.score(differing.isel(sample=0)), metrics.score(one))
    assert (normalised(one.astype(float)).truth == one.truth).all()
    with pytest.raises(InputError, match="expected masks"):
        metrics.score(one.assign(truth=one.truth * 0.5))


def test_lost_attributes_are_said() -> None:
    with pytest.warns(WorkbenchWarning, match="lost the attribute 'default_layers'"):
        heatmaps.heatmap(DS.drop_attrs())


@pytest.mark.slow
@ignoring_zarr
@pytest.mark.parametrize("way", ["h5netcdf", "zarr 2", "zarr 3", "pickle", "chunked"])
@pytest.mark.parametrize("kind", ["capture", "generate"])
def test_files_of_any_format_keep_the_contract_and_the_numbers(tmp_path: Path, way: str, kind: str) -> None:
    missing = [(1, 500.0, 1)]
    ds = dataset(kind=kind, samples=2, missing=missing, truth=True, spaces=("output", "cross", "prompt"))
    if kind == "generate":
        ds = ds.drop_vars("truth").assign_attrs(guidance=None)
    if way == "h5netcdf":
        ds.wb.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
        back = xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf")
    elif way.startswith("zarr"):
        back = in_memory(ds.chunk({"layer": 2}), int(way[-1]))
    else:
        back = pickle.loads(pickle.dumps(ds)) if way == "pickle" else ds.chunk({"layer": 2, "y": 1})
    back.wb.validate(values=True)
    options: Any = {"samples": 0} if kind == "generate" else {}
    np.testing.assert_array_equal(heatmaps.heatmap(back, **options), heatmaps.heatmap(ds, **options))
    xr.testing.assert_equal(sweeps.sweep(back, "layer", **options), sweeps.sweep(ds, "layer", **options))
    alone = heatmaps.heatmap(back.isel(head=0), **options)
    np.testing.assert_allclose(alone, heatmaps.heatmap(ds, heads=0, **options), atol=1e-6)
    back.close()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_results_come_back_from_netcdf_as_they_were(tmp_path: Path, engine: str) -> None:
    ds = DS
    results: dict[str, xr.Dataset] = {
        "sweep": sweeps.sweep(ds, ("layer", "head"), metric=["iou", "entropy"], resamples=3),
        "greedy": sweeps.sweep(ds, "timestep", "greedy", timesteps=[740, 500], resamples=3),
        "one": sweeps.sweep(ds, "layer", layers=1, timesteps=500, samples=0),
        "rank": heads.rank_heads(ds),
        "score": metrics.score(ds, layers=1),
        "leakage": leakage.leakage(ds),
        "settling": settling.settling(ds),
        "sinks": attention.sinks(ds),
        "heatmap": heatmaps.heatmap(ds, timesteps=490, reduce="mean").to_dataset(),
    }
    for name, found in results.items():
        path = tmp_path / f"{name}.nc"
        if engine == "scipy":
            found.wb.to_netcdf(path, engine=engine)
        else:
            found.to_netcdf(path, engine=engine)
        with xr.open_dataset(path, engine=engine) as back:
            xr.testing.assert_equal(back, found)
            plain = schema.read_attributes(found.attrs)
            assert schema.read_attributes(back.attrs) == plain
            assert {name for name, value in found.attrs.items() if plain[name] != value} <= {"origin"}  # JSON text


def test_records_are_of_the_samples_that_are_there() -> None:
    ds = dataset(kind="generate", samples=3).assign_attrs(prompt=["picture 0", "picture 1", "picture 2"])
    found = normalised(ds.isel(sample=[1, 2]))
    assert found.attrs["seeds"] == [1, 2]
    assert found.attrs["prompt"] == ["picture 1", "picture 2"]
    assert normalised(ds.isel(sample=1)).attrs["prompt"] == "picture 1"
    assert normalised(ds) is ds
