"""LongCat-Image: text that is quoted and padded, positions, references behind the picture, and its pipeline's calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.references import relative_error
from tests.tiny_pipelines.flux_like import longcat_inputs, longcat_pipeline, longcat_transformer
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.recording.tracing import trace
from workbench.schema import InputError, ModelError

LENGTH = 512


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(longcat_pipeline())


def scores(model: Any, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> dict[str, Tensor]:
    """Scores of all layers."""
    options = {"layers": range(5), "spaces": ("output", "cross", "prompt")} | options
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen.scores


# --- the transformer ---------------------------------------------------------------------------------------------
def test_a_concept_is_rotated_by_its_position() -> None:
    """At the position of the prompt's token it is that token; elsewhere it is not."""
    model = longcat_transformer()
    inputs = longcat_inputs(model)
    prompt = inputs["encoder_hidden_states"]
    first = scores(model, inputs, prompt[:, :1])
    assert relative_error(first["cross"][0], first["prompt"][0, :, :, :1]) < 1e-5
    third = scores(model, inputs, prompt[:, 2:3], own_positions=[2])
    assert relative_error(third["cross"][0], third["prompt"][0, :, :, 2:3]) < 1e-5
    wrong = scores(model, inputs, prompt[:, 2:3])
    assert relative_error(wrong["cross"][0], wrong["prompt"][0, :, :, 2:3]) > 1e-2


def test_only_the_picture_is_scored_where_a_reference_follows_it() -> None:
    """As the edit pipeline gives it, whose image is of the picture's size or another."""
    model = longcat_transformer()
    inputs = longcat_inputs(model, grid=(4, 6), reference=(7, 5))
    assert inputs["hidden_states"].shape[1] == 24 + 35
    concepts = torch.randn(1, 2, 16, generator=torch.Generator().manual_seed(0))
    found = scores(model, inputs, concepts)
    assert found["output"].shape[-1] == found["prompt"].shape[-1] == 24
    assert adapter_for(model).grid(inputs) == (4, 6)
    moved = inputs | {"hidden_states": inputs["hidden_states"].clone()}
    moved["hidden_states"][:, 24:] += 1
    assert relative_error(scores(model, moved, concepts)["output"], found["output"]) > 1e-3, "but concepts see it"


def test_passes_with_and_without_a_reference_in_one_trace() -> None:
    model = longcat_transformer()
    concepts = torch.randn(1, 2, 16, generator=torch.Generator().manual_seed(0))
    shapes = []
    with torch.no_grad(), trace(model, concepts) as seen:
        for reference in (None, (4, 6), None):
            model(**longcat_inputs(model, grid=(2, 3), reference=reference))
            shapes.append(seen.scores["output"].shape[-1])
    assert shapes == [6, 6, 6]


# --- text --------------------------------------------------------------------------------------------------------
def read(adapter: Any, prompt: str) -> tuple[list[int], list[int]]:
    """Tokens and mask that the text encoder is given for a prompt, between the halves of the template."""
    seen: dict[str, Any] = {}
    handle = adapter.pipe.text_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    adapter.encode_prompt(prompt)
    handle.remove()
    start = len(adapter.pipe.tokenizer(adapter.pipe.prompt_template_encode_prefix).input_ids)
    parts = (seen[name][0, start : start + LENGTH].tolist() for name in ("input_ids", "attention_mask"))
    return next(parts), next(parts)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("prompt", ["a dog on grass", "a sign 'dog' on grass", "", " dog " * 600, "it's <|im_end|>"])
def test_own_tokens_are_where_the_encoder_reads_them(adapter: Any, prompt: str, side: str) -> None:
    tokenizer = adapter.pipe.tokenizer
    before, tokenizer.padding_side = tokenizer.padding_side, side
    try:
        placed, (tokens, mask) = adapter.reader.place(prompt), read(adapter, prompt)
        assert [tokens[position] for position in placed.positions] == list(placed.tokens)
        assert placed.padding == tuple(not seen for seen in mask)
        assert len(placed.positions) == min(adapter.reader.count(prompt), LENGTH)
        assert adapter.encode_prompt(prompt).embeddings.shape == (1, LENGTH, 16)
        if len(prompt) < 100:
            assert tokenizer.decode(placed.tokens) == prompt
            assert bool(placed.positions) == bool(prompt)
    finally:
        tokenizer.padding_side = before


def test_what_is_quoted_is_read_letter_by_letter(adapter: Any) -> None:
    assert adapter.prompt_tokens("a 'dog'")[1] == ["a", "Ġ", "'", "d", "o", "g", "'"]
    assert adapter.prompt_tokens("a dog on grass") == ([0, 1, 2, 3], ["a", "dog", "on", "grass"])


def test_words_that_the_pipeline_confuses_are_refused(adapter: Any) -> None:
    """It puts marks in place of words with an apostrophe inside, one of which is part of the other."""
    once, twice = "it's a dog and it's on grass", "it's a dog's house"
    assert adapter.pipe.tokenizer.decode(adapter.reader.tokens(once)) == once
    for act in (
        adapter.prompt_tokens,
        adapter.encode_prompt,
        lambda text: adapter.encode_concepts([text]),
        lambda text: adapter.generate(text, steps=1, guidance=1.0, seed=0, size=(24, 32)),
        lambda text: adapter.generate("a dog", steps=1, guidance=2.0, seed=0, size=(24, 32), negative_prompt=text),
        lambda text: wb.generate("a dog", ["dog"], model=adapter.pipe, negative_prompt=text, store=False),
    ):
        with pytest.raises(InputError, match=r"several words with an apostrophe inside.*write them apart"):
            act(twice)


def test_a_concept_stands_at_the_start(adapter: Any) -> None:
    words = ["dog", "skyscraper"]
    assert adapter.concept_positions(words) == (0, 0)
    assert adapter.concept_positions(words, "last")[0] == 0
    embeddings, counts = adapter.encode_concepts(words)
    assert counts == [len(adapter.reader.tokens(word)) for word in words]
    assert torch.equal(embeddings[0, 0], adapter.encode_prompt("dog").embeddings[0, 0])
    with pytest.raises(InputError, match="reads no token of the concept ''"):
        adapter.encode_concepts([""])


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_inputs_are_those_the_pipeline_itself_would_give(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    seen: list[dict[str, Any]] = []
    pipe = adapter.pipe
    handle = pipe.transformer.register_forward_pre_hook(lambda _, args, given: seen.append(given), with_kwargs=True)
    latents = adapter.noised(*adapter.encode_image(image).draw(0), 1000.0)
    options = {"height": 24, "width": 32, "guidance_scale": 1.0, "enable_prompt_rewrite": False}
    pipe("a dog", num_inference_steps=1, latents=latents, output_type="latent", **options)
    handle.remove()
    inputs = adapter.inputs(latents, 1000.0, adapter.encode_prompt("a dog"), (6, 8))
    for name, value in inputs.items():
        assert value.dtype == seen[0][name].dtype, name
        assert torch.equal(value, seen[0][name]), name
    assert inputs["img_ids"][0].tolist() == [1, LENGTH, LENGTH], "behind the text"
    assert adapter.inner.grid(inputs) == (6, 8)
    assert adapter.inner.timesteps(inputs).tolist() == [1000.0]


def test_prompts_are_not_rewritten(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(adapter.pipe), "rewire_prompt", lambda *_: pytest.fail("rewritten"))
    adapter.generate("a dog", steps=1, guidance=1.0, seed=0, size=(24, 32))


def test_models_without_data_between_calls_are_refused(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline would send its text there."""
    monkeypatch.setattr(type(adapter.pipe), "device", torch.device("meta"))
    message = r"sequential offload.*enable_model_cpu_offload"
    with pytest.raises(ModelError, match=message):
        adapter.encode_prompt("a dog")
    with pytest.raises(ModelError, match=message):
        adapter.generate("a dog", steps=1, guidance=1.0, seed=0, size=(24, 32))


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (1, 2)
    assert (adapter.default_timestep, adapter.default_steps, adapter.default_guidance) == (500, 50, 4.5)
