from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, calinski_harabasz_score, silhouette_score

from workbench.numerics import masks, measures
from workbench.numerics.measures import MEASURES, OVERVIEW, Reference
from workbench.numerics.resampling import ratio

steady = settings(deadline=None, derandomize=True, max_examples=50)
PATCH = 2
levels = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.7])  # few enough for ties
maps_of_three = hnp.arrays(np.float32, (2, 3, 4, 5), elements=levels.map(np.float32))
masks_of_three = hnp.arrays(bool, (3, 4 * PATCH, 5 * PATCH))


def reference(truth: np.ndarray) -> Reference:
    """The reference of masks (concept, pixel_y, pixel_x)."""
    blocks = truth.reshape(len(truth), 4, PATCH, 5, PATCH)
    return Reference(blocks.sum((2, 4)).astype(float), np.full((4, 5), PATCH**2), float(truth.any(0).sum()))


def pixels(maps: np.ndarray) -> np.ndarray:
    return maps.repeat(PATCH, -2).repeat(PATCH, -1)


def value(name: str, maps: np.ndarray, truth: Reference) -> np.ndarray:
    return ratio(*MEASURES[name](maps, truth))


def random_maps(*shape: int, seed: int = 0) -> np.ndarray:
    shares = np.random.default_rng(seed).random(shape).astype(np.float32)
    return shares / shares.sum(1, keepdims=True)


@steady
@given(maps_of_three, masks_of_three)
def test_iou_and_accuracy_are_those_of_pixels(maps: np.ndarray, truth: np.ndarray) -> None:
    overlaps, shares = value("iou", maps, reference(truth)), value("accuracy", maps, reference(truth))
    for variant, one in enumerate(maps):
        predicted = pixels(one).argmax(0) == np.arange(3)[:, None, None]
        both, either = masks.overlap(predicted, truth)
        np.testing.assert_allclose(overlaps[variant], ratio(both.astype(float), either.astype(float)))
        np.testing.assert_allclose(shares[variant], masks.pixel_accuracy(predicted, truth))


@steady
@given(maps_of_three, masks_of_three)
def test_average_precision_is_that_of_scikit_learn(maps: np.ndarray, truth: np.ndarray) -> None:
    found = value("ap", maps, reference(truth))
    for variant, concept in np.ndindex(2, 3):
        if truth[concept].any():
            expected = average_precision_score(truth[concept].ravel(), pixels(maps)[variant, concept].ravel())
            assert found[variant, concept] == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(found[variant, concept])


def test_average_precision_of_many_patches() -> None:
    rng = np.random.default_rng(1)
    maps, truth = rng.random((3, 2, 30, 40)).astype(np.float32), rng.random((2, 30, 40)) < 0.3
    found = value("ap", maps, Reference(truth.astype(float), np.ones((30, 40)), 1.0))
    for variant, concept in np.ndindex(3, 2):
        expected = average_precision_score(truth[concept].ravel(), maps[variant, concept].ravel())
        assert found[variant, concept] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["calinski_harabasz", "silhouette"])
def test_separability_is_that_of_scikit_learn(name: str, seed: int) -> None:
    maps = random_maps(3, 4, 6, 7, seed=seed)
    found = value(name, maps, Reference.segmentation(maps[0]))
    judge = {"calinski_harabasz": calinski_harabasz_score, "silhouette": silhouette_score}[name]
    for variant, one in enumerate(maps):
        points = one.reshape(4, -1).T
        assert found[variant] == pytest.approx(judge(points, points.argmax(1)), rel=1e-5)


def test_separability_of_one_segment_is_unknown() -> None:
    maps = np.stack([np.full((1, 4, 4), 0.9), np.full((1, 4, 4), 0.1)], 1).astype(np.float32)
    full = Reference.segmentation(maps[0])
    assert np.isnan(value("calinski_harabasz", maps, full)).all()
    assert np.isnan(value("silhouette", maps, full)).all()


def test_separability_of_flat_segments() -> None:
    """Nothing is dispersed within them: 1 by scikit-learn's convention."""
    left = np.zeros((4, 4), dtype=np.float32)
    left[:, :2] = 0.5
    maps = np.stack([left, 0.25 * np.ones_like(left)])[None]
    points = maps[0].reshape(2, -1).T
    assert calinski_harabasz_score(points, points.argmax(1)) == 1
    for scale in np.float32([1, 3e-5, 3e5]):
        assert value("calinski_harabasz", maps * scale, Reference.segmentation(maps[0])) == pytest.approx(1)


def test_separability_does_not_depend_on_the_scale() -> None:
    """Raw scores may be of any size: what is little beside 1 is not little beside them."""
    maps = random_maps(1, 3, 6, 7)
    expected = value("calinski_harabasz", maps, None)
    for scale in np.float32([2.0**-40, 2.0**20]):
        np.testing.assert_allclose(value("calinski_harabasz", maps * scale, None), expected)


def test_separability_is_the_share_of_variance_between_segments() -> None:
    found = random_maps(3, 3, 4, 5)
    figures = ratio(*OVERVIEW["separability"](found))
    for one, figure in zip(found, figures, strict=True):
        points = one.reshape(3, -1).T.astype(np.float64)
        groups = points.argmax(1)
        total = ((points - points.mean(0)) ** 2).sum()
        within = sum(((points[groups == g] - points[groups == g].mean(0)) ** 2).sum() for g in np.unique(groups))
        assert figure == pytest.approx(1 - within / total)
    assert ratio(*OVERVIEW["separability"](np.full((1, 3, 2, 2), 1 / 3, dtype=np.float32))) == 0


def test_silhouette_of_large_maps_draws_patches() -> None:
    inside = np.zeros((40, 40), dtype=bool)
    inside[:20] = True
    maps = np.stack([np.where(inside, 0.9, 0.1), np.where(inside, 0.1, 0.9)])[None].astype(np.float32)
    assert inside.size > measures.SILHOUETTE_PATCHES
    assert value("silhouette", maps, Reference.segmentation(maps[0])) == pytest.approx(1, abs=1e-6)


def test_entropy() -> None:
    even = np.full((1, 4, 3, 3), 0.25, dtype=np.float32)
    certain = np.zeros_like(even)
    certain[:, 1] = 1
    half = np.zeros_like(even)
    half[:, :2] = 0.5
    maps = np.concatenate([even, certain, half, 0.3 * half])
    found = value("entropy", maps, Reference.segmentation(even[0]))
    np.testing.assert_allclose(found, [1, 0, 0.5, 0.5], atol=1e-7)
    assert np.isnan(value("entropy", even[:, :1], Reference.segmentation(even[0, :1])))


def test_total_variation_pair_by_pair() -> None:
    maps = random_maps(2, 3, 4, 5)
    found = value("total_variation", maps, Reference.segmentation(maps[0]))
    for variant, concept in np.ndindex(2, 3):
        one, steps = maps[variant, concept], []
        for y, x in np.ndindex(4, 5):
            steps += [abs(one[y, x] - one[y + 1, x])] if y < 3 else []
            steps += [abs(one[y, x] - one[y, x + 1])] if x < 4 else []
        assert found[variant, concept] == pytest.approx(np.mean(steps), rel=1e-5)
    assert np.isnan(value("total_variation", maps[..., :1, :1], Reference.segmentation(maps[0, :, :1, :1]))).all()


@pytest.mark.slow
@steady
@given(hnp.arrays(np.float32, (2, 3, 4, 5), elements=st.floats(0.015625, 1, width=32)), st.permutations(range(3)))
def test_order_of_concepts_does_not_matter(maps: np.ndarray, order: list[int]) -> None:
    maps = maps + np.arange(60, dtype=np.float32).reshape(3, 4, 5) * 1e-4  # no draws, which the first concept would win
    full = np.roll(maps[0], 1, 0)
    for name, measure in MEASURES.items():
        plain = value(name, maps, Reference.segmentation(full))
        permuted = value(name, maps[:, order], Reference.segmentation(full[order]))
        np.testing.assert_allclose(permuted, plain[:, order] if measure.per_concept else plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_what_was_not_captured_is_not_measured(name: str) -> None:
    maps = random_maps(3, 3, 4, 5)
    known = value(name, maps[[0, 2]], Reference.segmentation(maps[0]))
    maps[1] = np.nan
    found = value(name, maps, Reference.segmentation(maps[0]))
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], known)


def test_iou_of_the_full_map_with_itself_is_one() -> None:
    maps = random_maps(1, 3, 6, 6)
    assert (value("full_map_iou", maps, Reference.segmentation(maps[0])) == 1).all()


def test_patches_of_the_same_concept_are_counted() -> None:
    maps = random_maps(2, 3, 4, 5)
    labels = maps[0].argmax(0)
    labels[0, 0] = (labels[0, 0] + 1) % 3
    labels[0, 1] = -1  # unknown: the same as nothing, and still a patch
    found = OVERVIEW["patch_agreement"].value(*OVERVIEW["patch_agreement"](maps, Reference.of_labels(labels, 3)))
    np.testing.assert_array_equal(found, [18 / 20, (maps[1].argmax(0) == labels).mean()])


def test_the_distance_of_maps_leaves_out_samples_without_one() -> None:
    one, other = random_maps(3, 2, 4, 5), random_maps(3, 2, 4, 5, seed=1)
    other[1, 0] = np.nan
    other[:, 1] = np.nan
    found = measures.map_distance(one, other)
    assert found[0] == pytest.approx(np.abs(one - other)[[0, 2], 0].mean(), rel=1e-5)
    assert np.isnan(found[1])


def test_one_figure_for_all_concepts_leaves_out_what_is_nowhere() -> None:
    maps = np.stack([np.ones((2, 2)), np.zeros((2, 2))])[None].astype(np.float32)
    truth = Reference(np.stack([np.full((2, 2), 4.0), np.zeros((2, 2))]), np.full((2, 2), 4.0), 16.0)
    for name in ("iou", "ap", "accuracy"):
        np.testing.assert_array_equal(MEASURES[name].value(*MEASURES[name](maps, truth)), [1])
    nothing = Reference(np.zeros((2, 2, 2)), np.full((2, 2), 4.0), 0.0)
    for name in ("ap", "accuracy"):
        assert np.isnan(MEASURES[name].value(*MEASURES[name](maps, nothing))).all()


def test_the_total_variation_distance_does_not_shrink_with_more_concepts() -> None:
    # All patches move from the first concept to the second, of two or of ten.
    for concepts in (2, 10):
        one, other = np.zeros((2, 1, concepts, 3, 4), np.float32)
        one[:, 0] = other[:, 1] = 1
        assert measures.total_variation_distance(one, other) == 1
        assert measures.map_distance(one, other).mean() == pytest.approx(2 / concepts)
        assert measures.total_variation_distance(one, one) == 0
    lacking = np.concatenate([one, np.full_like(one, np.nan)])
    assert measures.total_variation_distance(lacking, np.concatenate([other, other])) == 1
    assert np.isnan(measures.total_variation_distance(one * np.nan, other))
