"""Qwen-Image: positions that depend on the picture, masks, references behind it, and the pipeline's own latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.references import relative_error
from tests.tiny_pipelines.qwen import qwen_inputs, qwen_pipeline, qwen_transformer
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.recording.tracing import trace
from workbench.schema import ModelError


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(qwen_pipeline())


def scores(model: Any, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> dict[str, Tensor]:
    """Scores of all layers."""
    options = {"spaces": ("output", "cross", "prompt")} | options
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen.scores


# --- the transformer ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("grid", [(4, 6), (10, 3)])
def test_a_concept_is_rotated_by_its_position_and_the_pictures_size(grid: tuple[int, int]) -> None:
    """At the position of the prompt's first token it is that token, whatever the picture; elsewhere it is not."""
    model = qwen_transformer()
    inputs = qwen_inputs(model, grid=grid)
    prompt = inputs["encoder_hidden_states"]
    first = scores(model, inputs, prompt[:, :1])
    assert relative_error(first["cross"][0], first["prompt"][0, :, :, :1]) < 1e-5
    third = scores(model, inputs, prompt[:, 2:3], own_positions=[2])
    assert relative_error(third["cross"][0], third["prompt"][0, :, :, 2:3]) < 1e-5
    wrong = scores(model, inputs, prompt[:, 2:3])
    assert relative_error(wrong["cross"][0], wrong["prompt"][0, :, :, 2:3]) > 1e-2


def test_a_concept_may_stand_behind_the_end_of_the_prompt() -> None:
    model = qwen_transformer()
    short, long = (qwen_inputs(model, text=text) for text in (3, 9))
    for name in ("hidden_states", "timestep"):
        short[name] = long[name]
    concepts = long["encoder_hidden_states"][:, :2]
    places = {"own_positions": [8, 5], "layers": [0], "spaces": ("cross",)}
    expected = scores(model, long, concepts, **places)["cross"]
    assert relative_error(scores(model, short, concepts, **places)["cross"], expected) < 1e-5


def test_masked_text_is_as_if_it_was_not_there() -> None:
    model = qwen_transformer()
    masked = qwen_inputs(model, masked=3)
    short = masked | {"encoder_hidden_states": masked["encoder_hidden_states"][:, :4]}
    short["encoder_hidden_states_mask"] = None
    concepts = torch.randn(1, 2, 16, generator=torch.Generator().manual_seed(0))
    expected, found = (scores(model, inputs, concepts, spaces=("output", "cross")) for inputs in (short, masked))
    for space in expected:
        assert relative_error(found[space], expected[space]) < 1e-5


def test_only_the_picture_is_scored_where_a_reference_follows_it() -> None:
    model = qwen_transformer(zero_cond_t=True)
    inputs = qwen_inputs(model, grid=(4, 6), reference=(2, 5))
    assert inputs["hidden_states"].shape[1] == 34
    concepts = torch.randn(1, 2, 16, generator=torch.Generator().manual_seed(0))
    found = scores(model, inputs, concepts)
    assert found["output"].shape[-1] == found["prompt"].shape[-1] == 24
    assert adapter_for(model).grid(inputs) == (4, 6)
    moved = inputs | {"hidden_states": inputs["hidden_states"].clone()}
    moved["hidden_states"][:, 24:] += 1
    assert relative_error(scores(model, moved, concepts)["output"], found["output"]) > 1e-3, "but concepts see it"


def test_projections_that_were_fused_are_run_one_by_one() -> None:
    model = qwen_transformer()
    inputs = qwen_inputs(model)
    concepts = inputs["encoder_hidden_states"][:, :2]
    plain = scores(model, inputs, concepts)
    for block in model.transformer_blocks:
        block.attn.fuse_projections()
    fused = scores(model, inputs, concepts)
    assert all(torch.equal(fused[space], plain[space]) for space in plain)


def test_pictures_of_several_layers_are_refused() -> None:
    with pytest.raises(ModelError, match="use_layer3d_rope"):
        adapter_for(qwen_transformer(use_layer3d_rope=True))


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_the_template_is_dropped_and_text_keeps_its_length(adapter: Any) -> None:
    assert adapter.prompt_tokens("a dog on grass") == ([0, 1, 2, 3], ["a", "dog", "on", "grass"])
    assert adapter.length_of("a dog on grass") == 9, "the end of the turn and the start of the next are behind it"
    assert adapter.encode_prompt("a dog on grass").embeddings.shape == (1, 9, 16)
    assert adapter.concept_positions(["dog", "skyscraper"]) == (0, 0)
    assert adapter.concept_positions(["dog", "skyscraper"], "last") == (0, 1)


def test_a_real_image_goes_in_as_the_pipeline_would_put_it(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    posterior, vae = adapter.encode_image(image), adapter.pipe.vae
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
    mean, std = (torch.tensor(part).view(1, -1, 1, 1) for part in (vae.config.latents_mean, vae.config.latents_std))
    with torch.no_grad():
        gaussian = vae.encode(pixels).latent_dist
    torch.testing.assert_close(posterior.mean, (gaussian.mean[:, :, 0] - mean) / std, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(posterior.std, gaussian.std[:, :, 0] / std, rtol=1e-5, atol=1e-6)

    noised = adapter.noised(*posterior.draw(0), 250.0)
    assert noised.shape == (1, 48, 16)
    unpacked = adapter.pipe._unpack_latents(noised, 24, 32, adapter.pipe.vae_scale_factor)[:, :, 0]
    latents, noise = posterior.draw(0)
    torch.testing.assert_close(unpacked, 0.25 * noise + 0.75 * latents)
    inputs = adapter.inputs(noised, 250.0, adapter.encode_prompt("a dog"), (6, 8))
    assert adapter.inner.grid(inputs) == (6, 8)
    assert adapter.inner.timesteps(inputs).tolist() == [250.0]


def test_decoding_undoes_normalising(adapter: Any) -> None:
    pipe, latents = adapter.pipe, torch.randn(1, 4, 12, 16, generator=torch.Generator().manual_seed(0))
    mean, std = (
        torch.tensor(part).view(1, -1, 1, 1) for part in (pipe.vae.config.latents_mean, pipe.vae.config.latents_std)
    )
    with torch.no_grad():
        whole = pipe.vae.decode((latents * std + mean)[:, :, None], return_dict=False)[0][:, :, 0]
    (expected,) = pipe.image_processor.postprocess(whole, output_type="pil")
    np.testing.assert_array_equal(adapter.decode(latents), np.asarray(expected))


def test_the_schedule_is_the_pipelines(adapter: Any) -> None:
    schedule = adapter.schedule(5, 24, 32)
    adapter.generate("a dog", steps=5, guidance=None, seed=0, size=(24, 32))
    np.testing.assert_allclose(schedule.timesteps, adapter.ran(), rtol=0, atol=1e-4)


def test_guidance_is_two_passes_with_a_negative_prompt(adapter: Any) -> None:
    assert adapter.default_guidance is None
    assert set(adapter.guidance({"guidance": None, "negative_prompt": None, "true_guidance": 1.0})) == {"conditional"}
    branches = adapter.guidance({"guidance": None, "negative_prompt": "", "true_guidance": 4.0})
    assert branches["conditional"].takes("cond", 0)
    assert branches["unconditional"].takes("uncond", 1)


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (2, 3, 4)
    assert (adapter.default_timestep, adapter.default_steps) == (500, 50)
