"""CogView4: shared projections, text padded on the left, masks that hide nothing, and noise at a shifted time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

import workbench as wb
from tests.tiny_pipelines.cogview4 import cogview4_inputs, cogview4_pipeline, cogview4_transformer
from tests.tiny_random import concept_embeddings
from workbench.models.block_records import BlockCall
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.recording.tracing import trace
from workbench.schema import InputError, ModelError, validate

SIZE = (64, 96)
GRID = (4, 6)


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(cogview4_pipeline())


# --- the transformer ---------------------------------------------------------------------------------------------
def test_queries_and_keys_are_those_before_the_model_writes_into_them() -> None:
    """Where text comes first, rotating the image writes into what the norms gave."""
    model = cogview4_transformer()
    inputs = cogview4_inputs(model)
    seen: list[torch.Tensor] = []
    norm = model.transformer_blocks[2].attn1.norm_q
    handle = norm.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    with torch.no_grad(), trace(model, concept_embeddings(width=16), layers=[2], vectors=True) as traced:
        model(**inputs)
    handle.remove()
    # The concepts' own queries come after the model's.
    assert torch.equal(traced.vectors["image_query"][0], seen[0][:, :, 7:])


def test_masked_text_is_seen_by_e_times_less() -> None:
    """The mask is given to the attention as numbers, which it adds."""
    model = cogview4_transformer()
    inputs = cogview4_inputs(model, masked=2)
    adapter = adapter_for(model)
    mask = adapter.mask({"attention_mask": inputs["attention_mask"], "hidden_states": torch.zeros(1, 24, 8)})
    bias = adapter.text_bias(BlockCall({}, 7, mask=mask))
    assert bias.flatten().tolist() == [0.0] * 5 + [-1.0] * 2
    with torch.no_grad(), trace(model, concept_embeddings(width=16), text_mass=True) as seen:
        model(**inputs)
    with torch.no_grad(), trace(model, concept_embeddings(width=16), layers=[0], text_mass=True) as plain:
        model(**inputs | {"attention_mask": None})
    masked, bare = (found.mass["text_mass"][0, ..., 5:].sum() for found in (seen, plain))
    assert 0 < masked < bare


# --- text --------------------------------------------------------------------------------------------------------
def test_text_is_padded_on_the_left(adapter: Any) -> None:
    """Two special tokens come before the four words."""
    assert adapter.prompt_tokens("a dog on grass") == ([12, 13, 14, 15], ["a", "dog", "on", "grass"])
    assert adapter.padding("a dog on grass") == [True] * 10 + [False] * 6
    assert adapter.length_of("a dog on grass") == adapter.encode_prompt("a dog on grass").embeddings.shape[1] == 16
    assert adapter.length_of(" ".join(["dog"] * 14)) == 16
    assert adapter.length_of(" ".join(["dog"] * 15)) == 32
    assert adapter.prompt_tokens("") == ([], [])
    assert adapter.concept_positions(["dog"]) is None


@pytest.mark.parametrize(("pool", "places"), [("first", [14]), ("last", [15]), ("mean", [14, 15])])
def test_a_concept_takes_its_own_tokens(adapter: Any, pool: str, places: list[int]) -> None:
    seen: list[torch.Tensor] = []
    handle = adapter.pipe.text_encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    embeddings, counts = adapter.encode_concepts(["skyscraper"], pool)
    handle.remove()
    assert counts == [2]
    tokens = seen[0][0].tolist()
    assert adapter.pipe.tokenizer.decode([tokens[place] for place in (14, 15)]) == "skyscraper"
    assert tokens[:12] == [adapter.pipe.tokenizer.pad_token_id] * 12
    own = adapter.encode_prompt("skyscraper").embeddings[0]
    torch.testing.assert_close(embeddings[0, 0], own[places].mean(dim=0))
    with pytest.raises(InputError, match="reads no token of the concept ''"):
        adapter.encode_concepts([""])


def test_long_text_is_cut() -> None:
    adapter = pipeline_adapter_for(cogview4_pipeline(), {"text_length": 32})
    long = "dog " * 60
    assert adapter.length_of(long) == adapter.encode_prompt(long).embeddings.shape[1] == 32
    assert adapter.prompt_tokens(long)[0] == list(range(2, 32))
    assert adapter.reader.count(long) > 32


# --- noise -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [SIZE, (96, 128)])
@pytest.mark.parametrize(
    "options", [{}, {"time_shift_type": "exponential"}, {"use_dynamic_shifting": False, "shift": 3.0}], ids=str
)
def test_the_schedule_is_the_pipelines(adapter: Any, size: tuple[int, int], options: dict[str, Any]) -> None:
    pipe, own = adapter.pipe, adapter.pipe.scheduler
    pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(own.config, **options)
    schedule = adapter.schedule(5, *size)
    adapter.generate("a dog", steps=5, guidance=1.0, seed=0, size=size)
    np.testing.assert_allclose(schedule.timesteps, adapter.ran(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(schedule.sigmas, pipe.scheduler.sigmas[:-1], rtol=0, atol=1e-5)
    assert abs(schedule.sigmas[2] - schedule.timesteps[2] / 1000) > 0.1, "the model is told another time"
    pipe.scheduler = own


def test_a_dataset_says_both(adapter: Any) -> None:
    options: dict[str, Any] = {"model": adapter.pipe, "size": SIZE, "store": False, "progress": False}
    ds = wb.generate("a dog", ["dog"], steps=3, **options)
    validate(ds, values=True)
    schedule = adapter.schedule(3, *SIZE)
    np.testing.assert_allclose(ds.timestep, schedule.timesteps)
    np.testing.assert_allclose(ds.sigma, schedule.sigmas)
    assert ds.attrs["process"] == "flow of shifted time"
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    captured = wb.capture(image, ["dog"], timesteps=[250, 500], **options)
    validate(captured, values=True)
    np.testing.assert_allclose(captured.sigma, [adapter.sigma(time, SIZE) for time in (500, 250)])
    assert adapter.sigma(500, SIZE) < adapter.sigma(500, (128, 128)), "larger pictures have more noise"


def test_a_real_image_has_as_much_noise_as_the_pipeline_would_give_it(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    posterior, vae = adapter.encode_image(image), adapter.pipe.vae
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(pixels).latent_dist.mean
    torch.testing.assert_close(posterior.mean, mean * 0.8, rtol=1e-5, atol=1e-6)
    latents, noise = posterior.draw(0)
    noised = adapter.noised(latents, noise, 250.0)
    sigma, shift = adapter.sigma(250.0, SIZE), 0.25 + 0.75 * (24 / 256) ** 0.5
    assert sigma == pytest.approx(shift / (shift + 3))
    torch.testing.assert_close(noised, sigma * noise + (1 - sigma) * latents)
    inputs = adapter.inputs(noised, 250.0, adapter.encode_prompt("a dog"), GRID)
    assert inputs["timestep"].tolist() == [250.0]
    assert inputs["original_size"].tolist() == inputs["target_size"].tolist() == [[64.0, 96.0]]
    assert inputs["crop_coords"].tolist() == [[0.0, 0.0]]
    assert adapter.inner.grid(inputs) == adapter.grid(*SIZE) == GRID
    assert adapter.inner.timesteps(inputs).tolist() == [250.0]


def test_inputs_are_those_of_the_pipeline(adapter: Any) -> None:
    seen: list[dict[str, Any]] = []
    handle = adapter.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    adapter.generate("a dog", steps=1, guidance=1.0, seed=0, size=SIZE)
    handle.remove()
    (given,) = seen
    made = adapter.inputs(given["hidden_states"], float(given["timestep"]), adapter.encode_prompt("a dog"), GRID)
    for name, value in made.items():
        assert torch.equal(value, given[name]), name
        assert value.dtype == given[name].dtype, name


def test_noise_that_depends_on_all_steps_is_refused() -> None:
    pipe = cogview4_pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift_terminal=0.1)
    adapter = pipeline_adapter_for(pipe)
    for call in (lambda: adapter.sigma(500.0, SIZE), lambda: adapter.schedule(3, *SIZE)):
        with pytest.raises(ModelError, match="has shift_terminal: how noisy the latents are"):
            call()


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (2, 3, 4)
    assert (adapter.default_steps, adapter.default_guidance) == (50, 5.0)
    assert (adapter.patch, adapter.native) == (16, (64, 64))
    assert adapter.sigma(adapter.default_timestep) == pytest.approx(0.5, abs=1e-3)
    assert adapter.default_timestep == 696
    assert pipeline_adapter_for(adapter.pipe, {"timestep": 300}).default_timestep == 300
