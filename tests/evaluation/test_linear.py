from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.evaluation.test_captured import RULES, WORDS, maps_of
from tests.tiny_random import flux_pipeline
from workbench.evaluation.examples import Example
from workbench.evaluation.linear import linear_scores
from workbench.numerics.scores import linear_normalised
from workbench.schema import InputError


@pytest.fixture(scope="module")
def pipe() -> Any:
    return flux_pipeline()


@pytest.fixture
def example() -> Example:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    return Example("a", pixels, "a dog", ("dog",))


@pytest.mark.parametrize("space", ["output", "query"])
def test_without_the_norm_these_are_the_scores_of_a_capture(pipe: Any, example: Example, space: str) -> None:
    found = linear_scores(pipe, example.image, (32, 32), WORDS, "a dog", RULES, space, normalise=False)
    chosen = {"timesteps": 500, "samples": 2, "seed": 3, "layers": [1, 2], "size": (32, 32)}
    ds = wb.capture(
        example.image, WORDS, model=pipe, prompt="a dog", spaces=[space], store=False, progress=False, **chosen
    )
    expected = ds[f"{space}_total"].isel(timestep=0).transpose("sample", "layer", "concept", "y", "x").to_numpy()
    assert np.abs(found.sum("head").to_numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_per_channel_and_additive_over_heads(pipe: Any, example: Example) -> None:
    """Normalising all channels at once and head by head is the same, so sums over heads are whole."""
    rng = np.random.default_rng(0)
    heads = rng.normal(size=(4, 3, 8))
    found = linear_normalised(heads, -2)
    assert np.abs(found.min(-2)).max() == 0
    assert np.abs(found.sum(-2) - 1).max() < 1e-12
    patches = rng.normal(size=(4, 5, 8))
    whole, whole_patches = (part.transpose(1, 0, 2).reshape(part.shape[1], -1) for part in (heads, patches))
    by_head = (found @ patches.swapaxes(-1, -2)).sum(0)
    assert np.abs(by_head - linear_normalised(whole, -2) @ whole_patches.T).max() < 1e-12
    heads[:, :, 2] = 0.5
    assert (linear_normalised(heads, -2)[:, :, 2] == 0).all()
    tensor = linear_normalised(torch.from_numpy(heads), -2)
    assert np.abs(tensor.numpy() - linear_normalised(heads, -2)).max() < 1e-12


@pytest.mark.parametrize("reduce", ["softmax_mean", "sum"])
def test_maps(pipe: Any, example: Example, reduce: str) -> None:
    rules = RULES.changed(concept_norm="linear", reduce=reduce)
    found = maps_of(pipe, example, "output", rules).to_numpy()
    scores = linear_scores(pipe, example.image, (32, 32), WORDS, "a dog", rules, "output").sum("head")
    if reduce == "sum":
        expected = scores.sum(["sample", "layer"]).to_numpy()
    else:
        powers = np.exp(scores - scores.max("concept"))
        expected = (powers / powers.sum("concept")).mean(["sample", "layer"]).to_numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    plain = maps_of(pipe, example, "output", RULES.changed(reduce=reduce)).to_numpy()
    assert not np.allclose(found, plain, rtol=1e-2)


def test_spaces_without_vectors_are_refused(pipe: Any, example: Example) -> None:
    with pytest.raises(InputError, match=r"in the spaces output and query, not in 'value'"):
        maps_of(pipe, example, "value", RULES.changed(concept_norm="linear"))
    with pytest.raises(InputError, match="a trace keeps those of output and query"):
        linear_scores(pipe, example.image, (32, 32), WORDS, "", RULES, "cross")
