"""Rules every model adapter follows, each tried on a tiny random model of every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import FAMILIES, LONE, Sample, params
from tests.traced import snapshot
from workbench.models.family import adapter_for
from workbench.recording.tracing import trace
from workbench.schema import ATTEND_MODES, SPACES

pytestmark = pytest.mark.filterwarnings(LONE)


class Scored(Sample):
    """A sample that can be traced."""

    def scores(self, concepts: Tensor, **options: Any) -> dict[str, Tensor]:
        options = {"layers": self.layers, "spaces": SPACES} | options
        with torch.no_grad(), trace(self.model, concepts, **options) as seen:
            self.model(**self.inputs)
        return seen.scores


@pytest.fixture(params=params())
def sample(request: pytest.FixtureRequest) -> Scored:
    return Scored.of(request.param)


@pytest.fixture(params=FAMILIES)
def each(request: pytest.FixtureRequest) -> Scored:
    """Every family at each run."""
    return Scored.of(request.param)


@pytest.mark.parametrize(
    "attend", [pytest.param(mode, marks=pytest.mark.slow if place else ()) for place, mode in enumerate(ATTEND_MODES)]
)
def test_output_is_bit_identical_and_scores_are_in_shape(each: Scored, attend: str) -> None:
    with torch.no_grad():
        plain = each.output()
        with trace(
            each.model, each.concepts, layers=each.layers, spaces=SPACES, attend=attend, vectors=True, lse=True
        ) as seen:
            traced = each.output()
    assert torch.equal(plain, traced)
    adapter = adapter_for(each.model)
    batch, patches, tokens = each.batch, each.patches, each.length
    for space in SPACES:
        rows = tokens if space == "prompt" else each.concepts.shape[1]
        assert seen.scores[space].shape == (len(each.layers), batch, adapter.heads, rows, patches)
        assert seen.scores[space].dtype == torch.float32


def test_model_is_as_before_afterwards(sample: Scored) -> None:
    before = snapshot(sample.model)
    sample.scores(sample.concepts)
    assert snapshot(sample.model) == before


def test_model_is_as_before_after_an_exception(sample: Scored) -> None:
    before = snapshot(sample.model)

    def fail(piece: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample.scores(sample.concepts, on_record=fail)
    assert snapshot(sample.model) == before
    assert sample.scores(sample.concepts)


def test_heads_sum_to_full_width(sample: Scored) -> None:
    with torch.no_grad(), trace(sample.model, sample.concepts, layers=sample.layers, vectors=True) as seen:
        sample.model(**sample.inputs)
    concept, image = (
        seen.vectors[name].float().transpose(2, 3).flatten(3) for name in ("concept_output", "image_output")
    )
    torch.testing.assert_close(
        seen.scores["output"].sum(dim=2), concept @ image.transpose(-1, -2), rtol=1e-4, atol=1e-4
    )


def test_concepts_are_equivariant_under_permutation(sample: Scored) -> None:
    order = [2, 0, 1]
    plain, permuted = sample.scores(sample.concepts), sample.scores(sample.concepts[:, order])
    for space in SPACES:
        expected = plain[space] if space == "prompt" else plain[space][:, :, :, order]
        assert sample.close(permuted[space], expected), space


def test_one_concept_alone(sample: Scored) -> None:
    """Concepts that see the image only do not see each other, so each gives alone what it gives among others."""
    together, alone = (
        sample.scores(concepts, attend="image") for concepts in (sample.concepts, sample.concepts[:, 1:2])
    )
    for space in SPACES[:5]:
        assert sample.close(alone[space], together[space][:, :, :, 1:2]), space


def test_prompt_as_concepts_equals_the_models_own_text_stream(each: Scored) -> None:
    """Same tokens, modulation and keys: in every layer the stream's queries are those of the model's own text."""
    prompt, tokens = each.prompt, each.prompt.shape[1]
    scores = each.scores(prompt, pooled=each.inputs.get("pooled_projections"), positions=range(tokens))
    before = adapter_for(each.model).registers
    for layer in range(len(each.layers)):
        own = scores["prompt"][layer, :, :, before : before + tokens]
        assert each.close(scores["cross"][layer], own), layer


def test_masked_text_gets_none_of_the_images_attention(sample: Scored) -> None:
    with torch.no_grad(), trace(sample.model, sample.concepts, layers=sample.layers, text_mass=True) as seen:
        sample.model(**sample.inputs)
    mass = seen.mass["text_mass"]
    assert mass.shape[-1] == sample.length
    seen_tokens = sample.length - sample.masked
    assert (mass[..., :seen_tokens] > 0).all()
    assert not mass[..., seen_tokens:].any()
