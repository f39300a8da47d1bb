from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from tests import synthetic
from workbench.experiments.effects import (
    MapEffects,
    Outcome,
    Values,
    p_value,
    picture_effects,
    rank,
    shared_concepts,
    truth_of,
)
from workbench.interventions import DropConcept, RandomDirection
from workbench.numerics.measures import Reference

WORDS = ("dog", "grass", "sky")


def outcome(seed: int, **options: object) -> Outcome:
    ds = synthetic.dataset(seed=seed, concepts=WORDS, **options)
    return Outcome.of(ds, "output")


def cells(run: Outcome, layers: Sequence[int]) -> NDArray[np.bool_]:
    """All timesteps of some layers."""
    return np.tile(run.ds["layer"].isin(layers).to_numpy(), (run.ds.sizes["timestep"], 1))


def map_effects(
    one: Outcome, other: Outcome, layers: Sequence[int], concepts: Sequence[str], truth: Reference | None
) -> Values:
    return MapEffects(one, other, concepts, truth).over(cells(one, layers))


def maps(run: Outcome, layers: list[int]) -> np.ndarray:
    """Heat maps by hand: softmax over concepts, mean over everything else."""
    scores = run.ds["output_total"].sel(layer=layers).transpose("concept", "y", "x", ...).to_numpy()
    exponentials = np.exp(scores - scores.max(axis=0))
    return (exponentials / exponentials.sum(axis=0)).mean(axis=(3, 4, 5))


def test_the_distance_of_maps_is_their_mean_absolute_difference() -> None:
    one, other = outcome(0), outcome(1)
    layers = one.ds["layer"].values.tolist()[:2]
    found = map_effects(one, other, layers, WORDS, None)
    expected = np.abs(maps(one, layers) - maps(other, layers)).mean(axis=(1, 2))
    np.testing.assert_allclose(found["map_distance"], expected, rtol=1e-5)
    same = map_effects(one, one, layers, WORDS, None)
    assert not same["map_distance"].any()
    assert not same["iou_shift"].any()


def test_the_iou_is_with_the_baselines_segmentation() -> None:
    one, other = outcome(0), outcome(1)
    layers = one.ds["layer"].values.tolist()
    before, after = (maps(run, layers).argmax(axis=0) for run in (one, other))
    expected = [
        ((before == place) & (after == place)).sum() / ((before == place) | (after == place)).sum() - 1
        for place in range(3)
    ]
    np.testing.assert_allclose(map_effects(one, other, layers, WORDS, None)["iou_shift"], expected)


def test_the_iou_is_with_the_truth_where_there_is_one() -> None:
    one, other = outcome(0), outcome(1)
    layers = one.ds["layer"].values.tolist()
    patch = one.ds.attrs["patch"]
    before, after = (np.kron(maps(run, layers).argmax(axis=0), np.ones((patch, patch))) for run in (one, other))
    masks = np.stack([before == place for place in range(3)])
    truth = xr.DataArray(masks, dims=["concept", "pixel_y", "pixel_x"], coords={"concept": list(WORDS)})
    truth = truth_of(one, truth)
    expected = [(masks[i] & (after == i)).sum() / (masks[i] | (after == i)).sum() - 1 for i in range(3)]
    np.testing.assert_allclose(map_effects(one, other, layers, WORDS, truth)["iou_shift"], expected)
    backwards = map_effects(other, one, layers, WORDS, truth)["iou_shift"]
    np.testing.assert_allclose(backwards, -np.array(expected))


def test_a_dropped_concept_is_left_out_of_the_softmax() -> None:
    one, other = outcome(0), outcome(1)
    layers = one.ds["layer"].values.tolist()
    found = map_effects(one, other, layers, ("dog", "sky"), None)
    left = [Outcome(run.ds.isel(concept=[0, 2]), "output") for run in (one, other)]
    expected = np.abs(maps(left[0], layers) - maps(left[1], layers)).mean(axis=(1, 2))
    np.testing.assert_allclose(found["map_distance"][[0, 2]], expected, rtol=1e-5)
    assert np.isnan(found["map_distance"][1])


def test_nothing_left_to_compare_is_nan() -> None:
    found = map_effects(outcome(0), outcome(1), [], WORDS, None)
    assert all(np.isnan(values).all() for values in found.values())


def test_concepts_that_no_side_drops() -> None:
    assert shared_concepts(WORDS, (DropConcept("dog"),), (RandomDirection(DropConcept(2)),)) == ["grass"]


def test_the_total_variation_is_how_far_the_shares_of_a_patch_moved() -> None:
    one, other = outcome(0), outcome(1)
    layers = one.ds["layer"].values.tolist()
    moved = np.abs(maps(one, layers) - maps(other, layers)).sum(axis=0) / 2
    found = map_effects(one, other, layers, WORDS, None)["total_variation_distance"]
    np.testing.assert_allclose(found, moved.mean(), rtol=1e-5)
    assert 0 < found < 1


def test_each_layer_is_read_for_itself() -> None:
    one, other = outcome(0), outcome(1)
    wanted = cells(one, [1, 3])
    wanted[0, 1] = False
    found = MapEffects(one, other, WORDS, None).by_layer(wanted)
    third = map_effects(one, other, [3], WORDS, None)
    for name, value in third.items():
        np.testing.assert_allclose(found[name][3], value)
        assert np.isnan(found[name][[0, 2, 4]]).all()
    later = [Outcome(run.ds.isel(timestep=[1, 2]), "output") for run in (one, other)]
    expected = map_effects(*later, [1], WORDS, None)["map_distance"]
    np.testing.assert_allclose(found["map_distance"][1], expected, rtol=1e-5)


def repainted(run: Outcome, seed: int) -> Outcome:
    """The same with other pictures, which those of made-up datasets are not."""
    image = np.random.default_rng(seed).integers(0, 256, run.ds["image"].shape, np.uint8)
    return Outcome(run.ds.assign(image=run.ds["image"].copy(data=image)), run.space)


def test_pictures_of_all_samples_are_compared() -> None:
    one = outcome(0, kind="generate", samples=2, patch=8)
    other = repainted(one, 1)
    found = picture_effects(one, other, lambda left, right: float(np.abs(left.astype(float) - right).mean()))
    difference = one.ds["image"].astype(float) - other.ds["image"].astype(float)
    errors = (difference**2).mean(["pixel_y", "pixel_x", "channel"])
    assert 0 < float(found["psnr"]) < 20
    assert float(found["psnr"]) == pytest.approx(float((10 * np.log10(255**2 / errors)).mean()))
    assert float(found["perceptual"]) == pytest.approx(float(np.abs(difference).mean()))
    assert set(found) == {"psnr", "ssim", "perceptual"}


def test_an_unchanged_picture_does_not_hide_that_others_changed() -> None:
    one = outcome(0, kind="generate", samples=3, patch=8)
    other = repainted(one, 1)
    mixed = Outcome(other.ds.assign(image=other.ds["image"].copy()), "output")
    mixed.ds["image"][0] = one.ds["image"][0]
    found, changed = (float(picture_effects(one, edited, None)["psnr"]) for edited in (mixed, other))
    assert changed < found < np.inf
    assert float(picture_effects(one, one, None)["psnr"]) == np.inf
    least = one.ds["image"][0].astype(float)
    least[0, 0, 0] += 1 if least[0, 0, 0] < 255 else -1
    mixed.ds["image"][0] = least.astype(np.uint8)
    assert float(picture_effects(one, mixed, None)["psnr"]) == pytest.approx(found), "the least change there is"


def test_maps_of_generated_pictures_are_compared_picture_by_picture() -> None:
    one, other = (outcome(seed, kind="generate", samples=2) for seed in (0, 1))
    layers = one.ds["layer"].values.tolist()
    each = [
        map_effects(*(Outcome(run.ds.isel(sample=[i]), "output") for run in (one, other)), layers, WORDS, None)
        for i in (0, 1)
    ]
    found = map_effects(one, other, layers, WORDS, None)
    expected = np.mean([effects["map_distance"] for effects in each], axis=0)
    np.testing.assert_allclose(found["map_distance"], expected, rtol=1e-5)


def test_a_rank_is_the_share_of_smaller_controls() -> None:
    controls = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, np.nan, 1.0], [np.nan] * 4])
    effect = np.array([[3.5] * 4, [1.0] * 4, [1.0] * 4])
    np.testing.assert_array_equal(rank(effect, controls), [0.75, 0.5, np.nan])


def test_a_p_value_counts_the_effect_itself_and_ties_against_it() -> None:
    controls = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, np.nan, 1.0], [np.nan] * 4])
    effect = np.array([[3.5] * 4, [1.0] * 4, [1.0] * 4])
    np.testing.assert_array_equal(p_value(effect, controls), [2 / 5, 1, np.nan])


def test_void_pixels_of_a_truth_count_nowhere() -> None:
    baseline, edited = (Outcome(synthetic.dataset(signal=signal, seed=3), "output") for signal in (0.0, 3.0))
    whole, void = synthetic.dataset(truth=True)["truth"], np.zeros((32, 48), bool)
    void[:, 27:] = True
    masks = {str(name): whole.sel(concept=name).values for name in whole.concept.values}
    known = synthetic.dataset().wb.with_truth(masks | {"v": void}, ignore="v")
    found = map_effects(baseline, edited, [1], list(masks), truth_of(baseline, known))
    scores = [known.assign(run.ds.data_vars).wb.score(layers=1)["iou"].values for run in (baseline, edited)]
    np.testing.assert_allclose(found["iou_shift"], scores[1] - scores[0])
    lost = map_effects(baseline, edited, [1], list(masks), truth_of(baseline, known["truth"].drop_attrs()))
    assert np.nanmax(np.abs(lost["iou_shift"] - found["iou_shift"])) > 0.05
