"""What is the same in all families of joint attention, on the tiny random FLUX.1."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from tests.tiny_random import concept_embeddings, flux_inputs, flux_transformer
from workbench.interventions import BlurAttention, Intervention, MaskText
from workbench.models.block_records import Attention, BlockCall
from workbench.models.family import adapter_for
from workbench.models.hooks import Changes, by_name, with_argument
from workbench.models.joint import JointAdapter
from workbench.recording.edits.edited_attention import attend_edited
from workbench.recording.traced_passes import Trace
from workbench.recording.tracing import trace
from workbench.schema import ModelError

TEXT, GRID = 7, (4, 6)
PATCHES = GRID[0] * GRID[1]
HIDDEN = (2, 5)


@pytest.fixture(scope="module")
def model() -> FluxTransformer2DModel:
    return flux_transformer()


@pytest.fixture(scope="module")
def adapter(model: FluxTransformer2DModel) -> JointAdapter:
    found = adapter_for(model)
    assert isinstance(found, JointAdapter)
    return found


def key_mask(batch: int = 1) -> Tensor:
    """A mask (batch, 1, 1, text + patch) that hides two tokens of the text from everything."""
    mask = torch.ones(batch, 1, 1, TEXT + PATCHES, dtype=torch.bool)
    mask[..., list(HIDDEN)] = False
    return mask


def masked(model: FluxTransformer2DModel, mask: Tensor | None) -> dict[str, Any]:
    return flux_inputs(model) | ({} if mask is None else {"joint_attention_kwargs": {"attention_mask": mask}})


def traced(model: FluxTransformer2DModel, inputs: dict[str, Any], **options: Any) -> tuple[Tensor, Trace]:
    with torch.no_grad(), trace(model, concept_embeddings(), layers=range(5), **options) as seen:
        output: Tensor = model(**inputs).sample
    return output, seen


# --- masks ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("additive", [False, True])
def test_masked_text_has_none_of_the_images_attention(model: FluxTransformer2DModel, additive: bool) -> None:
    mask = key_mask()
    # What is added to every key changes nothing.
    given = torch.where(mask, 1.0, -torch.inf) if additive else mask
    mass = traced(model, masked(model, given), text_mass=True)[1].mass["text_mass"]
    assert not mass[..., list(HIDDEN)].any()
    seen = [token for token in range(TEXT) if token not in HIDDEN]
    assert (mass[..., seen] > 0).all()
    plain = traced(model, masked(model, None), text_mass=True)[1].mass["text_mass"]
    assert (plain[..., list(HIDDEN)] > 0).all()


def test_hiding_tokens_is_what_the_mask_does(model: FluxTransformer2DModel, adapter: JointAdapter) -> None:
    """Under the mask the edit changes nothing; without it, it gives the image what the mask would."""
    for layer in (1, 4):
        output, attention = attention_of(model, adapter, layer, masked(model, key_mask()))
        edited = attend_edited(attention, [MaskText(layer, tokens=list(HIDDEN))], GRID)
        assert edited is not None
        torch.testing.assert_close(edited, output, rtol=1e-5, atol=1e-6)
        # Another token hidden as well: those of the mask stay hidden.
        also = attend_edited(attention, [MaskText(layer, tokens=[0])], GRID)
        all_of_them = attend_edited(attention, [MaskText(layer, tokens=[0, *HIDDEN])], GRID)
        assert also is not None
        assert all_of_them is not None
        torch.testing.assert_close(also, all_of_them, rtol=1e-5, atol=1e-6)


def test_blurring_leaves_masked_tokens_masked(model: FluxTransformer2DModel, adapter: JointAdapter) -> None:
    _, attention = attention_of(model, adapter, 1, masked(model, key_mask()))
    edits: list[list[Intervention]] = [
        [BlurAttention(1, width=1.0)],
        [BlurAttention(1, width=1.0), MaskText(1, tokens=list(HIDDEN))],
    ]
    one, other = (attend_edited(attention, each, GRID) for each in edits)
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def attention_of(
    model: FluxTransformer2DModel, adapter: JointAdapter, layer: int, inputs: dict[str, Any]
) -> tuple[Tensor, Attention]:
    changes, seen = Changes(), list[Attention]()
    adapter.change_attention(changes, adapter.layers[layer], seen.append)  # type: ignore[arg-type]
    changes.active = True
    with torch.no_grad():
        model(**inputs)
    changes.remove()
    return seen[0].output, seen[0]


def test_masks_of_every_shape_say_the_same(adapter: JointAdapter) -> None:
    mask = key_mask()
    whole = mask.expand(1, 1, TEXT + PATCHES, TEXT + PATCHES)
    shapes = [mask, mask[:, 0, 0], mask[:, 0], whole, torch.where(mask, 0.0, -torch.inf)]
    found = [adapter.text_bias(BlockCall({}, TEXT, mask=shape)) for shape in shapes]
    expected = torch.zeros(1, 1, 1, TEXT)
    expected[..., list(HIDDEN)] = -torch.inf
    assert all(bias is not None and torch.equal(bias, expected) for bias in found)
    assert adapter.text_bias(BlockCall({}, TEXT)) is None


def test_masks_that_patches_see_differently_are_refused(model: FluxTransformer2DModel, adapter: JointAdapter) -> None:
    by_query = torch.ones(1, 1, TEXT + PATCHES, TEXT + PATCHES, dtype=torch.bool)
    by_query[:, :, TEXT + 3, 1] = False
    of_patches = key_mask()
    of_patches[..., TEXT + 3] = False
    for mask in (by_query, of_patches):
        with pytest.raises(ModelError, match="mask that differs between patches"):
            adapter.text_bias(BlockCall({}, TEXT, mask=mask))
        # Maps need no such answer.
        assert traced(model, masked(model, mask))[1].passes == 1
        with pytest.raises(ModelError, match="mask that differs between patches"):
            traced(model, masked(model, mask), text_mass=True)
        with pytest.raises(ModelError, match="mask that differs between patches"):
            traced(model, masked(model, mask), interventions=MaskText(1, tokens=[0]))


@pytest.mark.parametrize("mask", [key_mask(), key_mask().expand(1, 1, TEXT + PATCHES, -1)], ids=["keys", "whole"])
def test_a_prompt_given_as_concepts_is_masked_as_the_models_own_text(
    model: FluxTransformer2DModel, mask: Tensor
) -> None:
    inputs = masked(model, mask)
    options = {"spaces": ("cross", "prompt"), "pooled": inputs["pooled_projections"], "positions": range(TEXT)}
    with torch.no_grad(), trace(model, inputs["encoder_hidden_states"], layers=range(5), **options) as seen:
        model(**inputs)
    torch.testing.assert_close(seen.scores["cross"], seen.scores["prompt"], rtol=1e-5, atol=1e-5)


# --- arguments by name ------------------------------------------------------------------------------------------
def test_arguments_by_name(model: FluxTransformer2DModel) -> None:
    block = model.transformer_blocks[0]
    one, other = torch.zeros(1), torch.ones(1)
    given = by_name(block, (one,), {"temb": other})
    assert given["hidden_states"] is one
    assert given["temb"] is other
    assert with_argument(block, (one,), {"temb": other}, "hidden_states", other) == ((other,), {"temb": other})
    assert with_argument(block, (one,), {"temb": other}, "temb", one) == ((one,), {"temb": one})


def test_blocks_that_are_called_by_position(model: FluxTransformer2DModel) -> None:
    """As they are under gradient checkpointing."""
    inputs = flux_inputs(model)
    edits = (MaskText(1, tokens=[1]),)
    expected, plain = traced(model, inputs, interventions=edits)
    model.enable_gradient_checkpointing()
    model.train()
    try:
        with trace(model, concept_embeddings(), layers=range(5), interventions=edits) as seen:
            output = model(**inputs).sample
    finally:
        model.disable_gradient_checkpointing()
        model.eval()
    assert torch.equal(output, expected)
    assert torch.equal(seen.scores["output"], plain.scores["output"])
