from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from workbench.experiments.controls import Control, controls_of
from workbench.experiments.planning import Network, arms_of
from workbench.interventions import (
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
from workbench.schema import InputError

NETWORK = Network(
    ("dual",) * 5 + ("single",) * 3,
    depth=9,
    heads=4,
    concepts=("dog", "sky", "sun"),
    words=(0, 1, 2),
    text_length=8,
)
OTHERS = (Source(image="a.png"), Source(image="b.png"), Source(image="c.png"))


def controls(plan: Any, control: str = "auto", repeats: int = 3, network: Network = NETWORK) -> list[Control]:
    return controls_of(arms_of(plan, network), network, control, repeats, seed=7, references=OTHERS)


def units(edits: tuple[Intervention, ...]) -> set[Any]:
    return {unit for edit in edits for unit in edit.units()[1]}  # type: ignore[index]


def test_units_are_as_many_of_the_same_layers_that_no_arm_picks() -> None:
    first, second = controls([ScaleHeads(1, heads=[0, 1], factor=0.5), ScaleHeads(2, heads=3)], "units", 9)
    assert (first.kind, first.available, second.available) == ("units", 1, 3)
    assert first.repeats == ((ScaleHeads(1, heads=[2, 3], factor=0.5),),)
    assert [units(edits) for edits in second.repeats] == [{(2, 0)}, {(2, 1)}, {(2, 2)}]


def test_repeats_are_distinct_and_can_be_repeated() -> None:
    network = replace(NETWORK, heads=24)
    (found,) = controls([ScaleHeads([1, 3], heads=0)], repeats=6, network=network)
    assert (found.kind, found.available) == ("units", 23 * 23)
    assert len(set(found.repeats)) == 6
    for edits in found.repeats:
        assert sorted(layer for layer, _ in units(edits)) == [1, 3]
        assert all(head for _, head in units(edits))
    assert controls([ScaleHeads([1, 3], heads=0)], repeats=6, network=network) == [found]
    other = controls_of(arms_of([ScaleHeads([1, 3], heads=0)], network), network, "auto", 6, seed=8)
    assert other != [found]


def test_what_acts_together_is_exchanged_together() -> None:
    (found,) = controls([(ScaleHeads(0, 1), ScaleHeads(5, 2))], repeats=20)
    assert found.available == len(found.repeats) == 3 * 3
    for edits in found.repeats:
        assert [edit["layers"] for edit in edits] == [(0,), (5,)]
        assert not units(edits) & {(0, 1), (5, 2)}


def test_tokens_are_exchanged_for_their_like_and_concepts_by_name() -> None:
    (found,) = controls([MaskText(2, tokens=1)], repeats=9)
    assert [units(edits) for edits in found.repeats] == [{0}, {2}]
    (found,) = controls([MaskText(2, tokens=[1, 5])], repeats=50)
    assert len(found.repeats) == found.available == 2 * 4
    (found,) = controls([DropConcept(1)], repeats=9)
    assert [edits[0] for edits in found.repeats] == [DropConcept("dog"), DropConcept("sun")]


@pytest.mark.parametrize(
    "plan",
    [
        SkipBlock.each(),
        [SkipBlock([0, 1, 2])],
        [ScaleHeads(1)],
        [ScaleHeads(1, [0, 1, 2])],
        ScaleHeads.each(layer=1),
        [MaskText(tokens=None)],
        [RandomDirection(SkipBlock(1), 3)],
    ],
    ids=str,
)
def test_what_leaves_too_few_others_is_compared_with_a_direction(plan: Any) -> None:
    for arm, found in zip(arms_of(plan, NETWORK), controls(plan), strict=True):
        assert (found.kind, found.available) == ("direction", math.inf)
        edit = arm.edits[0].of if isinstance(arm.edits[0], RandomDirection) else arm.edits[0]
        assert found.repeats == tuple((RandomDirection(edit, seed),) for seed in (7, 8, 9))


def test_one_other_choice_is_no_control_unless_it_is_asked_for() -> None:
    two = replace(NETWORK, heads=2)
    assert controls([ScaleHeads(1, 0)], network=two)[0].kind == "direction"
    (found,) = controls([ScaleHeads(1, 0)], "units", network=two)
    assert (found.repeats, found.available) == (((ScaleHeads(1, 1),),), 1)


@pytest.mark.parametrize(
    ("edit", "control", "able"),
    [
        (SkipBlock(1), "units", "'direction', 'matched' or 'resample'"),
        (ScaleHeads(1), "units", "'direction', 'matched' or 'resample'"),
        (ScaleHeads(1, [0, 1, 2]), "units", "'direction', 'matched' or 'resample'"),
        (AttendMode("image"), "units", "'direction'"),
        (AttendMode("image"), "matched", "'direction'"),
        (DropConcept("dog"), "matched", "'direction' or 'units'"),
        (DropConcept("dog"), "resample", "'direction' or 'units'"),
        (NullText(1, tokens=1), "resample", "'direction', 'matched' or 'units'"),
        (Amplify(1), "resample", "'direction' or 'matched'"),
        (ScaleHeads(1, 0, streams="concepts"), "resample", "'direction' or 'units'"),
    ],
    ids=str,
)
def test_a_kind_that_an_edit_has_not_is_refused_with_those_it_has(edit: Intervention, control: str, able: str) -> None:
    with pytest.raises(InputError, match=rf"control is '{control}', but .*\. Expected {able}\.$"):
        controls([edit], control)


@pytest.mark.parametrize(
    ("edit", "other"),
    [
        (SkipBlock(2, timesteps=(0, 500)), Patch(2, source=OTHERS[1], timesteps=(0, 500))),
        (ScaleHeads([1, 2], 0, streams="image"), Patch([1, 2], 0, OTHERS[1], "image")),
        (MeanHeads(3, [0, 2]), Patch(3, [0, 2], OTHERS[1], "image")),
        (MaskText(3, tokens=1), Patch(3, range(4), OTHERS[1], "image")),
        (BlurAttention(heads=1), Patch(range(9), 1, OTHERS[1], "image")),
        (Patch(1, source=Source(seed=3), streams="text"), Patch(1, source=OTHERS[1], streams="text")),
        (RandomDirection(SkipBlock(2)), Patch(2, source=OTHERS[1])),
    ],
    ids=str,
)
def test_other_images_give_what_an_edit_changes(edit: Intervention, other: Patch) -> None:
    (found,) = controls([edit], "resample", repeats=9)
    assert (found.kind, found.available, len(found.repeats)) == ("resample", 3, 3)
    assert found.repeats[1] == (other,)
    assert len(controls([edit], "resample", repeats=2)[0].repeats) == 2


def test_matched_directions_are_random_directions_with_a_covariance() -> None:
    (found,) = controls([SkipBlock(1)], "matched", repeats=1)
    assert found == Control("matched", ((RandomDirection(SkipBlock(1), 7, matched=True),),), math.inf)


def test_controls_of_concepts_do_not_depend_on_their_order() -> None:
    words = ("dog", "sky", "sun", "moon", "car", "tree")
    found = []
    for order in (words, words[::-1], words[2:] + words[:2]):
        (one,) = controls([DropConcept(["dog", "sun"])], repeats=3, network=replace(NETWORK, concepts=order))
        found.append([units(edits) for edits in one.repeats])
    assert found[0] == found[1] == found[2]


def test_shared_directions_are_asked_for_by_name() -> None:
    arms = arms_of([SkipBlock(1)], NETWORK)
    (found,) = controls_of(arms, NETWORK, "direction", 2, 7, True)
    assert found.repeats == tuple((RandomDirection(SkipBlock(1), seed, shared=True),) for seed in (7, 8))
