"""What every intervention does exactly, on a tiny random model of every family."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import Any

import accelerate
import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn import functional

from tests.families import LONE, Sample, params
from tests.tiny_pipelines.flux_like import drop_modulation
from tests.tiny_random import concept_embeddings, flux_inputs, flux_transformer
from tests.traced import snapshot
from workbench.interventions import (
    ITSELF,
    Amplify,
    AttendMode,
    BlurAttention,
    DropConcept,
    Intervention,
    MaskText,
    MeanHeads,
    NullText,
    Patch,
    RandomDirection,
    ScaleHeads,
    SkipBlock,
    Source,
)
from workbench.models.block_records import Attention
from workbench.models.family import adapter_for
from workbench.models.hooks import Changes
from workbench.recording.edits.edited_attention import blocked_attention
from workbench.recording.traced_passes import Trace
from workbench.recording.tracing import trace
from workbench.schema import SPACES, InputError, TraceError, WorkbenchWarning

pytestmark = pytest.mark.filterwarnings(LONE)


class Edited(Sample):
    """A sample that can be run under edits."""

    def run(self, *edits: Intervention, sources: Sequence[Source] = (), **options: Any) -> tuple[Tensor, Trace]:
        """The model's output under the edits, and its closed trace; the sources' runs have the same inputs."""
        options = {"layers": self.layers, "spaces": SPACES, "vectors": True, "lse": True} | options
        with torch.no_grad(), trace(self.model, self.concepts, interventions=edits, **options) as seen:
            for source in sources:
                with seen.collecting(source):
                    self.model(**self.inputs)
            output = self.output()
        return output, seen

    def attention(self, layer: int) -> Attention:
        """What the image attends with in a block of the unedited model."""
        adapter, changes, seen = adapter_for(self.model), Changes(), []
        adapter.begin(self.inputs)
        adapter.change_attention(changes, adapter.layers[layer], seen.append)
        changes.active = True
        with torch.no_grad():
            self.model(**self.inputs)
        changes.remove()
        (attention,) = seen
        return attention


@pytest.fixture(params=params(edited=True))
def sample(request: pytest.FixtureRequest) -> Edited:
    return Edited.of(request.param)


@pytest.fixture
def flux() -> Edited:
    model = flux_transformer()
    return Edited(model, flux_inputs(model), concept_embeddings(), tuple(range(5)))


def same(one: tuple[Tensor, Trace], other: tuple[Tensor, Trace]) -> bool:
    """Bit for bit: outputs, scores, vectors and log-sum-exps."""
    results = [seen.scores | seen.vectors | seen.lse for _, seen in (one, other)]
    return torch.equal(one[0], other[0]) and all(torch.equal(results[0][name], results[1][name]) for name in results[1])


LAST = 4
EVERY_KIND: tuple[Intervention, ...] = (
    SkipBlock(1),
    ScaleHeads(2, heads=1),
    MeanHeads(2, heads=1, streams=("image", "text")),
    NullText(2, tokens=[0, 3]),
    Amplify(2),
    MaskText(2, tokens=[1]),
    BlurAttention(2),
    AttendMode("image", layers=1),
    DropConcept(1),
    Patch(0, source=Source(seed=1)),
    Patch(2, heads=0, source=Source(seed=1)),
)
IN_BOTH_BLOCKS = [1, LAST]
"""A dual-stream and a single-stream block."""


@pytest.mark.parametrize(
    "edits",
    [
        (),
        (ScaleHeads(range(5), factor=1),),
        (Amplify(factor=1),),
        (NullText(tokens=()), MaskText(tokens=()), Amplify(tokens=())),
        (BlurAttention(width=0),),
        (RandomDirection(ScaleHeads(range(5), factor=1)), RandomDirection(AttendMode("both"))),
    ],
    ids=str,
)
def test_what_changes_nothing_is_bit_identical(sample: Edited, edits: tuple[Intervention, ...]) -> None:
    assert same(sample.run(*edits), sample.run())


def test_a_range_that_meets_no_pass_warns_and_changes_nothing(sample: Edited) -> None:
    elsewhere = [edit._but(timesteps=(800, 1000)) for edit in EVERY_KIND]
    with pytest.warns(WorkbenchWarning, match="no pass was at a timestep") as warned:
        edited = sample.run(*elsewhere)
    (told,) = (str(each.message) for each in warned if "no pass" in str(each.message))
    assert all(str(edit) in told for edit in elsewhere)
    assert same(edited, sample.run())


@pytest.mark.slow
def test_the_model_is_as_before(sample: Edited) -> None:
    plain = sample.run()
    before = snapshot(sample.model)
    for edit in (*EVERY_KIND, *map(RandomDirection, EVERY_KIND)):
        sample.run(edit, sources=edit.sources())
        assert snapshot(sample.model) == before
    for edits in (EVERY_KIND, tuple(map(RandomDirection, EVERY_KIND))):
        edited = sample.run(*edits, sources=[ITSELF, Source(seed=1)])
        assert snapshot(sample.model) == before
        assert not torch.equal(plain[0], edited[0])
    assert same(sample.run(), plain)


def test_the_model_is_as_before_after_an_exception(sample: Edited) -> None:
    before = snapshot(sample.model)

    def fail(piece: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample.run(SkipBlock(1), ScaleHeads(2), MaskText(3), on_record=fail)
    assert snapshot(sample.model) == before


@pytest.mark.parametrize(
    "edit",
    [
        *EVERY_KIND[:-2],
        *(ScaleHeads(2, heads=1, streams=stream) for stream in ("image", "text", "concepts")),
        MeanHeads(2, heads=1, streams="text"),
        Patch(1, source=Source(seed=1)),
        Patch(1, heads=0, source=Source(seed=1)),
        Patch(1, heads=0, source=Source(seed=1), streams="text"),
        Patch(1, source=Source(seed=1), streams="text"),
    ],
    ids=str,
)
def test_an_edit_reaches_the_layers_and_spaces_that_it_says(sample: Edited, edit: Intervention) -> None:
    other = sample.others()
    plain = sample.run()[1].scores
    with torch.no_grad(), trace(sample.model, sample.concepts, sample.layers, SPACES, interventions=edit) as seen:
        for source in edit.sources():
            with seen.collecting(source):
                sample.model(**(sample.inputs if source == ITSELF else other))
        sample.model(**sample.inputs)
    for space in SPACES:
        for layer in sample.layers:
            changed = not torch.equal(plain[space][layer], seen.scores[space][layer])
            skipped = bool(seen.scores[space][layer].isnan().any())
            # Where projections have no bias, the norm of the prompt's queries undoes a factor.
            undone = isinstance(edit, Amplify) and space == "prompt" and layer == 2 and not changed
            assert undone or changed == (edit.reaches(layer, space) or skipped), (space, layer)


@pytest.mark.parametrize("edit", EVERY_KIND, ids=str)
def test_an_edit_changes_the_picture_unless_it_is_of_the_concepts(flux: Edited, edit: Intervention) -> None:
    """The source of the patches is the run itself here, so they change nothing either."""
    (picture, plain), (edited, seen) = flux.run(), flux.run(edit, sources=edit.sources())
    assert torch.equal(picture, edited) == (edit.of_concepts or isinstance(edit, Patch))
    assert torch.equal(plain.scores["output"], seen.scores["output"]) == isinstance(edit, Patch)


def test_the_concepts_never_alter_the_edited_picture(sample: Edited) -> None:
    other = Edited(sample.model, sample.inputs, sample.concepts.flip(1), sample.layers)
    pictures = [one.run(*EVERY_KIND, sources=[ITSELF, Source(seed=1)])[0] for one in (sample, other)]
    assert torch.equal(*pictures)


# --- blocks ------------------------------------------------------------------------------------------------------
def without_block(model: Any, index: int) -> nn.Module:
    """The same model without one of its blocks."""
    parent, _, place = adapter_for(model).layers[index].name.rpartition(".")
    smaller = copy.deepcopy(model)
    blocks = getattr(smaller, parent)
    del blocks[int(place)]
    counts = {
        "transformer_blocks": ("num_layers",),
        "joint_transformer_blocks": ("num_mmdit_layers",),
        "single_transformer_blocks": ("num_single_layers", "num_single_dit_layers"),
        "layers": ("n_layers", "num_layers"),
    }
    (count,) = (name for name in counts[parent] if name in smaller.config)
    if hasattr(smaller, "distilled_guidance_layer"):
        drop_modulation(smaller, index)
    smaller.register_to_config(**{count: len(blocks)})
    without: nn.Module = smaller
    return without


@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_skipping_a_block_equals_the_model_built_without_it(sample: Edited, layer: int) -> None:
    check_skipped(sample, layer)


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_the_first_block_and_those_between_the_kinds_are_skipped_alike(flux: Edited, layer: int) -> None:
    check_skipped(flux, layer)


def check_skipped(sample: Edited, layer: int) -> None:
    output, seen = sample.run(SkipBlock(layer))
    smaller = Edited(without_block(sample.model, layer), sample.inputs, sample.concepts, sample.layers[:-1])
    expected, reference = smaller.run()
    assert torch.equal(output, expected)
    others = [index for index in sample.layers if index != layer]
    for space in SPACES:
        assert torch.equal(seen.scores[space][others], reference.scores[space]), space
        assert bool(seen.scores[space][layer].isnan().all())
    assert seen.missing == (layer,)


def test_a_run_that_skips_every_recorded_block_has_no_scores(flux: Edited) -> None:
    _, seen = flux.run(SkipBlock([1, 2]), layers=[1, 2])
    assert seen.passes == 1
    with pytest.raises(TraceError, match="skipped every recorded layer"):
        _ = seen.scores


def test_edits_work_where_a_pass_stops_early(flux: Edited) -> None:
    whole = flux.run(SkipBlock(0), ScaleHeads(1), MaskText(2), NullText(1), MeanHeads(2, 0), sources=[ITSELF])[1]
    edits = (SkipBlock(0), ScaleHeads(1), MaskText(2), NullText(1), MeanHeads(2, 0))
    with trace(flux.model, flux.concepts, [2], SPACES, interventions=edits) as seen:
        seen.collect(ITSELF, **flux.inputs)
        seen.run(**flux.inputs)
    for space in SPACES:
        assert torch.equal(seen.scores[space][0], whole.scores[space][2])


@pytest.mark.parametrize("heads", [None, [0, 1]])
@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_patching_a_run_into_itself_changes_nothing(sample: Edited, layer: int, heads: list[int] | None) -> None:
    assert same(sample.run(Patch(layer, heads), sources=[ITSELF]), sample.run())


def test_patching_every_output_of_the_last_block_gives_the_other_run(sample: Edited) -> None:
    """What is behind the block then comes from the other run, picture included."""
    other = sample.others("encoder_hidden_states", "cap_feats")
    source = Source(prompt="another")
    with torch.no_grad():
        expected = sample.output(other)
        with trace(sample.model, sample.concepts, interventions=Patch(LAST, source=source)) as seen:
            with seen.collecting(source):
                sample.model(**other)
            output = sample.output()
    assert torch.equal(output, expected)


def test_what_an_edit_takes_has_to_be_collected_first(flux: Edited) -> None:
    with pytest.raises(TraceError, match=r"takes activations of Source\(prompt=None"):
        flux.run(MeanHeads(1))
    with pytest.raises(InputError, match="no intervention of this trace takes anything"):
        flux.run(SkipBlock(1), sources=[ITSELF])


def test_another_shape_cannot_be_patched_in(flux: Edited) -> None:
    with (
        pytest.raises(TraceError, match="same batch, size and text length"),
        torch.no_grad(),
        trace(flux.model, flux.concepts, interventions=Patch(1)) as seen,
    ):
        with seen.collecting():
            flux.model(**flux_inputs(flux.model, grid=(2, 2)))
        flux.model(**flux.inputs)


# --- heads -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_a_knocked_out_head_contributes_exactly_zero(sample: Edited, layer: int) -> None:
    _, seen = sample.run(ScaleHeads(layer, heads=1))
    output = seen.scores["output"][layer]
    assert not output[:, 1].any()
    assert not seen.vectors["image_output"][layer][:, 1].any()
    assert output[:, 0].all()


def test_the_score_of_a_block_scales_by_the_factor(sample: Edited) -> None:
    plain, scaled = (sample.run(*edits)[1].scores["output"] for edits in ((), (ScaleHeads(1, heads=0, factor=3),)))
    assert sample.close(scaled[1][:, 0], 3 * plain[1][:, 0])
    assert torch.equal(scaled[1][:, 1], plain[1][:, 1])
    assert torch.equal(scaled[0], plain[0])


@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
@pytest.mark.parametrize("streams", ["image", "text"])
def test_scaled_heads_equal_scaled_columns_of_the_projection(flux: Edited, layer: int, streams: str) -> None:
    """A factor before a linear layer is the same factor on the columns of its weight."""
    edited, _ = flux.run(ScaleHeads(layer, heads=1, factor=0.25, streams=streams))
    block = adapter_for(flux.model).block(adapter_for(flux.model).layers[layer])
    if layer == LAST:
        # One projection serves both streams of a single-stream block; the last block's text is not used any more.
        expected, _ = flux.run()
        assert torch.equal(edited, expected) == (streams == "text")
        if streams == "text":
            return
        module = block.proj_out
    else:
        module = block.attn.to_out[0] if streams == "image" else block.attn.to_add_out
    module.weight.data[:, 32:64] *= 0.25
    assert flux.close(edited, flux.run()[0])


@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_scaled_heads_of_concepts_scale_what_concepts_put_out_and_leave_the_picture(flux: Edited, layer: int) -> None:
    plain, edited = flux.run(), flux.run(ScaleHeads(layer, heads=1, factor=0.25, streams="concepts"))
    assert torch.equal(plain[0], edited[0])
    own, scaled = (seen.vectors["concept_output"][layer] for _, seen in (plain, edited))
    assert torch.equal(scaled[:, 1], own[:, 1] * 0.25)
    assert torch.equal(scaled[:, 0], own[:, 0])
    both = flux.run(ScaleHeads(layer, heads=1, factor=0.25, streams=("image", "concepts")))[1].scores["output"][layer]
    assert flux.close(both[:, 1], plain[1].scores["output"][layer][:, 1] / 16)
    moved = flux.run(RandomDirection(ScaleHeads(layer, heads=1, factor=0.25, streams="concepts"), 3))[1]
    change = moved.vectors["concept_output"][layer] - own
    assert flux.close(change.norm(dim=-1), (scaled - own).norm(dim=-1))


@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_mean_heads_equal_a_hand_computation(sample: Edited, layer: int) -> None:
    _, plain = sample.run()
    _, seen = sample.run(MeanHeads(layer, heads=0), sources=[ITSELF])
    own = plain.vectors["image_output"][layer]
    mean = own[:, 0].float().mean(dim=1, keepdim=True).to(own.dtype)
    edited = seen.vectors["image_output"][layer]
    assert torch.equal(edited[:, 0], mean.expand_as(own[:, 0]))
    assert torch.equal(edited[:, 1:], own[:, 1:])


def test_mean_heads_over_several_runs(flux: Edited) -> None:
    references = (ITSELF, Source(seed=3))
    other = dict(flux.inputs, hidden_states=flux.inputs["hidden_states"].flip(2))
    means = []
    for inputs in (flux.inputs, other):
        vectors = Edited(flux.model, inputs, flux.concepts, flux.layers).run()[1].vectors["image_output"]
        means.append(vectors[2][:, 1].mean(dim=1))
    with (
        torch.no_grad(),
        trace(flux.model, flux.concepts, vectors=True, interventions=MeanHeads(2, 1, reference=references)) as seen,
    ):
        for source, inputs in zip(references, (flux.inputs, other), strict=True):
            with seen.collecting(source):
                flux.model(**inputs)
        flux.model(**flux.inputs)
    expected = torch.stack(means).mean(dim=0)[:, None].expand(-1, 24, -1)
    torch.testing.assert_close(seen.vectors["image_output"][2][:, 1], expected)


# --- the prompt --------------------------------------------------------------------------------------------------
def reference_attention(attention: Attention, bias: Tensor) -> Tensor:
    """Explicit softmax attention of the image over [text, image], with a bias (head, patch, token) on the text."""
    keys = torch.cat([attention.text_key, attention.key], dim=2).float()
    values = torch.cat([attention.text_value, attention.value], dim=2).float()
    logits = attention.query.float() @ keys.transpose(-1, -2) / math.sqrt(attention.query.shape[-1])
    logits[..., : bias.shape[-1]] += bias if attention.text_bias is None else bias + attention.text_bias
    return logits.softmax(dim=-1) @ values


@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
@pytest.mark.parametrize("heads", [None, [1]])
def test_mask_text_equals_explicit_attention(sample: Edited, layer: int, heads: list[int] | None) -> None:
    attention = sample.attention(layer)
    bias = torch.zeros(attention.query.shape[1], 1, attention.text_key.shape[2])
    bias[slice(None) if heads is None else heads, :, [0, 4]] = -torch.inf
    edited = sample.run(MaskText(layer, tokens=[0, 4], heads=heads))[1].vectors["image_output"][layer]
    assert sample.close(edited, reference_attention(attention, bias)[:, :, attention.patches])
    assert not sample.close(edited, attention.output[:, :, attention.patches])


@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_without_a_bias_the_explicit_attention_is_the_models_own(sample: Edited, layer: int) -> None:
    attention = sample.attention(layer)
    nothing = torch.zeros(1, 1, attention.text_key.shape[2])
    assert sample.close(attention.output, reference_attention(attention, nothing))
    keys, values = (
        torch.cat(pair, dim=2)
        for pair in ((attention.text_key, attention.key), (attention.text_value, attention.value))
    )
    scale = 1 / math.sqrt(attention.query.shape[-1])
    bias = attention.text_bias
    if bias is not None:
        bias = functional.pad(bias, (0, attention.key.shape[2]))
    whole = blocked_attention(attention.query, keys, values, scale, logits=200, bias=bias)
    assert sample.close(whole, attention.output)


@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_two_masks_hide_both_their_tokens(sample: Edited, layer: int) -> None:
    assert same(sample.run(MaskText(layer, tokens=0), MaskText(layer, tokens=[2])), sample.run(MaskText(layer, [0, 2])))


@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_blur_equals_blurred_logits(flux: Edited, layer: int) -> None:
    """Each token's logits as a picture, convolved with a Gaussian whose border is repeated."""
    attention, width, radius = flux.attention(layer), 0.8, 3
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / width) ** 2)
    kernel = torch.outer(weights, weights) / weights.sum() ** 2
    logits = attention.query @ attention.text_key.transpose(-1, -2) / math.sqrt(32)
    pictures = logits.transpose(-1, -2).reshape(-1, 1, 4, 6)
    padded = functional.pad(pictures, (radius,) * 4, mode="replicate")
    blurred = functional.conv2d(padded, kernel[None, None]).reshape(2, 7, 24).transpose(-1, -2)
    change = blurred - logits[0]
    change[..., [0, 1, 2, 4, 5, 6]] = 0
    edited = flux.run(BlurAttention(layer, width, tokens=3))[1].vectors["image_output"][layer]
    torch.testing.assert_close(edited, reference_attention(attention, change), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_a_blur_of_almost_no_width_is_the_baseline_up_to_rounding(sample: Edited, layer: int) -> None:
    output, plain = sample.run(BlurAttention(layer, width=1e-3))[0], sample.run()[0]
    assert sample.close(output, plain)


def test_nothing_is_left_of_text_that_is_nulled_but_biases(flux: Edited) -> None:
    block = flux.model.transformer_blocks[1]
    _, seen = flux.run(NullText(1, tokens=[2, 5]))
    _, plain = flux.run()
    bias = block.attn.add_q_proj.bias.detach().reshape(2, 32)
    query = block.attn.norm_added_q(bias).detach()
    keys = adapter_for(flux.model)
    image_key = flux.attention(1).key
    expected = torch.einsum("hd,bhpd->bhp", query, image_key) / math.sqrt(32)
    for token in (2, 5):
        torch.testing.assert_close(seen.scores["prompt"][1][:, :, token], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(seen.scores["prompt"][1][:, :, 3], plain.scores["prompt"][1][:, :, 3])
    assert keys.layers[1].kind == "dual"


def test_amplifying_by_zero_is_nulling(sample: Edited) -> None:
    assert same(sample.run(Amplify([1, LAST], factor=0, tokens=1)), sample.run(NullText([1, LAST], tokens=1)))


def test_amplified_text_enters_the_attention_multiplied(flux: Edited) -> None:
    seen: list[Tensor] = []
    handle = flux.model.transformer_blocks[1].attn.add_v_proj.register_forward_pre_hook(
        lambda module, args: seen.append(args[0]) if args[0].shape[1] == 7 else None  # the concepts are three
    )
    flux.run(), flux.run(Amplify(1, factor=3, tokens=[0, 6]))
    handle.remove()
    expected = seen[0].clone()
    expected[:, [0, 6]] *= 3
    assert torch.equal(seen[1], expected)


def test_places_outside_the_text_are_refused(flux: Edited) -> None:
    for edit in (MaskText(1, tokens=7), NullText(1, tokens=[0, 9]), BlurAttention(tokens=7)):
        with pytest.raises(InputError, match="expected places from 0 to 6"):
            flux.run(edit)


# --- the concepts ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["image", "concepts", "none"])
def test_attend_mode_in_all_blocks_is_the_option_of_the_trace(sample: Edited, mode: str) -> None:
    assert same(sample.run(AttendMode(mode)), sample.run(attend=mode))


def test_attend_mode_in_one_block_leaves_those_before_it(sample: Edited) -> None:
    plain, edited = (sample.run(*edits)[1].scores["output"] for edits in ((), (AttendMode("none", layers=2),)))
    assert torch.equal(plain[:2], edited[:2])
    assert not torch.equal(plain[2], edited[2])
    assert not torch.equal(plain[3], edited[3])


def test_others_are_as_if_a_dropped_concept_was_not_there(sample: Edited) -> None:
    _, seen = sample.run(DropConcept(1))
    alone = Edited(sample.model, sample.inputs, sample.concepts[:, [0, 2]], sample.layers).run()[1]
    for space in SPACES[:-1]:
        assert sample.close(seen.scores[space][:, :, :, [0, 2]], alone.scores[space]), space
    assert sample.close(seen.lse["lse_concept"][..., [0, 2]], alone.lse["lse_concept"])


# --- random directions -------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("layer", IN_BOTH_BLOCKS)
def test_a_random_direction_has_the_size_of_the_edit(sample: Edited, layer: int) -> None:
    own = sample.run()[1].vectors["image_output"][layer].float()
    for edit in (ScaleHeads(layer, 0, factor=0.5), MaskText(layer, tokens=0), MeanHeads(layer, 1)):
        changes = []
        for done in (edit, RandomDirection(edit, 1), RandomDirection(edit, 2, matched=True)):
            vectors = sample.run(done, sources=edit.sources())[1].vectors["image_output"][layer]
            changes.append(vectors.float() - own)
        lengths = [change.norm(dim=-1) for change in changes]
        assert sample.close(lengths[1], lengths[0])
        assert sample.close(lengths[2], lengths[0])
        assert not sample.close(changes[1], changes[0])
        assert not sample.close(changes[1], changes[2])


def test_a_random_direction_of_a_skipped_block_moves_its_output_as_far(flux: Edited) -> None:
    seen: list[Tensor] = []
    block = flux.model.transformer_blocks[1]
    for edits in ((), (RandomDirection(SkipBlock(1), 5),)):
        with torch.no_grad(), trace(flux.model, flux.concepts, interventions=edits):
            handle = block.register_forward_hook(lambda module, args, output: seen.append(output))
            flux.model(**flux.inputs)
            handle.remove()
    inside: list[tuple[Tensor, Tensor]] = []
    handle = block.register_forward_pre_hook(
        lambda module, args, kwargs: inside.append((kwargs["encoder_hidden_states"], kwargs["hidden_states"])),
        with_kwargs=True,
    )
    flux.run()
    handle.remove()
    for before, own, moved in zip(inside[0], *seen, strict=True):
        torch.testing.assert_close((moved - own).norm(dim=-1), (own - before).norm(dim=-1), rtol=1e-4, atol=1e-5)


def test_a_random_direction_is_the_same_each_time(flux: Edited) -> None:
    for edit in (SkipBlock(1), DropConcept(0), AttendMode("none", layers=1), NullText(1)):
        one = flux.run(RandomDirection(edit, 3))
        assert same(one, flux.run(RandomDirection(edit, 3)))
        assert not torch.equal(one[1].scores["output"][2], flux.run(RandomDirection(edit, 4))[1].scores["output"][2]), (
            edit
        )


# --- together, and when ------------------------------------------------------------------------------------------
def test_edits_of_several_kinds_act_together(flux: Edited) -> None:
    both = flux.run(ScaleHeads(1, 0), MaskText(1, heads=0), ScaleHeads(1, 1, factor=0))[1]
    assert not both.scores["output"][1].any()


def test_a_range_holds_both_its_ends(flux: Edited) -> None:
    plain = flux.run()
    inputs = dict(flux.inputs, timestep=torch.tensor([0.5]))
    at_500 = Edited(flux.model, inputs, flux.concepts, flux.layers)
    for ends in ((500, 700), (700, 500), slice(300, 500)):
        _, seen = at_500.run(SkipBlock(2, timesteps=ends))
        assert seen.missing == (2,)
    with pytest.warns(WorkbenchWarning, match=r"SkipBlock\(2, timesteps=\[501, 700\]\)"):
        at_500.run(SkipBlock(2, timesteps=(501, 700)))
    assert plain[1].missing == ()


def test_a_batch_partly_inside_a_range_is_refused() -> None:
    model = flux_transformer()
    batch = Edited(model, flux_inputs(model, batch=2), concept_embeddings(), tuple(range(5)))
    with pytest.raises(InputError, match="lies partly inside"):
        batch.run(SkipBlock(1, timesteps=(0, 500)))


def test_unconditional_passes_are_edited_too_except_for_the_prompt(flux: Edited) -> None:
    def unconditional(*edits: Intervention) -> Tensor:
        with torch.no_grad(), trace(flux.model, flux.concepts, interventions=edits):
            with flux.model.cache_context("cond"):
                flux.model(**flux.inputs)
            with flux.model.cache_context("uncond"):
                output: Tensor = flux.model(**flux.inputs).sample
        return output

    assert torch.equal(unconditional(SkipBlock(1)), flux.run(SkipBlock(1))[0])
    for edit in (MaskText(1), NullText(1), Amplify(1), BlurAttention(1)):
        assert torch.equal(unconditional(edit), flux.run()[0])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (SkipBlock(5), "layers 0 to 4"),
        (ScaleHeads(0, heads=2), "heads 0 to 1"),
        (DropConcept(3), "the concepts are 0, 1, 2"),
        (DropConcept("dog"), "the concepts are 0, 1, 2"),
        (RandomDirection(SkipBlock(9)), "layers 0 to 4"),
        (MaskText(tokens="dog"), "no token of its own"),
        ((BlurAttention(1), BlurAttention([1, 2])), "blur the same heads"),
    ],
    ids=str,
)
def test_what_is_outside_the_model_is_refused_before_anything_runs(flux: Edited, edit: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trace(flux.model, flux.concepts, interventions=edit)


def test_the_image_s_attention_to_text_is_not_told_where_it_is_replaced(flux: Edited) -> None:
    for edit in (MaskText(1), RandomDirection(BlurAttention(1))):
        with pytest.raises(InputError, match="text_mass"):
            flux.run(edit, text_mass=True)
    assert flux.run(SkipBlock(1), text_mass=True)[1].mass["text_mass"].isnan().flatten(1).all(dim=1).tolist() == [
        layer == 1 for layer in range(5)
    ]


@pytest.mark.slow
def test_edits_of_a_model_with_lora_are_those_of_the_merged_one() -> None:
    model, targets = flux_transformer(), ["to_q", "to_v", "add_k_proj", "to_out.0", "proj_out", "linear_1"]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model.add_adapter(LoraConfig(r=2, lora_alpha=8, target_modules=targets, init_lora_weights=False))
    inputs, layers = flux_inputs(model), tuple(range(5))
    adapted = Edited(model.eval(), inputs, concept_embeddings(), layers)
    before, plain = snapshot(model), adapted.run()
    assert not adapted.close(plain[0], Edited(flux_transformer(), inputs, adapted.concepts, layers).run()[0])
    assert same(adapted.run(ScaleHeads(layers, factor=1), Amplify(factor=1)), plain)
    assert same(adapted.run(Patch(IN_BOTH_BLOCKS), sources=[ITSELF]), plain)
    merged = flux_transformer()
    for name, module in merged.named_modules():
        if hasattr(held := model.get_submodule(name), "get_delta_weight"):
            module.weight.data += held.get_delta_weight("default")
    whole = Edited(merged, inputs, adapted.concepts, layers)
    for edit in EVERY_KIND:
        edited, expected = (one.run(edit, sources=edit.sources()) for one in (adapted, whole))
        assert adapted.close(edited[0], expected[0]), edit
        kept = [layer for layer in layers if layer not in edited[1].missing]
        assert adapted.close(edited[1].scores["output"][kept], expected[1].scores["output"][kept]), edit
        assert snapshot(model) == before
    for layer in IN_BOTH_BLOCKS:
        assert not adapted.run(ScaleHeads(layer, heads=1))[1].scores["output"][layer][:, 1].any()
    assert same(adapted.run(), plain)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile
@pytest.mark.parametrize("how", ["sequential", "group", "compiled"])
def test_edits_of_offloaded_and_compiled_models_are_those_of_the_plain_one(flux: Edited, how: str) -> None:
    edits = EVERY_KIND[1:]
    expected = flux.run(*edits, sources=[ITSELF, Source(seed=1)])
    model: Any = flux_transformer()
    if how == "sequential":
        model = accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    elif how == "group":
        model.enable_group_offload(torch.device("cpu"), torch.device("cpu"), "leaf_level")
    else:
        model = torch.compile(model)
    again = Edited(model, flux.inputs, flux.concepts, flux.layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WorkbenchWarning)  # that a compiled model runs uncompiled
        assert same(again.run(*edits, sources=[ITSELF, Source(seed=1)]), expected)
