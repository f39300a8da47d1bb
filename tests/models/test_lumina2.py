"""Lumina-Image 2: heads that share keys, text in a refiner, reversed time, and negative prompts without a template."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.references import relative_error
from tests.tiny_pipelines.lumina2 import lumina2_inputs, lumina2_pipeline, lumina2_transformer
from workbench.interventions import MaskText
from workbench.models.block_records import ConceptText
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.recording.tracing import trace
from workbench.schema import ModelError

SIZE = (32, 48)
OPTIONS: dict[str, Any] = {"steps": 1, "size": SIZE, "store": False, "progress": False}


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(lumina2_pipeline())


def scores(model: Any, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> dict[str, Tensor]:
    """Scores of all layers."""
    options = {"spaces": ("output", "cross", "prompt")} | options
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen.scores


def own(text: Tensor, token: int) -> dict[str, Any]:
    """Options of one concept that is a token of a text."""
    return {"own_texts": [ConceptText(text, (token,))], "own_positions": [token]}


# --- the transformer ---------------------------------------------------------------------------------------------
def test_a_concept_is_refined_in_its_own_text() -> None:
    """In the text that is the prompt as well it enters the blocks as that token; alone, or elsewhere, as another."""
    model = lumina2_transformer()
    inputs = lumina2_inputs(model, masked=2)
    text = inputs["encoder_hidden_states"][:, :5]
    found = scores(model, inputs, text[:, 3:4], layers=[0], **own(text, 3))
    prompt = found["prompt"][0, :, :, 3:4]
    assert relative_error(found["cross"][0], prompt) < 1e-5
    for other in (own(text, 2), own(text[:, :4], 3), own(text, 3) | {"own_positions": [0]}):
        assert relative_error(scores(model, inputs, text[:, 3:4], layers=[0], **other)["cross"][0], prompt) > 1e-3


def test_heads_of_queries_share_those_of_keys() -> None:
    model = lumina2_transformer()
    assert adapter_for(model).heads == 4
    inputs = lumina2_inputs(model)
    text = inputs["encoder_hidden_states"]
    options: dict[str, Any] = {"spaces": ("output", "value", "reverse_cross"), "vectors": True} | own(text, 3)
    with torch.no_grad(), trace(model, text[:, 3:4], **options) as seen:
        model(**inputs)
    value = seen.scores["value"]
    assert torch.equal(value[:, :, 0], value[:, :, 1]), "values of the first two"
    assert torch.equal(value[:, :, 2], value[:, :, 3])
    assert relative_error(value[:, :, 1], value[:, :, 2]) > 1e-2
    assert relative_error(seen.scores["output"][:, :, 0], seen.scores["output"][:, :, 1]) > 1e-2


def test_masked_text_is_dropped_before_the_blocks() -> None:
    model = lumina2_transformer()
    masked = lumina2_inputs(model, masked=3)
    short = masked | {name: masked[name][:, :4] for name in ("encoder_hidden_states", "encoder_attention_mask")}
    text = short["encoder_hidden_states"]
    expected, found = (scores(model, inputs, text[:, :1], **own(text, 0)) for inputs in (short, masked))
    for space in expected:
        assert relative_error(found[space], expected[space]) < 1e-5


def test_a_batch_of_texts_of_several_lengths_is_refused() -> None:
    model = lumina2_transformer()
    inputs = lumina2_inputs(model, batch=2)
    mask = inputs["encoder_attention_mask"].clone()
    mask[1, 5:] = 0
    text = inputs["encoder_hidden_states"][:1]
    with pytest.raises(ModelError, match="texts of 7, 5 tokens"), torch.no_grad():
        scores(model, inputs | {"encoder_attention_mask": mask}, text[:, :1], **own(text, 0))


def test_time_is_reversed() -> None:
    found = adapter_for(lumina2_transformer()).timesteps({"timestep": torch.tensor([0.25, 1.0])})
    assert found.tolist() == [750.0, 0.0]


# --- text --------------------------------------------------------------------------------------------------------
def test_text_stands_behind_the_system_prompt(adapter: Any) -> None:
    positions, words = adapter.prompt_tokens("a dog on grass")
    assert words == ["a", "dog", "on", "grass"]
    text = adapter.encode_prompt("a dog on grass")
    seen = int(text.mask.sum())
    assert positions == list(range(seen - 4, seen))
    assert adapter.length_of("a dog on grass") == seen
    assert not any(adapter.padding("a dog on grass"))
    found = adapter.encode_concept("dog")
    assert found.text.tokens == tuple(adapter.concept_positions(["dog"])) == (seen - 4,)
    assert found.text.embeddings.shape[1] == seen - 3
    assert torch.equal(found.vector[:, 0], found.text.embeddings[:, -1])


def test_a_negative_prompt_has_no_template(adapter: Any) -> None:
    assert adapter.negative().prompt_tokens("a cat") == ([1, 2], ["a", "cat"])
    assert adapter.negative().length_of("a cat") == 3
    assert adapter.length_of("a cat") > 3
    assert adapter.negative().pipe is adapter.pipe


@pytest.mark.slow
def test_its_tokens_are_recorded_and_edited_where_they_are(adapter: Any) -> None:
    options: dict[str, Any] = OPTIONS | {"model": adapter.pipe, "negative_prompt": "a cat", "branch": "unconditional"}
    ds = wb.generate("a dog", ["dog"], spaces=("output", "prompt"), text_mass=True, **options)
    assert ds.position.values.tolist() == [1, 2]
    assert ds.token.values.tolist() == ["a", "cat"]
    assert ds.sizes["text"] == ds.attrs["text_length"] == 3
    edited = wb.generate("a dog", ["dog"], interventions=MaskText(0, tokens="cat"), **options)
    assert not np.array_equal(edited["output_total"], ds["output_total"])
    by_place = wb.generate("a dog", ["dog"], interventions=MaskText(0, tokens=[2]), **options)
    np.testing.assert_array_equal(edited["output_total"], by_place["output_total"])


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_a_real_image_goes_in_as_the_pipeline_would_put_it(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    posterior, vae = adapter.encode_image(image), adapter.pipe.vae
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(pixels).latent_dist.mean
    torch.testing.assert_close(posterior.mean, (mean - 0.1159) * 0.3611, rtol=1e-5, atol=1e-6)
    latents, noise = posterior.draw(0)
    noised = adapter.noised(latents, noise, 250.0)
    torch.testing.assert_close(noised, 0.25 * noise + 0.75 * latents)
    inputs = adapter.inputs(noised, 250.0, adapter.encode_prompt("a dog"), (2, 3))
    assert inputs["timestep"].tolist() == [0.75]
    assert adapter.inner.grid(inputs) == adapter.grid(*SIZE) == (2, 3)
    assert adapter.inner.timesteps(inputs).tolist() == [250.0]


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_schedule_is_the_pipelines_and_so_are_the_timesteps_it_runs(adapter: Any, dynamic: bool) -> None:
    pipe = adapter.pipe
    own, pipe.scheduler = (
        pipe.scheduler,
        pipe.scheduler.from_config(pipe.scheduler.config, use_dynamic_shifting=dynamic),
    )
    schedule = adapter.schedule(5, *SIZE)
    seen: list[float] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(adapter.inner.timesteps(kwargs)[0].item()), with_kwargs=True
    )
    adapter.generate("a dog", steps=5, guidance=1.0, seed=0, size=SIZE)
    handle.remove()
    np.testing.assert_allclose(schedule.timesteps, adapter.ran(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(schedule.timesteps, seen, rtol=0, atol=1e-3)
    pipe.scheduler = own


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (2, 3, 4)
    assert (adapter.default_timestep, adapter.default_steps, adapter.default_guidance) == (500, 30, 4.0)
    assert (adapter.patch, adapter.native) == (16, (64, 64))
