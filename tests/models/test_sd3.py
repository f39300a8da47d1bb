"""Stable Diffusion 3: the public code's own numbers, the pipeline's own text and latents, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor

from tests.references import golden, relative_error
from tests.tiny_pipelines.sd3 import CLIP_LENGTH, sd3_inputs, sd3_pipeline, sd3_transformer
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.recording.tracing import trace
from workbench.schema import InputError, TraceError

T5_LENGTH = 20


@pytest.fixture(scope="module")
def pipe() -> StableDiffusion3Pipeline:
    return sd3_pipeline()


@pytest.fixture(scope="module")
def adapter(pipe: StableDiffusion3Pipeline) -> Any:
    return pipeline_adapter_for(pipe, {"text_length": T5_LENGTH})


# --- the transformer ---------------------------------------------------------------------------------------------
def test_concept_vectors_are_the_public_codes() -> None:
    """Its image vectors are no reference: they come from a second attention, in which the image sees the concepts."""
    tensors, config = golden("sd3")
    model = SD3Transformer2DModel(**config).eval()
    model.load_state_dict({name[2:]: tensor.float() for name, tensor in tensors.items() if name.startswith("w.")})
    names = ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep")
    with torch.no_grad(), trace(model, tensors["in.concepts"], vectors=True) as seen:
        output = model(**{name: tensors[f"in.{name}"] for name in names}).sample
    assert relative_error(output, tensors["ref.model_output"]) < 1e-5
    vectors = seen.vectors["concept_output"].transpose(2, 3).flatten(3)
    assert relative_error(vectors, tensors["ref.output_space_concept_vectors"]) < 1e-5


def test_concepts_are_modulated_as_the_prompt_is_unless_told_otherwise() -> None:
    model = sd3_transformer()
    inputs = sd3_inputs(model)
    concepts = inputs["encoder_hidden_states"][:, :2]

    def scores(**options: Any) -> Tensor:
        with torch.no_grad(), trace(model, concepts, **options) as seen:
            model(**inputs)
        return seen.scores["output"]

    own = scores()
    assert torch.equal(scores(pooled=inputs["pooled_projections"]), own)
    assert relative_error(scores(pooled=torch.zeros_like(inputs["pooled_projections"])), own) > 1e-2


def test_fused_projections_leave_norms_out_and_unfused_ones_have_them_again() -> None:
    """Undoing it leaves the attribute behind that says it is done: the processor is asked instead."""
    model = sd3_transformer()
    inputs = sd3_inputs(model)

    def query() -> Tensor:
        with torch.no_grad(), trace(model, inputs["encoder_hidden_states"], vectors=True) as seen:
            model(**inputs)
        return seen.vectors["image_query"][0]

    plain = query()
    model.fuse_qkv_projections()
    assert adapter_for(model).structure() == (True,) * 5
    fused = query()
    assert relative_error(fused, plain) > 0.1
    model.unfuse_qkv_projections()
    assert model.transformer_blocks[0].attn.fused_projections
    assert adapter_for(model).structure() == (False,) * 5
    assert torch.equal(query(), plain)


def test_the_order_of_heads_and_tokens_is_no_guess() -> None:
    """As many tokens as heads: nothing but the family says which axis is which."""
    model = sd3_transformer()
    inputs = sd3_inputs(model, text=2)
    prompt, pooled = inputs["encoder_hidden_states"], inputs["pooled_projections"]
    with torch.no_grad(), trace(model, prompt, spaces=("cross", "prompt"), pooled=pooled) as seen:
        model(**inputs)
    assert relative_error(seen.scores["cross"], seen.scores["prompt"]) < 1e-5


def test_layers_that_the_call_skips_are_reported() -> None:
    """As the pipeline's guidance by skipped layers does in a pass of its own."""
    model = sd3_transformer()
    inputs = sd3_inputs(model)
    concepts = inputs["encoder_hidden_states"]
    with (
        pytest.raises(TraceError, match=r"layers 1 \(transformer_blocks\.1\)"),
        torch.no_grad(),
        trace(model, concepts),
    ):
        model(**inputs, skip_layers=[1])


# --- text --------------------------------------------------------------------------------------------------------
def test_text_is_clips_then_t5s(adapter: Any) -> None:
    positions, words = adapter.prompt_tokens("a dog on grass")
    assert words == ["a", "dog", "on", "grass"] * 2
    assert positions == [1, 2, 3, 4, *range(CLIP_LENGTH, CLIP_LENGTH + 4)]
    padding = adapter.padding("a dog on grass")
    assert len(padding) == adapter.text_length == CLIP_LENGTH + T5_LENGTH
    # The start of text, four words, and the end of each.
    assert [place for place, padded in enumerate(padding) if not padded] == [*range(6), *range(16, 21)]
    text = adapter.encode_prompt("a dog on grass")
    assert text.embeddings.shape == (1, CLIP_LENGTH + T5_LENGTH, 40)
    assert text.pooled.shape == (1, 24)


@pytest.mark.parametrize(("pool", "first", "stop"), [("first", 1, 2), ("last", 4, 5), ("mean", 1, 5)])
def test_a_concept_takes_its_clip_tokens(adapter: Any, pool: str, first: int, stop: int) -> None:
    embeddings, counts = adapter.encode_concepts(["dog", "skyscraper"], pool)
    assert counts == [1, 4]
    tokenizer = adapter.pipe.tokenizer
    assert tokenizer.decode(tokenizer("dog").input_ids[1]) == "dog"
    assert tokenizer.decode(tokenizer("skyscraper").input_ids[1:5]) == "skyscraper"
    own = [adapter.encode_prompt(word).embeddings[0] for word in ("dog", "skyscraper")]
    torch.testing.assert_close(embeddings[0, 0], own[0][1])
    torch.testing.assert_close(embeddings[0, 1], own[1][first:stop].mean(dim=0))


def test_without_t5_text_is_clips_and_zeros() -> None:
    adapter = pipeline_adapter_for(sd3_pipeline(t5=False), {"text_length": T5_LENGTH})
    assert adapter.prompt_tokens("a dog") == ([1, 2], ["a", "dog"])
    assert [reader.name for reader in adapter.readers(made=True)] == ["CLIP"]
    assert all(adapter.padding("a dog")[CLIP_LENGTH:])
    assert not adapter.encode_prompt("a dog").embeddings[:, CLIP_LENGTH:].any()


# --- latents and schedule ----------------------------------------------------------------------------------------
def test_a_real_image_goes_in_as_the_pipeline_would_put_it(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    posterior = adapter.encode_image(image)
    vae = adapter.pipe.vae
    with torch.no_grad():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
        expected = (vae.encode(pixels).latent_dist.mean - vae.config.shift_factor) * vae.config.scaling_factor
    torch.testing.assert_close(posterior.mean, expected, rtol=1e-5, atol=1e-6)
    assert posterior.mean.shape == (1, 4, 12, 16)
    latents, noise = posterior.draw(0)
    noised = adapter.noised(latents, noise, 250.0)
    torch.testing.assert_close(noised, 0.25 * noise + 0.75 * latents)
    text = adapter.encode_prompt("a dog")
    inputs = adapter.inputs(noised, 250.0, text, (6, 8))
    assert inputs["timestep"].tolist() == [250.0]
    assert torch.equal(inputs["pooled_projections"], text.pooled), "the prompt's own"
    assert adapter.inner.grid(inputs) == adapter.grid(24, 32) == (6, 8)
    assert adapter.inner.timesteps(inputs).tolist() == [250.0]


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_schedule_is_the_pipelines(pipe: StableDiffusion3Pipeline, adapter: Any, dynamic: bool) -> None:
    own, pipe.scheduler = pipe.scheduler, FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
    schedule = adapter.schedule(5, 24, 32)
    pipe("a dog", height=24, width=32, num_inference_steps=5, output_type="latent", max_sequence_length=T5_LENGTH)
    np.testing.assert_allclose(schedule.timesteps, pipe.scheduler.timesteps, rtol=0, atol=1e-4)
    pipe.scheduler = own


def test_guidance_is_one_batch(adapter: Any) -> None:
    options = {"negative_prompt": None, "true_guidance": 1.0}
    assert set(adapter.guidance(options | {"guidance": 1.0})) == {"conditional"}
    branches = adapter.guidance(options | {"guidance": 7.0})
    assert branches["unconditional"].items == slice(0, 1)
    assert branches["conditional"].items == slice(1, 2)
    with pytest.raises(InputError, match="give guidance= instead"):
        adapter.guidance({"negative_prompt": "", "true_guidance": 2.0, "guidance": 1.0})


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (2, 3, 4), "the second half, as of the paper's model"
    assert adapter.default_timestep == 500
    assert (adapter.default_steps, adapter.default_guidance) == (28, 7.0), "the pipeline's own"
