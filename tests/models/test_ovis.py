"""Ovis-Image: an instruction whose colon stays, positions, a norm before the embedder, and its pipeline's calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.references import relative_error
from tests.tiny_pipelines.flux_like import ovis_inputs, ovis_pipeline, ovis_transformer
from workbench.models.family import pipeline_adapter_for
from workbench.recording.tracing import trace

LENGTH = 24


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(ovis_pipeline(), {"text_length": LENGTH})


def scores(model: Any, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> dict[str, Tensor]:
    """Scores of the first layer."""
    options = {"layers": [0], "spaces": ("cross", "prompt")} | options
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen.scores


# --- the transformer ---------------------------------------------------------------------------------------------
def test_a_concept_is_rotated_by_its_position() -> None:
    """At the position of the prompt's token it is that token; elsewhere it is not. It stands at the second one."""
    model = ovis_transformer()
    inputs = ovis_inputs(model)
    prompt = inputs["encoder_hidden_states"]
    second = scores(model, inputs, prompt[:, 1:2])
    assert relative_error(second["cross"], second["prompt"][:, :, :, 1:2]) < 1e-5
    third = scores(model, inputs, prompt[:, 2:3], own_positions=[2])
    assert relative_error(third["cross"], third["prompt"][:, :, :, 2:3]) < 1e-5
    wrong = scores(model, inputs, prompt[:, 2:3])
    assert relative_error(wrong["cross"], wrong["prompt"][:, :, :, 2:3]) > 1e-2


# --- text --------------------------------------------------------------------------------------------------------
def test_the_instruction_is_dropped_but_for_its_colon(adapter: Any) -> None:
    assert adapter.prompt_tokens("a dog on grass") == ([1, 2, 3, 4], ["a", "dog", "on", "grass"])
    tokenizer = adapter.pipe.tokenizer
    kept = tokenizer(adapter.template("dog"), add_special_tokens=False).input_ids[adapter.pipe.user_prompt_begin_id :]
    assert [tokenizer.decode([token]) for token in kept[:2]] == [":", " dog"], "a word is read with the space before it"
    assert adapter.concept_positions(["dog", "skyscraper"]) == (1, 1)
    assert adapter.concept_positions(["dog", "skyscraper"], "last") == (1, 2)
    assert adapter.prompt_tokens("") == ([], [])


def test_padding_is_zeros_that_the_transformer_is_given(adapter: Any) -> None:
    text = adapter.encode_prompt("a dog")
    padding = torch.tensor(adapter.padding("a dog"))
    assert text.embeddings.shape == (1, LENGTH, 16)
    assert 0 < int(padding.sum()) < LENGTH
    assert not text.embeddings[:, padding].any()
    assert text.embeddings[:, ~padding].any(dim=-1).all()
    embeddings, _ = adapter.encode_concepts(["dog"])
    assert torch.equal(embeddings[0, 0], adapter.encode_prompt("dog").embeddings[0, 1])


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_inputs_are_those_the_pipeline_itself_would_give(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    seen: list[dict[str, Any]] = []
    pipe = adapter.pipe
    handle = pipe.transformer.register_forward_pre_hook(lambda _, args, given: seen.append(given), with_kwargs=True)
    latents = adapter.noised(*adapter.encode_image(image).draw(0), 1000.0)
    options = {"height": 24, "width": 32, "guidance_scale": 1.0, "max_sequence_length": LENGTH}
    pipe("a dog", num_inference_steps=1, latents=latents, output_type="latent", **options)
    handle.remove()
    inputs = adapter.inputs(latents, 1000.0, adapter.encode_prompt("a dog"), (6, 8))
    for name, value in inputs.items():
        assert value.dtype == seen[0][name].dtype, name
        assert torch.equal(value, seen[0][name]), name
    assert inputs["txt_ids"][3].tolist() == [0, 3, 3]
    assert adapter.inner.grid(inputs) == (6, 8)
    assert adapter.inner.timesteps(inputs).tolist() == [1000.0]


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (1, 2)
    assert (adapter.default_timestep, adapter.default_steps, adapter.default_guidance) == (500, 50, 5.0)
    assert pipeline_adapter_for(adapter.pipe).text_length == 256
