"""The pipeline side of FLUX.1: text, images, sizes, inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from tests.tiny_random import flux_inputs, flux_pipeline, flux_transformer
from workbench.models.family import pipeline_adapter_for
from workbench.models.pipeline import PipelineAdapter
from workbench.recording.tracing import trace
from workbench.schema import InputError, ModelError

INFO = {"size": [16, 24], "text_length": 12}


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return flux_pipeline()


@pytest.fixture
def adapter(pipe: FluxPipeline) -> PipelineAdapter:
    return pipeline_adapter_for(pipe, INFO)


def scene(height: int = 16, width: int = 24) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_unsupported_pipelines_are_refused_by_name(pipe: FluxPipeline) -> None:
    with pytest.raises(ModelError, match=r"pipeline of class AutoencoderKL is not supported.*FluxPipeline"):
        pipeline_adapter_for(pipe.vae)


def test_layers_are_named_modules(pipe: FluxPipeline, adapter: PipelineAdapter) -> None:
    modules = dict(pipe.transformer.named_modules())
    for index, layer in enumerate(adapter.layers):
        assert layer.index == index
        assert ("Single" in type(modules[layer.name]).__name__) == (layer.kind == "single")
    assert [layer.kind for layer in adapter.layers] == ["dual"] * 3 + ["single"] * 2


def test_default_layers() -> None:
    flux = flux_pipeline(num_layers=19, num_single_layers=1)
    assert pipeline_adapter_for(flux).default_layers == tuple(range(9, 19))
    assert pipeline_adapter_for(flux, {"default_layers": [3, 4]}).default_layers == (3, 4)


def test_text_length_follows_the_variant(pipe: FluxPipeline) -> None:
    assert pipeline_adapter_for(pipe).text_length == 256
    assert pipeline_adapter_for(flux_pipeline(guidance_embeds=True)).text_length == 512
    assert pipeline_adapter_for(pipe, INFO).text_length == 12


def test_native_size_keeps_the_aspect_ratio(pipe: FluxPipeline, adapter: PipelineAdapter) -> None:
    assert adapter.patch == 4
    assert adapter.native == (16, 24)
    assert adapter.native_size(400, 600) == (16, 24)
    assert adapter.native_size(600, 400) == (24, 16)
    assert adapter.native_size(1, 10_000) == (4, 1960)
    assert pipeline_adapter_for(pipe).native == (256, 256), "128 latent pixels a side"
    with pytest.raises(InputError, match=r"18 x 24 is no multiple.*4 pixels: use for example 16 x 24"):
        adapter.grid(18, 24)


def test_first_token_is_that_of_the_pipelines_own_encoding(pipe: FluxPipeline, adapter: PipelineAdapter) -> None:
    words = ["dog", "skyscraper"]
    embeddings, counts = adapter.encode_concepts(words)
    assert embeddings.shape == (1, 2, 40)
    assert counts == [1, 2]
    for index, word in enumerate(words):
        with torch.no_grad():
            expected = pipe.encode_prompt(word, max_sequence_length=12)[0]
        assert torch.equal(embeddings[0, index], expected[0, 0])
        assert torch.equal(adapter.encode_prompt(word).embeddings, expected)


def test_mean_pooling_takes_the_words_own_tokens_only(adapter: PipelineAdapter) -> None:
    embeddings, _ = adapter.encode_concepts(["dog", "skyscraper"], pool="mean")
    whole = adapter.encode_prompt("skyscraper").embeddings[0]
    torch.testing.assert_close(embeddings[0, 1], whole[:2].mean(dim=0))
    assert torch.equal(embeddings[0, 0], adapter.encode_prompt("dog").embeddings[0, 0])
    with pytest.raises(InputError, match="first, last, mean"):
        adapter.encode_concepts(["dog"], pool="middle")


def test_last_pooling_takes_the_words_last_token(adapter: PipelineAdapter) -> None:
    embeddings, counts = adapter.encode_concepts(["dog", "skyscraper"], pool="last")
    assert counts == [1, 2]
    for index, place in enumerate((0, 1)):
        word = ("dog", "skyscraper")[index]
        assert torch.equal(embeddings[0, index], adapter.encode_prompt(word).embeddings[0, place])


def test_padding_changes_a_concept_so_its_length_matters(pipe: FluxPipeline, adapter: PipelineAdapter) -> None:
    longer = pipeline_adapter_for(pipe, {"text_length": 20})
    assert not torch.allclose(adapter.encode_concepts(["dog"])[0], longer.encode_concepts(["dog"])[0])


def test_prompt_tokens_are_the_prompts_own(adapter: PipelineAdapter) -> None:
    assert adapter.prompt_tokens("a skyscraper on grass") == (
        [0, 1, 2, 3, 4],
        ["a", "sky", "scraper", "on", "grass"],
    )
    assert adapter.prompt_tokens("") == ([], [])
    positions, _ = adapter.prompt_tokens("dog " * 30)
    assert positions == list(range(11)), "the twelfth place is the end-of-text token's"


def test_image_posterior_in_latent_units(pipe: FluxPipeline, adapter: PipelineAdapter) -> None:
    image = scene()
    posterior = adapter.encode_image(image)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        encoded = pipe.vae.encode(pixels).latent_dist
    torch.testing.assert_close(posterior.mean, 0.3611 * (encoded.mean - 0.1159))
    torch.testing.assert_close(posterior.std, 0.3611 * encoded.std)
    with pytest.raises(InputError, match="no multiple"):
        adapter.encode_image(scene(height=18))


def test_a_seed_fixes_latents_and_noise(adapter: PipelineAdapter) -> None:
    posterior = adapter.encode_image(scene())
    latents, noise = posterior.draw(seed=3)
    again = posterior.draw(seed=3)
    other = posterior.draw(seed=4)
    assert torch.equal(latents, again[0])
    assert torch.equal(noise, again[1])
    assert not torch.equal(noise, other[1])
    assert not torch.equal(latents, other[0])
    deviation = (latents - posterior.mean) / posterior.std
    assert not torch.allclose(deviation, noise), "the posterior and the noise are drawn one after the other"
    assert latents.dtype == noise.dtype == torch.float32


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_are_those_the_pipeline_itself_would_give(guided: bool, dtype: torch.dtype) -> None:
    pipe = flux_pipeline(dtype=dtype, guidance_embeds=guided)
    adapter = pipeline_adapter_for(pipe, INFO)
    seen: list[dict[str, Any]] = []
    pipe.transformer.register_forward_pre_hook(lambda module, args, kwargs: seen.append(dict(kwargs)), with_kwargs=True)
    posterior = adapter.encode_image(scene())
    tokens = adapter.noised(*posterior.draw(seed=0), 1000)
    pipe(
        "a dog",
        height=16,
        width=24,
        num_inference_steps=1,
        guidance_scale=2.0,
        max_sequence_length=12,
        latents=tokens,
        output_type="latent",
    )
    ours = adapter.inputs(tokens, 1000, adapter.encode_prompt("a dog"), adapter.grid(16, 24), guidance=2.0)
    assert not ours.pop("pooled_projections").any(), "real images have zero pooled text"
    for name, value in ours.items():
        theirs = seen[0][name]
        assert (value is None) == (theirs is None), name
        if value is not None:
            assert value.dtype == theirs.dtype, name
            assert torch.equal(value, theirs), name


def test_several_samples_go_through_in_one_batch(pipe: FluxPipeline, adapter: PipelineAdapter) -> None:
    posterior = adapter.encode_image(scene())
    tokens = torch.cat([adapter.noised(*posterior.draw(seed), 500) for seed in (0, 1)])
    concepts, _ = adapter.encode_concepts(["dog", "sky"])
    with trace(adapter.transformer, concepts) as seen:
        seen.run(**adapter.inputs(tokens, 500, adapter.encode_prompt(""), adapter.grid(16, 24)))
    assert seen.scores["output"].shape == (3, 2, adapter.heads, 2, 24)


def test_a_missing_component_is_named() -> None:
    pipe = flux_pipeline()
    pipe.text_encoder_2 = None
    with pytest.raises(ModelError, match="without its text_encoder_2"):
        pipeline_adapter_for(pipe).encode_concepts(["dog"])


def test_group_offloading_gives_the_same_scores(pipe: FluxPipeline, adapter: PipelineAdapter) -> None:
    concepts, _ = adapter.encode_concepts(["dog", "sky"])
    text, grid = adapter.encode_prompt(""), adapter.grid(16, 24)
    tokens = adapter.noised(*adapter.encode_image(scene()).draw(0), 500)
    with trace(adapter.transformer, concepts) as plain:
        plain.run(**adapter.inputs(tokens, 500, text, grid))

    offloaded = flux_pipeline()
    offloaded.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )
    other = pipeline_adapter_for(offloaded, INFO)
    with trace(other.transformer, other.encode_concepts(["dog", "sky"])[0]) as seen:
        for _ in range(2):
            seen.run(**other.inputs(tokens, 500, other.encode_prompt(""), grid))
    other.release()
    assert torch.equal(seen.scores["output"], plain.scores["output"])


@pytest.mark.parametrize(
    ("module", "layer", "blocks"),
    [
        ("transformer_blocks.0.ff_context.net.2", 1, {"num_layers": 2}),
        ("single_transformer_blocks.0.proj_out", 2, {"num_layers": 1, "num_single_layers": 2}),
    ],
)
def test_float16_overflow_is_clipped_as_in_the_model(module: str, layer: int, blocks: dict[str, int]) -> None:
    model = flux_transformer(**blocks).half()
    with torch.no_grad():
        model.context_embedder.bias.fill_(60_000)
        model.get_submodule(module).bias.fill_(60_000)
    inputs = flux_inputs(model)
    prompt, pooled = inputs["encoder_hidden_states"], inputs["pooled_projections"]
    with trace(model, prompt, layers=[layer], spaces=("cross", "prompt"), pooled=pooled) as seen:
        seen.run(**inputs)
    torch.testing.assert_close(seen.scores["cross"], seen.scores["prompt"], rtol=1e-2, atol=1e-2)
