"""Chroma: a mask that is added, a table of modulation, T5 text, and what its pipeline does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.references import relative_error
from tests.tiny_pipelines.flux_like import chroma_inputs, chroma_pipeline, chroma_transformer
from workbench.interventions import MaskText
from workbench.models.block_records import BlockCall
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.recording.tracing import trace
from workbench.schema import ModelError

LENGTH = 20


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(chroma_pipeline(), {"text_length": LENGTH})


def scores(model: Any, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> dict[str, Tensor]:
    """Scores of all layers."""
    options = {"layers": range(5), "spaces": ("output", "cross", "prompt")} | options
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen.scores | seen.mass


# --- the transformer ---------------------------------------------------------------------------------------------
def test_text_that_the_mask_counts_as_padding_is_attended_to_all_the_same() -> None:
    model = chroma_transformer()
    inputs = chroma_inputs(model, masked=3)
    concepts = torch.randn(1, 2, 40, generator=torch.Generator().manual_seed(0))
    found = scores(model, inputs, concepts, text_mass=True)
    assert (found["text_mass"][..., 4:] > 0).all()
    plain = scores(model, inputs | {"attention_mask": None}, concepts, text_mass=True)
    # A factor of e less than what is seen, in the first block, where nothing else differs yet.
    shares = [each["text_mass"][0, ..., 4:].sum() / each["text_mass"][0, ..., :4].sum() for each in (plain, found)]
    assert 2 < float(shares[0] / shares[1]) < 3.5


def test_the_mask_counts_where_the_prompt_is_the_concepts() -> None:
    """Without it the prompt's tokens would see its padding as much as themselves."""
    model = chroma_transformer()
    inputs = chroma_inputs(model, masked=3)
    prompt = inputs["encoder_hidden_states"]
    found = scores(model, inputs, prompt, positions=range(7))
    assert relative_error(found["cross"], found["prompt"]) < 1e-5
    alone = scores(model, inputs, prompt)
    assert relative_error(alone["cross"], alone["prompt"]) > 1e-3


def test_a_boolean_mask_hides_text() -> None:
    model = chroma_transformer()
    inputs = chroma_inputs(model, masked=3)
    inputs["attention_mask"] = inputs["attention_mask"].bool()
    concepts = torch.randn(1, 2, 40, generator=torch.Generator().manual_seed(0))
    mass = scores(model, inputs, concepts, text_mass=True)["text_mass"]
    assert not mass[..., 4:].any()
    assert (mass[..., :4] > 0).all()


def test_masks_that_patches_see_differently_are_refused() -> None:
    model = chroma_transformer()
    adapter = adapter_for(model)
    mask = torch.ones(1, 31)
    mask[:, 12] = 0
    with pytest.raises(ModelError, match="mask that differs between patches"):
        adapter.text_bias(BlockCall({}, 7, mask=mask))  # type: ignore[attr-defined]
    inputs = chroma_inputs(model) | {"attention_mask": mask}
    with pytest.raises(ModelError, match="mask that differs between patches"):
        scores(model, inputs, inputs["encoder_hidden_states"], interventions=MaskText(1, tokens=[0]))


@pytest.mark.parametrize(("duals", "singles"), [(1, 3), (4, 1)])
def test_each_block_takes_its_rows_of_the_table(duals: int, singles: int) -> None:
    model = chroma_transformer(num_layers=duals, num_single_layers=singles)
    inputs = chroma_inputs(model)
    prompt = inputs["encoder_hidden_states"]
    found = scores(model, inputs, prompt, layers=range(duals + singles), positions=range(7))
    for layer in range(duals + singles):
        assert relative_error(found["cross"][layer], found["prompt"][layer]) < 1e-5, layer


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_text_is_t5s_with_a_mask_of_the_first_padding(adapter: Any) -> None:
    assert adapter.prompt_tokens("a skyscraper on grass") == ([0, 1, 2, 3, 4], ["a", "sky", "scraper", "on", "grass"])
    text = adapter.encode_prompt("a dog")
    assert text.embeddings.shape == (1, LENGTH, 40)
    assert text.added.tolist() == [[1] * 4 + [0] * (LENGTH - 4)], "two words, the end of text and one of padding"
    assert text.mask is None, "nothing is hidden"
    assert adapter.padding("a dog") == [False] * 3 + [True] * (LENGTH - 3)
    assert [reader.name for reader in adapter.readers(made=True)] == ["T5"]
    embeddings, counts = adapter.encode_concepts(["dog", "skyscraper"])
    assert counts == [1, 2]
    assert torch.equal(embeddings[0, 0], adapter.encode_prompt("dog").embeddings[0, 0])
    assert adapter.concept_positions(["dog"]) is None


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
    assert adapter.inner.grid(inputs) == (6, 8)
    assert adapter.inner.timesteps(inputs).tolist() == [1000.0]


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (1, 2)
    assert (adapter.default_timestep, adapter.default_steps, adapter.default_guidance) == (500, 35, 5.0)
    assert pipeline_adapter_for(adapter.pipe).text_length == 512
