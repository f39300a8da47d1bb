"""Scores: the same numbers from NumPy and torch, and from formulas written out the long way."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workbench.numerics.scores import REDUCTIONS, head_scores, reduce_maps, softmax
from workbench.schema import InputError

finite = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=4),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(finite, st.integers(-2, 1))
def test_softmax_is_a_distribution_and_agrees_between_libraries(values: np.ndarray, axis: int) -> None:
    result = softmax(values, axis)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(axis=axis), 1, rtol=1e-5)
    np.testing.assert_allclose(softmax(torch.from_numpy(values), axis).numpy(), result, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(torch.softmax(torch.from_numpy(values), axis).numpy(), result, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make", [lambda v: v.astype(np.float16), lambda v: torch.from_numpy(v).to(torch.bfloat16)])
def test_16_bit_scores_are_reduced_in_float32(make) -> None:
    values = make(np.arange(12, dtype=np.float32).reshape(3, 4))
    assert "float32" in str(softmax(values, 0).dtype)
    assert "float32" in str(reduce_maps(values, concept_axis=0, mean_axes=(), reduce="mean").dtype)


def test_head_scores_sum_to_the_full_width_inner_product() -> None:
    rng = np.random.default_rng(0)
    concept = rng.standard_normal((2, 3, 5, 8), dtype=np.float32)
    image = rng.standard_normal((2, 3, 7, 8), dtype=np.float32)
    scores = head_scores(concept, image)
    assert scores.shape == (2, 3, 5, 7)
    wide_concept = concept.transpose(0, 2, 1, 3).reshape(2, 5, 24)
    wide_image = image.transpose(0, 2, 1, 3).reshape(2, 7, 24)
    for batch in range(2):
        np.testing.assert_allclose(
            scores[batch].sum(0), wide_concept[batch] @ wide_image[batch].T, rtol=1e-4, atol=1e-5
        )
    torch_scores = head_scores(torch.from_numpy(concept), torch.from_numpy(image))
    np.testing.assert_allclose(torch_scores.numpy(), scores, rtol=1e-5, atol=1e-5)


def test_reductions_differ_in_the_order_of_softmax_and_mean() -> None:
    values = np.random.default_rng(1).standard_normal((2, 4, 3, 5), dtype=np.float32)  # sample, layer, concept, patch

    def by_hand(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores)
        return powers / powers.sum(axis=-2, keepdims=True)

    expected = {
        "softmax_mean": by_hand(values).mean(axis=(0, 1)),
        "mean_softmax": by_hand(values.mean(axis=(0, 1))),
        "mean": values.mean(axis=(0, 1)),
    }
    assert set(expected) == set(REDUCTIONS)
    for name, maps in expected.items():
        result = reduce_maps(values, concept_axis=2, mean_axes=(0, 1), reduce=name)
        np.testing.assert_allclose(result, maps, rtol=1e-5, atol=1e-6)
        negative = reduce_maps(torch.from_numpy(values), concept_axis=-2, mean_axes=(-4, -3), reduce=name)
        np.testing.assert_allclose(negative.numpy(), maps, rtol=1e-5, atol=1e-6)


def test_reduction_finds_the_concepts_when_axes_on_both_sides_go() -> None:
    values = np.random.default_rng(2).standard_normal((2, 3, 4, 5)).astype(np.float32)  # layer, concept, sample, patch
    moved = reduce_maps(values, concept_axis=1, mean_axes=(0, 2), reduce="mean_softmax")
    np.testing.assert_allclose(moved.sum(axis=0), np.ones(5), rtol=1e-5)


def test_missing_pieces_are_not_skipped_silently() -> None:
    values = np.zeros((2, 3, 4), np.float32)
    values[1] = np.nan
    assert np.isnan(reduce_maps(values, concept_axis=1, mean_axes=(0,))).all()


def test_bad_arguments_name_what_was_expected() -> None:
    values = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(InputError, match="softmax_mean, mean_softmax, mean"):
        reduce_maps(values, concept_axis=1, mean_axes=(0,), reduce="max")
    with pytest.raises(InputError, match="mean_axes"):
        reduce_maps(values, concept_axis=1, mean_axes=(-2,))


@pytest.mark.slow
def test_the_module_imports_no_torch() -> None:
    code = "import sys, workbench.numerics.scores; assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
