from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from tests.evaluation.test_captured import RULES, WORDS, maps_of
from tests.tiny_random import concept_embeddings, flux_inputs, flux_pipeline
from workbench.evaluation.examples import Example
from workbench.evaluation.linear import SPACES, linear_scores
from workbench.numerics.scores import linear_normalised
from workbench.recording.tracing import trace
from workbench.schema import InputError


@pytest.fixture(scope="module")
def pipe() -> Any:
    return flux_pipeline()


@pytest.fixture
def example() -> Example:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    return Example("a", pixels, "a dog", ("dog",))


@pytest.mark.parametrize("space", SPACES)
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


@pytest.mark.parametrize(
    ("space", "reduce"), [("output", "softmax_mean"), ("output", "sum"), ("cross", "sum"), ("value", "softmax_mean")]
)
def test_maps(pipe: Any, example: Example, space: str, reduce: str) -> None:
    rules = RULES.changed(concept_norm="linear", reduce=reduce)
    found = maps_of(pipe, example, space, rules).to_numpy()
    scores = linear_scores(pipe, example.image, (32, 32), WORDS, "a dog", rules, space).sum("head")
    if reduce == "sum":
        expected = scores.sum(["sample", "layer"]).to_numpy()
    else:
        powers = np.exp(scores - scores.max("concept"))
        expected = (powers / powers.sum("concept")).mean(["sample", "layer"]).to_numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    plain = maps_of(pipe, example, space, RULES.changed(reduce=reduce)).to_numpy()
    assert not np.allclose(found, plain, rtol=1e-2)


def test_rotation_comes_before_the_norm_and_the_scale_stays(pipe: Any) -> None:
    """Concepts of FLUX.1 are at position 0, where the rotary embedding changes nothing; it never changes a length."""
    model = pipe.transformer
    with torch.no_grad(), trace(model, concept_embeddings(), [1], SPACES, vectors=True) as seen:
        model(**flux_inputs(model))
    held, scale = seen.vectors, model.config.attention_head_dim**-0.5
    assert torch.equal(held["concept_cross"], held["concept_query"])
    lengths = held["image_query"].norm(dim=-1)
    assert torch.allclose(held["image_reverse_cross"].norm(dim=-1), scale * lengths, rtol=1e-5)
    assert not torch.allclose(held["image_reverse_cross"], scale * held["image_query"], rtol=1e-2)
    by_norm = linear_normalised(held["concept_query"], -2) @ held["image_cross"].transpose(-1, -2)
    expected = linear_normalised(held["concept_cross"] * scale, -2) @ (held["image_cross"] / scale).transpose(-1, -2)
    assert torch.allclose(by_norm, scale * expected, rtol=1e-4, atol=1e-5)


def test_softmax_in_every_head(pipe: Any, example: Example) -> None:
    """As the public code has it in the value space: each head's vectors are normalised, and its scores softmaxed."""
    rules = RULES.changed(concept_norm="linear", heads="softmax")
    scores = linear_scores(pipe, example.image, (32, 32), WORDS, "a dog", rules, "value")
    powers = np.exp(scores - scores.max("concept"))
    expected = (powers / powers.sum("concept")).mean(["sample", "layer", "head"]).transpose("concept", "y", "x")
    assert np.abs(maps_of(pipe, example, "value", rules).to_numpy() - expected.to_numpy()).max() < 1e-6


def test_the_prompts_tokens_are_no_concepts(pipe: Any, example: Example) -> None:
    with pytest.raises(InputError, match=r"'prompt' has the tokens of one text.*Expected one of output, cross"):
        maps_of(pipe, example, "prompt", RULES.changed(concept_norm="linear"))
    with pytest.raises(InputError, match="nobody published a rule"):
        linear_scores(pipe, example.image, (32, 32), WORDS, "", RULES, "prompt")
