"""The rule about edits: what changes nothing changes nothing, and the rest lands in the layer it names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from workbench.contract.case import Case, output_of
from workbench.contract.rules import attention_of
from workbench.interventions import (
    Amplify,
    AttendMode,
    BlurAttention,
    Intervention,
    MaskText,
    MeanHeads,
    NullText,
    ScaleHeads,
    SkipBlock,
)
from workbench.models.block_records import Attention, Both
from workbench.models.hooks import Changes
from workbench.models.layers import Layer
from workbench.recording.traced_passes import Trace
from workbench.schema import ContractError


def edits_land_where_they_say(case: Case) -> str:
    """Edits that put back what is there leave the output as it is; others change the layers that they reach.

    A head that is knocked out contributes nothing, and text that is hidden is hidden as by a mask.

    Raises
    ------
    ContractError
        If it is otherwise; the edit is named.
    """
    plain, seen = _run(case)
    token = case.adapter.registers
    for name, place in _places(case).items():
        # Not bit for bit: a copy lies otherwise in memory, and products of matrices then round otherwise.
        off = case.off(_output_under(case, place), plain)
        if not off <= case.tolerance:
            raise ContractError(
                f"{name} of {type(case.adapter).__name__} was given what is there already, and yet the output of "
                f"{case.named} differs by {off:.2g} of its largest value."
            )
    edited = sorted({case.layers[0], case.layers[len(case.layers) // 2]})
    for layer in edited:
        for edit in (
            SkipBlock(layer),
            ScaleHeads(layer, heads=0),
            MeanHeads(layer, heads=0),
            NullText(layer, tokens=[token]),
            Amplify(layer),
            MaskText(layer, tokens=[token]),
            BlurAttention(layer),
            *([AttendMode("image", layers=layer)] if "image" in case.adapter.attends else []),
        ):
            _check_reach(case, edit, plain, seen)
        _check_head(case, layer)
        _check_mask(case, layer, token)
    return f"tried in layers {', '.join(map(str, edited))}"


Place = Callable[[Changes, Layer], None]


def _places(case: Case) -> dict[str, Place]:
    """Where a block can be edited, each with an edit that puts back what is there."""
    adapter = case.adapter

    def copied(tensors: Both) -> Both:
        return {stream: tensor.clone() for stream, tensor in tensors.items()}

    return {
        "change_text": lambda changes, layer: adapter.change_text(changes, layer, torch.clone),
        "change_attention": lambda changes, layer: adapter.change_attention(
            changes, layer, lambda attention: attention.output.clone()
        ),
        "change_heads, image,": lambda changes, layer: adapter.change_heads(changes, layer, "image", torch.clone),
        "change_heads, text,": lambda changes, layer: adapter.change_heads(changes, layer, "text", torch.clone),
        "change_block": lambda changes, layer: adapter.change_block(
            changes, layer, lambda before, after: copied(after)
        ),
    }


def _output_under(case: Case, place: Place) -> Tensor:
    changes = Changes()
    try:
        for layer in case.adapter.layers:
            place(changes, layer)
        case.adapter.begin(case.adapter.given((), dict(case.inputs)))
        changes.active = True
        return case.output()
    finally:
        changes.remove()


def _run(case: Case, *edits: Intervention) -> tuple[Tensor, Trace]:
    """The output under edits, and its trace; what they take from another run is of the same inputs."""
    with torch.no_grad(), case.trace(interventions=edits, vectors=True) as seen:
        for source in dict.fromkeys(source for edit in edits for source in edit.sources()):
            with seen.collecting(source):
                case.transformer(**case.inputs)
        output = output_of(case.transformer(**case.inputs))
    return output, seen


def _check_reach(case: Case, edit: Intervention, plain: Tensor, seen: Trace) -> None:
    output, edited = _run(case, edit)
    if torch.equal(output, plain) != edit.of_concepts:
        change = "changes" if edit.of_concepts else "does not change"
        raise ContractError(f"{edit} {change} the output of {case.named}: look at the change_… methods of its adapter.")
    for space in case.spaces:
        for layer in case.layers:
            same = torch.equal(edited.scores[space][layer], seen.scores[space][layer])
            if not same and layer not in edited.missing and not edit.reaches(layer, space):
                raise ContractError(
                    f"{edit} changes scores ({space}) of layer {layer} of {case.named}, which it does not reach: it "
                    "lands in another block or too early in its own."
                )


def _check_head(case: Case, layer: int) -> None:
    _, seen = _run(case, ScaleHeads(layer, heads=0))
    left = seen.vectors["image_output"][layer]
    if bool(left[:, 0].any()) or (left.shape[1] > 1 and not bool(left[:, 1:].any())):
        raise ContractError(
            f"head 0 of layer {layer} of {case.named} was knocked out, and another one was: look at split, merge and "
            "change_heads of its adapter."
        )


def _check_mask(case: Case, layer: int, token: int) -> None:
    attention: Attention = attention_of(case)[layer]
    logits = attention.query.float() @ torch.cat([attention.text_key, attention.key], dim=2).float().transpose(-1, -2)
    logits = logits * attention.scale
    if attention.text_bias is not None:
        logits[..., : attention.text_key.shape[2]] += attention.text_bias
    logits[..., token] = -torch.inf
    values = torch.cat([attention.text_value, attention.value], dim=2).float()
    expected = (logits.softmax(dim=-1) @ values)[:, :, attention.patches]
    _, seen = _run(case, MaskText(layer, tokens=[token]))
    off = case.off(seen.vectors["image_output"][layer], expected)
    if not off <= case.tolerance:
        raise ContractError(
            f"hiding token {token} of the text in layer {layer} of {case.named} differs from a mask that hides it by "
            f"{off:.2g} of the largest value: look at change_attention of its adapter."
        )
