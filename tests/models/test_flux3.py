"""FLUX.3: text that is refined before it meets the image, positions that are scaled, and references."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import LONE
from tests.references import relative_error
from tests.tiny_pipelines.flux3 import flux3_inputs, flux3_transformer, rounded
from workbench.interventions import BlurAttention, MaskText
from workbench.models.block_records import ConceptText
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.models.known import families
from workbench.recording.tracing import trace
from workbench.schema import ModelError

pytestmark = pytest.mark.filterwarnings(LONE)


def scores(model: Any, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> dict[str, Tensor]:
    """Scores of all layers."""
    options = {"layers": range(5), "spaces": ("output", "cross", "prompt")} | options
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen.scores | seen.mass


def test_a_concept_is_refined_in_its_own_text() -> None:
    """As a token of the prompt, where that is its text; a lone token is another thing."""
    model = flux3_transformer()
    inputs = flux3_inputs(model)
    prompt = inputs["encoder_hidden_states"]
    places = (4, 2)
    texts = [ConceptText(prompt, (place,)) for place in places]
    found = scores(model, inputs, prompt[:, list(places)], own_positions=places, own_texts=texts)
    # In the first block; behind it concepts have seen the image and each other, the prompt's tokens all of it.
    assert relative_error(found["cross"][0], found["prompt"][0][:, :, list(places)]) < 1e-5
    alone = scores(model, inputs, prompt[:, list(places)], own_positions=places)
    assert relative_error(alone["cross"][0], alone["prompt"][0][:, :, list(places)]) > 1e-3


def test_texts_of_several_positions_and_of_each_item() -> None:
    model = flux3_transformer(flow_map=True)
    inputs = flux3_inputs(model, batch=2)
    inputs["target_timestep"] = torch.tensor([0.1, 0.6])
    concepts = torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(0))
    together = scores(model, inputs, concepts, own_positions=(5, 3, 5))
    for item in range(2):
        one = {name: value[item : item + 1] if len(value) == 2 else value for name, value in inputs.items()}
        apart = scores(model, one, concepts[item : item + 1], own_positions=(5, 3, 5))
        for space in apart:
            assert relative_error(together[space][:, item], apart[space][:, 0]) < 1e-5


def test_a_concept_stands_where_the_template_puts_it() -> None:
    model = flux3_transformer()
    inputs = flux3_inputs(model)
    concepts = inputs["encoder_hidden_states"][:, :1]
    plain, third, other = (
        scores(model, inputs, concepts, **options)["output"]
        for options in ({}, {"own_positions": [3]}, {"own_positions": [0]})
    )
    assert torch.equal(plain, third)
    assert relative_error(other, third) > 1e-4


def test_only_the_picture_is_scored_where_a_reference_follows_it() -> None:
    model = flux3_transformer()
    inputs = flux3_inputs(model, grid=(4, 6), reference=(2, 5))
    concepts = torch.randn(1, 2, 24, generator=torch.Generator().manual_seed(0))
    found = scores(model, inputs, concepts)
    assert found["output"].shape[-1] == found["prompt"].shape[-1] == 24
    assert adapter_for(model).grid(inputs) == (4, 6)
    moved = inputs | {"image_cond_hidden_states": inputs["image_cond_hidden_states"] + 1}
    assert relative_error(scores(model, moved, concepts)["output"], found["output"]) > 1e-3, "but concepts see it"


@pytest.mark.parametrize("edit", [MaskText(1, tokens=[2]), BlurAttention(1, width=1.0)], ids=str)
def test_attention_is_edited_in_the_models_own_precision(edit: Any) -> None:
    """Its norms give float32, whatever the model is in."""
    model = rounded(flux3_transformer())
    inputs = flux3_inputs(model)
    concepts = inputs["encoder_hidden_states"][:, :2]
    with torch.no_grad():
        plain = model(**inputs).sample
        with trace(model, concepts, interventions=edit):
            edited = model(**inputs).sample
    assert edited.dtype == torch.bfloat16
    assert 1e-4 < relative_error(edited.float(), plain.float()) < 1


def test_its_pipeline_is_refused_with_the_way_out() -> None:
    family = next(family for family in families() if family.name == "FLUX.3")
    assert not family.pipelines

    class Flux3ModularPipeline(SimpleNamespace):
        pass

    with pytest.raises(ModelError, match=r"Flux3ModularPipeline is not supported.*with workbench\.trace"):
        pipeline_adapter_for(Flux3ModularPipeline(transformer=flux3_transformer()))
