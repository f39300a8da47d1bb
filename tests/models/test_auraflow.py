"""AuraFlow: registers before the text, positions that end, guidance in one batch, and an upcast autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

import workbench as wb
from tests.references import relative_error
from tests.tiny_pipelines.auraflow import auraflow_inputs, auraflow_pipeline, auraflow_transformer
from workbench.interventions import MaskText
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.models.fingerprint import fingerprint
from workbench.recording.edits.resolving import resolve
from workbench.recording.text_warnings import word_remarks
from workbench.recording.tracing import trace
from workbench.schema import InputError, ModelError

LENGTH = 20


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(auraflow_pipeline(), {"text_length": LENGTH})


def scores(model: Any, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> dict[str, Tensor]:
    """Scores of all layers."""
    options = {"spaces": ("output", "cross", "prompt")} | options
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen.scores


# --- the transformer ---------------------------------------------------------------------------------------------
def test_concepts_go_with_registers_and_are_not_counted_with_them() -> None:
    model = auraflow_transformer()
    inputs = auraflow_inputs(model)
    prompt = inputs["encoder_hidden_states"]
    found = scores(model, inputs, prompt, lse=True, vectors=True)
    assert found["output"].shape[3] == 7
    assert found["prompt"].shape[3] == 15
    assert relative_error(found["cross"], found["prompt"][:, :, :, 8:]) < 1e-5
    with torch.no_grad():
        model.register_tokens += torch.randn(model.register_tokens.shape, generator=torch.Generator().manual_seed(0))
    again = scores(model, inputs, prompt)
    assert relative_error(again["cross"][0], found["cross"][0]) < 1e-5
    assert relative_error(again["cross"][1], found["cross"][1]) > 5e-5, "concepts attend to them"
    assert relative_error(again["cross"], again["prompt"][:, :, :, 8:]) < 1e-5


def test_fused_projections_keep_their_norms_and_unfused_ones_are_known() -> None:
    model = auraflow_transformer()
    inputs = auraflow_inputs(model)
    concepts = inputs["encoder_hidden_states"][:, :2]
    plain = scores(model, inputs, concepts)
    model.fuse_qkv_projections()
    assert adapter_for(model).structure() == (True,) * 5
    fused = scores(model, inputs, concepts)
    model.unfuse_qkv_projections()
    assert adapter_for(model).structure() == (False,) * 5
    for space, expected in plain.items():
        assert relative_error(fused[space], expected) < 1e-5
        assert torch.equal(scores(model, inputs, concepts)[space], expected)


def test_pictures_beyond_the_models_positions_are_refused(adapter: Any) -> None:
    model = auraflow_transformer(pos_embed_max_size=25)
    inputs = auraflow_inputs(model)
    with pytest.raises(ModelError, match="4 x 6 patches are more than the 5 of a side"), torch.no_grad():
        scores(model, inputs, inputs["encoder_hidden_states"])
    assert adapter.grid(64, 64) == (16, 16)
    with pytest.raises(InputError, match=r"positions for 16 of a side: the longer side may be 64 pixels"):
        adapter.grid(64, 68)


# --- text --------------------------------------------------------------------------------------------------------
def test_text_stands_behind_the_registers(adapter: Any) -> None:
    assert adapter.prompt_tokens("a dog on grass") == ([8, 9, 10, 11], ["a", "dog", "on", "grass"])
    assert adapter.text_length == adapter.length_of("a dog on grass") == 8 + LENGTH
    padding = adapter.padding("a dog on grass")
    assert padding == [False] * (8 + 4 + 1) + [True] * (LENGTH - 5), "the end of the text is none"
    words = list(zip(*adapter.prompt_tokens("a dog on grass"), strict=True))
    (edit,) = resolve([MaskText(1, tokens="dog")], 5, 2, ["dog"], adapter.text_length, words)
    assert edit["tokens"] == (9,)
    assert adapter.prompt_tokens("dog " * 40)[0][-1] == 8 + LENGTH - 2


@pytest.mark.parametrize(("pool", "first", "stop"), [("first", 0, 1), ("last", 1, 2), ("mean", 0, 2)])
def test_a_concept_takes_its_own_tokens(adapter: Any, pool: str, first: int, stop: int) -> None:
    embeddings, counts = adapter.encode_concepts(["dog", "skyscraper"], pool)
    assert counts == [1, 2]
    assert adapter.concept_positions(["dog"]) is None
    own = [adapter.encode_prompt(word).embeddings[0] for word in ("dog", "skyscraper")]
    torch.testing.assert_close(embeddings[0, 0], own[0][0])
    torch.testing.assert_close(embeddings[0, 1], own[1][first:stop].mean(dim=0))
    assert not own[0][2:].any(), "padding is zero"
    with pytest.raises(InputError, match="reads no token of the concept ''"):
        adapter.encode_concepts([""])


def test_remarks_of_a_concept_are_of_its_own_tokens(adapter: Any) -> None:
    """Which are not where the same tokens of a prompt are."""
    assert word_remarks(adapter, "dog", "first") == []
    (told,) = word_remarks(adapter, "skyscraper", "first")
    assert "has 2 tokens (sky, scraper)" in told


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_a_real_image_goes_in_as_the_pipeline_would_put_it(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    posterior, vae = adapter.encode_image(image), adapter.pipe.vae
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(pixels).latent_dist.mean
    torch.testing.assert_close(posterior.mean, mean * 0.13025, rtol=1e-5, atol=1e-6)
    latents, noise = posterior.draw(0)
    noised = adapter.noised(latents, noise, 250.0)
    torch.testing.assert_close(noised, 0.25 * noise + 0.75 * latents)
    inputs = adapter.inputs(noised, 250.0, adapter.encode_prompt("a dog"), (6, 8))
    assert inputs["timestep"].tolist() == [0.25]
    assert adapter.inner.grid(inputs) == adapter.grid(24, 32) == (6, 8)
    assert adapter.inner.timesteps(inputs).tolist() == [250.0]


def test_the_autoencoder_is_in_float32_for_as_long_as_it_is_used() -> None:
    pipe = auraflow_pipeline()
    exact = pipeline_adapter_for(pipe)
    pipe.vae.to(torch.float16)
    pipe.vae.config["force_upcast"] = True
    halves = pipeline_adapter_for(pipe)
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    before = fingerprint(pipe)
    posterior = halves.encode_image(image)
    assert posterior.mean.dtype == torch.float32
    upcast = auraflow_pipeline()
    upcast.vae.to(torch.float16).to(torch.float32)
    expected = pipeline_adapter_for(upcast).encode_image(image)
    assert torch.equal(posterior.mean, expected.mean)
    np.testing.assert_array_equal(halves.decode(posterior.mean), pipeline_adapter_for(upcast).decode(posterior.mean))
    wb.generate("a dog", ["dog"], model=pipe, steps=1, size=(24, 32), store=False, progress=False)
    assert pipe.vae.dtype == torch.float16
    assert fingerprint(pipe) == before
    assert exact.pipe is pipe


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    """Few blocks are dual ones, and those are the first: the others count as well where no layers are named."""
    assert adapter.default_layers == (2, 3, 4)
    assert (adapter.default_timestep, adapter.default_steps, adapter.default_guidance) == (500, 50, 3.5)
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    ds = wb.capture(image, ["dog", "sky"], model=adapter.pipe, size=(24, 32), store=False, progress=False)
    assert ds.layer.values.tolist() == [0, 1, 2, 3, 4]
    assert ds.attrs["default_layers"] == [2, 3, 4]
    xr.testing.assert_equal(ds.wb.heatmap(), ds.wb.heatmap(layers=[2, 3, 4]))


def test_the_native_size_is_1024_as_far_as_there_are_positions() -> None:
    """The configuration of the published models says 64 latents, of which 1024 pixels have 128."""
    pipe = auraflow_pipeline(sample_size=64, pos_embed_max_size=256)
    small = pipeline_adapter_for(pipe)
    assert small.native == (64, 64)
    assert small.native_size(100, 100) == (64, 64)
    assert small.native_size(300, 100) == (64, 20), "the longer side keeps to the positions"
    assert small.grid(*small.native_size(100, 299)) == (5, 16)
    large = pipeline_adapter_for(auraflow_pipeline(pos_embed_max_size=300 * 300))
    assert large.native == (1024, 1024)
    assert large.native_size(880, 1184) == (884, 1188)
    assert pipeline_adapter_for(pipe, {"size": [24, 32]}).native == (24, 32)
