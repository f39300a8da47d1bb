from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.synthetic import dataset
from workbench.analysis.heatmaps import heatmap
from workbench.analysis.sweep_variants import HOWS, Choice, Scores, vary
from workbench.schema import InputError, SchemaError, SelectionError

steady = settings(deadline=None, derandomize=True, max_examples=50)


def choice(over: Sequence[str], how: str = "only", **changes: Any) -> Choice:
    options: dict[str, Any] = {"window": 2, "spaces": ("output",), "reduce": "softmax_mean"}
    options |= dict.fromkeys(("layers", "timesteps", "heads", "samples")) | changes
    return Choice(tuple(over), how, **options)


def members(labels: list[Any], position: int, how: str) -> list[Any]:
    """The labels of a variant, spelled out."""
    return {
        "only": labels[position : position + 1],
        "drop": labels[:position] + labels[position + 1 :],
        "prefix": labels[: position + 1],
        "suffix": labels[position:],
        "window": labels[position : position + 2],
    }[how]


@steady
@given(hnp.arrays(np.float64, (3, 5), elements=st.integers(-9, 9)), st.integers(0, 1), st.integers(1, 3))
def test_vary_sums_its_members(values: np.ndarray, axis: int, window: int) -> None:
    lines = np.moveaxis(values, axis, 0)
    for how in HOWS:
        found = np.moveaxis(vary(values, axis, how, window), axis, 0)
        count = len(lines) - window + 1 if how == "window" else len(lines)
        assert len(found) == count
        for at in range(count):
            chosen = lines[at : at + window] if how == "window" else np.array(members(list(lines), at, how))
            np.testing.assert_array_equal(found[at], chosen.sum(0))


@pytest.mark.parametrize("reduce", ["softmax_mean", "mean_softmax", "mean"])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("dim", ["layer", "timestep", "sample", "head"])
def test_each_variant_is_the_heat_map_of_its_members(dim: str, how: str, reduce: str) -> None:
    ds = dataset(samples=3, heads=4)
    held = {"layers": [1, 2, 4], "timesteps": [750.0, 250.0], "samples": [0, 2], "heads": [0, 1, 3]}
    scores = Scores(ds, choice([dim], how, reduce=reduce, **held))
    maps, full = scores.maps([0, 1])
    np.testing.assert_allclose(full, heatmap(ds, reduce=reduce, **held), rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]
    labels = scores.variant_labels(dim)
    assert len(labels) == len(maps)
    for position in range(len(labels)):
        taken = held | {f"{dim}s": members(held[f"{dim}s"], position, how)}
        expected = heatmap(ds, reduce=reduce, **taken)  # type: ignore[arg-type]
        np.testing.assert_allclose(maps[position], expected, rtol=1e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["only", "prefix", "suffix", "window"])
@pytest.mark.parametrize("pair", [("layer", "timestep"), ("timestep", "layer"), ("layer", "head"), ("head", "sample")])
def test_pairs_are_rectangles(pair: tuple[str, str], how: str) -> None:
    ds = dataset(samples=2, heads=3)
    scores = Scores(ds, choice(pair, how))
    maps, _ = scores.maps([0, 1])
    dims = scores.choice.dims
    labels = [scores.labels[dim] for dim in dims]
    rest = {} if "layer" in pair else {"layers": [1, 2]}
    for at in np.ndindex(maps.shape[:2]):
        chosen = {f"{dim}s": members(all_, i, how) for dim, all_, i in zip(dims, labels, at, strict=True)}
        expected = heatmap(ds, **chosen, **rest)  # type: ignore[arg-type]
        np.testing.assert_allclose(maps[at], expected, rtol=1e-5, atol=2e-6)


def test_dropping_one_cell_of_a_pair() -> None:
    ds = dataset(heads=3)
    each = heatmap(ds, layers=slice(0, 4), keep=["timestep", "layer"]).stack(cell=["layer", "timestep"])
    maps, _ = Scores(ds, choice(["layer", "timestep"], "drop")).maps([0])
    for layer, timestep in np.ndindex(5, 3):
        others = each.isel(cell=[i for i in range(15) if i != layer * 3 + timestep]).mean("cell")
        np.testing.assert_allclose(maps[layer, timestep], others, rtol=1e-5)

    maps, _ = Scores(ds, choice(["layer", "head"], "drop")).maps([0])
    for layer, head in np.ndindex(5, 3):
        by_layer = [
            heatmap(ds, layers=[i], heads=[h for h in range(3) if (i, h) != (layer, head)]).values for i in range(5)
        ]
        np.testing.assert_allclose(maps[layer, head], np.mean(by_layer, 0), rtol=1e-4, atol=1e-6)


def test_spaces_are_averaged_after_the_softmax() -> None:
    ds = dataset()
    maps, full = Scores(ds, choice(["space"], spaces=("output", "cross"))).maps([0])
    for found, space in zip(maps, ("output", "cross"), strict=True):
        np.testing.assert_allclose(found, heatmap(ds, space=space), rtol=1e-5)
    np.testing.assert_allclose(full, maps.mean(0), rtol=1e-5)


def test_samples_are_taken_one_by_one_or_together() -> None:
    ds = dataset(samples=3)
    scores = Scores(ds, choice(["layer"]))
    for samples in ([0], [2], [1, 2]):
        expected = heatmap(ds, layers=slice(0, 4), samples=samples, keep=["layer"])
        np.testing.assert_allclose(scores.maps(samples)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("by_head", [False, True])
def test_missing_pieces_are_left_out(by_head: bool) -> None:
    ds = dataset(missing=[(0, 500.0, 1), (0, 750.0, 3), (0, 500.0, 3), (0, 250.0, 3)])
    over = ["layer", "head"] if by_head else ["layer"]
    maps, full = Scores(ds, choice(over)).maps([0])
    heads = {"heads": [0]} if by_head else {}
    first = maps[:, 0] if by_head else maps
    for layer in (0, 1, 2, 4):
        np.testing.assert_allclose(first[layer], heatmap(ds, layers=layer, **heads), rtol=1e-5)  # type: ignore[arg-type]
    assert np.isnan(first[3]).all()
    every = {"heads": [0, 1]} if by_head else {}
    np.testing.assert_allclose(full, heatmap(ds, layers=slice(0, 4), **every), rtol=1e-5)  # type: ignore[arg-type]


def test_nan_that_is_not_listed_is_damage() -> None:
    ds = dataset()
    ds["output_total"][0, 1, 2, 0, 0, 0] = np.nan
    with pytest.raises(SchemaError, match="attrs\\['missing'\\] does not list"):
        Scores(ds, choice(["layer"])).maps([0])


def test_a_sample_without_any_piece_is_refused() -> None:
    ds = dataset(samples=2, timesteps=[500.0], layers=[1], missing=[(1, 500.0, 1)])
    scores = Scores(ds, choice(["timestep"]))
    assert np.isfinite(scores.maps([0])[0]).all()
    with pytest.raises(SelectionError, match="every chosen piece of a sample is missing"):
        scores.maps([1])


def test_what_leaves_nothing_is_refused() -> None:
    ds = dataset()
    with pytest.raises(InputError, match="leaves one layer out, but there is only one"):
        Scores(ds, choice(["layer"], "drop", layers=2))
    with pytest.raises(InputError, match="leaves one layer and timestep out"):
        Scores(ds, choice(["layer", "timestep"], "drop", layers=2, timesteps=500))
    with pytest.raises(InputError, match="leaves one layer and head out"):
        Scores(ds, choice(["layer", "head"], "drop", heads=1))
    assert Scores(ds, choice(["layer", "timestep"], "drop", layers=2)).maps([0])[0].shape[:2] == (1, 3)
    with pytest.raises(InputError, match="window is 4, but there are only 3 timesteps; expected 1 to 3"):
        Scores(ds, choice(["timestep"], "window", window=4))


def test_nothing_is_read_before_maps_are_asked_for() -> None:
    ds = dataset()
    ds["output_total"] = ds["output_total"].where(False)
    Scores(ds, choice(["layer"]))
    with pytest.raises(SelectionError, match="holds only the sums over heads of 'cross'"):
        Scores(ds.drop_vars("cross"), choice(["head"], spaces=("cross",)))
    with pytest.raises(SelectionError, match="layer 9"):
        Scores(ds, choice(["layer"], layers=[1, 9]))
